/* SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause */
/*
 * Guest memory: immutable maps of regions, lookup, pins.
 *
 * The control worker builds a new map for every change and passes it to the workers; a map that a
 * worker may use never changes. Maps share regions, whose references only the control worker
 * counts.
 */
#pragma once

#include "base/checked.h"
#include "mem_backend.h"

struct gw_map_entry {
    gw_gpa_t gpa;
    uint64_t size;
    uint8_t *hva; /* copied from the region, so that a pin does not have to read the region */
    struct gw_region *region;
};

struct gw_map {
    unsigned n_entries;
    bool has_copies;               /* some region has no hva: pins may be copies */
    bool unpinnable;               /* some region is unpinnable */
    struct gw_map_entry entries[]; /* by ascending gpa, never overlapping */
};

/*
 * Map one region. Consumes `fd`, also on failure. Release it with gw_region_put.
 * Returns: 0; -EINVAL for an invalid size or address; the errno of the backend; -ENOMEM.
 */
int gw_region_new(struct gw_region **ret, const struct gw_region_desc *desc, int fd);
/* A region at `at` in memory of the caller, which stays mapped. Returns: 0; -EINVAL; -ENOMEM. */
int gw_region_new_at(struct gw_region **ret, const struct gw_region_desc *desc, void *at);
void gw_region_put(struct gw_region *region);

/* The name of the region in messages. */
void gw_region_name(const struct gw_region *region, char *ret, size_t size);

/* As gw_mapping_guard and gw_mapping_check. */
void gw_region_guard(struct gw_region *region, struct gw_loss *loss);
int gw_region_check(const struct gw_region *region);

/* As gw_postcopy_register: its missing pages fault until the region is freed or postcopy ends. */
int gw_region_listen(struct gw_region *region, struct gw_postcopy *p);

/*
 * Limit on the memory of a map. A large region costs its front-end nothing, because files may be
 * sparse, but a queue may have to mark all of it in the dirty log (gw_queue_mark_unlogged).
 * Regions with GW_REGION_NO_ADVANCE do not count: see gw_dirty_log_mark_known.
 */
#define GW_MAP_TIB_MAX 32

/*
 * Create a map of these regions, and take a reference on each. Free it with gw_map_free.
 * Returns: 0; -E2BIG above GW_MAP_TIB_MAX; -EEXIST if two regions overlap, in guest or in user
 * addresses; -ENOMEM.
 */
int gw_map_new(struct gw_map **ret, struct gw_region *const *regions, unsigned n_regions);
void gw_map_free(struct gw_map *map);

/* The region that matches `desc`, or NULL. Ignores mmap_offset, which front-ends get wrong. */
struct gw_region *gw_map_find_desc(const struct gw_map *map, const struct gw_region_desc *desc);

/*
 * Host address of [uva, uva + len), which must be in one region; or NULL, with gw_last_error.
 * Stores the guest address in `ret_gpa` unless that is NULL. If the region has no fixed address,
 * the host address is valid as long as `ret_pin` is held; release it with gw_mem_unpin.
 */
void *gw_map_pin_uva(const struct gw_map *map, gw_uva_t uva, uint64_t len, gw_gpa_t *ret_gpa,
                     struct gw_pin *ret_pin);

const struct gw_map_entry *gw_map_search(const struct gw_map *map, gw_gpa_t gpa);

/* The entry that contains `gpa`, or NULL. `last` caches its index for the caller's next lookup. */
static inline const struct gw_map_entry *gw_map_find(const struct gw_map *map, unsigned *last,
                                                     gw_gpa_t gpa)
{
    const struct gw_map_entry *entry = &map->entries[*last];

    /* Unsigned, so this also refuses an address below the region. */
    if (*last < map->n_entries && gpa - entry->gpa < entry->size)
        return entry;
    entry = gw_map_search(map, gpa);
    if (entry)
        *last = (unsigned)(entry - map->entries);
    return entry;
}

/*
 * Pin extents and describe them, in order, in `iov`; an extent that spans regions becomes several
 * iovecs. Release them with gw_mem_unpin.
 * Returns: iovecs used; -EFAULT if any byte is in no region; -E2BIG if `max_iov` is too small.
 */
int gw_mem_pin(const struct gw_map *map, unsigned *last, const struct gw_extent *extents,
               unsigned n_extents, struct iovec *iov, unsigned max_iov, struct gw_pin *ret_pin);

static inline void gw_mem_unpin(struct gw_pin *pin)
{
    if (pin->backend)
        gw_mem_backend_unpin(pin);
}
