/* SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause */
/*
 * The worker is made by POSTCOPY_LISTEN, and freed when the last queue has left it after
 * POSTCOPY_END or the end of the session. A queue whose requests take too long to move stays until
 * the end of its session, which does no harm: no page is missing then.
 */
#include "postcopy_worker.h"

#include "base/cleanup.h"
#include "core/daemon/attach.h"
#include "core/loop/workers.h"
#include "core/session/session.h"
#include "dispatch.h"
#include "move.h"
#include "operation.h"

/* The thread exists and has made its loop on return, so the wait for it is short. */
static int make_worker(struct gw_daemon *d)
{
    const struct gw_workers_config cfg = {
        .loop = d->workers[0]->loop_kind,
        .poll_us = d->workers[0]->poll_us,
    };
    int r = gw_workers_make(&d->postcopy.set, &cfg, &d->log, "gw-postcopy");

    if (r < 0)
        return r;
    d->postcopy.worker = gw_workers_get(d->postcopy.set, 0);
    d->postcopy.worker->index = d->num_workers; /* unlike any of the others */
    d->postcopy.worker->loop->n_missing = 1;
    return 0;
}

int gw_postcopy_worker_begin(struct gw_daemon *d)
{
    int r = 0;

    if (d->own_workers)
        return 0;
    if (!d->postcopy.worker)
        r = make_worker(d);
    if (r < 0)
        return r;
    for (unsigned i = 0; i < d->num_queues; i++)
        __atomic_store_n(&d->queues[i].move.wanted, d->postcopy.worker, __ATOMIC_RELEASE);
    d->postcopy.error = 0;
    gw_moves_begin(d);
    if (d->n_moves == 0)
        return 0;
    d->session.waits_for_moves = true;
    return GW_OP_PENDING;
}

void gw_postcopy_worker_end(struct gw_daemon *d)
{
    for (unsigned i = 0; d->postcopy.worker && i < d->num_queues; i++) {
        struct gw_queue *q = &d->queues[i];
        struct gw_worker *none = NULL;

        if (q->worker == d->postcopy.worker)
            (void)__atomic_compare_exchange_n(&q->move.wanted, &none, q->move.home, false,
                                              __ATOMIC_ACQ_REL, __ATOMIC_RELAXED);
    }
    gw_moves_begin(d);
    gw_postcopy_worker_check(d);
}

static bool is_empty(const struct gw_daemon *d)
{
    for (unsigned i = 0; i < d->num_queues; i++)
        if (d->queues[i].worker == d->postcopy.worker)
            return false;
    return true;
}

void gw_postcopy_worker_check(struct gw_daemon *d)
{
    struct gw_session *s = &d->session;

    if (!d->postcopy.worker || d->n_moves > 0)
        return;
    if (s->waits_for_moves) {
        s->waits_for_moves = false;
        gw_session_continue(d, gw_ctl_postcopy_moved(d));
    } else if (!gw_postcopy_is_listening(&s->postcopy) && is_empty(d)) {
        (void)gw_workers_free(gw_steal(d->postcopy.set));
        d->postcopy.worker = NULL;
    }
}

bool gw_postcopy_worker_may_start(const struct gw_daemon *d, const struct gw_queue *q)
{
    return d->own_workers || !gw_postcopy_is_listening(&d->session.postcopy) ||
           q->worker == d->postcopy.worker;
}

int gw_postcopy_worker_arrive(struct gw_daemon *d)
{
    int r = d->postcopy.n_queues == 0 ? gw_daemon_enter_worker(d, d->postcopy.worker) : 0;

    if (r == 0)
        d->postcopy.n_queues++;
    return r;
}

void gw_postcopy_worker_leave(struct gw_daemon *d)
{
    if (--d->postcopy.n_queues == 0 && d->ops.worker_stop)
        d->ops.worker_stop(d->dev, d->postcopy.worker);
}
