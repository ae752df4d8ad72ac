/* SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause */
/*
 * Three modules count what a queue has taken off its ring:
 *
 * - The ring counts slots, in n_busy. A slot is taken from `take` until `publish` or `untake`. A
 *   slot whose used element is written but not published still counts, because the driver may not
 *   offer it again yet.
 * - The queue lists requests, in in_flight. A request is listed from pop_one to gw_request_retire.
 *   In addition, n_slots_left counts the slots that no listed request stands for: slots that an
 *   earlier back-end took (their requests are not popped again yet, or lie behind the base), and
 *   slots that stay in flight for the driver (left undone at a stop, or completed on a ring whose
 *   memory is gone).
 * - The inflight part, if there is one, counts entries, in n_taken. An entry is taken from
 *   gw_inflight_take until gw_inflight_close, or until it is untaken.
 *
 * The invariant holds whenever a turn ends, and after every gw_request_unpop and
 * gw_request_suspend:
 *
 *     n_busy == slots of listed requests + n_slots_left == n_taken, and n_busy <= ring size
 *
 * It bounds everything that a driver could otherwise make grow: size - n_busy bounds the copies of
 * descriptors, the number of listed requests bounds the pool, and n_taken bounds the free list of a
 * packed part. All counts are the library's own. Values that a driver, a front-end or a file chose
 * reach them only after `take`, gw_inflight_take and gw_inflight_recover have refused what does not
 * fit. So an assert of the invariant can only fail by a mistake in the library.
 */
#include "base/cleanup.h"
#include "queue_i.h"

static uint32_t count_slots(const struct gw_queue *q)
{
    uint32_t n_slots = q->in_flight.n_slots_left;

    for (const struct gw_list *at = q->in_flight.requests.next; at != &q->in_flight.requests;
         at = at->next)
        n_slots += gw_container_of(at, const struct gw_request_i, in_flight)->n_slots;
    return n_slots;
}

bool gw_queue_is_consistent(const struct gw_queue *q)
{
    const struct gw_ring *ring = &q->ring;

    /* An abandoned queue has no ring and only waits for its requests to end. */
    if (q->state == GW_QUEUE_STOPPED || q->abandoned)
        return true;
    return count_slots(q) == ring->n_busy && q->in_flight.n <= ring->size &&
           (!q->inflight.part || q->inflight.n_taken == ring->n_busy) &&
           ring->ops->is_consistent(ring);
}
