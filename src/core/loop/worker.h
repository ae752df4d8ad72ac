/* SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause */
/*
 * A worker: a thread, its event loop, its mailbox, and the queues it owns. Other threads operate on
 * a queue by posting a task (struct gw_post) to the mailbox of its worker. No thread ever waits for
 * a worker, except for its start and its end.
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
    struct gw_list active; /* queues that may have requests, or are being polled */
    struct gw_list dirty;  /* queues with completions that are not published yet */
    struct gw_list timers; /* running timers, earliest first */
    struct gw_list fds;    /* of the embedder */

    /* The mailbox. `mail` is set if it is not empty, so a busy worker checks it without a lock. */
    bool mail;                 /* atomic */
    bool ended;                /* mail_lock */
    pthread_mutex_t mail_lock; /* the list below */
    struct gw_post *mail_first;
    struct gw_post *mail_last;    /* if there is a first */
    struct gw_source mail_source; /* an eventfd, wakes a sleeping worker */

    const struct gw_device_ops *ops; /* NULL: not for a device */
    void *dev;
    struct gw_log *log;
    enum gw_loop_kind loop_kind;
    const char *name; /* of the thread; NULL: gw-worker-INDEX */
    bool unblocks_sigbus;
    unsigned index;
    unsigned poll_us;
    unsigned n_idle_turns; /* turns that found nothing, while polling */
    bool runs;             /* from gw_worker_start to gw_worker_end */
    bool stopping;
    pthread_t thread;
    int tid;
    struct gw_post end;  /* of gw_worker_end */
    struct gw_post ping; /* stuck.c */
    bool is_pinged;      /* atomic: `ping` is in the mailbox */
};

/*
 * Start the worker's thread, and wait until it has created its loop and run the device's
 * worker_start. `w` is zeroed except for ops, dev, log, loop_kind, name, unblocks_sigbus, index and
 * poll_us. Returns: 0; a negative errno, with gw_last_error.
 */
int gw_worker_start(struct gw_worker *w);

/*
 * End the thread after all of its tasks, and release everything. Its queues must be stopped. No
 * effect on a zeroed worker, or after a failed start.
 */
void gw_worker_end(struct gw_worker *w);

/* For worker_user.c: run due timers; time to the next one (negative: none); remove all fds. */
void gw_worker_run_timers(struct gw_worker *w);
int64_t gw_worker_next_timer_ns(struct gw_worker *w);
void gw_worker_drop_fds(struct gw_worker *w);
