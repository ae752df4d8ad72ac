/* SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause */
/* Replaces the map of a running queue, and reports when it no longer uses the old one (change.c).
 */
#include "queue_i.h"

#include <sys/eventfd.h>

void gw_queue_adopt_map(struct gw_queue *q, const struct gw_map *map)
{
    gw_queue_lock(q);
    if (q->state != GW_QUEUE_STOPPED && !q->abandoned) {
        gw_queue_publish(q);
        q->map = map;
        q->map_last = 0;
        /* A ring that lost its memory has lost used elements: it stays detached until a stop. */
        if (q->ring.attached && q->ring.ops->attach(&q->ring, map) < 0)
            gw_queue_break(q, gw_last_error()); /* used elements can no longer be written */
    }
    gw_queue_unlock(q);
}

void gw_queue_note_settled(struct gw_queue *q)
{
    __atomic_store_n(&q->settled, q->epoch, __ATOMIC_RELEASE);
    if (q->adopted)
        gw_latch_count(q->adopted, 0);
    else if (q->settled_fd >= 0)
        (void)eventfd_write(q->settled_fd, 1);
    q->adopted = NULL;
}

void gw_queue_settle(struct gw_queue *q, uint64_t number, struct gw_latch *latch)
{
    gw_queue_lock(q);
    q->epoch = number;
    q->n_old = q->n_in_flight;
    q->adopted = latch;
    if (q->n_old == 0) {
        gw_queue_note_settled(q);
    } else if (q->abandoned && latch) {
        /* The requests belong to an earlier session; no change waits for its memory. */
        q->adopted = NULL;
        gw_latch_count(latch, 0);
    }
    gw_queue_unlock(q);
}
