/* SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause */
/*
 * Cost of a translated address (VIRTIO_F_ACCESS_PLATFORM): of pinning an extent, and of translating
 * and pinning it. Pages are accessed in random order; the pages in use, and the entries in the
 * table, vary. With more than GW_IOTLB_CACHED pages, some lookups search the table.
 */
#include "base/clock.h"
#include "core/memory/iotlb.h"

#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <unistd.h>

enum {
    ROUNDS = 4000000,
    REPEATS = 9,
    PAGES = 2048,
    ADDRESSES = 4096
};

#define PAGE GW_IOTLB_PAGE

static struct gw_map *make_map(void)
{
    const struct gw_region_desc desc = {.size = PAGES * PAGE};
    struct gw_region *region;
    struct gw_map *map = NULL;
    int fd = memfd_create("bench", MFD_CLOEXEC);

    if (fd < 0 || ftruncate(fd, (off_t)desc.size) < 0 || gw_region_new(&region, &desc, fd) < 0 ||
        gw_map_new(&map, &region, 1) < 0)
        abort();
    gw_region_put(region);
    return map;
}

/* Page i is at I/O page 2 i, so that no entries are merged; large: one entry for all. */
static struct gw_iotlb *make_table(const struct gw_map *map, int is_large)
{
    struct gw_iotlb *t, *next;

    if (gw_iotlb_new(&t) < 0)
        abort();
    for (uint64_t i = 0; i < (is_large ? 1 : PAGES); i++) {
        const struct gw_iova_range range = {.iova = 2 * i * PAGE, .size = PAGE};
        const struct gw_iova_range all = {.iova = 0, .size = PAGES * PAGE};

        if (gw_iotlb_update(&next, t, map, is_large ? all : range, i * PAGE, GW_IOTLB_BOTH) < 0)
            abort();
        gw_iotlb_free(t);
        t = next;
    }
    return t;
}

static double median(double *ns)
{
    for (unsigned i = 1; i < REPEATS; i++)
        for (unsigned j = i; j > 0 && ns[j] < ns[j - 1]; j--) {
            double swap = ns[j];

            ns[j] = ns[j - 1];
            ns[j - 1] = swap;
        }
    return ns[REPEATS / 2];
}

static void run(const struct gw_map *map, const struct gw_iotlb *t, unsigned n_pages, int is_large)
{
    static struct gw_extent gpas[ADDRESSES];
    static struct gw_iova_extent iovas[ADDRESSES];
    struct gw_iotlb_cache cache = {0};
    double plain[REPEATS], translated[REPEATS];
    struct gw_iotlb_miss miss;
    struct gw_extent out[1];
    struct iovec iov[1];
    struct gw_pin pin;
    unsigned seed = 1, last = 0;
    uintptr_t sum = 0;

    for (unsigned i = 0; i < ADDRESSES; i++) {
        uint64_t page = (unsigned)rand_r(&seed) % n_pages;

        gpas[i] = (struct gw_extent){.gpa = page * PAGE + 64, .len = 512};
        iovas[i].iova = (is_large ? page : 2 * page) * PAGE + 64;
        iovas[i].len = 512;
    }
    for (unsigned n = 0; n < REPEATS; n++) {
        uint64_t begin = gw_clock_read_ns(CLOCK_THREAD_CPUTIME_ID);

        for (unsigned i = 0; i < ROUNDS; i++) {
            (void)gw_mem_pin(map, &last, &gpas[i % ADDRESSES], 1, iov, 1, &pin);
            sum += (uintptr_t)iov[0].iov_base;
        }
        plain[n] = (double)(gw_clock_read_ns(CLOCK_THREAD_CPUTIME_ID) - begin) / ROUNDS;
        begin = gw_clock_read_ns(CLOCK_THREAD_CPUTIME_ID);
        for (unsigned i = 0; i < ROUNDS; i++) {
            (void)gw_iotlb_translate(t, &cache, &iovas[i % ADDRESSES], 1, GW_IOTLB_READ, out, 1,
                                     &miss);
            (void)gw_mem_pin(map, &last, out, 1, iov, 1, &pin);
            sum -= (uintptr_t)iov[0].iov_base;
        }
        translated[n] = (double)(gw_clock_read_ns(CLOCK_THREAD_CPUTIME_ID) - begin) / ROUNDS;
    }
    if (sum != 0)
        abort(); /* both went to the same bytes */
    printf("%8u  %8u %10.2f %12.2f %10.2f\n", t->n_entries, n_pages, median(plain),
           median(translated), median(translated) - median(plain));
}

int main(void)
{
    static const unsigned n_pages[] = {1, 8, 32, 256, PAGES};
    struct gw_map *map = make_map();

    printf("%8s  %8s %10s %12s %10s\n", "entries", "pages", "pin, ns", "with, ns", "more, ns");
    for (int is_large = 0; is_large < 2; is_large++) {
        struct gw_iotlb *t = make_table(map, is_large);

        for (unsigned i = 0; i < sizeof(n_pages) / sizeof(n_pages[0]); i++)
            run(map, t, n_pages[i], is_large);
        gw_iotlb_free(t);
    }
    gw_map_free(map);
    return 0;
}
