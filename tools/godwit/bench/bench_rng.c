/* SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause */
/*
 * A run on an entropy device: buffers are submitted, completed with random bytes and submitted
 * again, by one thread that polls all queues. The only check is the used length: not zero, and not
 * more than the buffer.
 */
#include "bench.h"

#include "base/clock.h"

#include <errno.h>
#include <inttypes.h>
#include <sched.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#define BATCH 32

/* One request, submitted again after each completion. */
struct slot {
    struct gw_driver_buf buf;
    uint64_t since_ns;
};

struct rng_load {
    struct bench *b;
    struct bench_run *run;
    struct slot *slots; /* depth for each queue; the cookie is the index */
    unsigned n_slots;
    struct gw_histogram latency;
    uint64_t last_ns; /* time of the last completion */
    unsigned in_flight;
};

__attribute__((format(printf, 3, 4))) static int fail(struct rng_load *l, int r, const char *format,
                                                      ...)
{
    va_list args;

    va_start(args, format);
    vsnprintf(l->b->error, sizeof(l->b->error), format, args);
    va_end(args);
    return r;
}

static int submit(struct rng_load *l, unsigned slot, uint64_t now)
{
    struct gw_driver *d = l->b->sessions->drivers[slot / l->run->depth];
    int r = gw_driver_add(d, &l->slots[slot].buf, 0, 1, slot, 0);

    l->slots[slot].since_ns = now;
    if (r == 0)
        l->in_flight++;
    return r < 0 ? fail(l, r, "adding a request: %s", strerror(-r)) : 0;
}

static int take_one(struct rng_load *l, const struct gw_driver_used *used, uint64_t now)
{
    const struct slot *s = &l->slots[used->cookie];

    l->in_flight--;
    if (used->len == 0 || used->len > s->buf.len)
        return fail(l, -EPROTO, "a request of %u bytes was completed with %u bytes", s->buf.len,
                    used->len);
    gw_histogram_add(&l->latency, now - s->since_ns);
    l->run->requests++;
    l->run->bytes += used->len;
    return 0;
}

/* Take completed requests of a queue and resubmit them unless `is_last`. Returns: how many; errno.
 */
static int turn(struct rng_load *l, struct gw_driver *d, bool is_last)
{
    struct gw_driver_used used[BATCH];
    unsigned n = gw_driver_take(d, used, BATCH);
    uint64_t now;
    int r = gw_driver_check(d);

    if (r < 0)
        return fail(l, r, "%s", gw_frontend_last_error());
    if (n == 0)
        return 0;
    now = gw_clock_ns();
    for (unsigned i = 0; i < n; i++) {
        r = take_one(l, &used[i], now);
        if (r == 0 && !is_last)
            r = submit(l, (unsigned)used[i].cookie, now);
        if (r < 0)
            return r;
    }
    if (!is_last)
        l->run->kicks += gw_driver_kick(d);
    return (int)n;
}

/* Run until `end` and at least one completion, or with `is_last` until nothing is in flight. */
static int run_until(struct rng_load *l, uint64_t end, bool is_last)
{
    uint64_t stall_ns = (uint64_t)l->b->o->stall_ms * 1000000, now;

    l->last_ns = gw_clock_ns();
    for (;;) {
        int n = 0;

        for (unsigned i = 0; n >= 0 && i < l->b->o->n_queues; i++) {
            int r = turn(l, l->b->sessions->drivers[i], is_last);
            n = r < 0 ? r : n + r;
        }
        if (n < 0)
            return n;
        now = gw_clock_ns();
        if (now - l->last_ns > l->run->stall)
            l->run->stall = now - l->last_ns;
        if (n > 0)
            l->last_ns = now;
        if ((now >= end && l->run->requests > 0) || (is_last && l->in_flight == 0))
            return 0;
        if (now - l->last_ns > stall_ns)
            return fail(l, -ETIMEDOUT, "%u requests in flight, none completed in %u ms",
                        l->in_flight, l->b->o->stall_ms);
        if (n == 0)
            sched_yield(); /* the back-end may run on this CPU */
    }
}

static int make_slots(struct rng_load *l)
{
    l->n_slots = l->run->depth * l->b->o->n_queues;
    l->slots = calloc(l->n_slots, sizeof(*l->slots));
    if (l->slots == NULL)
        return fail(l, -ENOMEM, "%s", strerror(ENOMEM));
    for (unsigned i = 0; i < l->n_slots; i++) {
        gw_gpa_t gpa;
        int r = gw_guest_mem_alloc(l->b->sessions->mem, l->run->block_size, 64, &gpa);

        if (r < 0)
            return fail(l, r, "%u buffers of %u bytes: %s", l->n_slots, l->run->block_size,
                        strerror(-r));
        l->slots[i].buf = (struct gw_driver_buf){.addr = gpa, .len = l->run->block_size};
    }
    return 0;
}

static int start(struct rng_load *l)
{
    uint64_t now = gw_clock_ns();
    int r = 0;

    for (unsigned i = 0; r == 0 && i < l->n_slots; i++)
        r = submit(l, i, now);
    for (unsigned i = 0; r == 0 && i < l->b->o->n_queues; i++)
        gw_driver_kick(l->b->sessions->drivers[i]);
    return r;
}

static int measure(struct rng_load *l)
{
    const struct bench_options *o = l->b->o;
    uint64_t cpu_before = 0, cpu_after = 0, begin = 0;
    struct bench_run *run = l->run;
    int r = start(l);

    if (r == 0 && o->warm_up_ms > 0)
        r = run_until(l, gw_clock_ns() + (uint64_t)o->warm_up_ms * 1000000, false);
    if (r == 0) {
        memset(&l->latency, 0, sizeof(l->latency));
        run->requests = run->bytes = run->kicks = run->stall = 0;
        run->has_cpu = bench_cpu_ns(l->b, &cpu_before) == 0;
        begin = gw_clock_ns();
        r = run_until(l, begin + (uint64_t)o->duration_ms * 1000000, false);
    }
    if (r == 0) {
        run->run_ns = gw_clock_ns() - begin;
        run->has_cpu = run->has_cpu && bench_cpu_ns(l->b, &cpu_after) == 0;
        run->cpu_ns = cpu_after - cpu_before;
        run->reads = run->requests;
        run->p50 = gw_histogram_at(&l->latency, 500000);
        run->p90 = gw_histogram_at(&l->latency, 900000);
        run->p99 = gw_histogram_at(&l->latency, 990000);
        run->p999 = gw_histogram_at(&l->latency, 999000);
        run->max = l->latency.max;
    }
    return r;
}

/* Drain with a copy of the counters, which cover only the measured part. */
static int drain(struct rng_load *l)
{
    struct bench_run copy = *l->run, *run = l->run;
    int r;

    l->run = &copy;
    r = run_until(l, UINT64_MAX, true);
    l->run = run;
    return r;
}

int bench_rng(struct bench *b, struct bench_run *run)
{
    struct rng_load *l = calloc(1, sizeof(*l));
    int r;

    if (l == NULL)
        return -ENOMEM;
    l->b = b;
    l->run = run;
    r = make_slots(l);
    if (r == 0)
        r = measure(l);
    if (r == 0)
        r = drain(l);
    for (unsigned i = 0; l->slots != NULL && i < l->n_slots; i++) {
        if (l->slots[i].buf.len != 0)
            gw_guest_mem_release(b->sessions->mem, l->slots[i].buf.addr, l->slots[i].buf.len);
    }
    free(l->slots);
    free(l);
    return r;
}
