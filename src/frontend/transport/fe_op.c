/* SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause */
/*
 * The operations of a front-end: a queue, the first of which owns the connection. When a session
 * ends, all operations end with the same error. Nothing here sleeps, except gw_frontend_wait_op.
 */
#include "fe_op.h"

#include "base/checked.h"
#include "base/cleanup.h"
#include "base/clock.h"
#include "fd/peer_fd.h"
#include "frontend/state/device_state.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>

#define OPS_PER_TURN 64 /* so that a callback that always starts another keeps no loop */

static struct gw_frontend_op *first_op(const struct gw_frontend *fe)
{
    return gw_list_is_empty(&fe->ops) ? NULL
                                      : gw_container_of(fe->ops.next, struct gw_frontend_op, node);
}

/* ---- One operation ---- */

static int next_message(struct gw_frontend_op *op)
{
    int r = GW_FRONTEND_STEP_DONE;

    while (r == GW_FRONTEND_STEP_DONE) {
        gw_frontend_step *step = *op->steps;

        if (!step && !op->then)
            break;
        if (!step) {
            op->steps = op->then;
            op->then = NULL;
            continue;
        }
        op->steps++;
        r = step(op);
        op->i = r == GW_FRONTEND_STEP_SEND_AGAIN ? op->i + 1 : 0;
        if (r == GW_FRONTEND_STEP_SEND_AGAIN || r == GW_FRONTEND_STEP_WAIT)
            op->steps--;
    }
    return r;
}

/* One step of the operation. Returns: 1 if it is not over; WAIT; 0 at its end; a negative errno. */
static int do_step(struct gw_frontend_op *op)
{
    struct gw_frontend *fe = op->fe;
    int r;

    if (fe->phase == GW_FRONTEND_PREPARING) {
        r = next_message(op);
        if (r <= 0 || r == GW_FRONTEND_STEP_WAIT)
            return r;
        r = gw_frontend_begin_message(op);
        return r < 0 ? r : 1;
    }
    r = fe->phase == GW_FRONTEND_SENDING ? gw_frontend_send_message(op)
                                         : gw_frontend_receive_answer(op);
    if (r == GW_FRONTEND_STEP_WAIT && gw_clock_ns() >= fe->deadline)
        r = gw_frontend_break(fe, -ETIMEDOUT, "%s: no answer in time",
                              gw_frontend_message_name(op->call.request));
    return r == 0 ? 1 : r;
}

/* Returns: WAIT; otherwise the result of the operation, 0 or a negative errno with its reason. */
static int proceed(struct gw_frontend_op *op)
{
    int r;

    do {
        r = do_step(op);
        if (r < 0 && op->keeps_going && op->first_error == 0) {
            op->first_error = r;
            snprintf(op->why, sizeof(op->why), "%s", gw_frontend_last_error());
        }
    } while (r == 1 || (r < 0 && op->keeps_going && !op->fe->broken));
    if (op->first_error < 0 && r != GW_FRONTEND_STEP_WAIT)
        return gw_frontend_fail(op->first_error, "%s", op->why);
    return r;
}

static void release(struct gw_frontend_op *op)
{
    if (op->has_channel) {
        gw_close(&op->channel[1]);
        gw_peer_fd_close(op->channel);
    }
    gw_frontend_release_state(op);
    if (op->is_allocated)
        free(op);
}

/* The callback may free the front-end, which gw_frontend_leave then does. */
static void complete(struct gw_frontend_op *op, int r)
{
    gw_frontend_done_cb *done = op->done;
    void *arg = op->arg;

    gw_list_remove(&op->node);
    op->fe->phase = GW_FRONTEND_PREPARING;
    op->fe->retry_at = 0;
    release(op);
    if (done)
        done(arg, r);
}

void gw_frontend_cancel(struct gw_frontend *fe)
{
    unsigned generation = fe->generation++;
    struct gw_frontend_op *op;

    /* A callback may begin the next session, and operations in it. */
    while ((op = first_op(fe)) && (int)(op->generation - generation) <= 0)
        complete(op, gw_frontend_fail(-ECANCELED, "canceled: the front-end hung up"));
}

/* Is there a session, or will the operation begin one? */
static int check_session(const struct gw_frontend_op *op)
{
    if (op->fe->fd < 0 && !op->connects)
        return gw_frontend_fail(-ENOTCONN, "%s: not connected",
                                gw_frontend_message_name(op->call.request));
    return gw_frontend_check_broken(op->fe);
}

void gw_frontend_work(struct gw_frontend *fe)
{
    unsigned n = OPS_PER_TURN;
    struct gw_frontend_op *op;
    int r;

    gw_frontend_serve_channel(fe);
    while ((op = first_op(fe)) && (fe->broken || n--)) {
        r = check_session(op);
        if (r == 0)
            r = proceed(op);
        if (r == GW_FRONTEND_STEP_WAIT)
            break;
        complete(op, r);
    }
}

/* ---- Starting and waiting ---- */

void gw_frontend_enter(struct gw_frontend *fe)
{
    fe->n_users++;
}

int gw_frontend_leave(struct gw_frontend *fe, int r)
{
    bool is_freed = fe->is_freed;

    if (--fe->n_users)
        return is_freed ? -ECANCELED : r;
    /* Only adding a descriptor can fail, and who adds one has watched it. */
    (void)gw_frontend_watch(fe);
    if (!is_freed)
        return r;
    gw_frontend_unwatch(fe);
    free(fe);
    return -ECANCELED;
}

static int send_once(struct gw_frontend_op *op)
{
    return GW_FRONTEND_STEP_SEND;
}

/* Unless its encoder sets others: what it has encoded is sent. */
static gw_frontend_step *const only_step[] = {send_once, NULL};

void gw_frontend_init_op(struct gw_frontend_op *op, struct gw_frontend *fe)
{
    *op = (struct gw_frontend_op){.fe = fe, .steps = only_step, .generation = fe->generation};
    gw_list_init(&op->node);
}

struct gw_frontend_op *gw_frontend_new_op(struct gw_frontend *fe, gw_frontend_done_cb *done,
                                          void *arg)
{
    struct gw_frontend_op *op = malloc(sizeof(*op));

    if (!op) {
        (void)gw_frontend_fail_fixed(-ENOMEM, "out of memory");
        return NULL;
    }
    gw_frontend_init_op(op, fe);
    op->is_allocated = true;
    op->done = done;
    op->arg = arg;
    return op;
}

/* Returns: 0; a negative errno if the operation cannot begin: it is released. */
static int enqueue(struct gw_frontend_op *op, int encoded)
{
    struct gw_frontend *fe = op->fe;
    int r = 0;

    if (encoded < 0)
        r = encoded;
    else if (fe->is_freed)
        r = gw_frontend_fail(-ECANCELED, "the front-end is being freed");
    else if (op->connects && fe->fd >= 0)
        r = gw_frontend_fail(-EISCONN, "connect: already connected");
    else if (fe->fd >= 0 || !first_op(fe))
        r = check_session(op); /* otherwise a connection may be on its way */
    if (r < 0)
        release(op);
    else
        gw_list_append(&fe->ops, &op->node);
    return r;
}

int gw_frontend_start_op(struct gw_frontend_op *op, int encoded)
{
    struct gw_frontend *fe = op->fe;

    gw_frontend_enter(fe);
    return gw_frontend_leave(fe, enqueue(op, encoded));
}

static void keep_result(void *arg, int r)
{
    struct gw_frontend_op *op = arg;

    op->has_ended = true;
    op->result = r;
}

int gw_frontend_wait_op(struct gw_frontend_op *op, int encoded)
{
    struct gw_frontend *fe = op->fe;
    int r;

    op->done = keep_result;
    op->arg = op;
    r = enqueue(op, encoded);
    if (r < 0)
        return r;
    gw_frontend_enter(fe);
    while (!op->has_ended) {
        gw_frontend_work(fe);
        if (!op->has_ended)
            gw_frontend_sleep(fe, -1);
    }
    return gw_frontend_leave(fe, op->result);
}
