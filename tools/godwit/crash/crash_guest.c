/* SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause */
/* The guest: memory, rings, load and expected disk contents. No back-end is started here. */
#include "crash_i.h"

#include "base/proto.h"

#include <errno.h>
#include <linux/virtio_blk.h>
#include <stdlib.h>
#include <string.h>

#define SECTOR       512
#define PAGE         4096
#define DISK_DEFAULT (16u << 20)
#define MEM_MIN      (4u << 20)
#define INDIRECT_MAX 18
#define LOOK_BLOCKS  32 /* blocks read after a restart */
#define COLLECT_MS   1  /* time limit to take the completions that a killed back-end left */
#define UNSERVED_MS  1
#define BIT(n)       (UINT64_C(1) << (n))

/* Choose the shape of requests by the seed: direct or indirect, and the number of segments. */
static void choose_shape(struct crash *c, struct gw_guest_load_config *cfg)
{
    cfg->segments = 1u << crash_random(c, 3);
    cfg->indirect = c->features & BIT(GW_F_RING_INDIRECT_DESC) && crash_random(c, 2);
    while (cfg->segments > 1 &&
           (c->o.block_size % (cfg->segments * SECTOR) ||
            (!cfg->indirect && (cfg->segments + 2) * c->o.depth > c->o.queue_size)))
        cfg->segments /= 2;
    cfg->segments = disk_segments(&c->config, c->o.block_size, cfg->segments);
    cfg->indirect |= c->features & BIT(GW_F_RING_INDIRECT_DESC) &&
                     (cfg->segments + 2) * c->o.depth > c->o.queue_size;
}

static int make_disk(struct crash *c)
{
    struct gw_guest_disk_config cfg = {
        .size = sizeof(cfg), .block_size = c->o.block_size, .seed = c->o.seed};
    uint64_t most = c->config.sectors * SECTOR,
             want = c->o.disk_bytes ? c->o.disk_bytes : DISK_DEFAULT;

    cfg.length = (want < most ? want : most) / cfg.block_size * cfg.block_size;
    c->n_blocks = cfg.length / cfg.block_size;
    if (c->n_blocks <= (uint64_t)c->o.depth * c->n_drivers)
        return crash_cannot(
            c, -ERANGE, "the disk of %llu sectors is too small for %u requests of %u bytes",
            (unsigned long long)c->config.sectors, c->o.depth * c->n_drivers, c->o.block_size);
    return gw_guest_disk_new(&c->disk, &cfg);
}

static int make_ring(struct crash *c, unsigned index)
{
    struct gw_driver_config cfg = {
        .size = sizeof(cfg),
        .mem = c->mem,
        .index = index,
        .queue_size = c->o.queue_size,
        .indirect_max = INDIRECT_MAX,
        .place = true,
        .packed = c->o.is_packed,
    };
    uint64_t size = cfg.queue_size;
    int r = gw_guest_mem_alloc(c->mem, 16 * size, 64, &cfg.desc);

    if (r == 0)
        r = gw_guest_mem_alloc(c->mem, cfg.packed ? 4 : 6 + 2 * size, 64, &cfg.avail);
    if (r == 0)
        r = gw_guest_mem_alloc(c->mem, cfg.packed ? 4 : 6 + 8 * size, 64, &cfg.used);
    if (r == 0)
        r = gw_driver_new(&c->drivers[index], &cfg);
    if (r == 0) {
        c->rings[index] = gw_guest_mem_at(c->mem, cfg.packed ? cfg.desc : cfg.used + 2, 2);
        gw_driver_set_features(c->drivers[index], c->features);
        /* A random start index exposes back-ends that assume zero. */
        gw_driver_reset(c->drivers[index], (uint16_t)crash_random(c, UINT16_MAX + 1u));
        c->is_stopped[index] = true;
    }
    return r;
}

static int make_memory(struct crash *c)
{
    uint64_t requests = (uint64_t)c->n_drivers * c->o.depth;
    uint64_t rings = (uint64_t)c->n_drivers * c->o.queue_size;
    struct gw_guest_region region = {.kind = GW_GUEST_MEMFD, .gpa = PAGE, .length = MEM_MIN};
    int r = gw_guest_mem_new(&c->mem, GW_GUEST_UVA_HOST);

    region.length += requests * (c->o.block_size + 2 * PAGE) + rings * 32 * INDIRECT_MAX;
    region.length = (region.length + PAGE - 1) / PAGE * PAGE;
    return r < 0 ? r : gw_guest_mem_add(c->mem, &region);
}

static int make_all(struct crash *c)
{
    struct gw_guest_load_config cfg = {
        .size = sizeof(cfg),
        .depth = c->o.depth,
        .write_percent = c->o.write_percent,
        .flush_percent = c->features & BIT(VIRTIO_BLK_F_FLUSH) ? c->o.flush_percent : 0,
        .seed = c->o.seed,
    };
    int r;

    c->drivers = calloc(c->o.n_queues, sizeof(struct gw_driver *));
    c->rings = calloc(c->o.n_queues, sizeof(const uint16_t *));
    c->is_stopped = calloc(c->o.n_queues, sizeof(bool));
    if (!c->drivers || !c->rings || !c->is_stopped)
        return -ENOMEM;
    c->n_drivers = c->o.n_queues;
    r = make_disk(c);
    if (r == 0)
        r = make_memory(c);
    for (unsigned i = 0; r == 0 && i < c->n_drivers; i++)
        r = make_ring(c, i);
    if (r < 0)
        return r;
    choose_shape(c, &cfg);
    cfg.disk = c->disk;
    cfg.drivers = c->drivers;
    cfg.n_drivers = c->n_drivers;
    return gw_guest_load_new(&c->load, &cfg);
}

int crash_make_guest(struct crash *c)
{
    int r = make_all(c);

    return r < 0 ? crash_cannot(c, r, "cannot create the guest: %s", strerror(-r)) : 0;
}

void crash_free_guest(struct crash *c)
{
    gw_guest_load_free(c->load);
    gw_guest_disk_free(c->disk);
    for (unsigned i = 0; i < c->n_drivers; i++)
        gw_driver_free(c->drivers[i]);
    free(c->drivers);
    free(c->rings);
    free(c->is_stopped);
    gw_guest_mem_free(c->mem);
    gw_frontend_inflight_done(&c->inflight);
}

/* ---- The load ---- */

int crash_load_fault(struct crash *c, int r)
{
    const char *why = gw_guest_load_error(c->load);

    switch (r) {
    case -EILSEQ:
        return crash_blame(c, CRASH_CHECK_WRITES, r, "%s", why);
    case -EPROTO:
    case -EIO:
        return crash_blame(c, CRASH_CHECK_ONCE, r, "%s", why);
    case -ETIMEDOUT:
        return crash_blame(c, CRASH_CHECK_ALL, r, "%s", why);
    default:
        return r < 0 ? crash_cannot(c, r, "load: %s", why) : 0;
    }
}

int crash_collect(struct crash *c)
{
    int r = gw_guest_load_drain(c->load, COLLECT_MS);

    return r == -ETIMEDOUT ? 0 : crash_load_fault(c, r);
}

int crash_submit_unserved(struct crash *c)
{
    return crash_load_fault(c, gw_guest_load_run(c->load, UNSERVED_MS, 0, 0));
}

/* ---- The disk, read through the device, because a store may use any format ---- */

int crash_look_at_disk(struct crash *c)
{
    uint64_t n = c->n_blocks < LOOK_BLOCKS ? c->n_blocks : LOOK_BLOCKS;
    int r =
        gw_guest_load_read_back(c->load, crash_random(c, c->n_blocks - n + 1), n, c->o.request_ms);

    if (r == 0)
        c->ret->looked_at += n;
    return r;
}

int crash_read_back(struct crash *c)
{
    int r;

    /* A late interruption of the previous run may end this one; repeat it. */
    do
        r = gw_guest_load_read_back(c->load, 0, 0, c->o.request_ms);
    while (r == -EINTR);
    if (r == 0)
        c->ret->disk_blocks = c->n_blocks;
    return crash_load_fault(c, r);
}
