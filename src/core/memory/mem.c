/* SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause */
/*
 * Guest memory maps: the bookkeeping and the arithmetic. The memory backend makes a region
 * accessible (mem_backend.h).
 */
#include "mem.h"

#include "base/cleanup.h"
#include "base/log_i.h"
#include "fd/peer_fd.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static int check_desc(const struct gw_region_desc *desc)
{
    if (desc->size == 0)
        return gw_fail(-EINVAL, "memory region at %#" PRIx64 " is empty", desc->gpa);
    if (!gw_range_is_valid(desc->gpa, desc->size) || !gw_range_is_valid(desc->uva, desc->size) ||
        desc->size > INT64_MAX || desc->mmap_offset > INT64_MAX - desc->size)
        return gw_fail(-EINVAL,
                       "memory region at %#" PRIx64 " of %#" PRIx64 " bytes (user address %#" PRIx64
                       ", offset %#" PRIx64 ") wraps around",
                       desc->gpa, desc->size, desc->uva, desc->mmap_offset);
    return 0;
}

/* Without memory yet. Returns: as gw_region_new_at. */
static int make_region(struct gw_region **ret, const struct gw_region_desc *desc)
{
    struct gw_region *region;
    int r = check_desc(desc);

    if (r < 0)
        return r;
    region = calloc(1, sizeof(*region));
    if (!region)
        return gw_fail(-ENOMEM, "no memory for a memory region");
    region->desc = *desc;
    region->refs = 1;
    *ret = region;
    return 0;
}

static void describe(struct gw_region *region)
{
    const struct gw_mapping *m = &region->mapping;

    region->pub = (struct gw_memory_region){
        .guest_addr = region->desc.gpa,
        .user_addr = region->desc.uva,
        .size = region->desc.size,
        .addr = region->hva,
        .page_size = m->at ? m->range.granule : (uint64_t)sysconf(_SC_PAGESIZE),
        .offset = m->offset,
        .fd = -1,
    };
}

int gw_region_new(struct gw_region **ret, const struct gw_region_desc *desc, int fd)
{
    gw_cleanup_peer_fd int owned_fd = fd;
    gw_cleanup_free struct gw_region *region = NULL;
    int r = make_region(&region, desc);

    if (r == 0)
        r = gw_mem_backend_map(region, gw_steal_fd(&owned_fd));
    if (r < 0)
        return r;
    describe(region);
    *ret = gw_steal(region);
    return 0;
}

int gw_region_new_at(struct gw_region **ret, const struct gw_region_desc *desc, void *at)
{
    int r = make_region(ret, desc);

    if (r < 0)
        return r;
    (*ret)->hva = at;
    describe(*ret);
    return 0;
}

void gw_region_name(const struct gw_region *region, char *ret, size_t size)
{
    snprintf(ret, size, "the memory region at %#" PRIx64, region->desc.gpa);
}

void gw_region_guard(struct gw_region *region, struct gw_loss *loss)
{
    gw_mapping_guard(&region->mapping, loss);
}

int gw_region_check(const struct gw_region *region)
{
    char what[64];

    gw_region_name(region, what, sizeof(what));
    return gw_mapping_check(&region->mapping, what);
}

int gw_region_listen(struct gw_region *region, struct gw_postcopy *p)
{
    char what[64];

    region->missing.base = region->mapping.range.base;
    region->missing.length = region->mapping.range.length;
    gw_region_name(region, what, sizeof(what));
    return gw_postcopy_register(p, &region->missing, what);
}

void gw_region_put(struct gw_region *region)
{
    if (!region || --region->refs > 0)
        return;
    if (region->gone)
        region->gone(region->gone_arg, &region->pub);
    gw_postcopy_unregister(&region->missing);
    gw_mem_backend_unmap(region);
    free(region);
}

static int compare(uint64_t a, uint64_t b)
{
    return a < b ? -1 : a > b;
}

static int compare_by_gpa(const void *a, const void *b)
{
    const struct gw_map_entry *x = a, *y = b;

    return compare(x->gpa, y->gpa);
}

static int compare_by_uva(const void *a, const void *b)
{
    const struct gw_map_entry *x = a, *y = b;

    return compare(x->region->desc.uva, y->region->desc.uva);
}

static int sort_by_gpa(struct gw_map *map)
{
    qsort(map->entries, map->n_entries, sizeof(map->entries[0]), compare_by_gpa);
    for (unsigned i = 1; i < map->n_entries; i++) {
        const struct gw_map_entry *a = &map->entries[i - 1], *b = &map->entries[i];

        if (gw_ranges_overlap(a->gpa, a->size, b->gpa, b->size))
            return gw_fail(-EEXIST, "memory regions at %#" PRIx64 " and %#" PRIx64 " overlap",
                           a->gpa, b->gpa);
    }
    return 0;
}

/*
 * Rings are located by user addresses, which would be ambiguous in overlapping regions. The regions
 * of a VMM are in one address space and do not overlap; newer specifications forbid it.
 */
static int check_user_addresses(struct gw_map *map)
{
    qsort(map->entries, map->n_entries, sizeof(map->entries[0]), compare_by_uva);
    for (unsigned i = 1; i < map->n_entries; i++) {
        const struct gw_region_desc *a = &map->entries[i - 1].region->desc;
        const struct gw_region_desc *b = &map->entries[i].region->desc;

        if (gw_ranges_overlap(a->uva, a->size, b->uva, b->size))
            return gw_fail(-EEXIST,
                           "memory regions at %#" PRIx64 " and %#" PRIx64
                           " overlap in user addresses, %#" PRIx64 " and %#" PRIx64,
                           a->gpa, b->gpa, a->uva, b->uva);
    }
    return 0;
}

static int check_total_size(struct gw_region *const *regions, unsigned n_regions)
{
    uint64_t left = (uint64_t)GW_MAP_TIB_MAX << 40;

    for (unsigned i = 0; i < n_regions; i++) {
        const struct gw_region_desc *desc = &regions[i]->desc;

        if (desc->flags & GW_REGION_NO_ADVANCE)
            continue;
        if (desc->size > left)
            return gw_fail(-E2BIG, "guest memory exceeds the limit of %d TiB in all regions",
                           GW_MAP_TIB_MAX);
        left -= desc->size;
    }
    return 0;
}

int gw_map_new(struct gw_map **ret, struct gw_region *const *regions, unsigned n_regions)
{
    struct gw_map *map;
    int r = check_total_size(regions, n_regions);

    if (r < 0)
        return r;
    map = calloc(1, sizeof(*map) + n_regions * sizeof(map->entries[0]));
    if (!map)
        return gw_fail(-ENOMEM, "no memory for a map of %u regions", n_regions);
    map->n_entries = n_regions;
    for (unsigned i = 0; i < n_regions; i++)
        map->entries[i] = (struct gw_map_entry){
            .gpa = regions[i]->desc.gpa,
            .size = regions[i]->desc.size,
            .hva = regions[i]->hva,
            .region = regions[i],
        };
    r = check_user_addresses(map);
    if (r == 0)
        r = sort_by_gpa(map);
    if (r < 0) {
        free(map);
        return r;
    }
    for (unsigned i = 0; i < n_regions; i++) {
        regions[i]->refs++;
        map->has_copies = map->has_copies || !regions[i]->hva;
        map->unpinnable = map->unpinnable || regions[i]->unpinnable;
    }
    *ret = map;
    return 0;
}

void gw_map_free(struct gw_map *map)
{
    if (!map)
        return;
    for (unsigned i = 0; i < map->n_entries; i++)
        gw_region_put(map->entries[i].region);
    free(map);
}

struct gw_region *gw_map_find_desc(const struct gw_map *map, const struct gw_region_desc *desc)
{
    const struct gw_map_entry *entry = gw_map_search(map, desc->gpa);

    if (entry && entry->gpa == desc->gpa && entry->size == desc->size &&
        entry->region->desc.uva == desc->uva)
        return entry->region;
    return NULL;
}

/* The entry whose region contains the whole range of user addresses, or NULL. */
static const struct gw_map_entry *find_uva(const struct gw_map *map, gw_uva_t uva, uint64_t len)
{
    if (!gw_range_is_valid(uva, len))
        return NULL;
    for (unsigned i = 0; i < map->n_entries; i++) {
        const struct gw_region_desc *desc = &map->entries[i].region->desc;

        if (gw_range_is_inside(uva, len, desc->uva, desc->size))
            return &map->entries[i];
    }
    return NULL;
}

void *gw_map_pin_uva(const struct gw_map *map, gw_uva_t uva, uint64_t len, gw_gpa_t *ret_gpa,
                     struct gw_pin *ret_pin)
{
    const struct gw_map_entry *entry = find_uva(map, uva, len);
    uint64_t offset;
    void *at;

    ret_pin->backend = NULL;
    if (!entry) {
        gw_fail(-EFAULT, "no region contains all of it");
        return NULL;
    }
    offset = uva - entry->region->desc.uva;
    if (entry->region->hva)
        at = entry->region->hva + offset;
    else if (gw_mem_backend_pin_ring(entry->region, offset, len, &at, ret_pin) < 0)
        return NULL;
    if (ret_gpa)
        *ret_gpa = entry->gpa + offset;
    return at;
}

const struct gw_map_entry *gw_map_search(const struct gw_map *map, gw_gpa_t gpa)
{
    unsigned low = 0, high = map->n_entries;

    while (low < high) {
        unsigned middle = low + (high - low) / 2;
        const struct gw_map_entry *entry = &map->entries[middle];

        if (gpa < entry->gpa)
            high = middle;
        else if (gpa - entry->gpa >= entry->size)
            low = middle + 1;
        else
            return entry;
    }
    return NULL;
}

/* Pins extents anywhere in the map, in as many pieces as necessary. */
static int pin_pieces(const struct gw_map *map, unsigned *last, const struct gw_extent *extents,
                      unsigned n_extents, struct iovec *iov, unsigned max_iov,
                      struct gw_pin *ret_pin)
{
    unsigned n_iov = 0;

    for (unsigned i = 0; i < n_extents; i++) {
        gw_gpa_t gpa = extents[i].gpa;
        uint64_t left = extents[i].len;

        while (left > 0) {
            const struct gw_map_entry *entry = gw_map_find(map, last, gpa);
            uint64_t piece;

            if (!entry)
                return -EFAULT;
            if (!entry->hva)
                return gw_mem_backend_pin(map, extents, n_extents, iov, max_iov, ret_pin);
            if (n_iov == max_iov)
                return -E2BIG;
            piece = entry->size - (gpa - entry->gpa);
            if (piece > left)
                piece = left;
            iov[n_iov].iov_base = entry->hva + (gpa - entry->gpa);
            iov[n_iov++].iov_len = piece;
            left -= piece;
            gpa += piece;
            if (left > 0 && gpa == 0)
                return -EFAULT; /* wrapped around */
        }
    }
    return (int)n_iov;
}

int gw_mem_pin(const struct gw_map *map, unsigned *last, const struct gw_extent *extents,
               unsigned n_extents, struct iovec *iov, unsigned max_iov, struct gw_pin *ret_pin)
{
    const struct gw_map_entry *entry = &map->entries[*last];

    ret_pin->backend = NULL;
    if (*last >= map->n_entries || !entry->hva || n_extents > max_iov)
        return pin_pieces(map, last, extents, n_extents, iov, max_iov, ret_pin);
    /* The common case: the region used last contains all extents. */
    for (unsigned i = 0; i < n_extents; i++) {
        uint64_t offset = extents[i].gpa - entry->gpa, len = extents[i].len;

        /* Unsigned, so this also refuses an address below the region and a length of 0. */
        if (offset >= entry->size || len - 1 >= entry->size - offset)
            return pin_pieces(map, last, extents, n_extents, iov, max_iov, ret_pin);
        iov[i] = (struct iovec){.iov_base = entry->hva + offset, .iov_len = len};
    }
    return (int)n_extents;
}
