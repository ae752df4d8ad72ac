/* SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause */
/*
 * Resumes a queue after a back-end that crashed, lost its front-end, or left requests in flight
 * when it was stopped. The inflight part records these requests. For the driver they have been in
 * flight all the time; here they are popped again, before all others and in their original order.
 */
#include "core/queue/queue_i.h"
#include "core/ring/desc.h"

#include <stdlib.h>

/*
 * If the base is ahead of the used index, an earlier back-end took requests and did not complete
 * them. A new part does not have these requests, so it could not give the position of the ring.
 */
static bool has_none_in_flight(const struct gw_ring *ring)
{
    return ring->ops->is_packed ? ring->n_busy == 0
                                : ring->split.next_avail == ring->split.next_used;
}

int gw_queue_resume(struct gw_queue *q, const struct gw_queue_start *start)
{
    struct gw_ring *ring = &q->ring;
    struct gw_inflight_ring view = {.used = ring->ops->used(ring)};
    struct gw_inflight_found found;
    bool is_new;
    int r;

    q->resume.first_suspended = UINT64_MAX;
    q->in_flight.n_slots_left = ring->n_busy;
    __atomic_store_n(&q->resume.taken_over, false, __ATOMIC_RELAXED);
    if (!start->inflight)
        return 0;
    if (ring->ops->is_packed)
        view.desc = ring->packed.desc;
    r = gw_inflight_attach(&q->inflight, start->inflight, ring->ops->is_packed,
                           start->inflight_size, ring->size);
    if (r < 0)
        return r;
    __atomic_store_n(&q->resume.uses_region, true, __ATOMIC_RELAXED);
    is_new = q->inflight.is_new;
    if (is_new && !has_none_in_flight(ring)) {
        gw_log(q->log, GW_LOG_WARNING,
               "queue %u: its requests are not tracked: the new inflight region lacks those in"
               " flight before base %#x",
               q->index, ring->config.base);
        gw_queue_end_inflight(q);
        return 0;
    }
    r = gw_inflight_recover(&q->inflight, &view, &found);
    if (r < 0)
        return r;
    q->resume.resubmit = found.entries;
    if (is_new)
        return 0; /* the ring starts at its base */
    ring->ops->resume(ring, found.used, found.n_slots);
    q->in_flight.n_slots_left = found.n_slots;
    q->resume.n_resubmit = found.n_entries;
    __atomic_store_n(&q->resume.taken_over, start->is_first, __ATOMIC_RELAXED);
    q->resume.ring_unmarked = true;
    /* A front-end may drop its log when the connection breaks: QEMU 7.2 and 10.0 do. */
    q->logging.unlogged = q->dirty_log.all;
    if (q->resume.n_resubmit > 0)
        gw_log(q->log, GW_LOG_INFO, "queue %u: %u requests were in flight and are done again",
               q->index, q->resume.n_resubmit);
    return 0;
}

bool gw_queue_is_taken_over(const struct gw_queue *q)
{
    return __atomic_load_n(&q->resume.taken_over, __ATOMIC_RELAXED);
}

/* A chain of a split ring is still in the table; only the region has a copy of a packed one. */
static struct gw_head head_of(struct gw_queue *q, const struct gw_inflight_entry *e, uint32_t copy)
{
    struct gw_ring *ring = &q->ring;
    struct gw_head head = {.id = e->id, .n_slots = e->n_slots, .entry = e->entry};
    struct gw_desc_packed *descs = ring->packed.copies + copy;

    /* A chain that cannot be read becomes a buffer of length 0, which is answered as a bad chain.
     */
    if (ring->ops->is_packed) {
        if (gw_inflight_descs(&q->inflight, e->entry, descs, e->n_slots) != e->n_slots)
            descs[0] = (struct gw_desc_packed){.addr = 0};
        head.descs = descs;
    } else if (e->id < ring->size) {
        head.first = gw_desc_load(&ring->split.desc[e->id]);
    }
    return head;
}

unsigned gw_queue_take_resubmits(struct gw_queue *q, struct gw_head *heads, unsigned n)
{
    uint32_t n_copied = 0;
    unsigned i;

    for (i = 0; i < n && gw_queue_has_resubmits(q); i++) {
        heads[i] = head_of(q, &q->resume.resubmit[q->resume.next_resubmit++], n_copied);
        n_copied += heads[i].n_slots;
    }
    q->in_flight.n_slots_left -= n_copied;
    return i;
}

void gw_queue_end_inflight(struct gw_queue *q)
{
    gw_inflight_detach(&q->inflight);
    free(q->resume.resubmit);
    q->resume.resubmit = NULL;
    q->resume.n_resubmit = 0;
    q->resume.next_resubmit = 0;
    q->resume.ring_unmarked = false;
    /* Pairs with the acquire of gw_queue_uses_inflight: the region may be unmapped from now on. */
    __atomic_store_n(&q->resume.uses_region, false, __ATOMIC_RELEASE);
}

bool gw_queue_uses_inflight(const struct gw_queue *q)
{
    /* Pairs with the release of gw_queue_end_inflight. */
    return __atomic_load_n(&q->resume.uses_region, __ATOMIC_ACQUIRE);
}
