/* SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause */
/*
 * Compares ring layouts: split and packed, each with IN_ORDER, inflight tracking, or indirect
 * tables. The back-end is a godwit-blk process with a RAM disk. It should not poll, because polling
 * for requests costs CPU time that depends on the front-end. The layouts take short turns, so that
 * other load affects all of them alike. Results are the medians of the turns, and for the
 * back-end's CPU time the ratio to the split ring in the same turn.
 *
 * usage: bench_layouts BACKEND [ARGUMENT...]
 * The command must serve a vhost-user disk on the socket that replaces {socket} in its arguments.
 */
#include "measured.h"
#include "ring_pump.h"

#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

enum {
    TURN_MS = 100,
    TURNS = 9,
    BLOCK_SIZE = 512,
};

static const struct {
    const char *name;
    struct ring_fixture_config cfg;
} layouts[] = {
    {"split", {.packed = false}},
    {"split, in order", {.in_order = true}},
    {"split, inflight", {.inflight = true}},
    {"split, indirect", {.indirect = true}},
    {"split, indirect, inflight", {.indirect = true, .inflight = true}},
    {"packed", {.packed = true}},
    {"packed, in order", {.packed = true, .in_order = true}},
    {"packed, inflight", {.packed = true, .inflight = true}},
    {"packed, indirect", {.packed = true, .indirect = true}},
    {"packed, indirect, inflight", {.packed = true, .indirect = true, .inflight = true}},
};

#define N_LAYOUTS (sizeof(layouts) / sizeof(layouts[0]))

static const unsigned depths[] = {1, 32, 128};

/* Results of one layout in all turns. */
struct result {
    double rate[TURNS]; /* requests per second */
    double cpu[TURNS];  /* back-end CPU nanoseconds per request */
    double ratio[TURNS];
};

static int turn(const char *path, pid_t backend, unsigned layout, unsigned depth,
                struct result *result, unsigned n)
{
    struct ring_fixture_config cfg = layouts[layout].cfg;
    struct ring_pump_turn turn = {0};
    int r;

    cfg.block_size = BLOCK_SIZE;
    cfg.depth = depth;
    r = ring_pump_turn(layouts[layout].name, path, backend, &cfg, TURN_MS, &turn);
    result->rate[n] = turn.rate;
    result->cpu[n] = turn.cpu;
    return r;
}

static int run_depth(const char *path, pid_t backend, unsigned depth)
{
    static struct result results[N_LAYOUTS];
    int r = 0;

    for (unsigned n = 0; r == 0 && n < TURNS; n++) {
        for (unsigned i = 0; r == 0 && i < N_LAYOUTS; i++)
            r = turn(path, backend, i, depth, &results[i], n);
        for (unsigned i = 0; i < N_LAYOUTS; i++)
            results[i].ratio[n] = results[i].cpu[n] / results[0].cpu[n];
    }
    for (unsigned i = 0; r == 0 && i < N_LAYOUTS; i++)
        printf("%6u  %-26s %12.0f %10.0f %10.3f\n", depth, layouts[i].name,
               measured_median(results[i].rate, TURNS), measured_median(results[i].cpu, TURNS),
               measured_median(results[i].ratio, TURNS));
    fflush(stdout);
    return r;
}

int main(int argc, char **argv)
{
    const struct ring_fixture_config fill = {.block_size = 4096, .depth = 32};
    struct ring_fixture b;
    char path[64];
    pid_t backend;
    int r, status;

    if (argc < 2) {
        fprintf(stderr, "usage: %s BACKEND [ARGUMENT...]   ({socket} is replaced)\n", argv[0]);
        return 64;
    }
    snprintf(path, sizeof(path), "/tmp/bench_layouts-%d.sock", (int)getpid());
    backend = measured_start(argv + 1, path);
    measured_pin_to(0);
    r = ring_fixture_start(&b, path, &fill);
    if (r == 0)
        r = ring_fixture_fill(&b);
    ring_fixture_finish(&b);
    printf("%6s  %-26s %12s %10s %10s\n", "depth", "layout", "requests/s", "cpu ns/req",
           "of split's");
    for (unsigned i = 0; r == 0 && i < sizeof(depths) / sizeof(depths[0]); i++)
        r = run_depth(path, backend, depths[i]);
    kill(backend, SIGTERM);
    (void)waitpid(backend, &status, 0);
    unlink(path);
    return r == 0 ? 0 : 1;
}
