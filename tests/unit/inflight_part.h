/* SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause */
/*
 * One inflight part in plain memory, with as little of a ring as recovery looks at. Its bytes are
 * read and written at the offsets of the specification, and not by the library's structures.
 */
#pragma once

#include "core/inflight/inflight.h"

#include <godwit/diag.h>

#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#define PART_SIZE 8u /* entries, where a test does not say otherwise */
#define PART_MAX  (32 + 32 * 64)

struct part {
    _Alignas(64) uint8_t bytes[PART_MAX];
    bool packed;
    uint16_t size;      /* entries */
    uint16_t ring_size; /* descriptors */
    struct gw_inflight_ring ring;
    struct gw_inflight f;
    struct gw_inflight_found found;
};

/* A part that was never used, with rubbish in it. */
static inline void part_init(struct part *p, bool packed)
{
    memset(p, 0, sizeof(*p));
    memset(p->bytes, 0x5a, sizeof(p->bytes));
    memset(p->bytes + 8, 0, 2);
    p->packed = packed;
    p->size = p->ring_size = PART_SIZE;
}

static inline void part_done(struct part *p)
{
    gw_inflight_detach(&p->f);
    free(p->found.entries);
    p->found.entries = NULL;
}

/* Whoever comes next. Returns: what attaching or recovering did. */
static inline int part_try(struct part *p)
{
    int r;

    part_done(p);
    memset(&p->found, 0, sizeof(p->found));
    r = gw_inflight_attach(&p->f, p->bytes, p->packed, p->size, p->ring_size);
    return r == 0 ? gw_inflight_recover(&p->f, &p->ring, &p->found) : r;
}

static inline void part_open(struct part *p)
{
    if (part_try(p) < 0)
        fail_msg("%s", gw_last_error());
}

/* It is refused, tells why, and has written nothing. */
static inline void part_refused(struct part *p, const char *why)
{
    uint8_t before[PART_MAX];

    memcpy(before, p->bytes, sizeof(before));
    assert_int_equal(part_try(p), -EINVAL);
    if (!strstr(gw_last_error(), why))
        fail_msg("\"%s\" does not tell \"%s\"", gw_last_error(), why);
    assert_memory_equal(p->bytes, before, sizeof(before));
    assert_null(p->found.entries);
}

/* These entries are found, in this order. */
static inline void part_found(const struct part *p, const uint16_t *entries, unsigned n)
{
    assert_int_equal(p->found.n_entries, n);
    for (unsigned i = 0; i < n; i++)
        assert_int_equal(p->found.entries[i].entry, entries[i]);
}
#define PART_FOUND(p, ...)                           \
    part_found((p), (const uint16_t[]){__VA_ARGS__}, \
               sizeof((const uint16_t[]){__VA_ARGS__}) / sizeof(uint16_t))
#define PART_FOUND_NONE(p) part_found((p), NULL, 0)

static inline void part_set16(struct part *p, unsigned offset, uint16_t v)
{
    memcpy(p->bytes + offset, &v, sizeof(v));
}

static inline void part_set64(struct part *p, unsigned offset, uint64_t v)
{
    memcpy(p->bytes + offset, &v, sizeof(v));
}

static inline uint16_t part_get16(const struct part *p, unsigned offset)
{
    uint16_t v;

    memcpy(&v, p->bytes + offset, sizeof(v));
    return v;
}

static inline uint64_t part_get64(const struct part *p, unsigned offset)
{
    uint64_t v;

    memcpy(&v, p->bytes + offset, sizeof(v));
    return v;
}
