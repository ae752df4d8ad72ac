/* SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause */
/*
 * CPU time of access to guest memory by guest address (<godwit/memory.h>), for growing maps, in
 * one region and jumping between all of them. For comparison: memcpy of the same 64 bytes without a
 * lookup.
 */
#include "core/queue/queue.h"

#include <godwit/memory.h>

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <time.h>
#include <unistd.h>

enum {
    ROUNDS = 2000000,
    REPEATS = 7,
    REGION = 64 << 10,
    ADDRESSES = 4096,
    LEN = 64
};

static struct gw_queue queue;
static gw_gpa_t addresses[ADDRESSES];

static uint64_t used_ns(void)
{
    struct timespec ts;

    clock_gettime(CLOCK_THREAD_CPUTIME_ID, &ts);
    return (uint64_t)ts.tv_sec * 1000000000 + (uint64_t)ts.tv_nsec;
}

static int make_file(uint64_t size)
{
    int fd = memfd_create("bench", MFD_CLOEXEC);

    if (fd < 0 || ftruncate(fd, (off_t)size) < 0)
        abort();
    return fd;
}

/* Adjacent regions. */
static struct gw_map *make_map(unsigned n_regions)
{
    struct gw_region *regions[GW_MEM_SLOTS_MAX];
    struct gw_map *map = NULL;
    int fd = make_file((uint64_t)n_regions * REGION);

    for (unsigned i = 0; i < n_regions; i++) {
        const struct gw_region_desc desc = {
            .gpa = (gw_gpa_t)i * REGION,
            .size = REGION,
            .uva = (gw_uva_t)i * REGION,
            .mmap_offset = (gw_off_t)i * REGION,
        };
        if (gw_region_new(&regions[i], &desc, dup(fd)) < 0)
            abort();
        memset(regions[i]->hva, 1, REGION);
    }
    close(fd);
    if (gw_map_new(&map, regions, n_regions) < 0)
        abort();
    for (unsigned i = 0; i < n_regions; i++)
        gw_region_put(regions[i]);
    return map;
}

static void make_addresses(unsigned n_regions, bool is_random)
{
    unsigned seed = 1;

    for (unsigned i = 0; i < ADDRESSES; i++) {
        unsigned region = is_random ? (unsigned)rand_r(&seed) % n_regions : 0;

        addresses[i] = (gw_gpa_t)region * REGION + (unsigned)rand_r(&seed) % (REGION - LEN) / 8 * 8;
    }
}

/* ---- what is measured ---- */

static uint8_t buf[LEN];

static int bare(struct gw_memory *m, gw_gpa_t gpa)
{
    const uint8_t *base = queue.map->entries[0].hva;

    memcpy(buf, base + gpa % (REGION - LEN), LEN);
    __asm__ volatile("" : : : "memory");
    return 0;
}

static int read_64(struct gw_memory *m, gw_gpa_t gpa)
{
    return gw_memory_read(m, gpa, buf, LEN);
}

static int write_64(struct gw_memory *m, gw_gpa_t gpa)
{
    return gw_memory_write(m, gpa, buf, LEN);
}

static int load(struct gw_memory *m, gw_gpa_t gpa)
{
    uint64_t value;

    return gw_memory_load64(m, gpa, &value, __ATOMIC_ACQUIRE);
}

static int store(struct gw_memory *m, gw_gpa_t gpa)
{
    return gw_memory_store64(m, gpa, gpa, __ATOMIC_RELEASE);
}

static int iovec(struct gw_memory *m, gw_gpa_t gpa)
{
    struct iovec iov[1];

    return gw_memory_iovecs(m, gpa, LEN, iov, 1) == 1 ? 0 : -1;
}

static int hold_and_read(struct gw_memory *m, gw_gpa_t gpa)
{
    struct gw_memory own;
    int r = gw_memory_hold(&own, &queue);

    r = r < 0 ? r : gw_memory_read(&own, gpa, buf, LEN);
    gw_memory_release(&own);
    return r;
}

/* Nanoseconds per call, the best of several runs. */
static double measure(int (*call)(struct gw_memory *m, gw_gpa_t gpa))
{
    struct gw_memory m;
    double best = 1e9;

    if (gw_memory_hold(&m, &queue) < 0)
        abort();
    for (unsigned repeat = 0; repeat < REPEATS; repeat++) {
        uint64_t begin = used_ns();
        double ns;

        for (unsigned i = 0; i < ROUNDS; i++)
            if (call(&m, addresses[i % ADDRESSES]) != 0)
                abort();
        ns = (double)(used_ns() - begin) / ROUNDS;
        best = ns < best ? ns : best;
    }
    gw_memory_release(&m);
    return best;
}

static void set_log(bool on)
{
    static struct gw_dirty_log *log;

    if (!log && gw_dirty_log_new(&log, make_file(1 << 16), 0, 1 << 16) < 0)
        abort();
    queue.dirty_log =
        (struct gw_dirty_log_state){.log = on ? log : NULL, .all = on, .event_fd = -1};
}

int main(void)
{
    static const unsigned sizes[] = {1, 8, 64, GW_MEM_SLOTS_MAX};

    gw_queue_init(&queue);
    printf("%8s %7s %8s %8s %8s %8s %8s %8s %10s %8s\n", "regions", "access", "memcpy", "read 64",
           "write 64", "logged", "load", "store", "hold, read", "iovec");
    for (unsigned i = 0; i < 2 * sizeof(sizes) / sizeof(sizes[0]); i++) {
        struct gw_map *map = make_map(sizes[i / 2]);
        double logged;

        queue.map = map;
        queue.map_last = 0;
        make_addresses(sizes[i / 2], i % 2);
        set_log(true);
        logged = measure(write_64);
        set_log(false);
        printf("%8u %7s %5.1f ns %5.1f ns %5.1f ns %5.1f ns %5.1f ns %5.1f ns %7.1f ns %5.1f ns\n",
               sizes[i / 2], i % 2 ? "random" : "one", measure(bare), measure(read_64),
               measure(write_64), logged, measure(load), measure(store), measure(hold_and_read),
               measure(iovec));
        queue.map = NULL;
        gw_map_free(map);
    }
    gw_queue_done(&queue);
    return 0;
}
