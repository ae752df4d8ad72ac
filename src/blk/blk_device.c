/* SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause */
/*
 * The virtio-blk device callbacks for libgodwit: features, config space, start and stop of queues,
 * and resize.
 */
#include "blk_i.h"

#include "base/checked.h"

#include <endian.h>
#include <errno.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>

/*
 * Limits of one request that the driver reads in config space. The front-end may make rings
 * smaller than queue_size_max after the driver has read it, so the limit is derived from 128:
 * QEMU's default ring size, to which its own virtio-blk also adjusts. Two of the 128 descriptors
 * are the header and the status.
 */
#define BLK_SEG_MAX  126U
#define BLK_SIZE_MAX (1U << 20)

/* The sizes of public structures in the first version (gw_copy_struct). */
#define BLK_FIRST_CONFIG    88
#define BLK_FIRST_STORE_OPS 64

enum {
    BLOCK_SIZE_MAX = 65536,
    QUEUE_SIZE_DEFAULT = 1024, /* that of a daemon */
    IO_SIZE_MAX = 512 << 10,   /* the limit of a daemon's request_size is 1 MiB */
};

#define BIT(n) (UINT64_C(1) << (n))

static uint64_t blk_features(void *dev)
{
    const struct gw_blk *blk = dev;
    uint64_t features = BIT(VIRTIO_BLK_F_SIZE_MAX) | BIT(VIRTIO_BLK_F_SEG_MAX) |
                        BIT(VIRTIO_BLK_F_BLK_SIZE) | BIT(VIRTIO_BLK_F_TOPOLOGY) |
                        BIT(VIRTIO_BLK_F_FLUSH) | BIT(VIRTIO_BLK_F_CONFIG_WCE) |
                        BIT(VIRTIO_BLK_F_MQ);

    if (blk->config.access_platform)
        features |= BIT(VIRTIO_F_ACCESS_PLATFORM);
    if (blk->config.is_read_only)
        features |= BIT(VIRTIO_BLK_F_RO);
    else if (!blk->config.no_write_zeroes)
        features |= BIT(VIRTIO_BLK_F_WRITE_ZEROES);
    if (blk->config.can_discard)
        features |= BIT(VIRTIO_BLK_F_DISCARD);
    return features;
}

/* Without FLUSH the driver cannot empty a volatile cache, so writes must go through. */
static void update_write_through(struct gw_blk *blk)
{
    atomic_store_explicit(&blk->is_write_through, !blk->has_flush || !blk->is_write_back,
                          memory_order_relaxed);
}

static uint32_t seg_max_of(const struct gw_blk *blk)
{
    uint32_t seg_max = blk->config.queue_size_max > 2 ? blk->config.queue_size_max - 2 : 1;

    return seg_max < BLK_SEG_MAX ? seg_max : BLK_SEG_MAX;
}

/* True: the driver may have turned the cache off in an earlier session and may rely on that. */
static bool may_be_off(const struct gw_blk *blk)
{
    return atomic_load_explicit(&blk->is_taken_over, memory_order_relaxed) &&
           !atomic_load_explicit(&blk->is_cache_set, memory_order_acquire) &&
           atomic_load_explicit(&blk->can_set_cache, memory_order_relaxed);
}

bool gw_blk_has_cache(const struct gw_blk *blk)
{
    return blk->is_write_back && !may_be_off(blk);
}

void gw_blk_set_cache(struct gw_blk *blk, bool is_write_back)
{
    blk->is_write_back = is_write_back;
    update_write_through(blk);
    /* Last: until then no worker may use the write cache of a device that was taken over. */
    blk->is_cache_set = true;
}

static void blk_features_acked(void *dev, uint64_t features)
{
    struct gw_blk *blk = dev;
    bool has_size_max = features & BIT(VIRTIO_BLK_F_SIZE_MAX);
    bool has_seg_max = features & BIT(VIRTIO_BLK_F_SEG_MAX);

    atomic_store_explicit(&blk->size_max, has_size_max ? BLK_SIZE_MAX : UINT32_MAX,
                          memory_order_relaxed);
    atomic_store_explicit(&blk->seg_max, has_seg_max ? seg_max_of(blk) : UINT32_MAX,
                          memory_order_relaxed);
    atomic_store_explicit(&blk->can_set_cache, (features & BIT(VIRTIO_BLK_F_CONFIG_WCE)) != 0,
                          memory_order_relaxed);
    blk->has_flush = (features & BIT(VIRTIO_BLK_F_FLUSH)) != 0;
    update_write_through(blk);
}

static void fill_topology(const struct gw_blk_config *t, struct virtio_blk_config *cfg)
{
    uint32_t block = t->block_size;
    uint32_t min = t->io_min / block;

    while (cfg->physical_block_exp < 16 &&
           (uint64_t)block << (cfg->physical_block_exp + 1) <= t->physical_block)
        cfg->physical_block_exp++;
    cfg->alignment_offset = (uint8_t)(t->alignment_offset / block);
    cfg->min_io_size = htole16(min > UINT16_MAX ? 0 : (uint16_t)min);
    cfg->opt_io_size = htole32(t->io_opt / block);
}

static void fill_config(const struct gw_blk *blk, struct virtio_blk_config *cfg)
{
    const struct gw_blk_config *c = &blk->config;

    memset(cfg, 0, sizeof(*cfg));
    cfg->capacity = htole64(atomic_load(&blk->capacity) / BLK_SECTOR);
    cfg->size_max = htole32(BLK_SIZE_MAX);
    cfg->seg_max = htole32(seg_max_of(blk));
    cfg->blk_size = htole32(c->block_size);
    fill_topology(c, cfg);
    /* virtio 1.3, 5.2.5.2: a driver with CONFIG_WCE but without FLUSH reads 0. VMMs read config
     * space before features are negotiated. */
    cfg->wce = gw_blk_has_cache(blk) && (blk->has_flush || !blk->can_set_cache);
    cfg->num_queues = htole16((uint16_t)c->num_queues);
    if (c->can_discard) {
        cfg->max_discard_sectors = htole32(BLK_RANGE_SECTORS_MAX);
        cfg->max_discard_seg = htole32(BLK_SEGMENTS_MAX);
        cfg->discard_sector_alignment = htole32(
            (c->discard_align > c->block_size ? c->discard_align : c->block_size) / BLK_SECTOR);
    }
    if (c->is_read_only || c->no_write_zeroes)
        return;
    cfg->max_write_zeroes_sectors = htole32(BLK_RANGE_SECTORS_MAX);
    cfg->max_write_zeroes_seg = htole32(BLK_SEGMENTS_MAX);
    cfg->write_zeroes_may_unmap = c->can_discard;
}

static int blk_get_config(void *dev, uint32_t off, void *buf, uint32_t len)
{
    struct virtio_blk_config cfg;

    fill_config(dev, &cfg);
    return gw_config_read(&cfg, sizeof(cfg), off, buf, len);
}

/*
 * Only the writeback byte is writable. A front-end that restores a device may write the whole
 * config space back; changes to other fields are ignored then.
 */
static int blk_set_config(void *dev, uint32_t off, const void *buf, uint32_t len, bool migration)
{
    const uint32_t wce = offsetof(struct virtio_blk_config, wce);
    struct virtio_blk_config cfg = {0};
    struct gw_blk *blk = dev;
    int r;

    if (!migration && (off != wce || len != 1))
        return -EINVAL;
    if (off > wce || len <= wce - off)
        return 0;
    r = gw_config_write(&cfg, sizeof(cfg), off, buf, len);
    if (r < 0)
        return r;
    if (cfg.wce > 1)
        return -EINVAL;
    gw_blk_set_cache(blk, cfg.wce == 1);
    return 0;
}

static int blk_device_queue_start(void *dev, struct gw_queue *q)
{
    struct gw_blk *blk = dev;

    if (gw_queue_is_taken_over(q) && !atomic_exchange(&blk->is_taken_over, true) && may_be_off(blk))
        gw_blk_log(&blk->config, GW_LOG_INFO,
                   "the driver may have turned the write cache off in an earlier session: it is "
                   "off until the driver sets it");
    return gw_blk_queue_start(&blk->queues[gw_queue_index(q)], q);
}

static int blk_queue_ready(void *dev, struct gw_queue *q)
{
    struct gw_blk *blk = dev;
    struct blk_queue *queue = &blk->queues[gw_queue_index(q)];
    struct gw_request *reqs[BLK_BATCH];
    struct blk_limits limits = {
        .size = atomic_load_explicit(&blk->capacity, memory_order_relaxed),
        .block_size = blk->config.block_size,
        .is_read_only = blk->config.is_read_only,
        .can_unmap = blk->config.can_discard,
        .can_zero = !blk->config.no_write_zeroes,
        .is_write_through =
            may_be_off(blk) || atomic_load_explicit(&blk->is_write_through, memory_order_relaxed),
        .size_max = atomic_load_explicit(&blk->size_max, memory_order_relaxed),
        .seg_max = atomic_load_explicit(&blk->seg_max, memory_order_relaxed),
        .length_max = (uint64_t)BLK_SEG_MAX * BLK_SIZE_MAX,
        .serial = blk->serial,
    };
    unsigned n = gw_queue_pop(q, reqs, BLK_BATCH);

    gw_blk_requests_run(reqs, n, queue, &limits);
    return 0;
}

static void blk_device_queue_stop(void *dev, struct gw_queue *q)
{
    struct gw_blk *blk = dev;

    gw_blk_queue_stop(&blk->queues[gw_queue_index(q)], gw_queue_may_suspend(q));
}

static void blk_reset(void *dev)
{
    struct gw_blk *blk = dev;

    blk->has_flush = false;
    atomic_store_explicit(&blk->size_max, UINT32_MAX, memory_order_relaxed);
    atomic_store_explicit(&blk->seg_max, UINT32_MAX, memory_order_relaxed);
    blk->can_set_cache = false;
    blk->is_taken_over = false;
    blk->is_cache_set = false;
    blk->is_write_back = true;
    update_write_through(blk);
}

const struct gw_device_ops *gw_blk_ops(void)
{
    static const struct gw_device_ops ops = {
        .size = sizeof(struct gw_device_ops),
        .features = blk_features,
        .features_acked = blk_features_acked,
        .get_config = blk_get_config,
        .set_config = blk_set_config,
        .queue_start = blk_device_queue_start,
        .queue_ready = blk_queue_ready,
        .queue_stop = blk_device_queue_stop,
        .reset = blk_reset,
        .state_begin = gw_blk_state_begin,
        .state_save = gw_blk_state_save,
        .state_load = gw_blk_state_load,
        .state_end = gw_blk_state_end,
    };
    return &ops;
}

/* ---- making and freeing ---- */

/* Returns: 0; -EINVAL with a message. */
static int check_config(const struct gw_blk_config *cfg, const struct gw_blk_store_ops *ops)
{
    const char *problem = NULL;

    if (cfg->block_size < BLK_SECTOR || cfg->block_size > BLOCK_SIZE_MAX ||
        !gw_is_power_of_two(cfg->block_size))
        problem = "the logical block is not a power of two from 512 to 65536";
    else if (cfg->capacity % cfg->block_size != 0)
        problem = "the capacity is not a multiple of the logical block";
    else if (cfg->num_queues > GW_QUEUES_MAX)
        problem = "too many queues";
    else if (!gw_is_power_of_two(cfg->queue_size_max) || cfg->queue_size_max > GW_QUEUE_SIZE_MAX)
        problem = "the queue size is not a power of two up to 32768";
    else if (ops->submit == NULL)
        problem = "the store has no submit function";
    else if (ops->io_size < sizeof(struct gw_blk_io) || ops->io_size > IO_SIZE_MAX)
        problem = "io_size is less than struct gw_blk_io, or more than 512 KiB";
    if (problem == NULL)
        return 0;
    gw_blk_log(cfg, GW_LOG_ERROR, "cannot make a disk: %s", problem);
    return -EINVAL;
}

/* Copy the structures of the caller and set the defaults. Returns: as gw_blk_new. */
static int copy_config(struct gw_blk_config *ret_cfg, struct gw_blk_store_ops *ret_ops,
                       const struct gw_blk_config *cfg, const struct gw_blk_store_ops *ops)
{
    int r = gw_copy_struct(ret_cfg, sizeof(*ret_cfg), cfg, BLK_FIRST_CONFIG);

    if (r == 0)
        r = gw_copy_struct(ret_ops, sizeof(*ret_ops), ops, BLK_FIRST_STORE_OPS);
    if (r < 0)
        return r;
    if (ret_cfg->block_size == 0)
        ret_cfg->block_size = BLK_SECTOR;
    if (ret_cfg->num_queues == 0)
        ret_cfg->num_queues = 1;
    if (ret_cfg->queue_size_max == 0)
        ret_cfg->queue_size_max = QUEUE_SIZE_DEFAULT;
    if (ret_ops->io_size == 0)
        ret_ops->io_size = sizeof(struct gw_blk_io);
    return check_config(ret_cfg, ret_ops);
}

static int make_queues(struct gw_blk *blk)
{
    size_t size = blk->config.num_queues * sizeof(*blk->queues);

    blk->queues = aligned_alloc(_Alignof(struct blk_queue), size);
    if (blk->queues == NULL)
        return -ENOMEM;
    memset(blk->queues, 0, size);
    for (unsigned i = 0; i < blk->config.num_queues; i++)
        blk->queues[i].blk = blk;
    return 0;
}

int gw_blk_new(struct gw_blk **ret, const struct gw_blk_config *cfg,
               const struct gw_blk_store_ops *ops, void *store)
{
    struct gw_blk *blk = calloc(1, sizeof(*blk));
    int r = blk == NULL ? -ENOMEM : copy_config(&blk->config, &blk->store_ops, cfg, ops);

    if (r == 0)
        r = make_queues(blk);
    if (r < 0) {
        free(blk);
        return r;
    }
    blk->store = store;
    blk->capacity = blk->config.capacity;
    if (blk->config.serial != NULL)
        memcpy(blk->serial, blk->config.serial, strnlen(blk->config.serial, sizeof(blk->serial)));
    blk->config.serial = NULL;
    blk_reset(blk);
    *ret = blk;
    return 0;
}

void gw_blk_free(struct gw_blk *b)
{
    if (b == NULL)
        return;
    free(b->queues);
    free(b);
}

void gw_blk_configure(const struct gw_blk *b, struct gw_daemon_config *cfg)
{
    cfg->num_queues = b->config.num_queues;
    cfg->queue_size_max = b->config.queue_size_max;
    cfg->request_size = offsetof(struct blk_request, io) + b->store_ops.io_size;
    cfg->request_bytes_max = UINT32_MAX; /* longer requests fail with a status */
}

int gw_blk_resize(struct gw_blk *b, struct gw_daemon *d, uint64_t capacity)
{
    uint64_t before;

    if (capacity % b->config.block_size != 0)
        return -EINVAL;
    before = atomic_exchange(&b->capacity, capacity);
    if (capacity == before)
        return 0;
    gw_blk_log(&b->config, GW_LOG_INFO, "disk resized to %llu bytes (was %llu)",
               (unsigned long long)capacity, (unsigned long long)before);
    gw_daemon_config_changed(d);
    return 0;
}

bool gw_blk_is_pending(const struct gw_blk *b)
{
    for (unsigned i = 0; i < b->config.num_queues; i++)
        if (atomic_load(&b->queues[i].is_pending))
            return true;
    return false;
}

int gw_blk_stop_error(const struct gw_blk *b)
{
    for (unsigned i = 0; i < b->config.num_queues; i++)
        if (b->queues[i].stop_error < 0)
            return b->queues[i].stop_error;
    return 0;
}
