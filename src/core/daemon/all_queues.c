/* SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause */
/* Calls on all queues of a daemon. A long wait for the workers or the queues is logged. */
#include "all_queues.h"

#include <errno.h>
#include <inttypes.h>

/* Interval between reports of a wait for the workers. */
#define REPORT_NS UINT64_C(2000000000)

/* Limit on unread calls in the mailbox of a worker that waits for a page, in postcopy. */
enum {
    SENT_PER_QUEUE = 16
};

struct queues_call {
    struct gw_daemon *daemon;
    const struct gw_worker *worker;
    void (*fn)(struct gw_queue *q, void *arg);
    void *arg;
};

static int call_queues_of_worker(void *arg)
{
    const struct queues_call *call = arg;

    for (unsigned i = 0; i < call->daemon->num_queues; i++)
        if (call->daemon->queues[i].worker == call->worker)
            call->fn(&call->daemon->queues[i], call->arg);
    return 0;
}

void gw_daemon_call_on_queues(struct gw_daemon *d, void (*fn)(struct gw_queue *q, void *arg),
                              void *arg)
{
    struct queues_call call = {.daemon = d, .fn = fn, .arg = arg};

    for (unsigned i = 0; i < d->num_workers; i++) {
        call.worker = &d->workers[i];
        (void)gw_worker_call(&d->workers[i], call_queues_of_worker, &call);
    }
}

void gw_daemon_post_to_queues(struct gw_daemon *d, void (*fn)(struct gw_queue *q, void *arg),
                              void *arg)
{
    struct queues_call call = {.daemon = d, .fn = fn, .arg = arg};

    for (unsigned i = 0; i < d->num_workers; i++) {
        call.worker = &d->workers[i];
        (void)gw_daemon_post_or_call(d, &d->workers[i], call_queues_of_worker, &call, sizeof(call));
    }
}

int gw_daemon_post_or_call(struct gw_daemon *d, struct gw_worker *w, int (*fn)(void *arg),
                           void *arg, size_t size)
{
    if (gw_postcopy_is_listening(&d->session.postcopy) &&
        gw_worker_n_sent(w) < SENT_PER_QUEUE * d->num_queues &&
        gw_worker_send(w, fn, arg, size) == 0)
        return 0;
    return gw_worker_call(w, fn, arg);
}

static void forget(struct gw_queue *q, void *arg)
{
    gw_queue_forget(q);
}

static void report_slow_queues(struct gw_daemon *d, const char *what)
{
    for (unsigned i = 0; i < d->num_queues; i++) {
        struct gw_queue_stats stats;

        gw_queue_stats(&d->queues[i], &stats);
        if (stats.in_flight > 0)
            gw_log(&d->log, GW_LOG_WARNING,
                   "%s waits for queue %u: %" PRIu64 " requests in flight, the oldest for %" PRIu64
                   " ms",
                   what, i, stats.in_flight, stats.oldest_ns / 1000000);
    }
}

int gw_daemon_drain(struct gw_daemon *d, struct gw_latch *latch, const char *what)
{
    uint64_t deadline = gw_clock_ns() + d->drain_timeout_ns;
    int r;

    for (;;) {
        uint64_t now = gw_clock_ns();
        uint64_t left = now < deadline ? deadline - now : 0;

        /* No timeout while a connected front-end has yet to send missing pages. */
        if (gw_postcopy_has_missing(&d->session.postcopy))
            left = REPORT_NS;
        r = gw_latch_wait(latch, left < REPORT_NS ? left : REPORT_NS);
        if (r != -ETIMEDOUT)
            return r;
        report_slow_queues(d, what);
        if (left == 0)
            break;
    }
    gw_daemon_call_on_queues(d, forget, NULL);
    /* The latch may have opened before the queues dropped it. */
    r = gw_latch_wait(latch, 0);
    return r == -ETIMEDOUT
               ? gw_fail(r, "requests of the device have not finished within %" PRIu64 " ms",
                         d->drain_timeout_ns / 1000000)
               : r;
}

struct stop {
    enum gw_queue_stop how;
    struct gw_latch latch;
};

static void stop(struct gw_queue *q, void *arg)
{
    struct stop *s = arg;

    gw_queue_stop(q, &s->latch, s->how);
}

int gw_daemon_stop_queues(struct gw_daemon *d, enum gw_queue_stop how)
{
    struct stop s = {.how = how};
    int r;

    gw_latch_init(&s.latch, d->num_queues);
    gw_daemon_call_on_queues(d, stop, &s);
    r = gw_daemon_drain(d, &s.latch, "stopping");
    gw_latch_done(&s.latch);
    return r;
}
