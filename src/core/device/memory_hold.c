/* SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause */
/*
 * A hold on the guest memory of a queue. The queue counts it like a request in flight: it belongs
 * to a generation (generation.h), so the control worker keeps its map, and a stop or a move of the
 * queue ends only after it.
 */
#include "memory_i.h"

#include <string.h>

static void count(struct gw_queue *q, unsigned n)
{
    __atomic_store_n(&q->n_holds, q->n_holds + n, __ATOMIC_RELAXED);
}

int gw_memory_hold(struct gw_memory *ret, struct gw_queue *q)
{
    const struct gw_map *map;
    bool is_translated;

    gw_queue_lock(q);
    map = q->abandoned ? NULL : q->map;
    is_translated = map && q->translation;
    if (is_translated)
        map = NULL;
    *ret = (struct gw_memory){
        .queue = map ? q : NULL,
        .map = map,
        .generation = q->generation.number,
        .last_region = q->map_last,
    };
    if (map)
        count(q, 1);
    gw_queue_unlock(q);
    /* A hold would let the driver reach memory that its IOMMU keeps from the device. */
    if (is_translated)
        return gw_fail(-EOPNOTSUPP,
                       "queue %u: guest memory behind an IOMMU is not accessible by "
                       "guest address",
                       q->index);
    return map ? 0 : gw_fail(-ENOTCONN, "queue %u is stopped: it has no guest memory", q->index);
}

void gw_memory_release(struct gw_memory *m)
{
    struct gw_queue *q = m->queue;

    if (!q)
        return;
    m->queue = NULL;
    gw_queue_lock(q);
    count(q, -1u);
    gw_queue_note_ended(q, m->generation != q->generation.number);
    gw_queue_unlock(q);
}

int gw_memory_check(struct gw_memory *m, gw_gpa_t gpa, uint64_t len)
{
    if (gw_memory_is_late(m))
        return gw_fail(-ESHUTDOWN, "queue %u: the session of its guest memory has ended",
                       m->queue->index);
    return gw_map_check(gw_memory_map(m), &m->last_region, gpa, len);
}

/* ---- regions ---- */

uint64_t gw_memory_contiguous(const struct gw_memory *m, gw_gpa_t gpa)
{
    unsigned last = m->last_region;

    return gw_map_contiguous(gw_memory_map(m), &last, gpa, UINT64_MAX);
}

const struct gw_memory_region *gw_memory_region(const struct gw_memory *m, unsigned index)
{
    const struct gw_map *map = gw_memory_map(m);

    return index < map->n_entries ? &map->entries[index].region->pub : NULL;
}

const struct gw_memory_region *gw_memory_find(const struct gw_memory *m, gw_gpa_t gpa)
{
    unsigned last = m->last_region;
    const struct gw_map_entry *entry = gw_map_find(gw_memory_map(m), &last, gpa);

    return entry ? &entry->region->pub : NULL;
}
