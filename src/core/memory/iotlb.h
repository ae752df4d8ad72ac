/* SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause */
/*
 * Translated addresses (VIRTIO_F_ACCESS_PLATFORM): what the IOMMU in front of the device maps.
 *
 * Descriptors and rings then contain I/O virtual addresses. A table translates them to guest
 * addresses, so that everything below it (maps, pins, the dirty log) is as without an IOMMU. A
 * table never changes: as with a map, the control worker builds a new one for every change and
 * passes it to the workers.
 */
#pragma once

#include "mem.h"

#include <stdbool.h>
#include <stdint.h>

typedef uint64_t gw_iova_t; /* I/O virtual, as in descriptors */

/* Kinds of access, as on the wire. */
#define GW_IOTLB_READ  0x1u
#define GW_IOTLB_WRITE 0x2u
#define GW_IOTLB_BOTH  (GW_IOTLB_READ | GW_IOTLB_WRITE)

/* Limit on the entries of a table, because a front-end may send any number. */
#define GW_IOTLB_ENTRIES_MAX 2048
/* A miss is reported by page: no IOMMU maps less. */
#define GW_IOTLB_PAGE UINT64_C(4096)

struct gw_iotlb_entry {
    gw_iova_t iova;
    uint64_t size;
    gw_gpa_t gpa;
    gw_uva_t uva;
    unsigned access; /* allowed kinds; 0: the front-end did not answer a miss */
};

struct gw_iotlb {
    unsigned n_entries;
    unsigned next_victim;            /* to be evicted from a full table */
    struct gw_iotlb_entry entries[]; /* by ascending iova, never overlapping */
};

struct gw_iova_range {
    gw_iova_t iova;
    uint64_t size;
};

/* A piece of guest memory as in a descriptor of a driver behind an IOMMU. */
struct gw_iova_extent {
    gw_iova_t iova;
    uint32_t len;
};

/* An access that an entry is missing for, or forbids. */
struct gw_iotlb_miss {
    gw_iova_t iova;
    unsigned access;
};

/* Create an empty table. Free it with gw_iotlb_free. Returns: 0; -ENOMEM. */
int gw_iotlb_new(struct gw_iotlb **ret);
void gw_iotlb_free(struct gw_iotlb *t);

/*
 * Create a copy of `old` in which `range` is mapped to user addresses from `uva` on, which replaces
 * entries for the same addresses. If the table is full, other entries are evicted.
 * Returns: 0; -EINVAL if `range` is empty, if it or the user addresses wrap around, or for no valid
 * `access`; -EFAULT unless all of the user addresses are in `map`; -ENOMEM.
 */
int gw_iotlb_update(struct gw_iotlb **ret, const struct gw_iotlb *old, const struct gw_map *map,
                    struct gw_iova_range range, gw_uva_t uva, unsigned access);
/* The same, without an entry for any address in `range`. Returns: 0; -EINVAL; -ENOMEM. */
int gw_iotlb_invalidate(struct gw_iotlb **ret, const struct gw_iotlb *old,
                        struct gw_iova_range range);
/* The same, with entries that forbid any access to `range`. Returns: 0; -EINVAL; -ENOMEM. */
int gw_iotlb_forbid(struct gw_iotlb **ret, const struct gw_iotlb *old, struct gw_iova_range range);
/* The same entries, for a new map. Entries for memory that it lacks are dropped. */
int gw_iotlb_rebase(struct gw_iotlb **ret, const struct gw_iotlb *old, const struct gw_map *map);

/* The entry that contains `iova`, or NULL. */
const struct gw_iotlb_entry *gw_iotlb_search(const struct gw_iotlb *t, gw_iova_t iova);

/*
 * The entries that a queue used last, by page. Each page of a large entry has its own place, so
 * that a lookup is one comparison. Zero it before the first use.
 */
#define GW_IOTLB_CACHED 64

struct gw_iotlb_cached {
    gw_iova_t iova;
    uint64_t size;  /* 0: unused */
    uint64_t delta; /* from an I/O address to its guest address */
    uint64_t access;
};

struct gw_iotlb_cache {
    struct gw_iotlb_cached places[GW_IOTLB_CACHED];
};

/* The table has changed in `range`. */
void gw_iotlb_cache_drop(struct gw_iotlb_cache *c, struct gw_iova_range range);

/*
 * Translate `n` extents that are accessed in the same way. An extent may become several, and
 * extents of which both are contiguous stay separate.
 * Returns: the number of `ret`; -EAGAIN if an entry is missing, -EACCES if one forbids the access,
 * both with `ret_miss`; -E2BIG if `max` is too small; -EFAULT if an extent is empty or wraps
 * around.
 */
int gw_iotlb_translate(const struct gw_iotlb *t, struct gw_iotlb_cache *c,
                       const struct gw_iova_extent *extents, unsigned n, unsigned access,
                       struct gw_extent *ret, unsigned max, struct gw_iotlb_miss *ret_miss);

/*
 * Translate `range`, which must be contiguous in guest addresses.
 * Returns: 0; -EAGAIN or -EACCES, with `ret_miss`; -EFAULT if it is not contiguous or wraps around,
 * with gw_last_error.
 */
int gw_iotlb_translate_range(const struct gw_iotlb *t, struct gw_iova_range range, unsigned access,
                             gw_gpa_t *ret_gpa, struct gw_iotlb_miss *ret_miss);

/*
 * Find the pages of `range` that the table has no entry for, up to `max`.
 * Returns: the number of `ret`; -EACCES, with the address in ret[0], if it forbids an access to one
 * of the others.
 */
int gw_iotlb_find_misses(const struct gw_iotlb *t, struct gw_iova_range range, unsigned access,
                         struct gw_iotlb_miss *ret, unsigned max);
