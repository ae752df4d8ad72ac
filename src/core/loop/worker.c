/* SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause */
/*
 * The turn of a worker: its queues, its mailbox and timers, then the publishing of everything they
 * completed, and its loop.
 *
 *      +--> active queues: pop, act --> mailbox --> timers --> dirty queues: publish, notify --+
 *      |                                                                                       |
 *      +----------------- loop: submit, wait if nothing is left to do, callbacks <-------------+
 *
 * Wake-ups cannot get lost. A thread or driver with work for the worker first makes the work
 * visible (a task in the list and `mail` set; an available index stored) and then writes an
 * eventfd. The loop sleeps only in a wait that includes these eventfds.
 */
#include "worker.h"

#include "base/cleanup.h"
#include "core/queue/queue.h"

#include <errno.h>
#include <poll.h>
#include <sched.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <unistd.h>

/* How long a worker with only idle polled rings (NOFD) sleeps between two polls. */
#define POLLED_NAP_NS INT64_C(50000)

/* How many fruitless turns a polling worker takes before it yields the CPU. */
enum {
    IDLE_TURNS_PER_YIELD = 64
};

static _Thread_local struct gw_worker *current_worker;

/* ---- mailbox ---- */

int gw_worker_post(struct gw_worker *w, struct gw_post *task)
{
    bool first;

    task->reserved = NULL;
    pthread_mutex_lock(&w->mail_lock);
    if (w->ended) {
        pthread_mutex_unlock(&w->mail_lock);
        return gw_fail(-ESHUTDOWN, "worker %u has ended", w->index);
    }
    first = !w->mail_first;
    if (first)
        w->mail_first = task;
    else
        w->mail_last->reserved = task; /* the next task */
    w->mail_last = task;
    __atomic_store_n(&w->mail, true, __ATOMIC_RELEASE);
    if (first)
        __atomic_add_fetch(&w->n_waking, 1, __ATOMIC_RELAXED);
    pthread_mutex_unlock(&w->mail_lock);
    if (first) {
        /* Without the lock, or the worker would wake up only to wait for it. */
        gw_worker_wake(w);
        __atomic_sub_fetch(&w->n_waking, 1, __ATOMIC_RELEASE);
    }
    return 0;
}

void gw_worker_run_tasks(struct gw_worker *w)
{
    struct gw_worker *inside = current_worker;
    struct gw_post *task;

    if (!__atomic_load_n(&w->mail, __ATOMIC_ACQUIRE))
        return;
    pthread_mutex_lock(&w->mail_lock);
    task = w->mail_first;
    w->mail_first = NULL;
    __atomic_store_n(&w->mail, false, __ATOMIC_RELAXED);
    pthread_mutex_unlock(&w->mail_lock);

    current_worker = w;
    while (task) {
        struct gw_post *next = task->reserved;
        task->run(task);
        task = next;
    }
    current_worker = inside;
}

void gw_worker_wake(struct gw_worker *w)
{
    (void)eventfd_write(w->mail_source.fd, 1);
}

static void mail_arrived(struct gw_source *source, uint32_t events)
{
    eventfd_t count;

    (void)eventfd_read(source->fd, &count); /* the turn runs the tasks */
    gw_container_of(source, struct gw_worker, mail_source)->is_touched = false;
}

/* ---- a turn ---- */

static int64_t sleep_ns(struct gw_worker *w, enum gw_queue_turn queues)
{
    int64_t timer_ns, limit = -1;

    if (queues == GW_QUEUE_WORKED || queues == GW_QUEUE_POLLING || w->stopping)
        return 0;
    if (queues == GW_QUEUE_RESTING)
        limit = POLLED_NAP_NS;
    else if (!gw_list_is_empty(&w->active))
        return 0; /* a task or timer of this turn has activated a queue */
    timer_ns = gw_worker_next_timer_ns(w);
    if (timer_ns < 0)
        return limit;
    return limit < 0 || timer_ns < limit ? timer_ns : limit;
}

static enum gw_queue_turn run_queues(struct gw_worker *w)
{
    enum gw_queue_turn result = GW_QUEUE_ASLEEP;
    struct gw_list *pos, *next;

    gw_list_for_each_safe (pos, next, &w->active) {
        enum gw_queue_turn one = gw_queue_run(gw_container_of(pos, struct gw_queue, poll.link));
        if (one > result)
            result = one;
    }
    return result;
}

static void publish(struct gw_worker *w)
{
    while (!gw_list_is_empty(&w->dirty))
        gw_queue_flush(gw_container_of(w->dirty.next, struct gw_queue, batch.link));
}

int64_t gw_worker_work(struct gw_worker *w)
{
    enum gw_queue_turn queues = run_queues(w);

    gw_worker_run_tasks(w);
    gw_worker_run_timers(w);
    publish(w); /* last, so that everything completed is published before the worker sleeps */
    w->is_polling = queues == GW_QUEUE_POLLING;
    return sleep_ns(w, queues);
}

void gw_worker_turn(struct gw_worker *w)
{
    int64_t timeout = gw_worker_work(w);

    if (timeout != 0 || w->loop->ops->is_pending(w->loop))
        w->loop->ops->turn(w->loop, timeout);
    else if (w->is_polling && ++w->n_idle_turns % IDLE_TURNS_PER_YIELD == 0)
        sched_yield();
}

void gw_worker_settle(struct gw_worker *w)
{
    publish(w); /* may complete a stop, which its queue finishes in a turn */
    (void)run_queues(w);
    publish(w);
}

/* ---- the beginning and the end, on the worker's thread ---- */

int gw_worker_open(struct gw_worker *w)
{
    int r = gw_loop_new(&w->loop, w->loop_kind, w->log, w->is_external);

    if (r < 0)
        return r;
    r = w->loop->ops->add(w->loop, &w->mail_source);
    if (r < 0) {
        w->loop->ops->free(w->loop);
        w->loop = NULL;
        return gw_fail(r, "worker %u: no memory for its mailbox", w->index);
    }
    return 0;
}

void gw_worker_close(struct gw_worker *w)
{
    gw_worker_run_tasks(w); /* posted while it stopped; no more can follow */
    gw_worker_settle(w);
    gw_worker_drop_fds(w);
    w->loop->ops->free(w->loop);
}

void gw_worker_enter(struct gw_worker *w)
{
    current_worker = w;
}

void gw_worker_leave(struct gw_worker *w)
{
    current_worker = NULL;
}

bool gw_worker_is_running_any(void)
{
    return current_worker != NULL;
}

bool gw_worker_is_running(const struct gw_worker *w)
{
    return current_worker == w;
}

static void worker_init(struct gw_worker *w)
{
    gw_list_init(&w->active);
    gw_list_init(&w->dirty);
    gw_list_init(&w->timers);
    gw_list_init(&w->fds);
    if (!w->has_lock)
        pthread_mutex_init(&w->mail_lock, NULL);
    w->has_lock = true;
    w->mail_first = NULL;
    w->stopping = false;
    w->last = NULL;
}

/* Whether the worker takes tasks: not while its eventfd may be closed. */
static void accept_tasks(struct gw_worker *w, bool does)
{
    pthread_mutex_lock(&w->mail_lock);
    w->ended = !does;
    pthread_mutex_unlock(&w->mail_lock);
}

int gw_worker_start(struct gw_worker *w)
{
    int r;

    worker_init(w);
    w->mail_source = (struct gw_source){.events = POLLIN, .cb = mail_arrived};
    w->mail_source.fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    if (w->mail_source.fd < 0)
        return gw_fail(-errno, "worker %u: eventfd: %s", w->index, strerror(errno));
    accept_tasks(w, true);
    r = w->is_external ? gw_worker_open_external(w) : gw_worker_start_thread(w);
    w->runs = r == 0;
    if (r < 0) {
        accept_tasks(w, false);
        gw_close(&w->mail_source.fd);
    }
    return r;
}

/* Takes no tasks after those that were posted before. */
static void end(struct gw_post *post)
{
    struct gw_worker *w = gw_container_of(post, struct gw_worker, end);

    accept_tasks(w, false);
    w->stopping = true;
}

void gw_worker_run_last(struct gw_worker *w, struct gw_post *last)
{
    w->last = last;
    end(&w->end);
}

void gw_worker_end(struct gw_worker *w)
{
    if (!w->runs)
        return;
    w->end.run = end;
    (void)gw_worker_post(w, &w->end);
    if (w->is_external)
        gw_worker_close_external(w);
    else
        pthread_join(w->thread, NULL);
    while (__atomic_load_n(&w->n_waking, __ATOMIC_ACQUIRE) > 0)
        sched_yield(); /* a write to an eventfd, which does not sleep */
    w->runs = false;
    gw_close(&w->mail_source.fd); /* mail_lock stays: a late gw_worker_post gets -ESHUTDOWN */
}

unsigned gw_worker_index(const struct gw_worker *w)
{
    return w->index;
}

bool gw_worker_is_current(const struct gw_worker *w)
{
    return current_worker == w || (w->is_external && pthread_equal(w->thread, pthread_self()));
}

bool gw_worker_has_uring(const struct gw_worker *w)
{
    return w->loop->ops->kind == GW_LOOP_URING;
}
