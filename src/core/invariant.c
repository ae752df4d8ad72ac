/* SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause */
/*
 * What a queue has taken off its ring is counted in three ledgers, each with one owner:
 *
 *     slots      the ring's n_busy: from take to publish, or to untake. A slot whose answer is put
 *                and not published is still taken, because the driver may not offer it again.
 *     requests   those of the in_flight list, from pop_one to gw_request_retire; and n_slots_left:
 *                slots that no request in flight stands for, because the back-end before took them
 *                (they are not popped again yet, or the base is behind them) or because they stay
 * in flight for the driver (undone at a stop, or answered on a ring without memory) entries    the
 * inflight part's n_taken: from gw_inflight_take to gw_inflight_close, or untake
 *
 * The invariant: at every boundary of a turn, and after every gw_request_unpop and
 * gw_request_suspend,
 *
 *     slots == requests == entries (of a part, if there is one), and slots <= size of the ring.
 *
 * It bounds what a driver could make grow: the copies of descriptors by size - n_busy, the pool by
 * n_in_flight, the free list of a packed part by n_taken. The numbers are the library's own. What a
 * driver, a front-end or a file chose changes them only after the ring's take, gw_inflight_take and
 * gw_inflight_recover have refused what does not fit; so an assert of it is about our own mistakes.
 */
#include "cleanup.h"
#include "queue_i.h"

static uint32_t count_slots(const struct gw_queue *q)
{
    uint32_t n_slots = q->n_slots_left;

    for (const struct gw_list *at = q->in_flight.next; at != &q->in_flight; at = at->next)
        n_slots += gw_container_of(at, const struct gw_request_i, in_flight)->n_slots;
    return n_slots;
}

bool gw_queue_is_consistent(const struct gw_queue *q)
{
    const struct gw_ring *ring = &q->ring;

    /* Without its ring the queue only waits for the requests that are out. */
    if (q->state == GW_QUEUE_STOPPED || q->abandoned)
        return true;
    return count_slots(q) == ring->n_busy && q->n_in_flight <= ring->size &&
           (!q->inflight.part || q->inflight.n_taken == ring->n_busy) &&
           ring->ops->is_consistent(ring);
}
