/* SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause */
/*
 * A worker: an event loop, its mailbox, and the queues it owns. A thread of ours runs it, or the
 * embedder does (worker_run.c). Other threads operate on a queue by posting a task (struct gw_post)
 * to the mailbox of its worker. No thread ever waits for a worker, except for its start and its
 * end.
 */
#pragma once

#include "base/list.h"
#include "loop.h"

#include <godwit/daemon.h>
#include <godwit/worker.h>
#include <pthread.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

struct gw_worker {
    struct gw_loop *loop;
    struct gw_list active; /* queues that may have requests, or are being polled */
    struct gw_list dirty;  /* queues with completions that are not published yet */
    struct gw_list timers; /* running timers, earliest first */
    struct gw_list fds;    /* of the embedder */

    /* The mailbox. `mail` is set if it is not empty, so a busy worker checks it without a lock. */
    bool mail;                 /* atomic */
    bool ended;                /* mail_lock */
    bool has_lock;             /* mail_lock is initialized, and stays so */
    pthread_mutex_t mail_lock; /* the list below */
    struct gw_post *mail_first;
    struct gw_post *mail_last;    /* if there is a first */
    struct gw_source mail_source; /* an eventfd, wakes a sleeping worker */
    unsigned n_waking;            /* atomic: threads that are writing to it after a post */

    struct gw_log *log;
    enum gw_loop_kind loop_kind;
    const char *name; /* of the thread; NULL: gw-worker-INDEX */
    unsigned index;
    const unsigned *cpu; /* for the thread; NULL: any */
    unsigned poll_us;
    unsigned n_idle_turns; /* turns that found nothing, while polling */
    bool is_polling;       /* the last turn found nothing, and the next one shall look again */
    bool runs;             /* from gw_worker_start to gw_worker_end */
    bool stopping;
    pthread_t thread; /* that runs it */
    int tid;
    unsigned n_daemons; /* atomic: that use it */

    /* A worker that the embedder runs. */
    bool is_external;
    pid_t pid;                     /* that made it */
    bool is_touched;               /* mail_source was signalled by gw_worker_touch */
    struct gw_source alarm_source; /* a timerfd, for the next timer */
    uint64_t alarm_ns;             /* when it expires; 0: it does not */

    struct gw_post *first; /* see gw_worker_start */
    struct gw_post *last;  /* see gw_worker_run_last */
    int error;             /* for `first` */

    struct gw_post end;  /* of gw_worker_end */
    struct gw_post ping; /* stuck.c */
    bool is_pinged;      /* atomic: `ping` is in the mailbox */
};

/*
 * Start the worker: its thread, after it has created its loop, or an external worker on this
 * thread. `w` is zeroed except for log, loop_kind, name, index, cpu, poll_us, is_external and
 * first; or it has run before, and then other threads may post to it at any time.
 *
 * If `first` is set, the start waits for nothing: the thread runs `first` once it has created its
 * loop, or failed to (then `error` is negative, and the thread ends after `first`).
 * Returns: 0; a negative errno, with gw_last_error.
 */
int gw_worker_start(struct gw_worker *w);

/*
 * On the thread of the worker: end it after its tasks, and run `last` when the loop is closed.
 * gw_worker_end then waits only for the last instructions of the thread.
 */
void gw_worker_run_last(struct gw_worker *w, struct gw_post *last);

/*
 * End the thread after all of its tasks, and release everything. Its queues must be stopped. No
 * effect on a zeroed worker, or after a failed start.
 */
void gw_worker_end(struct gw_worker *w);

/*
 * Begin to run code of worker `w` on this thread, which runs no other worker, or end it.
 * gw_worker_is_current is true in between.
 */
void gw_worker_enter(struct gw_worker *w);
void gw_worker_leave(struct gw_worker *w);
/* Run what was posted, on the worker's thread. */
void gw_worker_run_tasks(struct gw_worker *w);
/* Signal the mailbox. Context: any thread. */
void gw_worker_wake(struct gw_worker *w);
/* Is this thread running code of any worker, or of this one? */
bool gw_worker_is_running_any(void);
bool gw_worker_is_running(const struct gw_worker *w);

/* worker_run.c: the parts of start and end that differ between threads and external workers. */
int gw_worker_start_thread(struct gw_worker *w);
int gw_worker_open_external(struct gw_worker *w);
void gw_worker_close_external(struct gw_worker *w);
/*
 * May this thread run the worker, or end it? Returns: 0; -EINVAL if it is not external; -EPERM on
 * another thread, or in another process; -EBUSY in a callback.
 */
int gw_worker_check_external(const struct gw_worker *w, const char *what);

/* For the thread of a worker, which is stopping. */
int gw_worker_open(struct gw_worker *w);
void gw_worker_close(struct gw_worker *w);
/* One turn; sleeps until an event if nothing is left to do. */
void gw_worker_turn(struct gw_worker *w);
/* A turn without its loop. Returns: how long to sleep; 0: not at all; negative: until an event. */
int64_t gw_worker_work(struct gw_worker *w);
/* Publish what is completed, and give the queues a last turn. */
void gw_worker_settle(struct gw_worker *w);

/*
 * Work was left for the next turn. If the embedder runs the worker and calls this between two runs,
 * or in a callback of another worker of the thread, make its fd readable.
 */
void gw_worker_touch_external(struct gw_worker *w);

static inline void gw_worker_touch(struct gw_worker *w)
{
    if (w->is_external)
        gw_worker_touch_external(w);
}

/* For worker_user.c: run due timers; time to the next one (negative: none); remove all fds. */
void gw_worker_run_timers(struct gw_worker *w);
int64_t gw_worker_next_timer_ns(struct gw_worker *w);
void gw_worker_drop_fds(struct gw_worker *w);
