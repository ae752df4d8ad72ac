/* SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause */
/* Code that both ring layouts use. */
#include "ring.h"

#include "base/checked.h"
#include "base/log_i.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>

int gw_ring_check_size(bool packed, uint32_t size, uint32_t max)
{
    /* The indices of a split ring are modulo 2^16; those of a packed ring wrap at its size. */
    if (!packed && (!gw_is_power_of_two(size) || size > max))
        return gw_fail(-EINVAL, "ring size %u is not a power of two up to %u", size, max);
    if (size == 0 || size > max)
        return gw_fail(-EINVAL, "ring size %u is not from 1 to %u", size, max);
    return 0;
}

int gw_ring_check_memory(bool packed, const struct gw_ring_config *config, const struct gw_map *map)
{
    struct gw_ring ring = {
        .ops = packed ? &gw_ring_packed_ops : &gw_ring_split_ops,
        .config = *config,
    };
    int r = ring.ops->attach(&ring, map);

    gw_ring_detach(&ring);
    return r;
}

int gw_ring_find_misses(bool packed, const struct gw_ring_config *config,
                        const struct gw_iotlb *table, struct gw_iotlb_miss *ret, unsigned max)
{
    const struct gw_ring_ops *ops = packed ? &gw_ring_packed_ops : &gw_ring_split_ops;
    struct gw_ring_piece pieces[GW_RING_PIECES];
    unsigned n = 0;

    ops->describe(config, pieces);
    for (unsigned i = 0; i < GW_RING_PIECES; i++) {
        const struct gw_ring_piece *p = &pieces[i];
        const struct gw_iova_range range = {.iova = p->uva, .size = p->len};
        int r = n < max ? gw_iotlb_find_misses(table, range, p->access, &ret[n], max - n) : 0;

        if (r < 0)
            return gw_fail(r, "%s: the IOMMU forbids access to I/O address %#" PRIx64, p->name,
                           ret[n].iova);
        n += (unsigned)r;
    }
    return (int)n;
}

bool gw_ring_is_in(const struct gw_ring *ring, struct gw_iova_range range)
{
    struct gw_ring_piece pieces[GW_RING_PIECES];

    ring->ops->describe(&ring->config, pieces);
    for (unsigned i = 0; i < GW_RING_PIECES; i++)
        if (gw_ranges_overlap(pieces[i].uva, pieces[i].len, range.iova, range.size))
            return true;
    return false;
}

/* Host address of a piece whose address is translated. Returns: 0; -EFAULT; -EAGAIN. */
static int find_translated(const struct gw_iotlb *table, const struct gw_map *map,
                           struct gw_ring_piece *p)
{
    const struct gw_iova_range range = {.iova = p->uva, .size = p->len};
    const struct gw_map_entry *entry;
    struct gw_iotlb_miss miss;
    int r = gw_iotlb_translate_range(table, range, p->access, &p->gpa, &miss);

    if (r == -EACCES)
        return gw_fail(-EFAULT, "the IOMMU forbids access to I/O address %#" PRIx64, miss.iova);
    if (r < 0)
        return r;
    entry = gw_map_search(map, p->gpa);
    if (!entry || !entry->hva || !gw_range_is_inside(p->gpa, p->len, entry->gpa, entry->size))
        return gw_fail(-EFAULT, "no region contains all of it");
    p->at = entry->hva + (p->gpa - entry->gpa);
    return 0;
}

/* Returns: 0; -EFAULT; -EAGAIN. */
static int find_piece(const struct gw_ring *ring, const struct gw_map *map, struct gw_ring_piece *p,
                      struct gw_pin *ret_pin)
{
    if (ring->iotlb)
        return find_translated(ring->iotlb, map, p);
    p->at = gw_map_pin_uva(map, p->uva, p->len, &p->gpa, ret_pin);
    return p->at ? 0 : -EFAULT;
}

int gw_ring_find(struct gw_ring *ring, const struct gw_map *map,
                 struct gw_ring_piece pieces[GW_RING_PIECES])
{
    struct gw_pin pins[GW_RING_PIECES] = {0};
    const struct gw_ring_piece *missing = NULL;
    char why[160];
    int r = 0;

    for (unsigned i = 0; i < GW_RING_PIECES && !missing; i++) {
        r = find_piece(ring, map, &pieces[i], &pins[i]);
        missing = r < 0 ? &pieces[i] : NULL;
    }
    gw_ring_detach(ring);
    memcpy(ring->pins, pins, sizeof(pins));
    if (!missing) {
        ring->attached = true;
        ring->used_gpa = pieces[GW_RING_PIECES - 1].gpa;
        return 0;
    }
    snprintf(why, sizeof(why), "%s", gw_last_error());
    gw_ring_detach(ring);
    if (r == -EAGAIN)
        return gw_fail(r, "%s of %u entries at I/O address %#" PRIx64 " is not mapped yet",
                       missing->name, ring->config.size, missing->uva);
    return gw_fail(
        -EFAULT, "%s of %u entries at %s address %#" PRIx64 " is not in guest memory: %s",
        missing->name, ring->config.size, ring->iotlb ? "I/O" : "user", missing->uva, why);
}

void gw_ring_detach(struct gw_ring *ring)
{
    ring->attached = false;
    for (unsigned i = 0; i < GW_RING_PIECES; i++)
        gw_mem_unpin(&ring->pins[i]);
}
