/* SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause */
/*
 * Access to the memory of a map by guest address, across regions. Nothing here marks the dirty log.
 * `last` is the lookup cache of gw_map_find.
 */
#pragma once

#include "mem.h"

/* The host address of a range in one region that has a fixed address; otherwise NULL. */
static inline void *gw_map_at(const struct gw_map *map, unsigned *last, gw_gpa_t gpa, uint64_t len)
{
    const struct gw_map_entry *entry = gw_map_find(map, last, gpa);

    if (!entry || !entry->hva || len > entry->size - (gpa - entry->gpa))
        return NULL;
    return entry->hva + (gpa - entry->gpa);
}

/* The number of bytes from `gpa` on, up to the first hole; no longer counted if it is `enough`. */
uint64_t gw_map_contiguous(const struct gw_map *map, unsigned *last, gw_gpa_t gpa, uint64_t enough);
/* Returns: 0 if the map contains the whole range; -EFAULT, with gw_last_error. */
int gw_map_check(const struct gw_map *map, unsigned *last, gw_gpa_t gpa, uint64_t len);

/*
 * Copy a range that the map contains to `buf`, or from `buf`. Returns: 0; -EFAULT if a page is not
 * granted, and a part may have been copied; -ENOMEM; with gw_last_error.
 */
int gw_map_read(const struct gw_map *map, unsigned *last, gw_gpa_t gpa, void *buf, uint64_t len);
int gw_map_write(const struct gw_map *map, unsigned *last, gw_gpa_t gpa, const void *buf,
                 uint64_t len);

/*
 * Describe a range that the map contains: as much of its beginning as has fixed addresses and fits
 * into `max_iov` iovecs. Stores the length of that in `ret_len`. Returns: iovecs used.
 */
unsigned gw_map_gather(const struct gw_map *map, unsigned *last, gw_gpa_t gpa, uint64_t len,
                       struct iovec *iov, unsigned max_iov, uint64_t *ret_len);

/*
 * The host address of a value of `size` bytes that the map contains, never a copy. Release it with
 * gw_mem_unpin. Returns: 0; -EINVAL if it is not aligned, or spans two regions; as
 * gw_mem_backend_pin_ring; with gw_last_error.
 */
int gw_map_pin_value(const struct gw_map *map, unsigned *last, gw_gpa_t gpa, unsigned size,
                     void **ret_at, struct gw_pin *ret_pin);
