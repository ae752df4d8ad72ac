/* SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause */
/* Replaces the map of a running queue, and reports when the old map or log is unused (change.c). */
#include "queue_i.h"

#include <sys/eventfd.h>

void gw_queue_set_map(struct gw_queue *q, const struct gw_map *map)
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

void gw_queue_note_quiesced(struct gw_queue *q)
{
    __atomic_store_n(&q->generation.quiesced, q->generation.number, __ATOMIC_RELEASE);
    if (q->generation.latch)
        gw_latch_count(q->generation.latch, 0);
    else if (q->generation.wake_fd >= 0)
        (void)eventfd_write(q->generation.wake_fd, 1);
    q->generation.latch = NULL;
}

void gw_queue_begin_generation(struct gw_queue *q, uint64_t number, struct gw_latch *latch)
{
    gw_queue_lock(q);
    q->generation.number = number;
    q->generation.n_old = q->in_flight.n;
    q->generation.latch = latch;
    if (q->generation.n_old == 0) {
        gw_queue_note_quiesced(q);
    } else if (q->abandoned && latch) {
        /* The requests belong to an earlier session; no change waits for its memory. */
        q->generation.latch = NULL;
        gw_latch_count(latch, 0);
    }
    gw_queue_unlock(q);
}
