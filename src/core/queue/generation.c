/* SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause */
/* Replaces the map of a running queue, and reports when the old map is unused (change.c). */
#include "queue_i.h"

void gw_queue_set_map(struct gw_queue *q, const struct gw_map *map, const struct gw_iotlb *iotlb)
{
    gw_queue_lock(q);
    if (q->state != GW_QUEUE_STOPPED && !q->abandoned) {
        gw_queue_publish(q);
        q->map = map;
        q->map_last = 0;
        if (map && iotlb && q->translation)
            gw_translation_replace(q, iotlb);
        if (!map)
            gw_ring_detach(&q->ring);
        /* A ring that lost its memory has lost used elements: it stays detached until a stop. */
        else if (q->ring.attached && q->ring.ops->attach(&q->ring, map) < 0)
            gw_queue_break(q, gw_last_error()); /* used elements can no longer be written */
        if (q->translation)
            gw_queue_apply_ring_log(q); /* the ring may be elsewhere in guest memory */
    }
    gw_queue_unlock(q);
}

/* A count may free the latch and its wait. */
void gw_queue_note_quiesced(struct gw_queue *q)
{
    struct gw_generation_wait *wait = q->generation.waiting;

    q->generation.waiting = NULL;
    while (wait) {
        struct gw_generation_wait *next = wait->next;

        gw_latch_count(wait->latch, 0);
        wait = next;
    }
}

void gw_queue_note_applied(struct gw_queue *q, uint64_t number)
{
    gw_queue_lock(q);
    q->generation.applied = number;
    gw_queue_unlock(q);
}

void gw_queue_begin_generation(struct gw_queue *q, struct gw_generation_wait *wait)
{
    gw_queue_lock(q);
    q->generation.number++;
    q->generation.n_old = q->in_flight.n + q->n_holds;
    if (q->abandoned && !gw_queue_is_idle(q)) {
        /* These outlived an earlier session, and never use the maps of this one. */
        gw_latch_count(wait->latch, 0);
    } else {
        wait->next = q->generation.waiting;
        q->generation.waiting = wait;
        if (q->generation.n_old == 0)
            gw_queue_note_quiesced(q);
    }
    gw_queue_unlock(q);
}
