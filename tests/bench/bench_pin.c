/* SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause */
/*
 * Cost of translating a guest address to a host address, with one extent per pin: for growing maps,
 * and for accesses that stay in one region or jump between all regions. For comparison, the first
 * line is an array lookup with a bounds check.
 */
#include "base/clock.h"
#include "core/memory/mem.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

enum {
    ROUNDS = 4000000,
    REPEATS = 5,
    REGION = 64 << 10,
    ADDRESSES = 4096
};

static struct gw_map *make_map(unsigned n_regions)
{
    struct gw_region *regions[GW_MEM_SLOTS_MAX];
    struct gw_map *map = NULL;
    int fd = memfd_create("bench", MFD_CLOEXEC);

    if (fd < 0 || ftruncate(fd, (off_t)n_regions * REGION) < 0)
        abort();
    for (unsigned i = 0; i < n_regions; i++) {
        struct gw_region_desc desc = {
            /* Leave a hole after every region. */
            .gpa = (gw_gpa_t)i * REGION * 2,
            .size = REGION,
            .uva = (gw_uva_t)i * REGION,
            .mmap_offset = (gw_off_t)i * REGION,
        };
        if (gw_region_new(&regions[i], &desc, dup(fd)) < 0)
            abort();
    }
    close(fd);
    if (gw_map_new(&map, regions, n_regions) < 0)
        abort();
    for (unsigned i = 0; i < n_regions; i++)
        gw_region_put(regions[i]);
    return map;
}

/* Sequential: neighbours share a region. Random: each access is in a different one. */
static void make_extents(struct gw_extent *extents, unsigned n_regions, int is_random)
{
    unsigned seed = 1;

    for (unsigned i = 0; i < ADDRESSES; i++) {
        unsigned region = is_random ? (unsigned)rand_r(&seed) % n_regions
                                    : (unsigned)((uint64_t)i * n_regions / ADDRESSES);
        extents[i].gpa = (gw_gpa_t)region * REGION * 2 + (unsigned)rand_r(&seed) % (REGION - 4096);
        extents[i].len = 4096;
    }
}

static double pin_ns(const struct gw_map *map, const struct gw_extent *extents)
{
    double best = 1e9;

    for (int repeat = 0; repeat < REPEATS; repeat++) {
        uint64_t begin = gw_clock_ns();
        unsigned last = 0;

        for (unsigned i = 0; i < ROUNDS; i++) {
            struct gw_pin pin;
            struct iovec iov;

            if (gw_mem_pin(map, &last, &extents[i % ADDRESSES], 1, &iov, 1, &pin) != 1)
                abort();
            gw_mem_unpin(&pin);
            __asm__ volatile("" : : "r"(iov.iov_base) : "memory");
        }
        double ns = (double)(gw_clock_ns() - begin) / ROUNDS;
        best = ns < best ? ns : best;
    }
    return best;
}

static double bare_ns(const struct gw_extent *extents)
{
    double best = 1e9;
    char *base = (char *)(uintptr_t)4096;

    for (int repeat = 0; repeat < REPEATS; repeat++) {
        uint64_t begin = gw_clock_ns();

        for (unsigned i = 0; i < ROUNDS; i++) {
            const struct gw_extent *e = &extents[i % ADDRESSES];
            char *p = e->gpa + e->len <= REGION ? base + e->gpa : NULL;
            __asm__ volatile("" : : "r"(p) : "memory");
        }
        double ns = (double)(gw_clock_ns() - begin) / ROUNDS;
        best = ns < best ? ns : best;
    }
    return best;
}

int main(void)
{
    static const unsigned sizes[] = {1, 8, 64, GW_MEM_SLOTS_MAX};
    static struct gw_extent extents[ADDRESSES];
    double bare;

    make_extents(extents, 1, 0);
    bare = bare_ns(extents);
    printf("%8s %12s %12s   (bare lookup: %.2f ns)\n", "regions", "sequential", "random", bare);
    for (unsigned i = 0; i < sizeof(sizes) / sizeof(sizes[0]); i++) {
        struct gw_map *map = make_map(sizes[i]);
        double sequential, random;

        make_extents(extents, sizes[i], 0);
        sequential = pin_ns(map, extents);
        make_extents(extents, sizes[i], 1);
        random = pin_ns(map, extents);
        printf("%8u %9.2f ns %9.2f ns\n", sizes[i], sequential, random);
        gw_map_free(map);
    }
    return 0;
}
