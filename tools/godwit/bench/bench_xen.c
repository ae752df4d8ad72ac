/* SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause */
/*
 * A run in the memory of a Xen domain: rings and buffers are in its pages, and its agent drives
 * the load and measures it there.
 */
#include "../../xen-agent/xen_guest.h"
#include "bench.h"

#include <errno.h>
#include <string.h>

#define DISK_MAX (UINT64_C(1) << 30)

static int fail(struct bench *b, int r)
{
    snprintf(b->error, sizeof(b->error), "%s", b->xen ? xen_guest_error(b->xen) : strerror(ENOMEM));
    return r;
}

int bench_xen_memory(struct bench *b, struct bench_session *s, uint64_t length)
{
    const struct options_xen *o = &b->o->xen;
    int r = xen_guest_new(&b->xen, o->domid, (enum xen_form)o->memory);

    if (r == 0 && o->has_events)
        xen_guest_give_channels(b->xen);
    if (r == 0)
        r = xen_guest_fill(b->xen, s->mem, length, 0);
    return r < 0 ? fail(b, r) : 0;
}

int bench_xen_driver(struct bench *b, const struct gw_driver_config *cfg, struct gw_driver *own)
{
    int r = xen_guest_driver(b->xen, cfg, own);

    return r < 0 ? fail(b, r) : 0;
}

void bench_xen_free(struct bench *b)
{
    xen_guest_free(b->xen);
}

static int new_load(struct bench *b, const struct bench_run *run)
{
    const struct bench_options *o = b->o;
    uint64_t length = b->sessions->disk_bytes < DISK_MAX ? b->sessions->disk_bytes : DISK_MAX;
    const struct xen_load load = {
        .disk_length = length - length % run->block_size,
        .disk_seed = o->seed,
        .seed = o->seed,
        .block_size = run->block_size,
        .depth = run->depth,
        .write_percent = o->write_percent,
        .flush_percent = o->flush_percent,
        .segments = o->segments,
        .n_queues = o->n_queues,
        .indirect = o->is_indirect,
        .no_data = !o->is_verified,
    };

    return xen_guest_load(b->xen, &load);
}

static void take_stats(const struct xen_stats *s, struct bench_run *run)
{
    run->requests = s->requests;
    run->reads = s->reads;
    run->writes = s->writes;
    run->flushes = s->flushes;
    run->bytes = s->bytes;
    run->run_ns = s->run_ns;
    run->p50 = s->p50;
    run->p90 = s->p90;
    run->p99 = s->p99;
    run->p999 = s->p999;
    run->max = s->max;
    run->stall = s->stall;
    run->kicks = s->kicks;
    run->sleeps = s->sleeps;
}

static int measure(struct bench *b, struct bench_run *run)
{
    const struct bench_options *o = b->o;
    uint64_t cpu_before = 0, cpu_after = 0;
    struct xen_stats stats;
    int r = 0;

    if (o->warm_up_ms > 0)
        r = xen_guest_run(b->xen, o->warm_up_ms, 0, o->stall_ms);
    if (r == 0)
        r = xen_guest_stats(b->xen, true, &stats);
    run->has_cpu = r == 0 && bench_cpu_ns(b, &cpu_before) == 0;
    if (r == 0)
        r = xen_guest_run(b->xen, o->duration_ms, 0, o->stall_ms);
    run->has_cpu = run->has_cpu && bench_cpu_ns(b, &cpu_after) == 0;
    run->cpu_ns = cpu_after - cpu_before;
    if (r == 0)
        r = xen_guest_stats(b->xen, false, &stats);
    if (r == 0) {
        take_stats(&stats, run);
        run->verified = o->is_verified ? run->reads : 0;
        r = xen_guest_drain(b->xen, o->stall_ms);
    }
    return r;
}

int bench_xen(struct bench *b, struct bench_run *run)
{
    int r = new_load(b, run);

    if (r == 0)
        r = xen_guest_push(b->xen, NULL);
    if (r == 0)
        r = measure(b, run);
    if (r == 0)
        r = xen_guest_pull(b->xen, NULL);
    return r < 0 ? fail(b, r) : 0;
}
