/* SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause */
/*
 * Cost of walking a descriptor chain: copy, check and pin, per chain and per descriptor, with all
 * data in the cache. Direct and indirect chains, up to chains long enough to borrow a block of
 * segments.
 */
#include "base/clock.h"
#include "core/queue/queue.h"
#include "core/ring/desc.h"

#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <unistd.h>

enum {
    ROUNDS = 300000,
    REPEATS = 5,
    MEMORY = 16 << 20,
    RING = 1024,
    TABLE_AT = 1 << 20
};

static struct gw_map *make_map(void)
{
    struct gw_region_desc desc = {.size = MEMORY};
    int fd = memfd_create("bench", MFD_CLOEXEC);
    struct gw_region *region;
    struct gw_map *map;

    if (fd < 0 || ftruncate(fd, MEMORY) < 0 || gw_region_new(&region, &desc, fd) < 0 ||
        gw_map_new(&map, &region, 1) < 0)
        abort();
    gw_region_put(region);
    return map;
}

/* A header, data and a status byte, as in a disk request. */
static void write_chain(struct vring_desc *table, unsigned n)
{
    for (unsigned i = 0; i < n; i++)
        table[i] = (struct vring_desc){
            .addr = (4 << 20) + i * 8192,
            .len = i == 0       ? 16
                   : i == n - 1 ? 1
                                : 4096,
            .flags =
                (uint16_t)((i > 0 ? VRING_DESC_F_WRITE : 0) | (i < n - 1 ? VRING_DESC_F_NEXT : 0)),
            .next = (uint16_t)(i + 1),
        };
}

static double walk_ns(struct gw_queue *q, struct gw_request_i *r, const struct vring_desc *head)
{
    double best = 1e9;

    for (int repeat = 0; repeat < REPEATS; repeat++) {
        uint64_t begin = gw_clock_ns();

        for (unsigned i = 0; i < ROUNDS; i++) {
            struct gw_head at = {.first = gw_desc_load(head), .n_slots = 1};
            const char *why = gw_chain_walk(q, r, &at);
            if (why) {
                fprintf(stderr, "bench_chain: %s\n", why);
                abort();
            }
            gw_chain_release(q, r);
            __asm__ volatile("" : : : "memory");
        }
        double ns = (double)(gw_clock_ns() - begin) / ROUNDS;
        best = ns < best ? ns : best;
    }
    return best;
}

int main(void)
{
    static const unsigned lengths[] = {2, 3, 16, 18, 128};
    static struct gw_request_i request;
    static struct gw_queue q;
    struct gw_map *map = make_map();
    struct vring_desc *ring = (void *)map->entries[0].region->hva;
    struct vring_desc *table = (void *)(map->entries[0].region->hva + TABLE_AT);

    gw_queue_init(&q);
    q.map = map;
    q.limits.request_bytes = UINT32_MAX;
    q.ring.ops = &gw_ring_split_ops;
    q.ring.split.desc = ring;
    q.ring.size = RING;
    q.ring.indirect = true;
    printf("%12s %14s %14s %14s\n", "descriptors", "direct", "indirect", "per descriptor");
    for (unsigned i = 0; i < sizeof(lengths) / sizeof(lengths[0]); i++) {
        double direct, indirect;
        struct vring_desc head = {
            .addr = TABLE_AT,
            .len = lengths[i] * (uint32_t)sizeof(head),
            .flags = VRING_DESC_F_INDIRECT,
        };

        write_chain(ring, lengths[i]);
        write_chain(table, lengths[i]);
        direct = walk_ns(&q, &request, ring);
        indirect = walk_ns(&q, &request, &head);
        printf("%12u %11.1f ns %11.1f ns %11.2f ns\n", lengths[i], direct, indirect,
               direct / lengths[i]);
    }
    gw_queue_done(&q);
    gw_map_free(map);
    return 0;
}
