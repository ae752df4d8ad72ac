/* SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause */
/*
 * A run on disks: the load of libgodwit-frontend on each, checking every block or none. The
 * back-end's CPU time covers the measured part only.
 */
#include "bench.h"

#include "load/load_many.h"
#include <errno.h>
#include <stdlib.h>
#include <string.h>

/* The part of the disk that a load uses; the state of every block is kept in memory. */
#define VERIFIED_MAX (UINT64_C(1) << 30)

/* The loads of a run, one for each session. */
struct loads {
    struct gw_guest_disk **disks;
    struct gw_guest_load **loads;
};

static int new_disk(struct bench *b, const struct bench_session *s, const struct bench_run *run,
                    struct gw_guest_disk **ret)
{
    struct gw_guest_disk_config cfg = {
        .size = sizeof(cfg), .block_size = run->block_size, .seed = b->o->seed};
    int r;

    cfg.length = s->disk_bytes;
    if (cfg.length > VERIFIED_MAX)
        cfg.length = VERIFIED_MAX;
    cfg.length -= cfg.length % run->block_size;
    r = gw_guest_disk_new(ret, &cfg);
    if (r < 0)
        snprintf(b->error, sizeof(b->error),
                 "cannot track a disk of %llu bytes in blocks of %u: %s",
                 (unsigned long long)s->disk_bytes, run->block_size, strerror(-r));
    return r;
}

static int new_load(struct bench *b, const struct bench_session *s, const struct bench_run *run,
                    struct gw_guest_disk *disk, struct gw_guest_load **ret)
{
    const struct bench_options *o = b->o;
    struct gw_guest_load_config cfg = {
        .size = sizeof(cfg),
        .disk = disk,
        .drivers = s->drivers,
        .n_drivers = o->n_queues,
        .depth = run->depth,
        .write_percent = o->write_percent,
        .flush_percent = o->flush_percent,
        .segments = o->segments,
        .seed = o->seed,
        .indirect = o->is_indirect,
        .sleep = o->is_sleeping,
        .no_data = !o->is_verified,
    };
    int r = gw_guest_load_new(ret, &cfg);

    if (r < 0)
        snprintf(b->error, sizeof(b->error),
                 "%u requests of %u bytes in %u segments do not fit into rings of %u: %s",
                 run->depth, run->block_size, o->segments, o->queue_size, strerror(-r));
    return r;
}

static int new_loads(struct bench *b, const struct bench_run *run, struct loads *l)
{
    int r = 0;

    l->disks = calloc(b->n_sessions, sizeof(struct gw_guest_disk *));
    l->loads = calloc(b->n_sessions, sizeof(struct gw_guest_load *));
    if (l->disks == NULL || l->loads == NULL)
        return -ENOMEM;
    for (unsigned i = 0; r == 0 && i < b->n_sessions; i++) {
        r = new_disk(b, &b->sessions[i], run, &l->disks[i]);
        if (r == 0)
            r = new_load(b, &b->sessions[i], run, l->disks[i], &l->loads[i]);
    }
    return r;
}

static void free_loads(const struct bench *b, struct loads *l)
{
    for (unsigned i = 0; i < b->n_sessions; i++) {
        if (l->loads != NULL)
            gw_guest_load_free(l->loads[i]);
        if (l->disks != NULL)
            gw_guest_disk_free(l->disks[i]);
    }
    free(l->loads);
    free(l->disks);
}

static void take_stats(const struct bench *b, struct gw_guest_load **loads, struct bench_run *run)
{
    struct gw_guest_load_stats s;

    gw_guest_loads_stats(loads, b->n_sessions, &s);
    run->requests = s.requests;
    run->reads = s.reads;
    run->writes = s.writes;
    run->flushes = s.flushes;
    run->verified = s.verified;
    run->bytes = s.bytes;
    run->run_ns = s.run_ns;
    run->p50 = s.p50;
    run->p90 = s.p90;
    run->p99 = s.p99;
    run->p999 = s.p999;
    run->max = s.max;
    run->stall = s.stall;
    run->kicks = s.kicks;
    run->sleeps = s.sleeps;
    run->fewest = UINT64_MAX;
    for (unsigned i = 0; i < b->n_sessions; i++) {
        gw_guest_load_stats(loads[i], &s);
        run->fewest = s.requests < run->fewest ? s.requests : run->fewest;
        run->most = s.requests > run->most ? s.requests : run->most;
        run->worst_p99 = s.p99 > run->worst_p99 ? s.p99 : run->worst_p99;
    }
}

/* One load may sleep; several are polled by turns. */
static int run_for(struct bench *b, struct gw_guest_load **loads, unsigned ms)
{
    return b->n_sessions == 1
               ? gw_guest_load_run(loads[0], ms, 0, b->o->stall_ms)
               : gw_guest_loads_run(loads, b->n_sessions, ms, b->o->stall_ms, &b->failed);
}

static uint64_t count_requests(const struct bench *b, struct gw_guest_load **loads)
{
    struct gw_guest_load_stats stats;

    gw_guest_loads_stats(loads, b->n_sessions, &stats);
    return stats.requests;
}

/* Warm up, measure, finish. */
static int measure(struct bench *b, struct gw_guest_load **loads, struct bench_run *run)
{
    const struct bench_options *o = b->o;
    uint64_t cpu_before = 0, cpu_after = 0;
    int r = 0;

    if (o->warm_up_ms > 0)
        r = run_for(b, loads, o->warm_up_ms);
    if (r == 0) {
        for (unsigned i = 0; i < b->n_sessions; i++)
            gw_guest_load_restart_stats(loads[i]);
        run->has_cpu = bench_cpu_ns(b, &cpu_before) == 0;
        r = run_for(b, loads, o->duration_ms);
    }
    /* On a busy CPU a short run may complete nothing: continue to the first completion. */
    while (r == 0 && count_requests(b, loads) == 0)
        r = b->n_sessions == 1 ? gw_guest_load_run(loads[0], 0, 1, o->stall_ms)
                               : run_for(b, loads, 10);
    if (r == 0) {
        run->has_cpu = run->has_cpu && bench_cpu_ns(b, &cpu_after) == 0;
        run->cpu_ns = cpu_after - cpu_before;
        take_stats(b, loads, run);
        r = gw_guest_loads_drain(loads, b->n_sessions, o->stall_ms, &b->failed);
    }
    if (r < 0)
        snprintf(b->error, sizeof(b->error), "%s", gw_guest_load_error(loads[b->failed]));
    return r;
}

int bench_blk(struct bench *b, struct bench_run *run)
{
    struct loads l = {0};
    int r;

    b->failed = 0;
    r = new_loads(b, run, &l);
    if (r == 0)
        r = measure(b, l.loads, run);
    free_loads(b, &l);
    return r;
}
