/* SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause */
/*
 * Starts and stops that a device completes later, because they take time: a lock, a flush, a
 * connection. Its worker does other things until then.
 *
 * A start in progress pops no requests. A stop that arrives in it calls queue_stop, and ends when
 * the device has completed the start: then it has not started.
 */
#include "base/clock.h"
#include "queue_i.h"

#include <errno.h>
#include <stdio.h>

/* [lock] */
static void set_late(struct gw_queue *q)
{
    bool is_late = q->delay.start || q->delay.stop;

    __atomic_store_n(&q->delay.since_ns, is_late ? gw_clock_ns() : 0, __ATOMIC_RELAXED);
}

void gw_queue_delay_start(struct gw_queue *q, struct gw_queue_start *start)
{
    gw_queue_lock(q);
    q->delay.start = start;
    set_late(q);
    gw_queue_unlock(q);
}

void gw_queue_complete_start(struct gw_queue *q, int r)
{
    struct gw_queue_start *start;
    bool is_stopping;

    gw_queue_lock(q);
    start = q->delay.start;
    q->delay.start = NULL;
    set_late(q);
    is_stopping = start && q->state == GW_QUEUE_STOPPING;
    if (is_stopping)
        gw_queue_activate(q); /* its turn ends the stop */
    gw_queue_unlock(q);
    if (is_stopping) {
        snprintf(start->why, sizeof(start->why), "it was stopped before the device had started");
        gw_latch_count(start->latch, start->is_posted ? 0 : -ECANCELED);
    } else if (start) {
        gw_queue_end_start(q, start, r);
    }
}

void gw_queue_delay_stop(struct gw_queue *q)
{
    gw_queue_lock(q);
    q->delay.stop = q->state == GW_QUEUE_STOPPING;
    set_late(q);
    gw_queue_unlock(q);
}

void gw_queue_complete_stop(struct gw_queue *q, int r)
{
    if (r < 0)
        gw_queue_fail_stop(q, r);
    gw_queue_lock(q);
    q->delay.stop = false;
    set_late(q);
    if (q->state == GW_QUEUE_STOPPING)
        gw_queue_activate(q); /* its turn ends the stop */
    gw_queue_unlock(q);
}

uint64_t gw_queue_delayed_ns(const struct gw_queue *q, bool *ret_is_start)
{
    uint64_t since_ns = __atomic_load_n(&q->delay.since_ns, __ATOMIC_RELAXED);
    uint64_t now_ns = gw_clock_ns();

    *ret_is_start = __atomic_load_n(&q->delay.start, __ATOMIC_RELAXED) != NULL;
    return since_ns == 0 ? 0 : now_ns > since_ns ? now_ns - since_ns : 1;
}
