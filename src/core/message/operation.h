/* SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause */
/*
 * Operations: what a message, or the end of a session, makes the queues do. The control worker
 * creates an operation and posts it to the workers of the queues concerned. The operation ends when
 * they have done everything (its latch opens). The control worker then calls `done`, frees it, and
 * continues the session if the session still waits for it. Nothing ever blocks: while a session
 * waits, it reads no further message, and its worker does other things.
 *
 * The session waits for at most one operation. It stops waiting, and the operation continues
 * without it, when the front-end hangs up, when the daemon stops, or when the drain time-out
 * expires. In postcopy a worker may be waiting for a page that the front-end sends only after our
 * answer. The session then waits only for operations whose answer promises that requests have
 * ended; all others are answered as soon as they are posted (gw_op_answer).
 */
#pragma once

#include "core/daemon/daemon.h"

struct gw_op;

/* Of `run` and `next`: not yet, another call reports the result. */
#define GW_OP_PENDING 1

/*
 * What a queue does, on its worker. Returns: 0 or a negative errno; GW_OP_PENDING if the queue
 * counts op->latch later, and `op` may be freed already.
 */
typedef int gw_op_run(struct gw_queue *q, struct gw_op *op);
/*
 * Continues the session, on the control worker, when the operation has ended with result `r`, or
 * the session stops waiting for it: -ETIMEDOUT, with gw_last_error.
 * Returns: the result for the message; GW_OP_PENDING after it has started another operation.
 */
typedef int gw_op_next(struct gw_daemon *d, struct gw_op *op, int r);

/* One queue's share of an operation. */
struct gw_op_task {
    struct gw_post post;
    struct gw_op *op;
    struct gw_queue *queue;
    const struct gw_worker *worker; /* atomic: until the task has run; for the log */
};

struct gw_op {
    struct gw_daemon *daemon;
    struct gw_list link;    /* daemon.operations */
    struct gw_queue *queue; /* NULL: all queues */
    gw_op_run *run;
    gw_op_next *next;
    void (*done)(
        struct gw_op *op); /* on the control worker, or while the daemon is freed; or NULL */
    void *arg;             /* the memory requested from gw_op_new, zeroed */
    const char *drains;    /* what waits for requests in flight, for the log; NULL: nothing */
    bool is_late;          /* the drain time-out expired; for `done` */
    bool is_move;          /* part of a move, see gw_op_detach */
    struct gw_latch latch; /* a count by each task, and one by each queue */
    struct gw_post opened;
    struct gw_list deferred; /* daemon.deferred */
    unsigned n_tasks;
    struct gw_op_task *tasks;         /* of each queue concerned */
    struct gw_generation_wait *waits; /* one for each queue of the daemon, for gw_op_run */
};

/*
 * Create an operation of one queue, or of all (`q` is NULL). Start it at once.
 * Returns: NULL if memory is short, with gw_last_error.
 */
struct gw_op *gw_op_new(struct gw_daemon *d, struct gw_queue *q, gw_op_run *run, size_t arg_size);
/* Accepts NULL. */
void gw_op_free_unstarted(struct gw_op *op);

/* Start it, and make the session wait for it. Returns: GW_OP_PENDING. */
int gw_op_wait(struct gw_op *op, gw_op_next *next);
/*
 * Start it for a message whose answer does not depend on requests in flight: outside postcopy the
 * session waits for it, and `next` continues; in postcopy `next` is called at once, with result 0.
 * Returns: GW_OP_PENDING; as `next`.
 */
int gw_op_answer(struct gw_op *op, gw_op_next *next);
/*
 * Start it for a message whose answer does not depend on the queues. The session waits for it only
 * if too many operations have not ended. Returns: 0; GW_OP_PENDING.
 */
int gw_op_post(struct gw_op *op);
/*
 * Start it; nothing waits for it. While a queue is between two workers (move.c), only operations of
 * moves are posted, and the others follow when it has arrived, in their order.
 */
void gw_op_detach(struct gw_op *op);
/* Post the operations that were deferred. */
void gw_op_post_deferred(struct gw_daemon *d);

/* Returns its argument: the `next` of an operation with nothing left to do. */
int gw_op_result(struct gw_daemon *d, struct gw_op *op, int r);

/* The session waits for an operation no longer. */
void gw_op_abandon(struct gw_daemon *d);
/* Timer of a session that waits for an operation: log what is slow, or end the wait. */
void gw_op_check_time(struct gw_daemon *d);
/* Timer of a session that waits for moves: log workers that are slow, and start it again. */
void gw_op_report_moves(struct gw_daemon *d);
/* How long a worker may leave a task in its mailbox before a warning is logged. */
#define GW_WORKER_PATIENCE_NS UINT64_C(5000000000)

/*
 * After the workers have ended: free all operations that have not ended. Unless `is_idle`, requests
 * are in flight, and what `done` would release is leaked.
 */
void gw_op_free_all(struct gw_daemon *d, bool is_idle);
