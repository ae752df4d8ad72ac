/* SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause */
/*
 * The load of a disk during a migration: the verified load of the front-end library with a shape
 * that follows from the seed. Reads the disk back at the end.
 */
#include "migrate_blk.h"

#include "migrate/migrate_work.h"

#include "base/proto.h"

#include <errno.h>
#include <linux/virtio_blk.h>
#include <stdlib.h>
#include <string.h>

#define SECTOR       512
#define DISK_DEFAULT (64u << 20)
#define HOLD_PERCENT 20

struct blk {
    struct migration_unit *unit;
    struct gw_guest_disk *disk;
    struct gw_guest_load *load;
    uint64_t n_blocks;
    struct migration_blk_shape shape;
};

const struct migration_blk_shape *migration_blk_shape(const void *w)
{
    return &((const struct blk *)w)->shape;
}

struct gw_guest_load *migration_blk_load(const void *w)
{
    return ((const struct blk *)w)->load;
}

static void blk_free(void *w)
{
    struct blk *b = w;

    gw_guest_load_free(b->load);
    gw_guest_disk_free(b->disk);
    free(b);
}

uint64_t migration_blk_blocks(const struct migration *m, uint64_t capacity)
{
    uint64_t most = capacity < UINT64_MAX / SECTOR ? capacity * SECTOR : UINT64_MAX;
    uint64_t want = m->o.disk_bytes, n;

    if (!want)
        want = most < DISK_DEFAULT ? most : DISK_DEFAULT;
    n = (want < most ? want : most) / m->o.block_size;
    return n > (uint64_t)m->o.depth * m->o.n_queues ? n : 0;
}

static int new_disk(struct migration_unit *u, struct blk *b)
{
    struct migration *m = u->m;
    struct gw_guest_disk_config cfg = {
        .size = sizeof(cfg), .block_size = m->o.block_size, .seed = m->o.seed};

    b->n_blocks = migration_blk_blocks(m, u->disk.sectors);
    cfg.length = b->n_blocks * cfg.block_size;
    if (b->n_blocks == 0)
        return migration_cannot(m, MIGRATION_SIDE_SOURCE, -ERANGE,
                                "its disk of %llu sectors is too small for %u requests of %u bytes",
                                (unsigned long long)u->disk.sectors, m->o.depth * m->n_drivers,
                                m->o.block_size);
    b->shape.disk = cfg;
    return gw_guest_disk_new(&b->disk, &cfg);
}

/* Buffers per block, and whether they are in an indirect table. */
static void choose_shape(struct migration_unit *u, struct gw_guest_load_config *cfg)
{
    static const unsigned segments[] = {1, 1, 2, 4, 8};
    struct migration *m = u->m;

    cfg->indirect = u->wanted >> GW_F_RING_INDIRECT_DESC & 1 && migration_random(m, 2);
    cfg->segments = segments[migration_random(m, 5)];
    for (unsigned i = 0; i < u->n_drivers; i++) {
        unsigned room = gw_driver_size(u->drivers[i]);

        while (cfg->segments > 1 && (m->o.block_size % (cfg->segments * SECTOR) ||
                                     (!cfg->indirect && (cfg->segments + 2) * m->o.depth > room)))
            cfg->segments /= 2;
    }
    cfg->segments = disk_segments(&u->disk, m->o.block_size, cfg->segments);
    for (unsigned i = 0; i < u->n_drivers; i++)
        cfg->indirect |= u->wanted >> GW_F_RING_INDIRECT_DESC & 1 &&
                         (cfg->segments + 2) * m->o.depth > gw_driver_size(u->drivers[i]);
}

static int blk_new(struct migration_unit *u, void **ret)
{
    struct migration *m = u->m;
    struct gw_guest_load_config cfg = {
        .size = sizeof(cfg),
        .drivers = u->drivers,
        .n_drivers = u->n_drivers,
        .depth = m->o.depth,
        .write_percent = m->o.write_percent,
        .flush_percent = u->wanted >> VIRTIO_BLK_F_FLUSH & 1 ? m->o.flush_percent : 0,
        .seed = m->o.seed + u->number,
        .hold_percent = HOLD_PERCENT,
        .scatter = true,
        .sleep = m->o.call_fd_ms || migration_random(m, 2),
    };
    struct blk *b = calloc(1, sizeof(*b));
    int r;

    if (!b)
        return -ENOMEM;
    *ret = b;
    b->unit = u;
    choose_shape(u, &cfg);
    if (m->o.read_only || u->wanted >> VIRTIO_BLK_F_RO & 1)
        cfg.write_percent = cfg.flush_percent = 0;
    r = new_disk(u, b);
    cfg.disk = b->disk;
    b->shape.load = cfg;
    return r ? r : gw_guest_load_new(&b->load, &cfg);
}

static int blk_run(void *w, unsigned stall_ms)
{
    return gw_guest_load_run(((struct blk *)w)->load, 0, 0, stall_ms);
}

static void blk_interrupt(void *w)
{
    gw_guest_load_interrupt(((struct blk *)w)->load);
}

static int blk_drain(void *w, unsigned stall_ms)
{
    return gw_guest_load_drain(((struct blk *)w)->load, stall_ms);
}

static const char *blk_error(void *w)
{
    return gw_guest_load_error(((struct blk *)w)->load);
}

static int blk_set_mem(void *w, struct gw_guest_mem *mem)
{
    return gw_guest_load_set_mem(((struct blk *)w)->load, mem);
}

static int blk_add(void *w, gw_gpa_t gpa, uint64_t len)
{
    return gw_guest_load_hold_add(((struct blk *)w)->load, gpa, len);
}

static int blk_retire(void *w, gw_gpa_t gpa)
{
    return gw_guest_load_hold_retire(((struct blk *)w)->load, gpa);
}

static int blk_remove(void *w, gw_gpa_t gpa)
{
    return gw_guest_load_hold_remove(((struct blk *)w)->load, gpa);
}

static int blk_check_held(void *w)
{
    return gw_guest_load_hold_check(((struct blk *)w)->load);
}

static void blk_sample(void *w, struct gw_guest_load_sample *ret)
{
    gw_guest_load_sample(((struct blk *)w)->load, ret);
}

static bool blk_find(void *w, gw_gpa_t gpa, struct gw_guest_load_place *ret)
{
    return gw_guest_load_find(((struct blk *)w)->load, gpa, ret);
}

static void blk_stats(void *w, struct migration_result *ret)
{
    struct blk *b = w;
    struct gw_guest_load_stats s;

    if (!b->load)
        return;
    gw_guest_load_stats(b->load, &s);
    ret->requests += s.requests;
    ret->reads += s.reads;
    ret->writes += s.writes;
    ret->flushes += s.flushes;
    ret->bytes += s.bytes;
    ret->verified += s.verified;
    ret->held += s.held;
    migration_slowest(ret, s.p50, s.p99, s.max);
}

/* Read through the device: a store may keep the contents in any form. */
static int blk_read_back(void *w, unsigned stall_ms, uint64_t *ret_blocks)
{
    struct blk *b = w;
    int r;

    /* A late interruption of the last run may still be pending. */
    do
        r = gw_guest_load_read_back(b->load, 0, 0, stall_ms);
    while (r == -EINTR);
    if (r == 0)
        *ret_blocks = b->n_blocks;
    return r;
}

static int blk_save(void *w, void **ret, size_t *ret_len)
{
    return gw_guest_load_save(((struct blk *)w)->load, ret, ret_len);
}

static int blk_restore(void *w, const void *state, size_t len)
{
    return gw_guest_load_restore(((struct blk *)w)->load, state, len);
}

const struct migration_work migration_work_blk = {
    .new = blk_new,
    .free = blk_free,
    .run = blk_run,
    .interrupt = blk_interrupt,
    .drain = blk_drain,
    .error = blk_error,
    .set_mem = blk_set_mem,
    .add = blk_add,
    .retire = blk_retire,
    .remove = blk_remove,
    .check_held = blk_check_held,
    .sample = blk_sample,
    .find = blk_find,
    .stats = blk_stats,
    .read_back = blk_read_back,
    .save = blk_save,
    .restore = blk_restore,
};
