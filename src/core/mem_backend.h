/* SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause */
/*
 * THE memory backend interface: how guest memory is reached. One implementation is linked in,
 * chosen by the build (-Dmemory=...); nothing outside it knows which.
 *
 * A backend hands out pins, not pointers: the right to touch extents until they are unpinned. Where
 * a region has a lasting address (hva), pinning is arithmetic and mem.h does it alone; the backend
 * is asked for the rest, a whole chain in one call, since a call may cost a hypercall.
 */
#pragma once

#include "mapping.h"
#include "postcopy/postcopy.h"

#include <godwit/memory.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/uio.h>

struct gw_map;

/* Every region keeps one address for its life: postcopy is possible. */
#define GW_MEM_CAP_STABLE_HVA 0x1u

/* A region as the front-end describes it; checked in gw_region_new. */
struct gw_region_desc {
    gw_gpa_t gpa;
    uint64_t size;
    gw_uva_t uva;
    gw_off_t mmap_offset;
};

/* One mapped piece of guest memory, shared by all maps that hold it. */
struct gw_region {
    struct gw_region_desc desc;
    unsigned refs;                    /* control thread only */
    uint8_t *hva;                     /* of the first guest byte; NULL where each pin maps */
    struct gw_mapping mapping;        /* of the backend, where it lasts as long as the region */
    struct gw_postcopy_range missing; /* its pages may be */
};

/* A piece of guest memory as a descriptor names it. */
struct gw_extent {
    gw_gpa_t gpa;
    uint32_t len;
};

/* What a pin holds until it is undone; all zero when it holds nothing. */
struct gw_pin {
    void *backend;
};

unsigned gw_mem_backend_caps(void);

/*
 * Map the region. Consumes `fd`, also on failure.
 * Returns: 0; -EINVAL for an object shorter than the region says; the errno of mmap(2).
 */
int gw_mem_backend_map(struct gw_region *region, int fd);
void gw_mem_backend_unmap(struct gw_region *region);

/*
 * Make extents of regions without hva reachable and describe them, in order, in `iov`.
 * Returns: iovecs used; -EFAULT when any byte is not there; -E2BIG when `max_iov` does not do.
 */
int gw_mem_backend_pin(const struct gw_map *map, const struct gw_extent *extents,
                       unsigned n_extents, struct iovec *iov, unsigned max_iov,
                       struct gw_pin *ret_pin);
void gw_mem_backend_unpin(struct gw_pin *pin);
