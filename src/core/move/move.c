/* SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause */
/*
 * A queue moves to another worker in three operations.
 *
 * 1. Pause, on the old worker: the queue takes no requests. The operation ends when none is in
 *    flight, or after PATIENCE_NS: then the queue stays where it is.
 * 2. Leave, on the old worker: the queue lets go of its loop and its lists. All that the control
 *    worker posted to the queue before is in the mailbox before this, and so has run. From the
 *    post of this operation until the queue has arrived, the queue travels: the control worker
 *    posts nothing else to any queue, but defers it (gw_op_detach).
 * 3. Arrive, on the new worker: the queue watches its kicks there, checks its ring and continues.
 *
 * So an operation runs once on each queue, wherever it is, and all operations of a queue run in the
 * order of their posts. Requests that arrive in between stay on the ring, in their order, and none
 * is lost: the ring is checked after the kick fd is watched again. Other threads, which may
 * complete requests with a lock, look for the worker under the lock, or post to a worker that the
 * queue has left; its wake-up task then posts to the new one.
 *
 * In postcopy no move begins: a worker that waits for a page would defer the answers of the session
 * (postcopy_worker.c).
 */
#include "move.h"

#include "base/cleanup.h"
#include "core/daemon/control.h"
#include "core/message/operation.h"
#include "postcopy_worker.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>

#define PATIENCE_NS UINT64_C(1000000000)

struct move {
    struct gw_daemon *daemon;
    struct gw_queue *queue;
    struct gw_worker *to;
    struct gw_timer *timer; /* for the pause */
    bool has_expired;
    int r;                                          /* why it ends without arriving */
    struct gw_op *pause, *leave, *arrive, *unpause; /* NULL once started */
};

static struct move *move_of(struct gw_op *op)
{
    return *(struct move **)op->arg;
}

static void free_move(struct move *m)
{
    gw_timer_free(m->timer);
    gw_op_free_unstarted(m->pause);
    gw_op_free_unstarted(m->leave);
    gw_op_free_unstarted(m->arrive);
    gw_op_free_unstarted(m->unpause);
    free(m);
}

static void end_move(struct move *m, int r)
{
    struct gw_daemon *d = m->daemon;
    struct gw_queue *q = m->queue;

    if (r < 0)
        gw_log(&d->log, GW_LOG_WARNING, "queue %u stays on worker %u: %s", q->index,
               q->worker->index,
               r == -ETIMEDOUT ? "its requests take too long"
               : r == -EBUSY   ? "it has requests of a ring that stops"
                               : strerror(-r));
    else
        gw_log(&d->log, GW_LOG_DEBUG, "queue %u moves to worker %u", q->index, m->to->index);
    free_move(m);
    q->move.is_moving = false;
    d->n_moves--;
    gw_moves_begin(d); /* what was asked for since then */
    gw_postcopy_worker_check(d);
    gw_control_moved(d);
}

/* Start one of the operations, which frees itself after `done`. */
static void start(struct gw_op **op, void (*done)(struct gw_op *op))
{
    struct gw_op *started = gw_steal(*op);

    started->done = done;
    gw_op_detach(started);
}

/* ---- on a worker ---- */

static int run_pause(struct gw_queue *q, struct gw_op *op)
{
    gw_queue_pause(q, &op->latch);
    return GW_OP_PENDING;
}

static int run_unpause(struct gw_queue *q, struct gw_op *op)
{
    gw_queue_unpause(q);
    return 0;
}

static int run_leave(struct gw_queue *q, struct gw_op *op)
{
    return gw_queue_leave(q, move_of(op)->to);
}

static int run_arrive(struct gw_queue *q, struct gw_op *op)
{
    gw_queue_arrive(q);
    return 0;
}

/* ---- on the control worker, when an operation has ended ---- */

static void arrived(struct gw_op *op)
{
    struct gw_daemon *d = op->daemon;
    struct move *m = move_of(op);
    struct gw_queue *q = m->queue;

    if (q->worker != &d->postcopy.worker)
        q->move.home = q->worker;
    if (--d->n_travelling == 0)
        gw_op_post_deferred(d);
    end_move(m, 0);
}

/* Ends a move that failed. The pause has ended by now, because run_unpause ends it. */
static void unpaused(struct gw_op *op)
{
    struct move *m = move_of(op);

    end_move(m, m->r < 0 ? m->r : -ETIMEDOUT);
}

static void left(struct gw_op *op)
{
    struct move *m = move_of(op);

    if (op->latch.r == 0) {
        start(&m->arrive, arrived);
        return;
    }
    m->r = op->latch.r;
    start(&m->unpause, unpaused);
    if (--op->daemon->n_travelling == 0)
        gw_op_post_deferred(op->daemon);
}

static void paused(struct gw_op *op)
{
    struct move *m = move_of(op);

    gw_timer_stop(m->timer);
    m->r = op->latch.r;
    if (m->has_expired)
        return;
    if (m->r < 0) {
        start(&m->unpause, unpaused);
        return;
    }
    op->daemon->n_travelling++;
    start(&m->leave, left);
}

static void expired(void *arg)
{
    struct move *m = arg;

    m->has_expired = true;
    start(&m->unpause, unpaused);
}

static struct gw_op *new_op(struct move *m, gw_op_run *run)
{
    struct gw_op *op = gw_op_new(m->daemon, m->queue, run, sizeof(m));

    if (op) {
        op->is_move = true;
        *(struct move **)op->arg = m;
    }
    return op;
}

/* All that a move needs is made first, so that it cannot fail halfway. */
static struct move *new_move(struct gw_daemon *d, struct gw_queue *q, struct gw_worker *to)
{
    struct move *m = calloc(1, sizeof(*m));

    if (!m)
        return NULL;
    *m = (struct move){.daemon = d, .queue = q, .to = to};
    m->pause = new_op(m, run_pause);
    m->leave = new_op(m, run_leave);
    m->arrive = new_op(m, run_arrive);
    m->unpause = new_op(m, run_unpause);
    if (m->pause && m->leave && m->arrive && m->unpause &&
        gw_timer_new(&m->timer, d->control, expired, m) == 0)
        return m;
    free_move(m);
    return NULL;
}

static void begin(struct gw_daemon *d, struct gw_queue *q, struct gw_worker *to)
{
    struct move *m = new_move(d, q, to);

    if (!m) {
        gw_log(&d->log, GW_LOG_ERROR, "queue %u stays on worker %u: no memory for a move", q->index,
               q->worker->index);
        if (to == &d->postcopy.worker)
            d->postcopy.error = -ENOMEM;
        return;
    }
    d->n_moves++;
    q->move.is_moving = true;
    gw_timer_start(m->timer, PATIENCE_NS, 0);
    start(&m->pause, paused);
}

void gw_moves_begin(struct gw_daemon *d)
{
    for (unsigned i = 0; i < d->num_queues; i++) {
        struct gw_queue *q = &d->queues[i];
        struct gw_worker *to = q->move.is_moving ? NULL : gw_postcopy_worker_next(d, q);

        if (to && to != q->worker)
            begin(d, q, to);
    }
}

int gw_queue_move(struct gw_queue *q, struct gw_worker *w)
{
    struct gw_daemon *d = q->daemon;

    for (unsigned i = 0; d && i < d->num_workers; i++) {
        if (d->workers[i] != w)
            continue;
        __atomic_store_n(&q->move.wanted, w, __ATOMIC_RELEASE);
        (void)eventfd_write(d->control_fd, 1);
        return 0;
    }
    return gw_fail(-EINVAL, "gw_queue_move: the worker is none of the queue's daemon");
}
