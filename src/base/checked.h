/* SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause */
/* Arithmetic on untrusted numbers, and the size check of versioned structures. */
#pragma once

#include <errno.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#define GW_ARRAY_SIZE(a) (sizeof(a) / sizeof((a)[0]))
#define GW_BIT(n)        (UINT64_C(1) << (n))

#define gw_container_of(ptr, type, member) ((type *)(void *)((char *)(ptr)-offsetof(type, member)))

/* [start, start + len) does not wrap around; the end itself may be 2^64. */
static inline bool gw_range_is_valid(uint64_t start, uint64_t len)
{
    return len == 0 || start + (len - 1) >= start;
}

/* [start, start + len) lies in [outer, outer + outer_len); both ranges are valid. */
static inline bool gw_range_is_inside(uint64_t start, uint64_t len, uint64_t outer,
                                      uint64_t outer_len)
{
    return start >= outer && len <= outer_len && start - outer <= outer_len - len;
}

static inline bool gw_ranges_overlap(uint64_t a, uint64_t a_len, uint64_t b, uint64_t b_len)
{
    return a_len && b_len && (a <= b ? b - a < a_len : a - b < b_len);
}

static inline bool gw_is_power_of_two(uint64_t v)
{
    return v != 0 && (v & (v - 1)) == 0;
}

static inline uint64_t gw_align_down(uint64_t v, uint64_t power)
{
    return v & ~(power - 1);
}

static inline unsigned gw_min_u(unsigned a, unsigned b)
{
    return a < b ? a : b;
}

/*
 * Copy a structure of the public interface, whose first member is its size in bytes (size_t). This
 * version of the library knows `known` bytes, its first version knew `first`. A shorter structure
 * comes from a caller built against an earlier version: the members that it lacks become zero. A
 * longer one comes from a caller built against a later version and is accepted if all unknown bytes
 * are zero.
 * Returns: 0; -EINVAL: shorter than the first version; -E2BIG: longer than a page, or an unknown
 * byte is not zero.
 */
static inline int gw_copy_struct(void *ret, size_t known, const void *structure, size_t first)
{
    enum {
        PAGE = 4096
    };
    const uint8_t *bytes = structure;
    size_t size;

    memcpy(&size, structure, sizeof(size));
    if (size < first)
        return -EINVAL;
    if (size > PAGE)
        return -E2BIG;
    for (size_t i = known; i < size; i++)
        if (bytes[i] != 0)
            return -E2BIG;
    memset(ret, 0, known);
    memcpy(ret, structure, size < known ? size : known);
    memcpy(ret, &known, sizeof(known));
    return 0;
}
