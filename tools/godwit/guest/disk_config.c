/* SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause */
/* See disk_config.h. */
#include "disk_config.h"

#include <endian.h>
#include <inttypes.h>
#include <linux/virtio_blk.h>
#include <stddef.h>
#include <stdio.h>

#define SECTOR       512
#define SEGMENTS_MAX 16 /* the indirect tables of migrate and crash hold two more descriptors */
#define BIT(n)       (UINT64_C(1) << (n))
#define END_OF(f) \
    (offsetof(struct virtio_blk_config, f) + sizeof(((struct virtio_blk_config *)NULL)->f))

const uint64_t disk_features = BIT(VIRTIO_BLK_F_SIZE_MAX) | BIT(VIRTIO_BLK_F_SEG_MAX) |
                               BIT(VIRTIO_BLK_F_RO) | BIT(VIRTIO_BLK_F_BLK_SIZE) |
                               BIT(VIRTIO_BLK_F_FLUSH) | BIT(VIRTIO_BLK_F_MQ);

int disk_config_read(struct gw_frontend *fe, uint64_t features, struct disk_config *ret)
{
    struct virtio_blk_config config = {0};
    /* Read from offset 0, because libvhost-user ignores the offset. */
    uint32_t len = features & BIT(VIRTIO_BLK_F_MQ)         ? END_OF(num_queues)
                   : features & BIT(VIRTIO_BLK_F_BLK_SIZE) ? END_OF(blk_size)
                   : features & BIT(VIRTIO_BLK_F_SEG_MAX)  ? END_OF(seg_max)
                   : features & BIT(VIRTIO_BLK_F_SIZE_MAX) ? END_OF(size_max)
                                                           : END_OF(capacity);
    int r = gw_frontend_get_config(fe, 0, &config, len);

    if (r < 0)
        return r;
    *ret = (struct disk_config){.sectors = le64toh(config.capacity),
                                .n_queues = 1,
                                .block_size = SECTOR,
                                .size_max = UINT32_MAX,
                                .seg_max = UINT32_MAX};
    if (features & BIT(VIRTIO_BLK_F_MQ))
        ret->n_queues = le16toh(config.num_queues);
    if (features & BIT(VIRTIO_BLK_F_BLK_SIZE) && le32toh(config.blk_size) > SECTOR)
        ret->block_size = le32toh(config.blk_size);
    if (features & BIT(VIRTIO_BLK_F_SIZE_MAX) && config.size_max != 0)
        ret->size_max = le32toh(config.size_max);
    if (features & BIT(VIRTIO_BLK_F_SEG_MAX)) /* Linux treats 0 as 1 */
        ret->seg_max = config.seg_max != 0 ? le32toh(config.seg_max) : 1;
    return 0;
}

static bool fits(const struct disk_config *c, unsigned size, unsigned segments)
{
    return size % (segments * SECTOR) == 0 && segments <= c->seg_max &&
           size / segments <= c->size_max;
}

unsigned disk_segments(const struct disk_config *c, unsigned size, unsigned wanted)
{
    for (unsigned n = wanted; n > 0; n /= 2) {
        if (fits(c, size, n))
            return n;
    }
    for (unsigned n = wanted * 2; n <= SEGMENTS_MAX; n *= 2) {
        if (fits(c, size, n))
            return n;
    }
    return 0;
}

bool disk_takes(const struct disk_config *c, unsigned size, unsigned segments, char *why,
                size_t why_size)
{
    unsigned other;

    if (size % c->block_size != 0) {
        snprintf(why, why_size,
                 "the disk has blocks of %" PRIu32 " bytes: --block-size=%u is no multiple of that",
                 c->block_size, size);
        return false;
    }
    if (segments != 0 && fits(c, size, segments))
        return true;
    other = disk_segments(c, size, 1);
    if (other != 0)
        snprintf(why, why_size,
                 "the disk allows %" PRIu32 " segments of %" PRIu32 " bytes in a request: %u bytes "
                 "in %u segments do not fit, in %u they do",
                 c->seg_max, c->size_max, size, segments, other);
    else
        snprintf(why, why_size,
                 "the disk allows %" PRIu32 " segments of %" PRIu32 " bytes in a request: "
                 "--block-size=%u is too large",
                 c->seg_max, c->size_max, size);
    return false;
}
