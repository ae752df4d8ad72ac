/* SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause */
/*
 * A run on a disk: the load of libgodwit-frontend, checking every block or none. The back-end's CPU
 * time covers the measured part only.
 */
#include "bench.h"

#include "load/load.h"
#include <errno.h>
#include <string.h>

/* The part of the disk that a load uses; the state of every block is kept in memory. */
#define VERIFIED_MAX (UINT64_C(1) << 30)

static int new_disk(struct bench *b, const struct bench_run *run, struct gw_guest_disk **ret)
{
    struct gw_guest_disk_config cfg = {
        .size = sizeof(cfg), .block_size = run->block_size, .seed = b->o->seed};
    int r;

    cfg.length = b->disk_bytes;
    if (cfg.length > VERIFIED_MAX)
        cfg.length = VERIFIED_MAX;
    cfg.length -= cfg.length % run->block_size;
    r = gw_guest_disk_new(ret, &cfg);
    if (r < 0)
        snprintf(b->error, sizeof(b->error),
                 "cannot track a disk of %llu bytes in blocks of %u: %s",
                 (unsigned long long)b->disk_bytes, run->block_size, strerror(-r));
    return r;
}

static int new_load(struct bench *b, const struct bench_run *run, struct gw_guest_disk *disk,
                    struct gw_guest_load **ret)
{
    const struct bench_options *o = b->o;
    struct gw_guest_load_config cfg = {
        .size = sizeof(cfg),
        .disk = disk,
        .drivers = b->drivers,
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

static void take_stats(const struct gw_guest_load *load, struct bench_run *run)
{
    struct gw_guest_load_stats s;

    gw_guest_load_stats(load, &s);
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
}

/* Warm up, measure, finish. */
static int measure(struct bench *b, struct gw_guest_load *load, struct bench_run *run)
{
    const struct bench_options *o = b->o;
    struct gw_guest_load_stats stats;
    uint64_t cpu_before = 0, cpu_after = 0;
    int r = 0;

    if (o->warm_up_ms > 0)
        r = gw_guest_load_run(load, o->warm_up_ms, 0, o->stall_ms);
    if (r == 0) {
        gw_guest_load_restart_stats(load);
        run->has_cpu = target_cpu_ns(b->target, &cpu_before) == 0;
        r = gw_guest_load_run(load, o->duration_ms, 0, o->stall_ms);
    }
    /* On a busy CPU a short run may complete nothing: continue to the first completion. */
    if (r == 0) {
        gw_guest_load_stats(load, &stats);
        if (stats.requests == 0)
            r = gw_guest_load_run(load, 0, 1, o->stall_ms);
    }
    if (r == 0) {
        run->has_cpu = run->has_cpu && target_cpu_ns(b->target, &cpu_after) == 0;
        run->cpu_ns = cpu_after - cpu_before;
        take_stats(load, run);
        r = gw_guest_load_drain(load, o->stall_ms);
    }
    if (r < 0)
        snprintf(b->error, sizeof(b->error), "%s", gw_guest_load_error(load));
    return r;
}

int bench_blk(struct bench *b, struct bench_run *run)
{
    struct gw_guest_disk *disk = NULL;
    struct gw_guest_load *load = NULL;
    int r = new_disk(b, run, &disk);

    if (r == 0)
        r = new_load(b, run, disk, &load);
    if (r == 0)
        r = measure(b, load, run);
    gw_guest_load_free(load);
    gw_guest_disk_free(disk);
    return r;
}
