/* SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause */
/*
 * The load of a queue is the number of requests that it completed in the last period, and the load
 * of a worker the sum of its queues. One queue moves in a period: the one that makes the loads of
 * the busiest and of the idlest worker most alike. A move that would only exchange their roles is
 * not made, so the queues come to rest.
 */
#include "balance.h"

#include "core/daemon/daemon.h"

#include <errno.h>
#include <stdlib.h>

/* Fewer requests in a period are no load. */
#define LOAD_MIN 100

struct gw_balance {
    struct gw_daemon *daemon;
    struct gw_timer *timer;
    uint64_t period_ns;
    uint64_t completed[GW_QUEUES_MAX]; /* at the end of the last period */
    uint64_t load[GW_QUEUES_MAX];
};

static void measure(struct gw_balance *b)
{
    for (unsigned i = 0; i < b->daemon->num_queues; i++) {
        struct gw_queue_stats stats;

        gw_queue_stats(&b->daemon->queues[i], &stats);
        b->load[i] = stats.completed - b->completed[i];
        b->completed[i] = stats.completed;
    }
}

static uint64_t load_of(const struct gw_balance *b, const struct gw_worker *w)
{
    uint64_t sum = 0;

    for (unsigned i = 0; i < b->daemon->num_queues; i++)
        if (gw_queue_worker(&b->daemon->queues[i]) == w)
            sum += b->load[i];
    return sum;
}

static uint64_t difference(uint64_t a, uint64_t b)
{
    return a > b ? a - b : b - a;
}

/* The queue of worker `from` whose move leaves the smallest difference. Returns: NULL if none. */
static struct gw_queue *choose(const struct gw_balance *b, const struct gw_worker *from,
                               uint64_t gap)
{
    struct gw_daemon *d = b->daemon;
    struct gw_queue *best = NULL;
    uint64_t best_gap = gap;

    for (unsigned i = 0; i < d->num_queues; i++) {
        uint64_t after = difference(gap, 2 * b->load[i]);

        if (gw_queue_worker(&d->queues[i]) == from && after < best_gap) {
            best = &d->queues[i];
            best_gap = after;
        }
    }
    return best;
}

static void balance(void *arg)
{
    struct gw_balance *b = arg;
    struct gw_daemon *d = b->daemon;
    struct gw_worker *busiest = d->workers[0], *idlest = d->workers[0];
    struct gw_queue *q;

    measure(b);
    for (unsigned i = 1; i < d->num_workers; i++) {
        if (load_of(b, d->workers[i]) > load_of(b, busiest))
            busiest = d->workers[i];
        if (load_of(b, d->workers[i]) < load_of(b, idlest))
            idlest = d->workers[i];
    }
    if (load_of(b, busiest) < LOAD_MIN || load_of(b, busiest) <= 2 * load_of(b, idlest))
        return;
    q = choose(b, busiest, load_of(b, busiest) - load_of(b, idlest));
    if (q)
        (void)gw_queue_move(q, idlest);
}

int gw_balance_new(struct gw_balance **ret, struct gw_daemon *d, unsigned period_ms)
{
    struct gw_balance *b = calloc(1, sizeof(*b));
    int r = b ? gw_timer_new(&b->timer, d->control, balance, b) : -ENOMEM;

    if (r < 0) {
        free(b);
        return gw_fail(r, "no memory for the balancer");
    }
    b->daemon = d;
    b->period_ns = period_ms * UINT64_C(1000000);
    *ret = b;
    return 0;
}

void gw_balance_free(struct gw_balance *b)
{
    if (!b)
        return;
    gw_timer_free(b->timer);
    free(b);
}

void gw_balance_start(struct gw_balance *b)
{
    if (!b)
        return;
    measure(b);
    gw_timer_start(b->timer, b->period_ns, b->period_ns);
}

void gw_balance_stop(struct gw_balance *b)
{
    if (b)
        gw_timer_stop(b->timer);
}
