/* SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause */
/*
 * The data path as a user gets it: a godwit-blk process with a RAM disk, and our own front-end in
 * this process on another core. Per depth and block size: requests per second, CPU time of the
 * back-end per request, syscalls of the back-end per request. Numbers of one run compare with each
 * other, not with those of another machine or hour.
 *
 * usage: bench_ring BACKEND [ARGUMENT...]
 * The command must serve a vhost-user disk on the socket that replaces {socket} in its arguments.
 */
#include "measured.h"
#include "proc_meter.h"

#include <endian.h>
#include <errno.h>
#include <getopt.h>
#include <godwit/frontend.h>
#include <godwit/load.h>
#include <inttypes.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

enum {
    RUN_MS = 1000,
    WARM_UP_MS = 100,
    STALL_MS = 10000,
    EXTENT = 16 << 20
};

static const struct {
    unsigned block_size;
    unsigned depth;
} runs[] = {
    {512, 1}, {512, 32}, {512, 80}, {512, 128}, {4096, 1}, {4096, 32}, {4096, 80}, {4096, 128},
};

struct bench {
    struct gw_guest_mem *mem;
    struct gw_driver *driver;
    struct gw_frontend *fe;
    struct gw_guest_disk *disk;
    struct gw_guest_load *load;
};

static int prepare(struct bench *b, const char *path, unsigned block_size, unsigned depth)
{
    struct gw_guest_region region = {.kind = GW_GUEST_MEMFD, .length = 64 << 20};
    struct gw_driver_config ring = {.size = sizeof(ring), .queue_size = 512};
    struct gw_guest_disk_config extent = {
        .size = sizeof(extent), .length = EXTENT, .block_size = block_size};
    struct gw_guest_load_config load = {
        .size = sizeof(load), .n_drivers = 1, .depth = depth, .no_data = true};
    struct gw_frontend_options options = {.size = sizeof(options), .n_drivers = 1};
    int r = gw_guest_mem_new(&b->mem, GW_GUEST_UVA_HOST);

    if (r == 0)
        r = gw_guest_mem_add(b->mem, &region);
    ring.mem = b->mem;
    if (r == 0)
        r = gw_driver_new(&b->driver, &ring);
    if (r == 0)
        r = gw_guest_disk_new(&b->disk, &extent);
    load.disk = b->disk;
    load.drivers = &b->driver;
    if (r == 0)
        r = gw_guest_load_new(&b->load, &load);
    if (r == 0)
        r = gw_frontend_new(&b->fe, NULL);
    if (r == 0)
        r = gw_frontend_connect(b->fe, path);
    options.mem = b->mem;
    options.drivers = &b->driver;
    return r == 0 ? gw_frontend_start(b->fe, &options) : r;
}

/* Pages never written would all be read from one page of zeros. */
static int fill_disk(struct bench *b)
{
    struct gw_guest_load_config writes = {
        .size = sizeof(writes),
        .disk = b->disk,
        .drivers = &b->driver,
        .n_drivers = 1,
        .write_percent = 100,
        .no_data = true,
    };
    struct gw_guest_load *load;
    int r = gw_guest_load_new(&load, &writes);

    if (r < 0)
        return r;
    r = gw_guest_load_run(load, 0, 16 * EXTENT / 4096, STALL_MS);
    if (r == 0)
        r = gw_guest_load_drain(load, STALL_MS);
    gw_guest_load_free(load);
    return r;
}

static void finish(struct bench *b)
{
    (void)gw_frontend_stop(b->fe, &b->driver, 1);
    gw_frontend_free(b->fe);
    gw_guest_load_free(b->load);
    gw_guest_disk_free(b->disk);
    gw_driver_free(b->driver);
    gw_guest_mem_free(b->mem);
}

static int run_one(const char *path, pid_t backend, unsigned block_size, unsigned depth)
{
    struct bench b = {0};
    struct gw_guest_load_stats before, after;
    struct proc_meter meter;
    double n;
    int r = prepare(&b, path, block_size, depth);

    if (r == 0)
        r = fill_disk(&b);
    if (r == 0)
        r = gw_guest_load_run(b.load, WARM_UP_MS, 0, STALL_MS);
    if (r == 0) {
        proc_meter_start(&meter, backend);
        gw_guest_load_stats(b.load, &before);
        r = gw_guest_load_run(b.load, RUN_MS, 0, STALL_MS);
        gw_guest_load_stats(b.load, &after);
        proc_meter_stop(&meter);
    }
    if (r == 0)
        r = gw_guest_load_drain(b.load, STALL_MS);
    if (r < 0) {
        fprintf(stderr, "bench_ring: depth %u: %s %s\n", depth, strerror(-r),
                b.load ? gw_guest_load_error(b.load) : "");
    } else {
        n = (double)(after.requests - before.requests);
        printf("%6u %6u %12.0f %10.0f", block_size, depth,
               n * 1e9 / (double)(after.run_ns - before.run_ns), (double)meter.cpu_ns / n);
        if (meter.n_syscalls >= 0)
            printf(" %10.4f", (double)meter.n_syscalls / n);
        else
            printf(" %10s", "-");
        printf(" %10.4f\n", (double)(after.kicks - before.kicks) / n);
        fflush(stdout);
    }
    finish(&b);
    return r;
}

int main(int argc, char **argv)
{
    char path[64];
    pid_t backend;
    int r = 0, status;

    if (argc < 2) {
        fprintf(stderr, "usage: %s BACKEND [ARGUMENT...]   ({socket} is replaced)\n", argv[0]);
        return 64;
    }
    snprintf(path, sizeof(path), "/tmp/bench_ring-%d.sock", (int)getpid());
    backend = measured_start(argv + 1, path);
    measured_pin_to(0);
    printf("%6s %6s %12s %10s %10s %10s\n", "bytes", "depth", "requests/s", "cpu ns/req",
           "calls/req", "kicks/req");
    for (unsigned i = 0; r == 0 && i < sizeof(runs) / sizeof(runs[0]); i++)
        r = run_one(path, backend, runs[i].block_size, runs[i].depth);
    printf("resident memory of the back-end: %ld KiB\n", proc_resident_kib(backend));
    kill(backend, SIGTERM);
    (void)waitpid(backend, &status, 0);
    unlink(path);
    return r == 0 ? 0 : 1;
}
