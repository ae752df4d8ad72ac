/* SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause */
/*
 * The interface between queue.c, request.c, complete.c, generation.c and resume.c. Except for the
 * locks themselves, all of it is called under the queue's lock [lock].
 */
#pragma once

#include "queue.h"

/* The iovas of a request follow the bytes for the device. */
#define GW_IOVAS_ALIGN _Alignof(struct gw_iova_extent)

/* The extents of a request as in its descriptors. Only if addresses are translated. */
static inline struct gw_iova_extent *gw_request_iovas(const struct gw_queue *q,
                                                      const struct gw_request_i *r)
{
    uintptr_t end = (uintptr_t)(r + 1) + q->pool.request_size;

    return r->segments ? r->segments->iovas
                       : (void *)((end + GW_IOVAS_ALIGN - 1) & ~(uintptr_t)(GW_IOVAS_ALIGN - 1));
}

/* [lock] Is the queue waiting for a translation, of the next request or of its ring? */
static inline bool gw_queue_lacks_translation(const struct gw_queue *q)
{
    return q->translation &&
           (q->translation->is_blocked || q->translation->ring != GW_TRANSLATED_RING_USED);
}

/* The locks of the sync policies; a queue with GW_SYNC_NONE has no lock. */
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

/* Is this the worker of the queue? False for a queue without one (vring.h). */
static inline bool gw_queue_is_on_worker(const struct gw_queue *q)
{
    return q->worker && gw_worker_is_current(q->worker);
}

/* [lock] Give the queue a turn in the worker's next round. Context: any thread with the lock. */
void gw_queue_activate(struct gw_queue *q);
/* [lock] Is LOG_ALL set before there is a log? */
static inline bool gw_queue_lacks_log(const struct gw_queue *q)
{
    return q->dirty_log.all && !q->dirty_log.log;
}

/* [lock] Are there requests to resubmit, which an earlier back-end did not complete? */
static inline bool gw_queue_has_resubmits(const struct gw_queue *q)
{
    return q->resume.next_resubmit < q->resume.n_resubmit;
}

/* [lock] Is the queue stopping, but must resubmit those requests first? */
static inline bool gw_queue_must_resubmit(const struct gw_queue *q)
{
    return q->state == GW_QUEUE_STOPPING && q->stop.how == GW_STOP_DRAIN &&
           gw_queue_has_resubmits(q) && q->ring.attached && !q->broken && !gw_queue_lacks_log(q) &&
           !q->delay.start;
}

/* [lock] Has the device neither requests nor holds on guest memory? */
static inline bool gw_queue_is_idle(const struct gw_queue *q)
{
    return q->in_flight.n == 0 && q->n_holds == 0;
}

/* [lock] May a stop end, because the device has neither requests nor anything else to do? */
static inline bool gw_queue_is_drained(const struct gw_queue *q)
{
    return gw_queue_is_idle(q) && !q->delay.start && !q->delay.stop;
}

/* [lock] May requests be popped? Not while their writes could not be logged. */
static inline bool gw_queue_is_running(const struct gw_queue *q)
{
    if (gw_queue_lacks_translation(q))
        return false;
    return (q->state == GW_QUEUE_STARTED && q->enabled && !q->broken && !q->move.is_paused &&
            !q->delay.start && !gw_queue_lacks_log(q)) ||
           gw_queue_must_resubmit(q);
}

/* [lock] The number of requests to pop. Returns: as n_available of struct gw_ring_ops. */
static inline int gw_queue_n_available(const struct gw_queue *q)
{
    if (gw_queue_has_resubmits(q))
        return 1;
    return q->state == GW_QUEUE_STARTED && q->ring.attached ? q->ring.ops->n_available(&q->ring)
                                                            : 0;
}

/* [lock] Make the ring and the pool for a start. Returns: as gw_queue_start. */
int gw_queue_start_ring(struct gw_queue *q, const struct gw_queue_start *start);
/* [lock] From now on the ring's memory must be neither read nor written. */
void gw_queue_detach_ring(struct gw_queue *q);
/* The device has not completed a start yet; it has, and start->latch is counted. */
void gw_queue_delay_start(struct gw_queue *q, struct gw_queue_start *start);
void gw_queue_end_start(struct gw_queue *q, struct gw_queue_start *start, int r);
/* [lock] Log writes to the used ring, or not, as far as they are logged (VHOST_VRING_F_LOG). */
void gw_queue_apply_ring_log(struct gw_queue *q);
/* [lock] The queue has become idle, and a pause waited for that. */
void gw_queue_note_idle(struct gw_queue *q);
/* [lock] A request or a hold has ended, which began in an older generation if `is_old`. */
static inline void gw_queue_note_ended(struct gw_queue *q, bool is_old)
{
    if (is_old && --q->generation.n_old == 0)
        gw_queue_note_quiesced(q);
    if (!gw_queue_is_idle(q))
        return;
    if (q->move.latch)
        gw_queue_note_idle(q);
    if (q->state == GW_QUEUE_STOPPING)
        gw_queue_activate(q);
}
/* [lock] Watch the kick on the worker's loop. Returns: as gw_notifier_watch. */
int gw_queue_watch_kick(struct gw_queue *q);
/* [lock] Does the invariant of invariant.c hold? For assert, between two turns. */
bool gw_queue_is_consistent(const struct gw_queue *q);
/* [lock] The ring can no longer be trusted: log it once, signal the error fd, pop no more. */
void gw_queue_break(struct gw_queue *q, const char *why);
