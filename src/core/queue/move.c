/* SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause */
/* How a queue leaves its worker, and arrives at another one. */
#include "queue_i.h"

#include <errno.h>
#include <string.h>

/* [lock] A start or stop in progress ends first: its queue counts to other latches then. */
static bool can_leave(const struct gw_queue *q)
{
    return gw_queue_is_idle(q) && q->state != GW_QUEUE_STOPPING && !q->delay.start;
}

void gw_queue_pause(struct gw_queue *q, struct gw_latch *latch)
{
    gw_queue_lock(q);
    gw_queue_publish(q);
    q->move.is_paused = true;
    if (q->state == GW_QUEUE_STOPPING || q->delay.start)
        gw_latch_count(latch, -EBUSY);
    else if (gw_queue_is_idle(q))
        gw_latch_count(latch, 0);
    else
        q->move.latch = latch;
    gw_queue_unlock(q);
}

void gw_queue_unpause(struct gw_queue *q)
{
    gw_queue_lock(q);
    q->move.is_paused = false;
    if (q->move.latch)
        gw_latch_count(q->move.latch, -ETIMEDOUT);
    q->move.latch = NULL;
    gw_queue_activate(q);
    gw_queue_unlock(q);
}

void gw_queue_note_idle(struct gw_queue *q)
{
    gw_latch_count(q->move.latch, 0);
    q->move.latch = NULL;
}

int gw_queue_leave(struct gw_queue *q, struct gw_worker *to)
{
    int r = 0;

    gw_queue_lock(q);
    if (can_leave(q)) {
        gw_queue_publish(q);
        gw_notifier_unwatch(&q->kick, q->worker->loop);
        gw_notifier_unprepare(&q->call, q->worker->loop);
        gw_list_remove(&q->poll.link);
        gw_list_remove(&q->batch.link);
        /* From now on, threads that look for the worker post to the new one. */
        __atomic_store_n(&q->worker, to, __ATOMIC_RELEASE);
    } else {
        r = -EBUSY;
    }
    gw_queue_unlock(q);
    return r;
}

/* A kick during the move is found, because the ring is checked. */
void gw_queue_arrive(struct gw_queue *q)
{
    gw_queue_lock(q);
    if (gw_queue_watch_kick(q) < 0) {
        gw_log(q->log, GW_LOG_WARNING, "queue %u is polled until its next start: %s", q->index,
               gw_last_error());
        q->poll.always = true;
    }
    gw_notifier_prepare(&q->call, q->worker->loop);
    q->poll.us = q->worker->poll_us;
    q->poll.idle_since_ns = 0;
    q->move.is_paused = false;
    gw_queue_activate(q);
    gw_queue_unlock(q);
    if (q->ops->queue_moved)
        q->ops->queue_moved(q->dev, q);
}

void gw_queue_abandon_worker(struct gw_queue *q)
{
    gw_queue_lock(q);
    gw_list_remove(&q->poll.link);
    gw_list_remove(&q->batch.link);
    gw_notifier_close(&q->kick, q->worker->loop); /* a stop with late requests left it open */
    gw_queue_unlock(q);
}
