/* SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause */
/*
 * A worker: a thread, its event loop, its mailbox, and the queues it owns. All that the control
 * thread wants of a queue is a task (struct gw_post) in the mailbox of its worker.
 */
#pragma once

#include "base/list.h"
#include "loop.h"

#include <godwit/device.h>
#include <godwit/worker.h>
#include <pthread.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct gw_worker {
    struct gw_loop *loop;
    struct gw_list active; /* queues that may have requests, or wait for the end of a poll */
    struct gw_list dirty;  /* queues with completions that are not published yet */
    struct gw_list timers; /* running ones, the earliest first */
    struct gw_list fds;    /* of the embedder */

    /* The mailbox: `mail` tells that it is not empty, so that a busy worker looks without a lock.
     */
    bool mail;                 /* atomic */
    bool ended;                /* mail_lock */
    pthread_mutex_t mail_lock; /* the list below */
    struct gw_post *mail_first;
    struct gw_post **mail_end;
    struct gw_source mail_source; /* an eventfd, for a worker that sleeps */
    unsigned n_sent;              /* atomic: tasks of gw_worker_send on their way */

    struct gw_daemon *daemon;
    const struct gw_device_ops *ops;
    void *dev;
    struct gw_diag *diag;
    enum gw_loop_kind loop_kind;
    unsigned index;
    unsigned poll_us;
    unsigned n_looks; /* turns that found nothing, while polling */
    bool stopping;
    pthread_t thread;
    int tid;
    struct gw_post ping; /* stuck.c */
    bool is_pinged;      /* atomic: `ping` is in the mailbox */
};

/*
 * Make the worker and start its thread; waits until it has its loop and the device's worker_start
 * has run. `w` is zeroed but for daemon, ops, dev, diag, loop_kind, index and poll_us.
 * Returns: 0 or why not.
 */
int gw_worker_start(struct gw_worker *w);

/* End the thread, after all of its tasks, and release everything. Its queues are stopped. */
void gw_worker_end(struct gw_worker *w);

/* Run `fn` on the worker and wait for what it returns; at once, when that is this thread. */
int gw_worker_call(struct gw_worker *w, int (*fn)(void *arg), void *arg);

/* Run it with a copy of `arg` and do not wait. Returns: 0; -ENOMEM; -ESHUTDOWN. */
int gw_worker_send(struct gw_worker *w, int (*fn)(void *arg), const void *arg, size_t size);
/* How many of those have not run yet, seen by who sends. */
static inline unsigned gw_worker_n_sent(const struct gw_worker *w)
{
    return __atomic_load_n(&w->n_sent, __ATOMIC_RELAXED);
}

/* The embedder's things (worker_user.c): due timers, time to the next (negative: none), fds. */
void gw_worker_run_timers(struct gw_worker *w);
int64_t gw_worker_next_timer_ns(struct gw_worker *w);
void gw_worker_drop_fds(struct gw_worker *w);
