/* SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause */
/*
 * Serves the same disk through different libraries, with the same front-end: reads on one queue.
 * The subjects take short turns, so that other load affects all of them alike. Results are the
 * median of the turns, and the ratios to the best peer in the same turn: of requests per second,
 * and of requests per second of back-end CPU time.
 *
 * usage: bench_peers [--indirect] RING NAME COMMAND... [-- RING NAME COMMAND...]...
 * RING is "split" or "packed", or "peer" for a peer, which uses split rings. The socket path
 * replaces {socket} in a command. See peers/compare.py, which builds the disks.
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
    SUBJECTS_MAX = 8,
};

static const unsigned block_sizes[] = {512, 4096};
static const unsigned depths[] = {1, 8, 32, 128};

#define N_SIZES  (sizeof(block_sizes) / sizeof(block_sizes[0]))
#define N_DEPTHS (sizeof(depths) / sizeof(depths[0]))

struct subject {
    const char *name;
    char **command;
    bool is_peer, is_packed;
    char path[64];
    pid_t pid;
    /* Results at one block size and depth. */
    double rate[TURNS];       /* requests per second */
    double cpu[TURNS];        /* back-end CPU nanoseconds per request */
    double rate_ratio[TURNS]; /* to the best peer */
    double cpu_ratio[TURNS];  /* the best peer's to its own */
};

static struct subject subjects[SUBJECTS_MAX];
static unsigned n_subjects;
static bool is_indirect;

static int take_turn(struct subject *s, unsigned block_size, unsigned depth, unsigned n)
{
    const struct ring_fixture_config cfg = {
        .block_size = block_size,
        .depth = depth,
        .packed = s->is_packed,
        .indirect = is_indirect,
    };
    struct ring_pump_turn turn = {0};
    int r = ring_pump_turn(s->name, s->path, s->pid, &cfg, TURN_MS, &turn);

    s->rate[n] = turn.rate;
    s->cpu[n] = turn.cpu;
    return r;
}

/* The best peer may differ between the two ratios. */
static void compare_turn(unsigned n)
{
    double rate = 0, cpu = 0;

    for (unsigned i = 0; i < n_subjects; i++) {
        const struct subject *s = &subjects[i];

        if (!s->is_peer)
            continue;
        if (s->rate[n] > rate)
            rate = s->rate[n];
        if (cpu == 0 || s->cpu[n] < cpu)
            cpu = s->cpu[n];
    }
    for (unsigned i = 0; i < n_subjects; i++) {
        subjects[i].rate_ratio[n] = rate > 0 ? subjects[i].rate[n] / rate : 0;
        subjects[i].cpu_ratio[n] = cpu / subjects[i].cpu[n];
    }
}

static int run_depth(unsigned block_size, unsigned depth)
{
    int r = 0;

    for (unsigned n = 0; r == 0 && n < TURNS; n++) {
        for (unsigned i = 0; r == 0 && i < n_subjects; i++)
            r = take_turn(&subjects[i], block_size, depth, n);
        compare_turn(n);
    }
    for (unsigned i = 0; r == 0 && i < n_subjects; i++) {
        struct subject *s = &subjects[i];

        printf("%6u %6u  %-26s %12.0f %10.0f %8.2f %8.2f\n", block_size, depth, s->name,
               measured_median(s->rate, TURNS), measured_median(s->cpu, TURNS),
               measured_median(s->rate_ratio, TURNS), measured_median(s->cpu_ratio, TURNS));
    }
    fflush(stdout);
    return r;
}

/* Parse one description up to "--" or the end. Returns: the number of words; 0 if it is invalid. */
static int parse_subject(struct subject *s, char **words)
{
    int n = 0;

    while (words[n] && strcmp(words[n], "--") != 0)
        n++;
    if (n < 3)
        return 0;
    s->is_peer = strcmp(words[0], "peer") == 0;
    s->is_packed = strcmp(words[0], "packed") == 0;
    if (!s->is_peer && !s->is_packed && strcmp(words[0], "split") != 0)
        return 0;
    s->name = words[1];
    s->command = words + 2;
    return n;
}

static bool parse(char **words)
{
    if (*words && strcmp(*words, "--indirect") == 0) {
        is_indirect = true;
        words++;
    }
    while (n_subjects < SUBJECTS_MAX) {
        int n = parse_subject(&subjects[n_subjects++], words);

        if (n == 0)
            return false;
        if (words[n] == NULL)
            return true;
        words[n] = NULL;
        words += n + 1;
    }
    return false;
}

static void start_all(void)
{
    for (unsigned i = 0; i < n_subjects; i++) {
        struct subject *s = &subjects[i];

        snprintf(s->path, sizeof(s->path), "/tmp/bench_peers-%d-%u.sock", (int)getpid(), i);
        s->pid = measured_start(s->command, s->path);
    }
}

static void stop_all(void)
{
    for (unsigned i = 0; i < n_subjects; i++) {
        int status;

        if (subjects[i].pid > 0) {
            kill(subjects[i].pid, SIGTERM);
            (void)waitpid(subjects[i].pid, &status, 0);
        }
        unlink(subjects[i].path);
    }
}

int main(int argc, char **argv)
{
    int r = 0;

    if (!parse(argv + 1)) {
        fprintf(stderr,
                "usage: %s [--indirect] RING NAME COMMAND... [-- RING NAME COMMAND...]...\n"
                "RING is split, packed or peer; {socket} is replaced\n",
                argv[0]);
        return 64;
    }
    start_all();
    measured_pin_to(0);
    printf("%6s %6s  %-26s %12s %10s %17s\n%6s %6s  %-26s %12s %10s %8s %8s\n", "", "", "", "", "",
           "of the best peer", "block", "depth", "", "requests/s", "cpu ns/req", "rate", "per cpu");
    for (unsigned i = 0; r == 0 && i < N_SIZES; i++)
        for (unsigned k = 0; r == 0 && k < N_DEPTHS; k++)
            r = run_depth(block_sizes[i], depths[k]);
    stop_all();
    return r == 0 ? 0 : 1;
}
