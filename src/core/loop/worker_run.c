/* SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause */
/*
 * How a worker runs: on a thread of ours, or in the embedder's loop.
 *
 * The embedder's loop sleeps while the fd of the worker is not readable. The fd is that of the
 * worker's event loop, so it becomes readable by itself for kicks, sockets and completed file
 * operations. Whatever else is left to do when a run ends makes it readable: a timerfd for the next
 * timer, and the eventfd of the mailbox for a queue that has not finished. The embedder may also
 * call functions of the worker between two runs, for example to complete a request; these touch the
 * eventfd (gw_worker_touch), because nobody else would publish the completion.
 */
#include "worker.h"

#include "base/checked.h"
#include "base/cleanup.h"
#include "base/clock.h"

#include <errno.h>
#include <poll.h>
#include <sched.h>
#include <stdio.h>
#include <string.h>
#include <sys/timerfd.h>
#include <unistd.h>

/* ---- a thread of ours ---- */

static int set_cpu(const struct gw_worker *w)
{
    cpu_set_t set;
    int r;

    if (!w->cpu)
        return 0;
    CPU_ZERO(&set);
    if (*w->cpu < CPU_SETSIZE)
        CPU_SET(*w->cpu, &set);
    r = -pthread_setaffinity_np(pthread_self(), sizeof(set), &set);
    return r < 0
               ? gw_fail(r, "worker %u: cannot run on CPU %u: %s", w->index, *w->cpu, strerror(-r))
               : 0;
}

static int thread_init(struct gw_worker *w)
{
    char name[16];
    int r;

    snprintf(name, sizeof(name), "gw-worker-%u", w->index);
    (void)pthread_setname_np(pthread_self(), w->name ? w->name : name);
    w->tid = gettid();
    r = set_cpu(w);
    return r < 0 ? r : gw_worker_open(w);
}

/* The start of a thread, which gw_worker_start_thread waits for. */
struct start {
    struct gw_worker *worker;
    pthread_mutex_t lock;
    pthread_cond_t cond;
    bool is_done;
    int r;
    char why[160]; /* gw_last_error of the thread */
};

static void report_start(struct start *start, int r)
{
    pthread_mutex_lock(&start->lock);
    start->is_done = true;
    start->r = r;
    if (r < 0)
        snprintf(start->why, sizeof(start->why), "%s", gw_last_error());
    pthread_cond_signal(&start->cond);
    pthread_mutex_unlock(&start->lock);
}

static int wait_start(struct start *start)
{
    pthread_mutex_lock(&start->lock);
    while (!start->is_done)
        pthread_cond_wait(&start->cond, &start->lock);
    pthread_mutex_unlock(&start->lock);
    return start->r;
}

static void run_until_end(struct gw_worker *w)
{
    while (!w->stopping)
        gw_worker_turn(w);
    gw_worker_close(w);
}

static void *worker_main(void *arg)
{
    struct start *start = arg;
    struct gw_worker *w = start->worker;
    int r;

    gw_worker_enter(w);
    r = thread_init(w);
    report_start(start, r); /* `start` is invalid from here on */
    if (r == 0)
        run_until_end(w);
    return NULL;
}

/* Nobody waits for the start. */
static void *unattended_main(void *arg)
{
    struct gw_worker *w = arg;

    gw_worker_enter(w);
    w->error = thread_init(w);
    w->first->run(w->first);
    if (w->error == 0)
        run_until_end(w);
    if (w->last)
        w->last->run(w->last);
    return NULL;
}

int gw_worker_start_thread(struct gw_worker *w)
{
    struct start start = {
        .worker = w,
        .lock = PTHREAD_MUTEX_INITIALIZER,
        .cond = PTHREAD_COND_INITIALIZER,
    };
    int r = w->first ? -pthread_create(&w->thread, NULL, unattended_main, w)
                     : -pthread_create(&w->thread, NULL, worker_main, &start);

    if (r < 0)
        return gw_fail(r, "worker %u: cannot create its thread: %s", w->index, strerror(-r));
    if (w->first)
        return 0;
    r = wait_start(&start);
    if (r == 0)
        return 0;
    pthread_join(w->thread, NULL);
    return gw_fail(r, "%s", start.why);
}

/* ---- the loop of the embedder ---- */

static void alarm_rang(struct gw_source *source, uint32_t events)
{
    struct gw_worker *w = gw_container_of(source, struct gw_worker, alarm_source);
    uint64_t count;

    if (read(source->fd, &count, sizeof(count)) == sizeof(count))
        w->alarm_ns = 0;
}

int gw_worker_open_external(struct gw_worker *w)
{
    int r;

    w->thread = pthread_self();
    w->tid = gettid();
    w->pid = getpid();
    w->alarm_source = (struct gw_source){.events = POLLIN, .cb = alarm_rang};
    w->alarm_source.fd = timerfd_create(CLOCK_MONOTONIC, TFD_CLOEXEC | TFD_NONBLOCK);
    if (w->alarm_source.fd < 0)
        return gw_fail(-errno, "worker %u: timerfd_create: %s", w->index, strerror(errno));
    r = gw_worker_open(w);
    if (r == 0) {
        r = w->loop->ops->add(w->loop, &w->alarm_source);
        if (r == 0) {
            w->loop->ops->submit(w->loop);
            return 0;
        }
        r = gw_fail(r, "worker %u: cannot wait for its events: %s", w->index, strerror(-r));
        w->loop->ops->free(w->loop);
    }
    gw_close(&w->alarm_source.fd);
    return r;
}

void gw_worker_close_external(struct gw_worker *w)
{
    gw_worker_close(w);
    gw_close(&w->alarm_source.fd);
}

static void touch(struct gw_worker *w)
{
    if (!w->is_touched)
        gw_worker_wake(w);
    w->is_touched = true;
}

void gw_worker_touch_external(struct gw_worker *w)
{
    if (!gw_worker_is_running(w))
        touch(w);
}

/* The fd becomes readable in `ns` nanoseconds (0: now, negative: not by itself). */
static void set_alarm(struct gw_worker *w, int64_t ns)
{
    uint64_t now, at;
    struct itimerspec spec = {0};

    if (ns == 0)
        touch(w);
    if (ns <= 0)
        return; /* an alarm that is set already does no harm */
    now = gw_clock_ns();
    at = (uint64_t)ns < UINT64_MAX - now ? now + (uint64_t)ns : UINT64_MAX;
    if (w->alarm_ns && w->alarm_ns <= at)
        return; /* rings early, and is set again then */
    w->alarm_ns = at;
    spec.it_value.tv_sec = (time_t)(at / 1000000000);
    spec.it_value.tv_nsec = (long)(at % 1000000000);
    (void)timerfd_settime(w->alarm_source.fd, TFD_TIMER_ABSTIME, &spec, NULL);
}

int gw_worker_check_external(const struct gw_worker *w, const char *what)
{
    if (!w->is_external)
        return gw_fail(-EINVAL, "%s: worker %u has a thread of its own", what, w->index);
    if (!pthread_equal(w->thread, pthread_self()))
        return gw_fail(-EPERM, "%s: worker %u belongs to another thread", what, w->index);
    if (w->pid != getpid())
        return gw_fail(-EPERM, "%s: worker %u belongs to the parent process", what, w->index);
    if (gw_worker_is_running_any())
        return gw_fail(-EBUSY, "%s: called in a callback of a worker", what);
    return 0;
}

int gw_worker_fd(const struct gw_worker *w)
{
    if (!w->is_external)
        return gw_fail(-EINVAL, "gw_worker_fd: worker %u has a thread of its own", w->index);
    return w->loop->ops->fd(w->loop);
}

static int64_t wait_time(struct gw_worker *w, int timeout_ms)
{
    int64_t limit = timeout_ms < 0 ? -1 : (int64_t)timeout_ms * 1000000;
    int64_t next = gw_worker_next_timer_ns(w);

    if (!gw_list_is_empty(&w->active) || !gw_list_is_empty(&w->dirty))
        return 0;
    if (next < 0)
        return limit;
    return limit < 0 || next < limit ? next : limit;
}

int gw_worker_run(struct gw_worker *w, int timeout_ms)
{
    int r = gw_worker_check_external(w, "gw_worker_run");

    if (r < 0)
        return r;
    gw_worker_enter(w);
    /* Events first: what they begin, for example a request, is then done in the same run. */
    w->loop->ops->turn(w->loop, wait_time(w, timeout_ms));
    set_alarm(w, gw_worker_work(w));
    w->loop->ops->submit(w->loop);
    gw_worker_leave(w);
    return 0;
}
