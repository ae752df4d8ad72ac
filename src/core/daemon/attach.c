/* SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause */
/*
 * A daemon visits each of its workers: when it is made, and twice when it is freed. A visit is a
 * task in the mailbox of the worker, which runs tasks in order. The first of the last two visits
 * ends when each task for a queue that has moved is in the mailbox of its present worker
 * (wake_task). So after the second, no task of the daemon is left in any mailbox.
 */
#include "attach.h"

#include "base/cleanup.h"
#include "core/loop/workers.h"
#include "core/memory/sigbus.h"

#include <errno.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

/* ---- visits ---- */

typedef int visit_fn(struct gw_daemon *d, struct gw_worker *w);

struct visit {
    struct gw_post post;
    struct gw_daemon *daemon;
    struct gw_worker *worker;
    visit_fn *fn;
    int r;
    char why[160]; /* gw_last_error, which belongs to the worker's thread */
    bool is_done;  /* lock */
    pthread_mutex_t lock;
    pthread_cond_t cond;
};

static void run_visit(struct gw_post *post)
{
    struct visit *v = gw_container_of(post, struct visit, post);
    int r = v->fn(v->daemon, v->worker);

    if (r < 0)
        snprintf(v->why, sizeof(v->why), "%s", gw_last_error());
    pthread_mutex_lock(&v->lock);
    v->r = r;
    v->is_done = true;
    pthread_cond_signal(&v->cond);
    pthread_mutex_unlock(&v->lock);
}

/* Run `fn` on the worker, and wait for its result. */
static int visit(struct gw_daemon *d, struct gw_worker *w, visit_fn *fn)
{
    struct visit v = {
        .post.run = run_visit,
        .daemon = d,
        .worker = w,
        .fn = fn,
        .lock = PTHREAD_MUTEX_INITIALIZER,
        .cond = PTHREAD_COND_INITIALIZER,
    };
    int r;

    /* In a callback of the worker, no task may run. A new daemon has none before its visit. */
    if (gw_worker_is_running_any() && gw_worker_is_current(w))
        return fn(d, w);
    r = gw_worker_post(w, &v.post);
    if (r < 0)
        return r;
    /* Earlier tasks first, also where this thread is the one that runs them. */
    if (gw_worker_is_current(w))
        gw_worker_run_tasks(w);
    pthread_mutex_lock(&v.lock);
    while (!v.is_done)
        pthread_cond_wait(&v.cond, &v.lock);
    pthread_mutex_unlock(&v.lock);
    return v.r < 0 ? gw_fail(v.r, "%s", v.why) : v.r;
}

/* Not on a thread of the embedder, whose signal mask is its own. */
static void unblock_sigbus(const struct gw_daemon *d, const struct gw_worker *w)
{
    if (d->guard && !w->is_external)
        gw_sigbus_unblock();
}

static int enter_control(struct gw_daemon *d, struct gw_worker *w)
{
    unblock_sigbus(d, w);
    return 0;
}

static int pass_by(struct gw_daemon *d, struct gw_worker *w)
{
    return 0;
}

int gw_daemon_enter_worker(struct gw_daemon *d, struct gw_worker *w)
{
    int r;

    unblock_sigbus(d, w);
    r = d->ops.worker_start ? d->ops.worker_start(d->dev, w) : 0;
    if (r == 0)
        return 0;
    r = r < 0 ? r : -EINVAL;
    return gw_fail(r, "worker %u cannot start: %s", w->index, strerror(-r));
}

static int leave(struct gw_daemon *d, struct gw_worker *w)
{
    if (d->num_queues > 0)
        gw_worker_settle(w); /* the last request of a stop may have ended in the last turn */
    for (unsigned i = 0; i < d->num_queues; i++)
        if (d->queues[i].worker == w)
            gw_queue_abandon_worker(&d->queues[i]);
    if (d->has_unpinnable) /* late requests may still use such memory, but start no I/O */
        __atomic_sub_fetch(&w->loop->n_unpinnable, 1, __ATOMIC_RELAXED);
    if (d->ops.worker_stop)
        d->ops.worker_stop(d->dev, w);
    return 0;
}

/* ---- making ---- */

static int take_workers(struct gw_daemon *d, const struct gw_daemon_config *cfg)
{
    for (unsigned i = 0; i < d->num_workers; i++) {
        d->workers[i] = cfg->workers[i];
        if (!cfg->workers[i])
            return gw_fail(-EINVAL, "worker %u is NULL", i);
        for (unsigned k = 0; k < i; k++)
            if (cfg->workers[k] == cfg->workers[i])
                return gw_fail(-EINVAL, "workers %u and %u are the same", k, i);
    }
    return 0;
}

static int make_workers(struct gw_daemon *d, const struct gw_daemon_config *cfg)
{
    const struct gw_workers_config workers_cfg = {
        .num_workers = d->num_workers,
        .loop = cfg->loop,
        .poll_us = cfg->poll_us,
    };
    int r = gw_workers_make(&d->own_workers, &workers_cfg, &d->log, NULL);

    for (unsigned i = 0; r == 0 && i < d->num_workers; i++)
        d->workers[i] = gw_workers_get(d->own_workers, i);
    return r;
}

/* It does no file I/O, so epoll is enough. */
static int make_control(struct gw_daemon *d)
{
    const struct gw_workers_config cfg = {.loop = GW_LOOP_EPOLL};
    int r = gw_workers_make(&d->own_control, &cfg, &d->log, "gw-control");

    if (r == 0)
        d->control = gw_workers_get(d->own_control, 0);
    return r;
}

static int attach_control(struct gw_daemon *d, const struct gw_daemon_config *cfg)
{
    int r = 0;

    if (cfg->control)
        d->control = cfg->control;
    else
        r = make_control(d);
    if (r == 0)
        r = visit(d, d->control, enter_control);
    if (r < 0)
        return r;
    __atomic_add_fetch(&d->control->n_daemons, 1, __ATOMIC_RELEASE);
    d->has_control = true;
    return 0;
}

int gw_daemon_attach(struct gw_daemon *d, const struct gw_daemon_config *cfg)
{
    int r = attach_control(d, cfg);

    if (r < 0)
        return r;
    d->num_workers = cfg->num_workers ? cfg->num_workers : 1;
    d->workers = calloc(d->num_workers, sizeof(struct gw_worker *));
    if (!d->workers)
        return gw_fail(-ENOMEM, "no memory for %u workers", d->num_workers);
    r = cfg->workers ? take_workers(d, cfg) : make_workers(d, cfg);
    while (r == 0 && d->n_attached < d->num_workers) {
        struct gw_worker *w = d->workers[d->n_attached];

        r = visit(d, w, gw_daemon_enter_worker);
        if (r < 0)
            break;
        __atomic_add_fetch(&w->n_daemons, 1, __ATOMIC_RELEASE);
        d->n_attached++;
    }
    return r;
}

/* ---- freeing ---- */

void gw_daemon_detach(struct gw_daemon *d)
{
    bool has_postcopy = d->postcopy.state == GW_POSTCOPY_WORKER_ON;

    for (unsigned i = 0; i < d->n_attached; i++)
        (void)visit(d, d->workers[i], pass_by);
    if (has_postcopy)
        (void)visit(d, &d->postcopy.worker, pass_by);
    if (has_postcopy)
        (void)visit(d, &d->postcopy.worker, leave);
    while (d->n_attached > 0) {
        struct gw_worker *w = d->workers[--d->n_attached];

        (void)visit(d, w, leave);
        __atomic_sub_fetch(&w->n_daemons, 1, __ATOMIC_RELEASE);
    }
    /* Last, because the tasks of the other workers post to it. */
    if (!d->has_control)
        return;
    (void)visit(d, d->control, pass_by);
    __atomic_sub_fetch(&d->control->n_daemons, 1, __ATOMIC_RELEASE);
    d->has_control = false;
}

void gw_daemon_free_workers(struct gw_daemon *d)
{
    gw_worker_end(&d->postcopy.worker);
    (void)gw_workers_free(gw_steal(d->own_workers));
    (void)gw_workers_free(gw_steal(d->own_control));
    free(d->workers);
}

/* ---- running ---- */

static bool is_in_callback(const struct gw_worker *w)
{
    return gw_worker_is_running(w) ||
           (w->is_external && gw_worker_is_running_any() && gw_worker_is_current(w));
}

int gw_daemon_check_wait(const struct gw_daemon *d, const char *what)
{
    bool found = is_in_callback(d->control);

    if (d->pid != getpid())
        return gw_fail(-EPERM, "%s: the daemon belongs to the parent process", what);
    for (unsigned i = 0; i < d->num_workers && !found; i++)
        found = is_in_callback(d->workers[i]);
    return found ? gw_fail(-EBUSY, "%s: called in a callback of a worker of the daemon", what) : 0;
}

/* The external workers of this thread, at most one more than num_workers. */
static unsigned find_mine(struct gw_daemon *d, struct gw_worker **mine)
{
    unsigned n = 0;

    for (unsigned i = 0; i < d->num_workers; i++)
        if (d->workers[i]->is_external && gw_worker_is_current(d->workers[i]))
            mine[n++] = d->workers[i];
    for (unsigned i = 0; i < n; i++)
        if (mine[i] == d->control)
            return n;
    if (d->control->is_external && gw_worker_is_current(d->control))
        mine[n++] = d->control;
    return n;
}

/* The control worker signals the one that is waited for, see gw_control_end. */
static bool wait_for_end(struct gw_daemon *d, struct gw_worker *waiter)
{
    bool running;

    pthread_mutex_lock(&d->end_lock);
    running = d->running;
    d->waiter = running ? waiter : NULL;
    pthread_mutex_unlock(&d->end_lock);
    return running;
}

bool gw_daemon_run_workers(struct gw_daemon *d)
{
    struct gw_worker *mine[GW_WORKERS_MAX + 1];
    struct pollfd fds[GW_WORKERS_MAX + 1];
    unsigned n = find_mine(d, mine);

    if (n == 0)
        return false;
    for (unsigned i = 0; i < n; i++)
        fds[i] = (struct pollfd){.fd = gw_worker_fd(mine[i]), .events = POLLIN};
    while (wait_for_end(d, mine[0])) {
        (void)poll(fds, n, -1);
        for (unsigned i = 0; i < n; i++)
            (void)gw_worker_run(mine[i], 0);
    }
    return true;
}
