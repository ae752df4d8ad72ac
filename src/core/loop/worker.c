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
#include "latch.h"

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

/* How long a worker may leave a task in its mailbox before a warning is logged. */
#define CALL_PATIENCE_NS UINT64_C(5000000000)

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
        (void)eventfd_write(w->mail_source.fd, 1);
    pthread_mutex_unlock(&w->mail_lock);
    return 0;
}

static void run_tasks(struct gw_worker *w)
{
    struct gw_post *task;

    if (!__atomic_load_n(&w->mail, __ATOMIC_ACQUIRE))
        return;
    pthread_mutex_lock(&w->mail_lock);
    task = w->mail_first;
    w->mail_first = NULL;
    __atomic_store_n(&w->mail, false, __ATOMIC_RELAXED);
    pthread_mutex_unlock(&w->mail_lock);

    while (task) {
        struct gw_post *next = task->reserved;
        task->run(task);
        task = next;
    }
}

static void mail_arrived(struct gw_source *source, uint32_t events)
{
    eventfd_t count;

    (void)eventfd_read(source->fd, &count); /* the turn runs the tasks */
}

struct call {
    struct gw_post task;
    struct gw_latch latch;
    int (*fn)(void *arg);
    void *arg;
};

static void run_call(struct gw_post *task)
{
    struct call *call = gw_container_of(task, struct call, task);

    gw_latch_count(&call->latch, call->fn(call->arg));
}

int gw_worker_call(struct gw_worker *w, int (*fn)(void *arg), void *arg)
{
    struct call call = {.task.run = run_call, .fn = fn, .arg = arg};
    int r;

    if (gw_worker_is_current(w))
        return fn(arg);
    gw_latch_init(&call.latch, 1);
    r = gw_worker_post(w, &call.task);
    if (r < 0)
        goto out;
    while ((r = gw_latch_wait(&call.latch, CALL_PATIENCE_NS)) == -ETIMEDOUT)
        gw_log(w->log, GW_LOG_WARNING,
               "worker %u is still busy: in a device callback, or waiting for a page", w->index);
out:
    gw_latch_done(&call.latch);
    return r;
}

struct posted_call {
    struct gw_post task;
    struct gw_worker *worker;
    int (*fn)(void *arg);
    max_align_t arg[];
};

static void run_posted_call(struct gw_post *task)
{
    struct posted_call *call = gw_container_of(task, struct posted_call, task);

    (void)call->fn(call->arg);
    (void)__atomic_fetch_sub(&call->worker->n_sent, 1, __ATOMIC_RELAXED);
    free(call);
}

int gw_worker_send(struct gw_worker *w, int (*fn)(void *arg), const void *arg, size_t size)
{
    struct posted_call *call = malloc(sizeof(*call) + size);
    int r;

    if (!call)
        return -ENOMEM;
    *call = (struct posted_call){.task.run = run_posted_call, .worker = w, .fn = fn};
    memcpy(call->arg, arg, size);
    (void)__atomic_fetch_add(&w->n_sent, 1, __ATOMIC_RELAXED);
    r = gw_worker_post(w, &call->task);
    if (r < 0) {
        (void)__atomic_fetch_sub(&w->n_sent, 1, __ATOMIC_RELAXED);
        free(call);
    }
    return r;
}

/* ---- the thread ---- */

/* Returns: 0: run another turn at once; negative: sleep until an event. */
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

static void turn(struct gw_worker *w)
{
    enum gw_queue_turn queues = run_queues(w);
    int64_t timeout;

    run_tasks(w);
    gw_worker_run_timers(w);
    publish(w); /* last, so that everything completed is published before the worker sleeps */
    timeout = sleep_ns(w, queues);
    if (timeout != 0 || w->loop->ops->is_pending(w->loop))
        w->loop->ops->turn(w->loop, timeout);
    else if (queues == GW_QUEUE_POLLING && ++w->n_idle_turns % IDLE_TURNS_PER_YIELD == 0)
        sched_yield();
}

static int thread_init(struct gw_worker *w)
{
    char name[16];
    int r;

    snprintf(name, sizeof(name), "gw-worker-%u", w->index);
    (void)pthread_setname_np(pthread_self(), name);
    r = gw_loop_new(&w->loop, w->loop_kind, w->log);
    if (r < 0)
        return r;
    r = w->loop->ops->add(w->loop, &w->mail_source);
    if (r == 0 && w->ops->worker_start)
        r = w->ops->worker_start(w->dev, w);
    if (r != 0) {
        /* Clean up what worker_start left behind. */
        run_tasks(w);
        gw_worker_drop_fds(w);
        w->loop->ops->free(w->loop);
        w->loop = NULL;
    }
    return r;
}

static void thread_done(struct gw_worker *w)
{
    run_tasks(w); /* posted while it stopped; no more can follow */
    if (w->ops->worker_stop)
        w->ops->worker_stop(w->dev, w);
    gw_worker_drop_fds(w);
    w->loop->ops->free(w->loop);
}

struct start {
    struct gw_worker *worker;
    struct gw_latch latch;
};

static void *worker_main(void *arg)
{
    struct start *start = arg;
    struct gw_worker *w = start->worker;
    int r;

    current_worker = w;
    w->tid = gettid();
    r = thread_init(w);
    gw_latch_count(&start->latch, r); /* `start` is invalid from here on */
    if (r != 0)
        return NULL;
    while (!w->stopping)
        turn(w);
    thread_done(w);
    return NULL;
}

static void worker_init(struct gw_worker *w)
{
    gw_list_init(&w->active);
    gw_list_init(&w->dirty);
    gw_list_init(&w->timers);
    gw_list_init(&w->fds);
    pthread_mutex_init(&w->mail_lock, NULL);
    w->mail_first = NULL;
}

static void worker_done(struct gw_worker *w)
{
    gw_close(&w->mail_source.fd); /* mail_lock stays: a late gw_worker_post gets -ESHUTDOWN */
}

int gw_worker_start(struct gw_worker *w)
{
    struct start start = {.worker = w};
    int r;

    worker_init(w);
    w->mail_source = (struct gw_source){.events = POLLIN, .cb = mail_arrived};
    w->mail_source.fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    if (w->mail_source.fd < 0) {
        r = gw_fail(-errno, "worker %u: eventfd: %s", w->index, strerror(errno));
        worker_done(w);
        return r;
    }
    gw_latch_init(&start.latch, 1);
    r = -pthread_create(&w->thread, NULL, worker_main, &start);
    if (r < 0) {
        gw_fail(r, "worker %u: cannot create its thread: %s", w->index, strerror(-r));
    } else {
        r = gw_latch_wait(&start.latch, UINT64_MAX / 2);
        if (r != 0) {
            pthread_join(w->thread, NULL);
            r = gw_fail(r < 0 ? r : -EINVAL, "worker %u cannot start: %s", w->index,
                        strerror(r < 0 ? -r : EINVAL));
        }
    }
    gw_latch_done(&start.latch);
    if (r != 0)
        worker_done(w);
    return r;
}

static int stop_thread(void *arg)
{
    struct gw_worker *w = arg;

    pthread_mutex_lock(&w->mail_lock);
    w->ended = true;
    pthread_mutex_unlock(&w->mail_lock);
    w->stopping = true;
    return 0;
}

void gw_worker_end(struct gw_worker *w)
{
    (void)gw_worker_call(w, stop_thread, w);
    pthread_join(w->thread, NULL);
    worker_done(w);
}

unsigned gw_worker_index(const struct gw_worker *w)
{
    return w->index;
}

bool gw_worker_is_current(const struct gw_worker *w)
{
    return current_worker == w;
}

bool gw_worker_has_uring(const struct gw_worker *w)
{
    return w->loop->ops->kind == GW_LOOP_URING;
}
