/* SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause */
/*
 * Tables of translated addresses. A change copies the table: entries outside of the changed range,
 * then those of the range itself, in order. So a table that a worker uses never changes, and
 * neighbours that continue each other become one entry.
 */
#include "iotlb.h"

#include "base/cleanup.h"
#include "base/log_i.h"

#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

/* A change adds an entry for each region of its range, and may split an entry in two. */
#define ENTRIES_ADDED_MAX (GW_MEM_SLOTS_MAX + 2)

static int new_table(struct gw_iotlb **ret, unsigned room)
{
    struct gw_iotlb *t = malloc(sizeof(*t) + room * sizeof(t->entries[0]));

    if (!t)
        return gw_fail(-ENOMEM, "no memory for translations of %u addresses", room);
    t->n_entries = 0;
    t->next_victim = 0;
    *ret = t;
    return 0;
}

int gw_iotlb_new(struct gw_iotlb **ret)
{
    return new_table(ret, 0);
}

void gw_iotlb_free(struct gw_iotlb *t)
{
    free(t);
}

/* ---- changes ---- */

static bool continues(const struct gw_iotlb_entry *a, const struct gw_iotlb_entry *b)
{
    return a->iova + a->size == b->iova && a->access == b->access && a->access != 0 &&
           a->gpa + a->size == b->gpa && a->uva + a->size == b->uva && b->iova != 0 &&
           a->size + b->size > a->size;
}

/* Append an entry whose addresses are above those of all others. */
static void append(struct gw_iotlb *t, const struct gw_iotlb_entry *e)
{
    if (e->size == 0)
        return;
    if (t->n_entries > 0 && continues(&t->entries[t->n_entries - 1], e))
        t->entries[t->n_entries - 1].size += e->size;
    else
        t->entries[t->n_entries++] = *e;
}

/* The part of an entry from `skip` bytes on, up to `size` bytes. */
static struct gw_iotlb_entry part_of(const struct gw_iotlb_entry *e, uint64_t skip, uint64_t size)
{
    struct gw_iotlb_entry part = *e;

    part.iova += skip;
    part.gpa += skip;
    part.uva += skip;
    part.size = size;
    return part;
}

/* Append what the old table has below the range. Returns: the first entry that ends above it. */
static unsigned copy_below(struct gw_iotlb *t, const struct gw_iotlb *old, gw_iova_t start)
{
    unsigned i = 0;

    for (; i < old->n_entries && old->entries[i].iova < start; i++) {
        const struct gw_iotlb_entry *e = &old->entries[i];
        uint64_t below = start - e->iova;
        struct gw_iotlb_entry part = part_of(e, 0, below < e->size ? below : e->size);

        append(t, &part);
        if (below < e->size)
            break;
    }
    return i;
}

/* Append what the old table has above the range, whose last address is `last`. */
static void copy_above(struct gw_iotlb *t, const struct gw_iotlb *old, unsigned from,
                       gw_iova_t last)
{
    for (unsigned i = from; i < old->n_entries; i++) {
        const struct gw_iotlb_entry *e = &old->entries[i];
        struct gw_iotlb_entry part = *e;

        if (e->iova + (e->size - 1) <= last)
            continue;
        if (e->iova <= last)
            part = part_of(e, last - e->iova + 1, e->size - (last - e->iova + 1));
        append(t, &part);
    }
}

/* Is this one of the entries for `range`? */
static bool is_new(const struct gw_iotlb_entry *e, struct gw_iova_range range)
{
    return gw_ranges_overlap(e->iova, e->size, range.iova, range.size);
}

/* Any entry may be evicted, because it can be asked for again; those for `range` were just asked.
 */
static void evict(struct gw_iotlb *t, struct gw_iova_range range)
{
    while (t->n_entries > GW_IOTLB_ENTRIES_MAX) {
        unsigned victim = t->next_victim % t->n_entries;

        t->next_victim = victim + 1;
        if (is_new(&t->entries[victim], range))
            continue;
        t->n_entries--;
        memmove(&t->entries[victim], &t->entries[victim + 1],
                (t->n_entries - victim) * sizeof(t->entries[0]));
    }
}

/* The region of the map that contains `uva`, or NULL. */
static const struct gw_map_entry *find_region(const struct gw_map *map, gw_uva_t uva)
{
    for (unsigned i = 0; i < map->n_entries; i++) {
        const struct gw_region_desc *desc = &map->entries[i].region->desc;

        if (uva - desc->uva < desc->size)
            return &map->entries[i];
    }
    return NULL;
}

/* Append entries for user addresses, one for each region. Returns: whether all of them are there.
 */
static bool append_mapped(struct gw_iotlb *t, const struct gw_map *map, struct gw_iotlb_entry e)
{
    while (e.size > 0) {
        const struct gw_map_entry *region = find_region(map, e.uva);
        struct gw_iotlb_entry part;
        uint64_t offset;

        if (!region)
            return false;
        offset = e.uva - region->region->desc.uva;
        e.gpa = region->gpa + offset;
        part = part_of(&e, 0, e.size);
        if (part.size > region->size - offset)
            part.size = region->size - offset;
        append(t, &part);
        e = part_of(&e, part.size, e.size - part.size);
    }
    return true;
}

static int check_range(struct gw_iova_range range)
{
    if (range.size == 0 || !gw_range_is_valid(range.iova, range.size))
        return gw_fail(-EINVAL, "%#" PRIx64 " bytes at I/O address %#" PRIx64 " are %s", range.size,
                       range.iova, range.size ? "beyond the last address" : "no range");
    return 0;
}

/* Copy `old` without `range`, and with `e` in its place, if any. */
static int change(struct gw_iotlb **ret, const struct gw_iotlb *old, struct gw_iova_range range,
                  const struct gw_map *map, const struct gw_iotlb_entry *e)
{
    struct gw_iotlb *t = NULL;
    unsigned from;
    int r = check_range(range);

    if (r == 0)
        r = new_table(&t, old->n_entries + ENTRIES_ADDED_MAX);
    if (r < 0)
        return r;
    t->next_victim = old->next_victim;
    from = copy_below(t, old, range.iova);
    if (e && !map) {
        append(t, e);
    } else if (e && !append_mapped(t, map, *e)) {
        gw_iotlb_free(t);
        return gw_fail(-EFAULT,
                       "%#" PRIx64 " bytes at user address %#" PRIx64
                       ", which I/O address %#" PRIx64 " is mapped to, are not in guest memory",
                       range.size, e->uva, range.iova);
    }
    copy_above(t, old, from, range.iova + (range.size - 1));
    evict(t, range);
    *ret = t;
    return 0;
}

int gw_iotlb_update(struct gw_iotlb **ret, const struct gw_iotlb *old, const struct gw_map *map,
                    struct gw_iova_range range, gw_uva_t uva, unsigned access)
{
    const struct gw_iotlb_entry e = {
        .iova = range.iova,
        .size = range.size,
        .uva = uva,
        .access = access,
    };

    if (access == 0 || (access & ~GW_IOTLB_BOTH))
        return gw_fail(-EINVAL, "permission %u of I/O address %#" PRIx64 " is not 1, 2 or 3",
                       access, range.iova);
    if (!gw_range_is_valid(uva, range.size))
        return gw_fail(
            -EINVAL, "%#" PRIx64 " bytes at user address %#" PRIx64 " are beyond the last address",
            range.size, uva);
    return change(ret, old, range, map, &e);
}

int gw_iotlb_invalidate(struct gw_iotlb **ret, const struct gw_iotlb *old,
                        struct gw_iova_range range)
{
    return change(ret, old, range, NULL, NULL);
}

int gw_iotlb_forbid(struct gw_iotlb **ret, const struct gw_iotlb *old, struct gw_iova_range range)
{
    const struct gw_iotlb_entry e = {.iova = range.iova, .size = range.size};

    return change(ret, old, range, NULL, &e);
}

int gw_iotlb_rebase(struct gw_iotlb **ret, const struct gw_iotlb *old, const struct gw_map *map)
{
    const struct gw_iova_range none = {0};
    struct gw_iotlb *t = NULL;
    /* An entry is in one region of the old map, and may be in several of the new one. */
    int r = new_table(&t, old->n_entries + ENTRIES_ADDED_MAX);

    if (r < 0)
        return r;
    t->next_victim = old->next_victim;
    for (unsigned i = 0; i < old->n_entries; i++) {
        const struct gw_iotlb_entry *e = &old->entries[i];
        const struct gw_map_entry *region;
        struct gw_iotlb_entry part = *e;
        uint64_t offset;

        if (e->access == 0) {
            append(t, e);
            continue;
        }
        region = find_region(map, e->uva);
        if (!region)
            continue;
        /* What continues in another region is asked for again. */
        offset = e->uva - region->region->desc.uva;
        part.gpa = region->gpa + offset;
        if (part.size > region->size - offset)
            part.size = region->size - offset;
        append(t, &part);
    }
    evict(t, none);
    *ret = t;
    return 0;
}

/* ---- lookup ---- */

const struct gw_iotlb_entry *gw_iotlb_search(const struct gw_iotlb *t, gw_iova_t iova)
{
    unsigned low = 0, high = t->n_entries;

    while (low < high) {
        unsigned middle = low + (high - low) / 2;
        const struct gw_iotlb_entry *e = &t->entries[middle];

        if (iova < e->iova)
            high = middle;
        else if (iova - e->iova >= e->size)
            low = middle + 1;
        else
            return e;
    }
    return NULL;
}

void gw_iotlb_cache_drop(struct gw_iotlb_cache *c, struct gw_iova_range range)
{
    for (unsigned i = 0; i < GW_IOTLB_CACHED; i++) {
        struct gw_iotlb_cached *place = &c->places[i];

        if (gw_ranges_overlap(place->iova, place->size, range.iova, range.size))
            place->size = 0;
    }
}

static struct gw_iotlb_cached *place_of(struct gw_iotlb_cache *c, gw_iova_t iova)
{
    return &c->places[iova / GW_IOTLB_PAGE % GW_IOTLB_CACHED];
}

/* Find an entry, and cache it for the next lookup in this page. */
static const struct gw_iotlb_entry *find(const struct gw_iotlb *t, struct gw_iotlb_cache *c,
                                         gw_iova_t iova)
{
    const struct gw_iotlb_entry *e = gw_iotlb_search(t, iova);

    if (e)
        *place_of(c, iova) = (struct gw_iotlb_cached){
            .iova = e->iova, .size = e->size, .delta = e->gpa - e->iova, .access = e->access};
    return e;
}

static int miss(struct gw_iotlb_miss *ret, gw_iova_t iova, unsigned access, int r)
{
    *ret = (struct gw_iotlb_miss){.iova = iova, .access = access};
    return r;
}

/* Translates one extent that is not inside of one entry. Returns: as gw_iotlb_translate. */
static __attribute__((noinline)) int translate_pieces(const struct gw_iotlb *t,
                                                      struct gw_iotlb_cache *c, gw_iova_t iova,
                                                      uint64_t left, unsigned access,
                                                      struct gw_extent *ret, unsigned max,
                                                      struct gw_iotlb_miss *ret_miss)
{
    unsigned n = 0;

    if (left == 0 || !gw_range_is_valid(iova, left))
        return -EFAULT;
    while (left > 0) {
        const struct gw_iotlb_entry *e = find(t, c, iova);
        uint64_t offset, piece;

        if (!e)
            return miss(ret_miss, iova, access, -EAGAIN);
        if ((e->access & access) != access)
            return miss(ret_miss, iova, access, -EACCES);
        offset = iova - e->iova;
        piece = e->size - offset < left ? e->size - offset : left;
        if (n > 0 && ret[n - 1].gpa + ret[n - 1].len == e->gpa + offset) {
            ret[n - 1].len += (uint32_t)piece;
        } else if (n == max) {
            return -E2BIG;
        } else {
            ret[n++] = (struct gw_extent){.gpa = e->gpa + offset, .len = (uint32_t)piece};
        }
        iova += piece;
        left -= piece;
    }
    return (int)n;
}

int gw_iotlb_translate(const struct gw_iotlb *t, struct gw_iotlb_cache *c,
                       const struct gw_iova_extent *extents, unsigned n, unsigned access,
                       struct gw_extent *ret, unsigned max, struct gw_iotlb_miss *ret_miss)
{
    unsigned n_ret = 0;

    for (unsigned i = 0; i < n; i++) {
        gw_iova_t iova = extents[i].iova;
        uint64_t len = extents[i].len;
        const struct gw_iotlb_cached *place = place_of(c, iova);
        uint64_t offset = iova - place->iova;
        int n_pieces;

        /* The common case. Unsigned, so this refuses an address below the entry and length 0. */
        if (offset < place->size && len - 1 < place->size - offset && n_ret < max &&
            (place->access & access) == access) {
            ret[n_ret++] = (struct gw_extent){.gpa = iova + place->delta, .len = (uint32_t)len};
            continue;
        }
        n_pieces = translate_pieces(t, c, iova, len, access, ret + n_ret, max - n_ret, ret_miss);
        if (n_pieces < 0)
            return n_pieces;
        n_ret += (unsigned)n_pieces;
    }
    return (int)n_ret;
}

int gw_iotlb_translate_range(const struct gw_iotlb *t, struct gw_iova_range range, unsigned access,
                             gw_gpa_t *ret_gpa, struct gw_iotlb_miss *ret_miss)
{
    gw_iova_t iova = range.iova;
    uint64_t left = range.size;
    bool is_contiguous = true;
    gw_gpa_t gpa = 0;

    if (check_range(range) < 0)
        return -EFAULT;
    while (left > 0) {
        const struct gw_iotlb_entry *e = gw_iotlb_search(t, iova);
        uint64_t offset, piece;

        if (!e)
            return miss(ret_miss, iova, access, -EAGAIN);
        if ((e->access & access) != access)
            return miss(ret_miss, iova, access, -EACCES);
        offset = iova - e->iova;
        if (left == range.size)
            gpa = e->gpa + offset;
        else
            is_contiguous = is_contiguous && gpa + (range.size - left) == e->gpa + offset;
        piece = e->size - offset < left ? e->size - offset : left;
        iova += piece;
        left -= piece;
    }
    if (!is_contiguous)
        return gw_fail(-EFAULT,
                       "%#" PRIx64 " bytes at I/O address %#" PRIx64
                       " are mapped to scattered guest memory",
                       range.size, range.iova);
    *ret_gpa = gpa;
    return 0;
}

int gw_iotlb_find_misses(const struct gw_iotlb *t, struct gw_iova_range range, unsigned access,
                         struct gw_iotlb_miss *ret, unsigned max)
{
    gw_iova_t iova = range.iova;
    uint64_t left = range.size;
    unsigned n = 0;

    if (!gw_range_is_valid(range.iova, range.size))
        return 0;
    while (left > 0 && n < max) {
        const struct gw_iotlb_entry *e = gw_iotlb_search(t, iova);
        uint64_t piece;

        if (e && (e->access & access) != access)
            return miss(ret, iova, access, -EACCES);
        if (e) {
            piece = e->size - (iova - e->iova);
        } else {
            (void)miss(&ret[n++], iova, access, 0);
            piece = GW_IOTLB_PAGE - iova % GW_IOTLB_PAGE;
        }
        piece = piece < left ? piece : left;
        iova += piece;
        left -= piece;
    }
    return (int)n;
}
