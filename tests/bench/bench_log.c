/* SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause */
/*
 * Cost of the dirty log for a disk: a godwit-blk process with a RAM disk and 4 KiB reads at depth
 * 32, in turns with the log off and on, read and cleared every 100 ms as a VMM does. Then the worst
 * latency of a request while the log is replaced every 10 ms, against no replacement and against
 * the same number of messages without effect. Short alternating turns, so that other load affects
 * all of them alike; results are medians.
 *
 * usage: bench_log BACKEND [ARGUMENT...]
 * The command must serve a vhost-user disk on the socket that replaces {socket} in its arguments.
 */
#include "measured.h"
#include "proc_meter.h"

#include "load/load.h"
#include <godwit/frontend/log.h>
#include <inttypes.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

enum {
    TURN_MS = 250,
    TURNS = 16, /* of each kind */
    STALL_MS = 10000,
    EXTENT = 16 << 20,
    DEPTH = 32,
    SYNC_US = 100000,
    REPLACE_US = 10000,
};

/* Activity of the front-end during the load. */
enum beside {
    NOTHING = 0,
    MESSAGES,     /* GET_FEATURES every 10 ms */
    REPLACEMENTS, /* of the log, every 10 ms */
    SYNC,         /* read and clear the log every 100 ms */
};

struct bench {
    struct gw_guest_mem *mem;
    struct gw_driver *driver;
    struct gw_frontend *fe;
    struct gw_guest_disk *disk;
    struct gw_guest_load *load;
    struct gw_guest_log *log;
    pid_t backend;
    enum beside beside;
    bool ends; /* atomic */
    unsigned n_done;
    uint64_t pages;
    int error;
};

struct turn {
    double rate;
    double cpu_ns; /* back-end CPU nanoseconds per request */
    double stall_us;
    double max_us;
    double p999_us;
};

static int prepare(struct bench *b, const char *path)
{
    struct gw_guest_region region = {.kind = GW_GUEST_MEMFD, .length = 64 << 20};
    struct gw_driver_config ring = {.size = sizeof(ring), .queue_size = 512};
    struct gw_guest_disk_config extent = {.size = sizeof(extent), .length = EXTENT};
    struct gw_guest_load_config load = {
        .size = sizeof(load), .n_drivers = 1, .depth = DEPTH, .no_data = true};
    struct gw_guest_load_config writes = {
        .size = sizeof(writes), .n_drivers = 1, .write_percent = 100, .no_data = true};
    struct gw_frontend_options options = {.size = sizeof(options), .n_drivers = 1};
    struct gw_guest_load *fill = NULL;
    int r = gw_guest_mem_new(&b->mem, GW_GUEST_UVA_HOST);

    if (r == 0)
        r = gw_guest_mem_add(b->mem, &region);
    ring.mem = options.mem = b->mem;
    if (r == 0)
        r = gw_driver_new(&b->driver, &ring);
    if (r == 0)
        r = gw_guest_disk_new(&b->disk, &extent);
    load.disk = writes.disk = b->disk;
    load.drivers = writes.drivers = options.drivers = &b->driver;
    if (r == 0)
        r = gw_guest_load_new(&b->load, &load);
    if (r == 0)
        r = gw_guest_load_new(&fill, &writes);
    if (r == 0)
        r = gw_frontend_new(&b->fe, NULL);
    if (r == 0)
        r = gw_frontend_connect(b->fe, path);
    if (r == 0)
        r = gw_frontend_start(b->fe, &options);
    /* Reads of pages that were never written would all hit the shared zero page. */
    if (r == 0)
        r = gw_guest_load_run(fill, 0, 16 * EXTENT / 4096, STALL_MS);
    if (r == 0)
        r = gw_guest_load_drain(fill, STALL_MS);
    gw_guest_load_free(fill);
    return r;
}

static void finish(struct bench *b)
{
    (void)gw_guest_load_drain(b->load, STALL_MS);
    (void)gw_frontend_stop(b->fe, &b->driver, 1);
    gw_frontend_free(b->fe);
    gw_guest_load_free(b->load);
    gw_guest_log_free(b->log);
    gw_guest_disk_free(b->disk);
    gw_driver_free(b->driver);
    gw_guest_mem_free(b->mem);
}

/* ---- front-end activity during the load ---- */

static int replace_log(struct bench *b)
{
    struct gw_guest_log_config cfg = {.size = sizeof(cfg),
                                      .length = gw_guest_log_length_for(b->mem, &b->driver, 1)};
    struct gw_guest_log *log;
    int r = gw_guest_log_new(&log, &cfg);

    if (r == 0)
        r = gw_frontend_set_log_base(b->fe, log);
    if (r == 0 && b->log)
        b->pages += gw_guest_log_take(b->log, NULL, NULL);
    gw_guest_log_free(b->log);
    b->log = log;
    return r;
}

static int switch_log(struct bench *b, bool on)
{
    int r = on ? replace_log(b) : 0;

    if (r == 0)
        r = gw_frontend_set_log_all(b->fe, on);
    return r == 0 ? gw_frontend_set_vring_log(b->fe, b->driver, on) : r;
}

static void *front_end(void *arg)
{
    struct bench *b = arg;
    uint64_t features;

    measured_pin_to(0);
    while (b->error == 0 && !__atomic_load_n(&b->ends, __ATOMIC_RELAXED)) {
        usleep(b->beside == SYNC ? SYNC_US : REPLACE_US);
        if (b->beside == MESSAGES)
            b->error = gw_frontend_get_features(b->fe, &features);
        else if (b->beside == REPLACEMENTS)
            b->error = replace_log(b);
        else if (b->log)
            b->pages += gw_guest_log_take(b->log, NULL, NULL);
        b->n_done++;
    }
    return NULL;
}

static int run_turn(struct bench *b, enum beside beside, struct turn *ret)
{
    struct gw_guest_load_stats stats;
    struct proc_meter meter;
    pthread_t thread;
    double n;
    int r;

    b->beside = beside;
    b->ends = false;
    if (beside != NOTHING && pthread_create(&thread, NULL, front_end, b) != 0)
        return -1;
    gw_guest_load_restart_stats(b->load);
    proc_meter_start(&meter, b->backend);
    r = gw_guest_load_run(b->load, TURN_MS, 0, STALL_MS);
    proc_meter_stop(&meter);
    gw_guest_load_stats(b->load, &stats);
    __atomic_store_n(&b->ends, true, __ATOMIC_RELAXED);
    if (beside != NOTHING)
        pthread_join(thread, NULL);
    n = (double)stats.requests;
    *ret = (struct turn){
        .rate = n * 1e9 / (double)stats.run_ns,
        .cpu_ns = (double)meter.cpu_ns / n,
        .stall_us = (double)stats.stall / 1e3,
        .max_us = (double)stats.max / 1e3,
        .p999_us = (double)stats.p999 / 1e3,
    };
    return r < 0 ? r : b->error;
}

/* ---- results ---- */

static int compare(const void *a, const void *b)
{
    double x = *(const double *)a, y = *(const double *)b;

    return (x > y) - (x < y);
}

static double at(const struct turn *turns, size_t member, unsigned i)
{
    double v[TURNS];

    for (unsigned k = 0; k < TURNS; k++)
        memcpy(&v[k], (const char *)&turns[k] + member, sizeof(v[k]));
    qsort(v, TURNS, sizeof(v[0]), compare);
    return v[i];
}

#define MEDIAN(turns, member) at(turns, offsetof(struct turn, member), TURNS / 2)
#define WORST(turns, member)  at(turns, offsetof(struct turn, member), TURNS - 1)

static int bench_throughput(struct bench *b)
{
    struct turn off[TURNS], on[TURNS];
    int r = 0;

    b->pages = 0;
    for (unsigned i = 0; r == 0 && i < TURNS; i++) {
        /* Alternate the order, too. */
        for (unsigned k = 0; r == 0 && k < 2; k++) {
            bool is_on = (i + k) % 2;

            r = switch_log(b, is_on);
            if (r == 0)
                r = run_turn(b, SYNC, is_on ? &on[i] : &off[i]);
        }
    }
    if (r < 0)
        return r;
    printf("%-12s %12s %14s\n", "log", "requests/s", "cpu ns/req");
    printf("%-12s %12.0f %14.0f\n", "off", MEDIAN(off, rate), MEDIAN(off, cpu_ns));
    printf("%-12s %12.0f %14.0f\n", "on", MEDIAN(on, rate), MEDIAN(on, cpu_ns));
    printf("%-12s %11.1f%% %13.1f%%   (%" PRIu64 " pages read)\n", "difference",
           100 * (MEDIAN(on, rate) / MEDIAN(off, rate) - 1),
           100 * (MEDIAN(on, cpu_ns) / MEDIAN(off, cpu_ns) - 1), b->pages);
    return 0;
}

static int bench_replacement(struct bench *b)
{
    static const char *const names[] = {"nothing", "messages", "replacements"};
    struct turn turns[3][TURNS];
    unsigned n[3] = {0};
    int r = switch_log(b, true);

    for (unsigned i = 0; r == 0 && i < TURNS; i++)
        for (unsigned k = 0; r == 0 && k < 3; k++) {
            unsigned kind = (i + k) % 3;

            b->n_done = 0;
            r = run_turn(b, (enum beside)kind, &turns[kind][i]);
            n[kind] += b->n_done;
        }
    if (r < 0)
        return r;
    printf("\n%-14s %7s %12s %10s %20s %20s\n", "every 10 ms", "count", "requests/s", "p99.9 us",
           "slowest us med/max", "stall us med/max");
    for (unsigned k = 0; k < 3; k++)
        printf("%-14s %7u %12.0f %10.0f %12.0f %7.0f %12.0f %7.0f\n", names[k], n[k],
               MEDIAN(turns[k], rate), MEDIAN(turns[k], p999_us), MEDIAN(turns[k], max_us),
               WORST(turns[k], max_us), MEDIAN(turns[k], stall_us), WORST(turns[k], stall_us));
    return 0;
}

int main(int argc, char **argv)
{
    struct bench b = {0};
    char path[64];
    int r, status;

    if (argc < 2) {
        fprintf(stderr, "usage: %s BACKEND [ARGUMENT...]   ({socket} is replaced)\n", argv[0]);
        return 64;
    }
    snprintf(path, sizeof(path), "/tmp/bench_log-%d.sock", (int)getpid());
    b.backend = measured_start(argv + 1, path);
    measured_pin_to(0);
    r = prepare(&b, path);
    if (r == 0)
        r = bench_throughput(&b);
    if (r == 0)
        r = bench_replacement(&b);
    if (r < 0)
        fprintf(stderr, "bench_log: %s %s %s\n", strerror(-r), gw_frontend_last_error(),
                b.load ? gw_guest_load_error(b.load) : "");
    finish(&b);
    kill(b.backend, SIGTERM);
    (void)waitpid(b.backend, &status, 0);
    unlink(path);
    return r == 0 ? 0 : 1;
}
