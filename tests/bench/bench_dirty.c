/* SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause */
/*
 * CPU time of a dirty-log mark, with and without the fence before it: for a clean page, a marked
 * page, longer ranges, and eight threads on one log. For comparison: an atomic OR of one
 * uncontended byte, and a copy of 4 KiB.
 */
#include "base/barrier.h"
#include "base/log_i.h"
#include "log/dirty_log.h"

#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <time.h>
#include <unistd.h>

enum {
    PAGE = 4096,
    N_PAGES = 1 << 20, /* 4 GiB of guest memory, a log of 128 KiB */
    ROUNDS = 400000,
    REPEATS = 5,
    THREADS = 8,
};

static struct gw_dirty_log *dirty;
static uint64_t pages[ROUNDS];

/* CPU time of this thread or of the process: unlike wall time, not affected by other load. */
static uint64_t used_ns(clockid_t clock)
{
    struct timespec ts;

    clock_gettime(clock, &ts);
    return (uint64_t)ts.tv_sec * 1000000000 + (uint64_t)ts.tv_nsec;
}

static void clear(void)
{
    memset(dirty->bitmap, 0, dirty->size);
}

static void make_pages(uint64_t limit)
{
    unsigned seed = 1;

    for (unsigned i = 0; i < ROUNDS; i++)
        pages[i] = (uint64_t)rand_r(&seed) % limit;
}

/* Nanoseconds per mark of `len` bytes, over pages up to `limit`, initially clean or marked. */
static double mark_ns(uint64_t limit, uint64_t len, bool clean, bool fence)
{
    double best = 1e9;

    make_pages(limit);
    for (int repeat = 0; repeat < REPEATS; repeat++) {
        uint64_t begin, ns = 0;

        clear();
        if (!clean)
            gw_dirty_log_mark(dirty, 0, (uint64_t)N_PAGES * PAGE);
        /* In batches without repeated pages, so that no page is marked twice. */
        for (unsigned i = 0; i < ROUNDS; i += 1000) {
            if (clean)
                clear();
            begin = used_ns(CLOCK_THREAD_CPUTIME_ID);
            for (unsigned k = i; k < i + 1000; k++) {
                if (fence)
                    gw_full_fence();
                gw_dirty_log_mark(dirty, pages[k] * PAGE, len);
            }
            ns += used_ns(CLOCK_THREAD_CPUTIME_ID) - begin;
        }
        if ((double)ns / ROUNDS < best)
            best = (double)ns / ROUNDS;
    }
    return best;
}

static double or_ns(void)
{
    uint64_t begin;

    make_pages(N_PAGES);
    begin = used_ns(CLOCK_THREAD_CPUTIME_ID);
    for (unsigned i = 0; i < ROUNDS; i++)
        __atomic_fetch_or(&dirty->bitmap[pages[i] / 8], 1, __ATOMIC_RELAXED);
    return (double)(used_ns(CLOCK_THREAD_CPUTIME_ID) - begin) / ROUNDS;
}

static double copy_ns(void)
{
    static char from[64 * PAGE], to[64 * PAGE];
    uint64_t begin;

    memset(from, 1, sizeof(from)); /* not the shared zero page */
    memset(to, 1, sizeof(to));
    begin = used_ns(CLOCK_THREAD_CPUTIME_ID);

    for (unsigned i = 0; i < ROUNDS; i++) {
        memcpy(to + pages[i] % 64 * PAGE, from + pages[i] % 64 * PAGE, PAGE);
        __asm__ volatile("" : : "r"(to) : "memory");
    }
    return (double)(used_ns(CLOCK_THREAD_CPUTIME_ID) - begin) / ROUNDS;
}

static void *marking(void *arg)
{
    unsigned seed = (unsigned)(uintptr_t)arg;

    for (unsigned i = 0; i < ROUNDS; i++) {
        gw_full_fence();
        gw_dirty_log_mark(dirty, (uint64_t)rand_r(&seed) % N_PAGES * PAGE, PAGE);
    }
    return NULL;
}

/* CPU time of all threads per mark, which shows the cost of contention. */
static double threads_ns(unsigned n)
{
    pthread_t threads[THREADS];
    uint64_t begin;

    clear();
    begin = used_ns(CLOCK_PROCESS_CPUTIME_ID);
    for (uintptr_t i = 0; i < n; i++)
        pthread_create(&threads[i], NULL, marking, (void *)(i + 1));
    for (unsigned i = 0; i < n; i++)
        pthread_join(threads[i], NULL);
    return (double)(used_ns(CLOCK_PROCESS_CPUTIME_ID) - begin) / ROUNDS / n;
}

int main(void)
{
    int fd = memfd_create("bench", MFD_CLOEXEC);

    if (fd < 0 || ftruncate(fd, N_PAGES / 8) < 0 ||
        gw_dirty_log_new(&dirty, fd, 0, N_PAGES / 8) < 0) {
        fprintf(stderr, "bench_dirty: %s\n", gw_last_error());
        return 1;
    }
    printf("%-34s %10s %10s\n", "ns per mark", "alone", "and fence");
    printf("%-34s %10.2f %10.2f\n", "1 page, clean", mark_ns(N_PAGES, PAGE, true, false),
           mark_ns(N_PAGES, PAGE, true, true));
    printf("%-34s %10.2f %10.2f\n", "1 page, marked already", mark_ns(N_PAGES, PAGE, false, false),
           mark_ns(N_PAGES, PAGE, false, true));
    printf("%-34s %10.2f %10.2f\n", "64 KiB, clean", mark_ns(N_PAGES - 16, 16 * PAGE, true, false),
           mark_ns(N_PAGES - 16, 16 * PAGE, true, true));
    printf("%-34s %10.2f %10.2f\n", "64 KiB, marked already",
           mark_ns(N_PAGES - 16, 16 * PAGE, false, false),
           mark_ns(N_PAGES - 16, 16 * PAGE, false, true));
    printf("%-34s %10.2f %10.2f\n", "1 MiB, clean", mark_ns(N_PAGES - 256, 256 * PAGE, true, false),
           mark_ns(N_PAGES - 256, 256 * PAGE, true, true));
    printf("%-34s %10.2f %10.2f\n", "1 MiB, marked already",
           mark_ns(N_PAGES - 256, 256 * PAGE, false, false),
           mark_ns(N_PAGES - 256, 256 * PAGE, false, true));
    printf("%-34s %10s %10.2f\n", "1 thread, random pages", "", threads_ns(1));
    printf("%-34s %10s %10.2f\n", "8 threads on one log, random pages", "", threads_ns(THREADS));
    printf("%-34s %10.2f\n", "bare atomic OR of a byte", or_ns());
    printf("%-34s %10.2f\n", "copy of 4 KiB", copy_ns());
    gw_dirty_log_free(dirty);
    return 0;
}
