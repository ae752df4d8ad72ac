/* SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause */
/*
 * POSTCOPY_LISTEN starts the worker, calls worker_start of the device there, and moves all queues
 * to it. POSTCOPY_END, or the end of the session, moves them back. When the last one has left, the
 * device gets worker_stop and the worker ends. The control worker waits for none of this: the
 * thread reports each step. A queue whose requests take too long to move stays until the end of its
 * session, which does no harm: no page is missing then.
 *
 * The next POSTCOPY_LISTEN, perhaps of another session, may come in each of these steps, and the
 * session may end in each of them. So every step ends by a check of what is due next.
 */
#include "postcopy_worker.h"

#include "core/daemon/attach.h"
#include "core/daemon/control.h"
#include "core/message/dispatch.h"
#include "core/message/operation.h"
#include "core/session/session.h"
#include "move.h"

/* ---- the worker ---- */

static bool is_empty(const struct gw_daemon *d)
{
    for (unsigned i = 0; i < d->num_queues; i++)
        if (d->queues[i].worker == &d->postcopy.worker)
            return false;
    return true;
}

static struct gw_daemon *daemon_of(struct gw_post *post)
{
    return gw_container_of(post, struct gw_daemon, postcopy.post);
}

/* On the worker; `next` follows on the control worker. */
static void post_back(struct gw_daemon *d, void (*next)(struct gw_post *post))
{
    d->postcopy.post.run = next;
    (void)gw_worker_post(d->control, &d->postcopy.post);
}

static void left(struct gw_post *post);

/* The last code of the thread, which has closed its loop. */
static void closed(struct gw_post *post)
{
    post_back(daemon_of(post), left);
}

static void end_thread(struct gw_daemon *d)
{
    d->postcopy.post.run = closed;
    gw_worker_run_last(&d->postcopy.worker, &d->postcopy.post);
}

static void end_step(struct gw_daemon *d)
{
    d->n_moves--;
    gw_postcopy_worker_check(d);
    gw_control_moved(d);
}

/* ---- it begins ---- */

static void move_all(struct gw_daemon *d)
{
    for (unsigned i = 0; i < d->num_queues; i++) {
        d->queues[i].move.must_go = true;
        d->queues[i].move.must_return = false;
    }
    gw_moves_begin(d);
}

static void entered(struct gw_post *post)
{
    struct gw_daemon *d = daemon_of(post);

    d->postcopy.state = GW_POSTCOPY_WORKER_ON;
    __atomic_store_n(&d->postcopy.worker.loop->n_unpinnable, d->has_unpinnable, __ATOMIC_RELAXED);
    if (d->session.waits_for_moves)
        move_all(d);
    end_step(d);
}

static void enter(struct gw_post *post)
{
    struct gw_daemon *d = daemon_of(post);
    struct gw_worker *w = &d->postcopy.worker;
    int r = w->error;

    if (r == 0) {
        w->loop->n_missing = 1;
        r = gw_daemon_enter_worker(d, w);
    }
    d->postcopy.error = r;
    if (r < 0)
        end_thread(d);
    else
        post_back(d, entered);
}

static int start_worker(struct gw_daemon *d)
{
    struct gw_worker *w = &d->postcopy.worker;
    int r;

    if (!w->name) { /* the first time */
        w->log = &d->log;
        w->loop_kind = d->workers[0]->loop_kind;
        w->poll_us = d->workers[0]->poll_us;
        w->index = d->num_workers; /* unlike any of the others */
        w->name = "gw-postcopy";
        w->first = &d->postcopy.post;
    }
    d->postcopy.post.run = enter;
    r = gw_worker_start(w);
    if (r < 0)
        return r;
    d->postcopy.state = GW_POSTCOPY_WORKER_ENTERING;
    d->n_moves++;
    return 0;
}

int gw_postcopy_worker_begin(struct gw_daemon *d)
{
    int r = 0;

    if (d->own_workers)
        return 0;
    if (d->postcopy.state != GW_POSTCOPY_WORKER_ENTERING) /* else `enter` sets it */
        d->postcopy.error = 0;
    d->session.waits_for_moves = true;
    if (d->postcopy.state == GW_POSTCOPY_WORKER_OFF)
        r = start_worker(d);
    else if (d->postcopy.state == GW_POSTCOPY_WORKER_ON)
        move_all(d);
    if (r == 0 && d->n_moves > 0) {
        gw_timer_start(d->timer, GW_WORKER_PATIENCE_NS, 0);
        return GW_OP_PENDING;
    }
    d->session.waits_for_moves = false;
    return r;
}

/* ---- it ends ---- */

static void left(struct gw_post *post)
{
    struct gw_daemon *d = daemon_of(post);
    bool has_failed = d->postcopy.state == GW_POSTCOPY_WORKER_ENTERING;
    int r = 0;

    gw_worker_end(&d->postcopy.worker); /* its thread has only to return */
    d->postcopy.state = GW_POSTCOPY_WORKER_OFF;
    if (d->session.waits_for_moves && !has_failed)
        r = start_worker(d);
    if (r < 0)
        d->postcopy.error = r;
    end_step(d);
}

static void leave(struct gw_post *post)
{
    struct gw_daemon *d = daemon_of(post);

    if (d->ops.worker_stop)
        d->ops.worker_stop(d->dev, &d->postcopy.worker);
    end_thread(d);
}

void gw_postcopy_worker_end(struct gw_daemon *d)
{
    if (d->postcopy.state == GW_POSTCOPY_WORKER_OFF)
        return;
    for (unsigned i = 0; i < d->num_queues; i++) {
        d->queues[i].move.must_go = false;
        d->queues[i].move.must_return = true;
    }
    gw_moves_begin(d);
    gw_postcopy_worker_check(d);
}

void gw_postcopy_worker_check(struct gw_daemon *d)
{
    struct gw_session *s = &d->session;

    if (d->n_moves > 0)
        return;
    if (s->waits_for_moves) {
        s->waits_for_moves = false;
        gw_timer_stop(d->timer);
        gw_session_continue(d, gw_ctl_postcopy_moved(d));
    } else if (d->postcopy.state == GW_POSTCOPY_WORKER_ON &&
               !gw_postcopy_is_listening(&s->postcopy) && is_empty(d)) {
        d->postcopy.state = GW_POSTCOPY_WORKER_LEAVING;
        d->n_moves++;
        d->postcopy.post.run = leave;
        (void)gw_worker_post(&d->postcopy.worker, &d->postcopy.post);
    }
}

struct gw_worker *gw_postcopy_worker_next(struct gw_daemon *d, struct gw_queue *q)
{
    struct gw_queue_move *m = &q->move;
    struct gw_worker *w = &d->postcopy.worker, *to = NULL;

    if (m->must_go) {
        m->must_go = false;
        return w;
    }
    if (d->session.waits_for_moves || gw_postcopy_is_listening(&d->session.postcopy))
        return NULL;
    if (!d->is_ending)
        to = __atomic_exchange_n(&m->wanted, NULL, __ATOMIC_ACQUIRE);
    if (!to && m->must_return && q->worker == w)
        to = m->home;
    m->must_return = false;
    return to;
}

bool gw_postcopy_worker_may_start(const struct gw_daemon *d, const struct gw_queue *q)
{
    return d->own_workers || !gw_postcopy_is_listening(&d->session.postcopy) ||
           q->worker == &d->postcopy.worker;
}
