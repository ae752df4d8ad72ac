/* SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause */
/*
 * The virtio-blk device callbacks for libgodwit: features, config space, start and stop of queues,
 * and resize.
 */
#include "blk.h"

#include "backend.h"

#include <endian.h>
#include <errno.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>

/*
 * Limits of one request that the driver reads in config space. The front-end may make rings
 * smaller than --queue-size after the driver has read it, so the limit is derived from 128: QEMU's
 * default ring size, to which its own virtio-blk also adjusts. Two of the 128 descriptors are the
 * header and the status.
 */
#define BLK_SEG_MAX  126U
#define BLK_SIZE_MAX (1U << 20)

#define BIT(n) (UINT64_C(1) << (n))

static uint64_t blk_features(void *dev)
{
    const struct blk *blk = dev;
    uint64_t features = BIT(VIRTIO_BLK_F_SIZE_MAX) | BIT(VIRTIO_BLK_F_SEG_MAX) |
                        BIT(VIRTIO_BLK_F_BLK_SIZE) | BIT(VIRTIO_BLK_F_TOPOLOGY) |
                        BIT(VIRTIO_BLK_F_FLUSH) | BIT(VIRTIO_BLK_F_CONFIG_WCE) |
                        BIT(VIRTIO_BLK_F_MQ);

    if (blk->store->is_read_only)
        features |= BIT(VIRTIO_BLK_F_RO);
    else
        features |= BIT(VIRTIO_BLK_F_WRITE_ZEROES);
    if (blk->store->can_unmap)
        features |= BIT(VIRTIO_BLK_F_DISCARD);
    return features;
}

/* Without FLUSH the driver cannot empty a volatile cache, so writes must go through. */
static void update_write_through(struct blk *blk)
{
    atomic_store_explicit(&blk->is_write_through, !blk->has_flush || !blk->is_write_back,
                          memory_order_relaxed);
}

static uint32_t seg_max_of(const struct blk *blk)
{
    uint32_t seg_max = blk->queue_size > 2 ? blk->queue_size - 2 : 1;

    return seg_max < BLK_SEG_MAX ? seg_max : BLK_SEG_MAX;
}

/* True: the driver may have turned the cache off in an earlier session and may rely on that. */
static bool may_be_off(const struct blk *blk)
{
    return atomic_load_explicit(&blk->is_taken_over, memory_order_relaxed) &&
           !atomic_load_explicit(&blk->is_cache_set, memory_order_acquire) &&
           atomic_load_explicit(&blk->can_set_cache, memory_order_relaxed);
}

static void blk_features_acked(void *dev, uint64_t features)
{
    struct blk *blk = dev;
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

static void fill_topology(const struct store *store, struct virtio_blk_config *cfg)
{
    const struct store_topology *t = &store->topology;
    uint32_t block = store->block_size;
    uint32_t min = t->io_min / block;

    while (cfg->physical_block_exp < 16 &&
           (uint64_t)block << (cfg->physical_block_exp + 1) <= t->physical_block)
        cfg->physical_block_exp++;
    cfg->alignment_offset = (uint8_t)(t->alignment_offset / block);
    cfg->min_io_size = htole16(min > UINT16_MAX ? 0 : (uint16_t)min);
    cfg->opt_io_size = htole32(t->io_opt / block);
}

static void fill_config(const struct blk *blk, struct virtio_blk_config *cfg)
{
    const struct store *store = blk->store;
    uint32_t align = store->topology.discard_align;

    memset(cfg, 0, sizeof(*cfg));
    cfg->capacity = htole64(atomic_load(&store->size) / BLK_SECTOR);
    cfg->size_max = htole32(BLK_SIZE_MAX);
    cfg->seg_max = htole32(seg_max_of(blk));
    cfg->blk_size = htole32(store->block_size);
    fill_topology(store, cfg);
    /* virtio 1.3, 5.2.5.2: a driver with CONFIG_WCE but without FLUSH reads 0. VMMs read config
     * space before features are negotiated. */
    cfg->wce = blk->is_write_back && !may_be_off(blk) && (blk->has_flush || !blk->can_set_cache);
    cfg->num_queues = htole16((uint16_t)blk->num_queues);
    if (store->can_unmap) {
        cfg->max_discard_sectors = htole32(BLK_RANGE_SECTORS_MAX);
        cfg->max_discard_seg = htole32(BLK_SEGMENTS_MAX);
        cfg->discard_sector_alignment =
            htole32((align > store->block_size ? align : store->block_size) / BLK_SECTOR);
    }
    if (store->is_read_only)
        return;
    cfg->max_write_zeroes_sectors = htole32(BLK_RANGE_SECTORS_MAX);
    cfg->max_write_zeroes_seg = htole32(BLK_SEGMENTS_MAX);
    cfg->write_zeroes_may_unmap = store->can_unmap;
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
    struct blk *blk = dev;
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
    blk->is_write_back = cfg.wce == 1;
    update_write_through(blk);
    /* Last: until then no worker may use the write cache of a device that was taken over. */
    blk->is_cache_set = true;
    return 0;
}

static int blk_device_queue_start(void *dev, struct gw_queue *q)
{
    struct blk *blk = dev;

    if (gw_queue_is_taken_over(q) && !atomic_exchange(&blk->is_taken_over, true) && may_be_off(blk))
        backend_say(blk->store->log, GW_LOG_INFO,
                    "the driver may have turned the write cache off in an earlier session: it is "
                    "off until the driver sets it");
    return blk_queue_start(&blk->queues[gw_queue_index(q)], q, blk->store);
}

static int blk_queue_ready(void *dev, struct gw_queue *q)
{
    struct blk *blk = dev;
    struct blk_queue *queue = &blk->queues[gw_queue_index(q)];
    struct gw_request *reqs[BLK_BATCH];
    struct blk_limits limits = {
        .size = atomic_load_explicit(&blk->store->size, memory_order_relaxed),
        .block_size = blk->store->block_size,
        .is_read_only = blk->store->is_read_only,
        .can_unmap = blk->store->can_unmap,
        .is_write_through =
            may_be_off(blk) || atomic_load_explicit(&blk->is_write_through, memory_order_relaxed),
        .size_max = atomic_load_explicit(&blk->size_max, memory_order_relaxed),
        .seg_max = atomic_load_explicit(&blk->seg_max, memory_order_relaxed),
        .length_max = (uint64_t)BLK_SEG_MAX * BLK_SIZE_MAX,
        .serial = blk->serial,
    };
    unsigned n = gw_queue_pop(q, reqs, BLK_BATCH);

    blk_requests_run(reqs, n, queue, &limits);
    return 0;
}

static void blk_device_queue_stop(void *dev, struct gw_queue *q)
{
    struct blk *blk = dev;

    blk_queue_stop(&blk->queues[gw_queue_index(q)], gw_queue_may_suspend(q));
}

static void blk_reset(void *dev)
{
    struct blk *blk = dev;

    blk->has_flush = false;
    atomic_store_explicit(&blk->size_max, UINT32_MAX, memory_order_relaxed);
    atomic_store_explicit(&blk->seg_max, UINT32_MAX, memory_order_relaxed);
    blk->can_set_cache = false;
    blk->is_taken_over = false;
    blk->is_cache_set = false;
    blk->is_write_back = true;
    update_write_through(blk);
}

const struct gw_device_ops blk_ops = {
    .size = sizeof(struct gw_device_ops),
    .features = blk_features,
    .features_acked = blk_features_acked,
    .get_config = blk_get_config,
    .set_config = blk_set_config,
    .queue_start = blk_device_queue_start,
    .queue_ready = blk_queue_ready,
    .queue_stop = blk_device_queue_stop,
    .reset = blk_reset,
};

int blk_init(struct blk *blk, struct store *store, const struct blk_options *o)
{
    blk->queues = calloc(o->num_queues, sizeof(*blk->queues));
    if (blk->queues == NULL) {
        backend_say(store->log, GW_LOG_ERROR, "no memory for %u queues", o->num_queues);
        return -ENOMEM;
    }
    blk->store = store;
    blk->num_queues = o->num_queues;
    blk->queue_size = o->queue_size;
    if (o->serial != NULL)
        memcpy(blk->serial, o->serial, strnlen(o->serial, sizeof(blk->serial)));
    blk_reset(blk);
    return 0;
}

void blk_done(struct blk *blk)
{
    free(blk->queues);
    blk->queues = NULL;
}

void blk_resize(struct blk *blk, struct gw_daemon *d)
{
    uint64_t before = atomic_load(&blk->store->size), after;

    if (blk->store->ops->resize(blk->store) < 0)
        return;
    after = atomic_load(&blk->store->size);
    if (after == before)
        return;
    backend_say(blk->store->log, GW_LOG_INFO, "disk resized to %llu bytes (was %llu)",
                (unsigned long long)after, (unsigned long long)before);
    gw_daemon_config_changed(d);
}

bool blk_is_pending(const struct blk *blk)
{
    for (unsigned i = 0; i < blk->num_queues; i++)
        if (atomic_load(&blk->queues[i].is_pending))
            return true;
    return false;
}

bool blk_has_lost_data(const struct blk *blk)
{
    for (unsigned i = 0; i < blk->num_queues; i++)
        if (blk->queues[i].stop_error < 0)
            return true;
    return false;
}
