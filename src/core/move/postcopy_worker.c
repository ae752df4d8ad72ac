/* SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause */
/*
 * POSTCOPY_LISTEN starts the worker, calls worker_start of the device there, and moves all queues
 * to it. POSTCOPY_END, or the end of the session, moves them back. When the last one has left, the
 * device gets worker_stop and the worker ends. A queue whose requests take too long to move stays
 * until the end of its session, which does no harm: no page is missing then.
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

/* On the worker; `next` follows on the control worker. */
static void post_back(struct gw_daemon *d, void (*next)(struct gw_post *post))
{
    d->postcopy.post.run = next;
    (void)gw_worker_post(d->control, &d->postcopy.post);
}

static struct gw_daemon *daemon_of(struct gw_post *post)
{
    return gw_container_of(post, struct gw_daemon, postcopy.post);
}

static void begin_step(struct gw_daemon *d, enum gw_postcopy_worker state,
                       void (*run)(struct gw_post *post))
{
    d->postcopy.state = state;
    d->n_moves++;
    d->postcopy.post.run = run;
    (void)gw_worker_post(&d->postcopy.worker, &d->postcopy.post);
}

/* Waits for the thread, which has nothing left to do. */
static void end_worker(struct gw_daemon *d)
{
    gw_worker_end(&d->postcopy.worker);
    d->postcopy.state = GW_POSTCOPY_WORKER_OFF;
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

    if (d->postcopy.error < 0) {
        end_worker(d);
    } else {
        d->postcopy.state = GW_POSTCOPY_WORKER_ON;
        if (d->session.waits_for_moves)
            move_all(d);
    }
    end_step(d);
}

static void enter(struct gw_post *post)
{
    struct gw_daemon *d = daemon_of(post);

    d->postcopy.error = gw_daemon_enter_worker(d, &d->postcopy.worker);
    post_back(d, entered);
}

/* The thread exists and has made its loop on return, so the wait for it is short. */
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
    }
    r = gw_worker_start(w);
    if (r < 0)
        return r;
    w->loop->n_missing = 1;
    w->loop->n_unpinnable = d->has_unpinnable;
    begin_step(d, GW_POSTCOPY_WORKER_ENTERING, enter);
    return 0;
}

int gw_postcopy_worker_begin(struct gw_daemon *d)
{
    int r = 0;

    if (d->own_workers)
        return 0;
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
    int r = 0;

    end_worker(d);
    if (d->session.waits_for_moves)
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
    post_back(d, left);
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
        begin_step(d, GW_POSTCOPY_WORKER_LEAVING, leave);
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
