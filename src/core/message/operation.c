/* SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause */
/*
 * An operation is freed on the control worker, after its latch has opened: then every task has run
 * and every queue has counted, so nothing refers to it. The mailbox that brings it back orders all
 * that the queues did before what the control worker does next.
 */
#include "operation.h"

#include "base/clock.h"
#include "core/session/session.h"

#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>

/* Interval between reports of a wait for queues. */
#define REPORT_NS UINT64_C(2000000000)

/*
 * Limit on operations of a session that it did not wait for, per queue. A worker in a callback of
 * the device does not empty its mailbox, nor does one that waits for a page in postcopy.
 */
enum {
    DETACHED_PER_QUEUE = 16
};

/* ---- on a worker ---- */

static void run_task(struct gw_post *post)
{
    struct gw_op_task *task = gw_container_of(post, struct gw_op_task, post);
    struct gw_op *op = task->op;
    int r = op->run(task->queue, op);

    /* The task's own count comes last, so the operation lives until then. */
    if (r != GW_OP_PENDING)
        gw_latch_count(&op->latch, r);
    __atomic_store_n(&task->worker, NULL, __ATOMIC_RELAXED);
    gw_latch_count(&op->latch, 0);
}

static void latch_opened(struct gw_latch *latch)
{
    struct gw_op *op = gw_container_of(latch, struct gw_op, latch);

    (void)gw_worker_post(op->daemon->control, &op->opened); /* it outlives the daemon */
}

/* ---- on the control worker ---- */

static void free_op(struct gw_op *op)
{
    gw_list_remove(&op->link);
    gw_list_remove(&op->deferred);
    op->daemon->n_operations--;
    if (op->done)
        op->done(op);
    free(op);
}

static void op_ended(struct gw_post *post)
{
    struct gw_op *op = gw_container_of(post, struct gw_op, opened);
    struct gw_daemon *d = op->daemon;
    int r = op->latch.r;

    if (d->session.op != op) {
        free_op(op);
        return;
    }
    d->session.op = NULL;
    gw_timer_stop(d->timer);
    r = op->next(d, op, r);
    free_op(op);
    gw_session_continue(d, r);
}

struct gw_op *gw_op_new(struct gw_daemon *d, struct gw_queue *q, gw_op_run *run, size_t arg_size)
{
    unsigned n = q ? 1 : d->num_queues;
    size_t tasks = n * sizeof(struct gw_op_task);
    size_t waits = d->num_queues * sizeof(struct gw_generation_wait);
    uint8_t *memory = calloc(1, sizeof(struct gw_op) + tasks + waits + arg_size);
    struct gw_op *op = (void *)memory;

    if (!memory) {
        (void)gw_fail(-ENOMEM, "no memory for an operation");
        return NULL;
    }
    op->daemon = d;
    op->queue = q;
    op->run = run;
    op->opened.run = op_ended;
    op->tasks = (void *)(memory + sizeof(*op));
    op->waits = (void *)(memory + sizeof(*op) + tasks);
    op->arg = memory + sizeof(*op) + tasks + waits;
    op->n_tasks = n;
    for (unsigned i = 0; i < n; i++)
        op->tasks[i] =
            (struct gw_op_task){.post.run = run_task, .op = op, .queue = q ? q : &d->queues[i]};
    gw_list_init(&op->deferred);
    gw_list_append(&d->operations, &op->link);
    d->n_operations++;
    return op;
}

void gw_op_free_unstarted(struct gw_op *op)
{
    if (op)
        free_op(op);
}

/* The operation may end, but is not freed before the control worker's next turn. */
static void post_tasks(struct gw_op *op)
{
    for (unsigned i = 0; i < op->n_tasks; i++) {
        struct gw_op_task *task = &op->tasks[i];
        struct gw_worker *w = task->queue->worker;

        __atomic_store_n(&task->worker, w, __ATOMIC_RELAXED);
        (void)gw_worker_post(w, &task->post);
    }
}

void gw_op_detach(struct gw_op *op)
{
    struct gw_daemon *d = op->daemon;

    gw_latch_init(&op->latch, 2 * op->n_tasks, latch_opened);
    if (d->n_travelling > 0 && !op->is_move)
        gw_list_append(&d->deferred, &op->deferred);
    else
        post_tasks(op);
}

void gw_op_post_deferred(struct gw_daemon *d)
{
    while (!gw_list_is_empty(&d->deferred)) {
        struct gw_op *op = gw_container_of(d->deferred.next, struct gw_op, deferred);

        gw_list_remove(&op->deferred);
        post_tasks(op);
    }
}

static void restart_timer(struct gw_daemon *d)
{
    const struct gw_session *s = &d->session;
    uint64_t now = gw_clock_ns();
    uint64_t delay = s->op->drains ? REPORT_NS : GW_WORKER_PATIENCE_NS;

    if (s->op->drains && s->deadline_ns > now && s->deadline_ns - now < delay)
        delay = s->deadline_ns - now;
    gw_timer_start(d->timer, delay, 0);
}

int gw_op_wait(struct gw_op *op, gw_op_next *next)
{
    struct gw_daemon *d = op->daemon;

    op->next = next;
    d->session.op = op;
    d->session.deadline_ns = gw_clock_ns() + d->drain_timeout_ns;
    restart_timer(d);
    gw_op_detach(op);
    return GW_OP_PENDING;
}

int gw_op_answer(struct gw_op *op, gw_op_next *next)
{
    struct gw_daemon *d = op->daemon;

    if (!gw_postcopy_is_listening(&d->session.postcopy) ||
        d->n_operations > DETACHED_PER_QUEUE * d->num_queues)
        return gw_op_wait(op, next);
    gw_op_detach(op);
    return next(d, op, 0);
}

int gw_op_post(struct gw_op *op)
{
    struct gw_daemon *d = op->daemon;

    if (d->n_operations > DETACHED_PER_QUEUE * d->num_queues)
        return gw_op_wait(op, gw_op_result);
    gw_op_detach(op);
    return 0;
}

int gw_op_result(struct gw_daemon *d, struct gw_op *op, int r)
{
    return r;
}

void gw_op_abandon(struct gw_daemon *d)
{
    if (!d->session.op)
        return;
    gw_timer_stop(d->timer);
    d->session.op = NULL;
}

/* ---- a slow operation ---- */

static void report_slow_queues(struct gw_daemon *d, const char *what)
{
    for (unsigned i = 0; i < d->num_queues; i++) {
        struct gw_queue_stats stats;
        uint64_t delayed_ns;
        bool is_start;

        gw_queue_stats(&d->queues[i], &stats);
        if (stats.in_flight > 0)
            gw_log(&d->log, GW_LOG_WARNING,
                   "%s waits for queue %u: %" PRIu64 " requests in flight, the oldest for %" PRIu64
                   " ms",
                   what, i, stats.in_flight, stats.oldest_ns / 1000000);
        else if (gw_queue_n_holds(&d->queues[i]) > 0)
            gw_log(&d->log, GW_LOG_WARNING, "%s waits for queue %u: the device holds guest memory",
                   what, i);
        else if ((delayed_ns = gw_queue_delayed_ns(&d->queues[i], &is_start)) > 0)
            gw_log(&d->log, GW_LOG_WARNING,
                   "%s waits for queue %u: the device has not completed its %s for %" PRIu64 " ms",
                   what, i, is_start ? "start" : "stop", delayed_ns / 1000000);
    }
}

/* Is a task of the operation in the mailbox of the worker? */
static bool has_task(const struct gw_op *op, const struct gw_worker *w)
{
    for (unsigned i = 0; i < op->n_tasks; i++)
        if (__atomic_load_n(&op->tasks[i].worker, __ATOMIC_RELAXED) == w)
            return true;
    return false;
}

/* Does the session wait for this worker: for a task of its operation, or of moves before it? */
static bool is_waited_for(const struct gw_daemon *d, const struct gw_worker *w)
{
    const struct gw_op *op = d->session.op;

    if (op && has_task(op, w))
        return true;
    if (op && gw_list_is_empty(&op->deferred))
        return false;
    for (struct gw_list *at = d->operations.next; at != &d->operations; at = at->next) {
        op = gw_container_of(at, struct gw_op, link);
        if (op->is_move && has_task(op, w))
            return true;
    }
    return false;
}

static void report_slow_worker(struct gw_daemon *d, const struct gw_worker *w)
{
    gw_log(&d->log, GW_LOG_WARNING,
           "worker %u is still busy: in a device callback, or waiting for a page", w->index);
}

static void report_slow_workers(struct gw_daemon *d)
{
    const struct gw_worker *postcopy = &d->postcopy.worker;

    for (unsigned i = 0; i < d->num_workers; i++)
        if (is_waited_for(d, d->workers[i]))
            report_slow_worker(d, d->workers[i]);
    if (is_waited_for(d, postcopy) || d->postcopy.state == GW_POSTCOPY_WORKER_ENTERING ||
        d->postcopy.state == GW_POSTCOPY_WORKER_LEAVING)
        report_slow_worker(d, postcopy);
}

void gw_op_report_moves(struct gw_daemon *d)
{
    report_slow_workers(d);
    gw_timer_start(d->timer, GW_WORKER_PATIENCE_NS, 0);
}

void gw_op_check_time(struct gw_daemon *d)
{
    struct gw_op *op = d->session.op;
    uint64_t now = gw_clock_ns();
    int r;

    if (op->drains)
        report_slow_queues(d, op->drains);
    if (now + d->drain_timeout_ns >= d->session.deadline_ns + GW_WORKER_PATIENCE_NS)
        report_slow_workers(d);
    /* No time-out while a connected front-end has yet to send missing pages. */
    if (!op->drains || now < d->session.deadline_ns ||
        gw_postcopy_has_missing(&d->session.postcopy)) {
        restart_timer(d);
        return;
    }
    gw_op_abandon(d);
    r = gw_fail(-ETIMEDOUT, "requests of the device have not finished within %" PRIu64 " ms",
                d->drain_timeout_ns / 1000000);
    gw_session_continue(d, op->next(d, op, r));
}

void gw_op_free_all(struct gw_daemon *d, bool is_idle)
{
    while (!gw_list_is_empty(&d->operations)) {
        struct gw_op *op = gw_container_of(d->operations.next, struct gw_op, link);

        if (!is_idle)
            op->done = NULL;
        free_op(op);
    }
}
