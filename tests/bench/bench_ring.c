/* SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause */
/*
 * The data path as users see it: a godwit-blk process with a RAM disk, and our own front-end in
 * this process on another core. Per depth and block size: requests per second, and the back-end's
 * CPU time and syscalls per request. Figures of one run are comparable with each other, not with
 * other machines or times.
 *
 * usage: bench_ring BACKEND [ARGUMENT...]
 * The command must serve a vhost-user disk on the socket that replaces {socket} in its arguments.
 */
#include "measured.h"
#include "proc_meter.h"
#include "ring_fixture.h"

#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

enum {
    RUN_MS = 1000,
    WARM_UP_MS = 100,
};

static const struct {
    unsigned block_size;
    unsigned depth;
} runs[] = {
    {512, 1}, {512, 32}, {512, 80}, {512, 128}, {4096, 1}, {4096, 32}, {4096, 80}, {4096, 128},
};

static int run_one(const char *path, pid_t backend, unsigned block_size, unsigned depth)
{
    const struct ring_fixture_config cfg = {.block_size = block_size, .depth = depth};
    struct ring_fixture b;
    struct gw_guest_load_stats before, after;
    struct proc_meter meter;
    double n;
    int r = ring_fixture_start(&b, path, &cfg);

    if (r == 0)
        r = ring_fixture_fill(&b);
    if (r == 0)
        r = ring_fixture_load(&b, &cfg);
    if (r == 0)
        r = gw_guest_load_run(b.load, WARM_UP_MS, 0, RING_FIXTURE_STALL_MS);
    if (r == 0) {
        proc_meter_start(&meter, backend);
        gw_guest_load_stats(b.load, &before);
        r = gw_guest_load_run(b.load, RUN_MS, 0, RING_FIXTURE_STALL_MS);
        gw_guest_load_stats(b.load, &after);
        proc_meter_stop(&meter);
    }
    if (r == 0)
        r = gw_guest_load_drain(b.load, RING_FIXTURE_STALL_MS);
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
    ring_fixture_finish(&b);
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
