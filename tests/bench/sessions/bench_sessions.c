/* SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause */
/*
 * Many disks in one process:
 *
 *     idle        private memory of each disk, on its own and with a guest, and CPU time of all
 *     handshakes  from connect(2) until the ring runs: one after the other, the same while another
 *                 session waits for a slow request to finish, and all at once
 *     load        requests per CPU second of 100 disks with 2 workers, against 100 processes
 *
 * usage: bench_sessions GODWIT_BLK [DISKS]     default: 1000 disks
 */
#include "../measured.h"
#include "base/clock.h"
#include "many_disks.h"

#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum {
    WORKERS = 2,
    IDLE_S = 3,
    LOADED = 100, /* disks under load */
    ROUNDS = 5,
    LOAD_MS = 1000,
    SLOW_MS = 10000,
};

static struct many_guest guests[MANY_MAX];
static uint64_t times[MANY_MAX];

/* ---- idle disks ---- */

static double kib_of_each(uint64_t now, uint64_t before, unsigned n)
{
    return ((double)now - (double)before) / 1024 / n;
}

static void measure_idle(const char *program, unsigned n, bool has_files)
{
    struct many_disks none, m;
    uint64_t before, alone, cpu;

    many_start(&none, program, 1, WORKERS, has_files, "");
    before = many_private(&none);
    many_stop(&none);
    many_start(&m, program, n, WORKERS, has_files, "");
    alone = many_private(&m);
    for (unsigned i = 0; i < n; i++) {
        int r;

        many_guest_init(&guests[i]);
        r = many_guest_connect(&guests[i], &m, i);
        if (r < 0)
            many_fail("a session", r);
    }
    /* Polling ends, and the allocator returns what it can. */
    sleep(1);
    cpu = many_cpu_ns(&m);
    sleep(IDLE_S);
    printf("idle        %u disks in %s, %u threads: %.1f KiB each, %.1f KiB with a guest; "
           "%.2f ms of CPU time a second\n",
           n, has_files ? "files" : "memory", many_threads(&m), kib_of_each(alone, before, n - 1),
           kib_of_each(many_private(&m), before, n - 1),
           (double)(many_cpu_ns(&m) - cpu) / 1e6 / IDLE_S);
    fflush(stdout);
    for (unsigned i = 0; i < n; i++)
        many_guest_done(&guests[i]);
    many_stop(&m);
}

/* ---- handshakes ---- */

static int ascending(const void *a, const void *b)
{
    uint64_t x = *(const uint64_t *)a, y = *(const uint64_t *)b;

    return x < y ? -1 : x > y;
}

static void show_times(const char *what, unsigned n, uint64_t all_ns)
{
    qsort(times, n, sizeof(times[0]), ascending);
    printf("handshakes  %u %-32s p50 %8.3f ms, p99 %8.3f ms, max %8.3f ms; all in %.1f ms\n", n,
           what, (double)times[n / 2] / 1e6, (double)times[n * 99 / 100] / 1e6,
           (double)times[n - 1] / 1e6, (double)all_ns / 1e6);
    fflush(stdout);
}

static void measure_in_a_row(const struct many_disks *m, const char *what)
{
    uint64_t begun = gw_clock_ns();

    for (unsigned i = 1; i < m->n; i++) {
        uint64_t now = gw_clock_ns();
        int r = many_guest_connect(&guests[i], m, i);

        if (r < 0)
            many_fail("a session", r);
        times[i - 1] = gw_clock_ns() - now;
    }
    show_times(what, m->n - 1, gw_clock_ns() - begun);
    for (unsigned i = 1; i < m->n; i++)
        many_guest_disconnect(&guests[i]);
}

struct starter {
    pthread_t thread;
    pthread_barrier_t *barrier;
    const struct many_disks *m;
    unsigned i;
};

static void *start_main(void *arg)
{
    struct starter *s = arg;
    uint64_t begun;
    int r;

    pthread_barrier_wait(s->barrier);
    begun = gw_clock_ns();
    r = many_guest_connect(&guests[s->i], s->m, s->i);
    times[s->i] = gw_clock_ns() - begun;
    if (r < 0)
        many_fail("a session", r);
    return NULL;
}

static void measure_at_once(const struct many_disks *m)
{
    static struct starter starters[MANY_MAX];
    pthread_barrier_t barrier;
    pthread_attr_t attr;
    uint64_t begun;

    pthread_barrier_init(&barrier, NULL, m->n + 1);
    pthread_attr_init(&attr);
    pthread_attr_setstacksize(&attr, 256 << 10);
    for (unsigned i = 0; i < m->n; i++) {
        starters[i] = (struct starter){.barrier = &barrier, .m = m, .i = i};
        if (pthread_create(&starters[i].thread, &attr, start_main, &starters[i]) != 0)
            many_fail("a thread", 0);
    }
    begun = gw_clock_ns();
    pthread_barrier_wait(&barrier);
    for (unsigned i = 0; i < m->n; i++)
        pthread_join(starters[i].thread, NULL);
    show_times("at once", m->n, gw_clock_ns() - begun);
    pthread_attr_destroy(&attr);
    pthread_barrier_destroy(&barrier);
    for (unsigned i = 0; i < m->n; i++)
        many_guest_disconnect(&guests[i]);
}

static void *stop_main(void *arg)
{
    (void)gw_frontend_stop(guests[0].fe, &guests[0].driver, 1);
    return NULL;
}

/* The guest of the first disk waits for a stop, because a request takes long. */
static void measure_beside_a_drain(const struct many_disks *m)
{
    pthread_t thread;
    int r = many_guest_connect(&guests[0], m, 0);

    if (r < 0)
        many_fail("a session", r);
    many_guest_load(&guests[0], 1);
    (void)gw_guest_load_run(guests[0].load, 50, 0, 0); /* none is completed */
    if (pthread_create(&thread, NULL, stop_main, NULL) != 0)
        many_fail("a thread", 0);
    usleep(10000);
    measure_in_a_row(m, "in a row, while one drains");
    pthread_join(thread, NULL);
    many_guest_unload(&guests[0]);
    many_guest_disconnect(&guests[0]);
}

static void measure_handshakes(const char *program, unsigned n)
{
    struct many_disks m;

    many_start(&m, program, n, WORKERS, true, ",delay=10000");
    for (unsigned i = 0; i < n; i++)
        many_guest_init(&guests[i]);
    measure_in_a_row(&m, "in a row");
    measure_in_a_row(&m, "in a row, again");
    measure_beside_a_drain(&m);
    measure_at_once(&m);
    measure_at_once(&m);
    for (unsigned i = 0; i < n; i++)
        many_guest_done(&guests[i]);
    many_stop(&m);
}

/* ---- load ---- */

struct loaded {
    double per_cpu_second, per_second, p99_us;
};

static void run(struct gw_guest_load **loads, unsigned ms)
{
    unsigned failed = 0;
    int r = gw_guest_loads_run(loads, LOADED, ms, MANY_STALL_MS, &failed);

    if (r < 0)
        many_fail(gw_guest_load_error(loads[failed]), r);
}

static void measure_round(const struct many_disks *m, struct gw_guest_load **loads,
                          struct loaded *ret)
{
    struct gw_guest_load_stats stats;
    uint64_t cpu;

    run(loads, LOAD_MS / 4);
    for (unsigned i = 0; i < LOADED; i++)
        gw_guest_load_restart_stats(loads[i]);
    cpu = many_cpu_ns(m);
    run(loads, LOAD_MS);
    cpu = many_cpu_ns(m) - cpu;
    gw_guest_loads_stats(loads, LOADED, &stats);
    *ret = (struct loaded){
        .per_cpu_second = (double)stats.requests * 1e9 / (double)cpu,
        .per_second = (double)stats.requests * 1e9 / (double)stats.run_ns,
        .p99_us = (double)stats.p99 / 1e3,
    };
}

/* Both kinds of back-ends, with all guests connected. */
struct side {
    struct many_disks m;
    struct many_guest *guests;
    struct gw_guest_load *loads[LOADED];
    double per_cpu_second[ROUNDS], per_second[ROUNDS], p99_us[ROUNDS];
};

static void side_begin(struct side *s, const char *program, unsigned workers,
                       struct many_guest *first)
{
    many_start(&s->m, program, LOADED, workers, false, "");
    s->guests = first;
    for (unsigned i = 0; i < LOADED; i++) {
        int r;

        many_guest_init(&s->guests[i]);
        r = many_guest_connect(&s->guests[i], &s->m, i);
        if (r < 0)
            many_fail("a session", r);
    }
}

static void side_load(struct side *s, unsigned depth, unsigned round)
{
    struct loaded one;
    unsigned failed;

    for (unsigned i = 0; i < LOADED; i++) {
        many_guest_load(&s->guests[i], depth);
        s->loads[i] = s->guests[i].load;
    }
    measure_round(&s->m, s->loads, &one);
    (void)gw_guest_loads_drain(s->loads, LOADED, MANY_STALL_MS, &failed);
    for (unsigned i = 0; i < LOADED; i++)
        many_guest_unload(&s->guests[i]);
    s->per_cpu_second[round] = one.per_cpu_second;
    s->per_second[round] = one.per_second;
    s->p99_us[round] = one.p99_us;
}

static void side_end(struct side *s)
{
    for (unsigned i = 0; i < LOADED; i++)
        many_guest_done(&s->guests[i]);
    many_stop(&s->m);
}

static void show_side(struct side *s, const char *what, unsigned depth)
{
    printf("load        %u disks in %-19s depth %2u: %8.0f requests per CPU second, "
           "%8.0f per second, p99 %8.1f us\n",
           LOADED, what, depth, measured_median(s->per_cpu_second, ROUNDS),
           measured_median(s->per_second, ROUNDS), measured_median(s->p99_us, ROUNDS));
}

static void measure_load(const char *program)
{
    static const unsigned depths[] = {1, 8, 32};
    static struct side one, many;

    side_begin(&one, program, WORKERS, guests);
    side_begin(&many, program, 0, guests + LOADED);
    for (unsigned i = 0; i < sizeof(depths) / sizeof(depths[0]); i++) {
        for (unsigned round = 0; round < ROUNDS; round++) {
            side_load(&one, depths[i], round);
            side_load(&many, depths[i], round);
        }
        show_side(&one, "one process,", depths[i]);
        show_side(&many, "100 processes,", depths[i]);
        printf("load        depth %u: %.2f times the requests per CPU second\n", depths[i],
               measured_median(one.per_cpu_second, ROUNDS) /
                   measured_median(many.per_cpu_second, ROUNDS));
        fflush(stdout);
    }
    side_end(&one);
    side_end(&many);
}

int main(int argc, char **argv)
{
    unsigned n = argc > 2 ? (unsigned)atoi(argv[2]) : 1000;

    if (argc < 2 || n < 2 || n > MANY_MAX) {
        fprintf(stderr, "usage: %s GODWIT_BLK [DISKS]\n", argv[0]);
        return 64;
    }
    measure_idle(argv[1], n, true);
    measure_handshakes(argv[1], n);
    measure_load(argv[1]);
    return 0;
}
