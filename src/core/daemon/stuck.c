/* SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause */
/*
 * Find stuck threads. A healthy worker, busy or asleep in its loop, empties its mailbox every turn.
 * So each worker gets a task, and a worker that has not run it after PATIENCE_MS is stuck, except
 * an external one that the calling thread runs. Nothing here takes a lock that a stuck thread may
 * hold.
 */
#include "base/clock.h"
#include "daemon.h"

#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <time.h>

enum {
    PATIENCE_MS = 200,
    STEP_MS = 5
};

/* The description, and the number of faults in it. */
struct text {
    char *at;
    size_t size, used;
    unsigned n;
};

static void add(struct text *t, const char *format, ...) __attribute__((format(printf, 2, 3)));

static void add(struct text *t, const char *format, ...)
{
    va_list args;
    int n;

    va_start(args, format);
    n = vsnprintf(t->at + t->used, t->size - t->used, format, args);
    va_end(args);
    if (n > 0)
        t->used += gw_min_u((unsigned)n, (unsigned)(t->size - t->used - 1));
}

/* Add the thread ID, and the kernel function in which the thread sleeps if /proc shows it. */
static void add_thread(struct text *t, int tid)
{
    char path[64], where[64] = "";
    FILE *f;

    snprintf(path, sizeof(path), "/proc/self/task/%d/wchan", tid);
    f = fopen(path, "re");
    if (f) {
        if (!fgets(where, sizeof(where), f))
            where[0] = '\0';
        fclose(f);
    }
    if (where[0] && strcmp(where, "0") != 0)
        add(t, " (thread %d, in %s)", tid, where);
    else
        add(t, " (thread %d)", tid);
}

static void answer(struct gw_post *task)
{
    struct gw_worker *w = gw_container_of(task, struct gw_worker, ping);

    __atomic_store_n(&w->is_pinged, false, __ATOMIC_RELEASE);
}

static bool is_waiting(const struct gw_worker *w)
{
    return !gw_worker_is_current(w) && __atomic_load_n(&w->is_pinged, __ATOMIC_ACQUIRE);
}

static void ping(struct gw_worker *w)
{
    if (gw_worker_is_current(w))
        return;
    if (__atomic_exchange_n(&w->is_pinged, true, __ATOMIC_ACQ_REL))
        return; /* the previous ping is still in the mailbox */
    w->ping.run = answer;
    if (gw_worker_post(w, &w->ping) < 0)
        __atomic_store_n(&w->is_pinged, false, __ATOMIC_RELEASE);
}

static bool is_any_waiting(const struct gw_daemon *d)
{
    for (unsigned i = 0; i < d->num_workers; i++)
        if (is_waiting(d->workers[i]))
            return true;
    return is_waiting(d->control);
}

static void ping_all(struct gw_daemon *d)
{
    const struct timespec step = {.tv_nsec = STEP_MS * 1000000};
    uint64_t end = gw_clock_ns() + PATIENCE_MS * UINT64_C(1000000);

    for (unsigned i = 0; i < d->num_workers; i++)
        ping(d->workers[i]);
    ping(d->control);
    while (is_any_waiting(d) && gw_clock_ns() < end)
        (void)nanosleep(&step, NULL);
}

static void add_queue(struct text *t, const struct gw_queue *q)
{
    struct gw_queue_stats stats;
    uint64_t delayed_ns;
    bool is_start;

    gw_queue_stats(q, &stats);
    delayed_ns = gw_queue_delayed_ns(q, &is_start);
    if (stats.in_flight > 0)
        add(t, "%squeue %u has %" PRIu64 " requests in flight, the oldest for %" PRIu64 " ms",
            t->n++ ? ", " : "", q->index, stats.in_flight, stats.oldest_ns / 1000000);
    else if (gw_queue_n_holds(q) > 0)
        add(t, "%squeue %u: the device holds guest memory", t->n++ ? ", " : "", q->index);
    else if (delayed_ns > 0)
        add(t, "%squeue %u waits for the device to %s for %" PRIu64 " ms", t->n++ ? ", " : "",
            q->index, is_start ? "start" : "stop", delayed_ns / 1000000);
}

static void add_workers(struct text *t, const struct gw_daemon *d)
{
    bool is_control_added = false;

    for (unsigned i = 0; i < d->num_workers; i++) {
        if (!is_waiting(d->workers[i]))
            continue;
        add(t, "%sworker %u does not answer", t->n++ ? ", " : "", i);
        add_thread(t, d->workers[i]->tid);
        is_control_added |= d->workers[i] == d->control;
    }
    if (is_control_added || !is_waiting(d->control))
        return;
    add(t, "%sthe control worker does not answer", t->n++ ? ", " : "");
    add_thread(t, d->control->tid);
}

unsigned gw_daemon_find_stuck(struct gw_daemon *d, char *text, size_t size)
{
    struct text t = {.at = text, .size = size};
    text[0] = '\0';
    ping_all(d);
    add_workers(&t, d);
    for (unsigned i = 0; i < d->num_queues; i++)
        add_queue(&t, &d->queues[i]);
    if (t.n == 0 && !gw_worker_is_current(d->control) &&
        __atomic_load_n(&d->stopping, __ATOMIC_ACQUIRE) &&
        __atomic_load_n(&d->running, __ATOMIC_ACQUIRE)) {
        add(&t, "the control worker has not ended the daemon");
        add_thread(&t, d->control->tid);
        t.n++;
    }
    return t.n;
}
