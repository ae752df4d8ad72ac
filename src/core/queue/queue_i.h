/* SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause */
/*
 * What queue.c, request.c, complete.c and resume.c ask each other about a queue. All of it but the
 * locks themselves under the lock of the queue [lock].
 */
#pragma once

#include "queue.h"

/* The locks of the sync policies; a queue that is not shared has none. */
void gw_queue_lock_shared(struct gw_queue *q);
void gw_queue_unlock_shared(struct gw_queue *q);

static inline void gw_queue_lock(struct gw_queue *q)
{
    if (q->sync != GW_SYNC_NONE)
        gw_queue_lock_shared(q);
}

static inline void gw_queue_unlock(struct gw_queue *q)
{
    if (q->sync != GW_SYNC_NONE)
        gw_queue_unlock_shared(q);
}

/* [lock] Is it to be looked at in the worker's next turn? From any thread that has the lock. */
void gw_queue_activate(struct gw_queue *q);
/* [lock] LOG_ALL is on, and there is nowhere to log yet. */
static inline bool gw_queue_lacks_log(const struct gw_queue *q)
{
    return q->log.all && !q->log.log;
}

/* [lock] Requests wait, to the driver in flight, that the back-end before did not answer. */
static inline bool gw_queue_has_again(const struct gw_queue *q)
{
    return q->next_again < q->n_again;
}

/* [lock] It stops, but not before those are answered. */
static inline bool gw_queue_must_redo(const struct gw_queue *q)
{
    return q->state == GW_QUEUE_STOPPING && q->stop == GW_STOP_DRAIN && gw_queue_has_again(q) &&
           q->ring.attached && !q->broken && !gw_queue_lacks_log(q);
}

/* [lock] Fetching is allowed; not while what it leads to could not be logged. */
static inline bool gw_queue_is_running(const struct gw_queue *q)
{
    return (q->state == GW_QUEUE_STARTED && q->enabled && !q->broken && !gw_queue_lacks_log(q)) ||
           gw_queue_must_redo(q);
}

/* [lock] Are there requests to pop? As of a ring. */
static inline int gw_queue_n_available(const struct gw_queue *q)
{
    if (gw_queue_has_again(q))
        return 1;
    return q->state == GW_QUEUE_STARTED ? q->ring.ops->n_available(&q->ring) : 0;
}

/*
 * [lock] Go on where the inflight part of a start says that the back-end before stopped.
 * Returns: 0; -EINVAL, -ENOMEM, with gw_last_error.
 */
int gw_queue_resume(struct gw_queue *q, const struct gw_queue_start *start);
/* [lock] The entries of `again` that come next, up to `n`. Returns: how many. */
unsigned gw_queue_take_again(struct gw_queue *q, struct gw_head *heads, unsigned n);
/* [lock] The queue has stopped: its part is let go of. */
void gw_queue_end_inflight(struct gw_queue *q);
/* [lock] No request of an older epoch is in flight: what was replaced up to here is not in use. */
void gw_queue_note_settled(struct gw_queue *q);
/* [lock] Does the queue know what it has taken (invariant.c)? For assert, between two turns. */
bool gw_queue_is_consistent(const struct gw_queue *q);
/* [lock] The ring cannot be trusted any more: tell once, signal the error fd, fetch no more. */
void gw_queue_break(struct gw_queue *q, const char *why);
