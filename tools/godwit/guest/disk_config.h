/* SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause */
/*
 * The configuration of a virtio-blk device, and the requests it allows ("Block Device", virtio 1.3,
 * 5.2.4). A request beyond it may fail without any fault of the back-end.
 */
#pragma once

#include <godwit/frontend/frontend.h>

/* FLUSH, MQ, and the features that limit requests: SIZE_MAX, SEG_MAX, RO, BLK_SIZE. */
extern const uint64_t disk_features;

struct disk_config {
    uint64_t sectors;    /* of 512 bytes */
    unsigned n_queues;   /* 1 without MQ */
    uint32_t block_size; /* 512 without BLK_SIZE */
    uint32_t size_max;   /* bytes of one segment; UINT32_MAX: any */
    uint32_t seg_max;    /* segments of data in one request; UINT32_MAX: any */
};

/*
 * Read the configuration of a back-end with these virtio features. Returns: as
 * gw_frontend_get_config.
 */
int disk_config_read(struct gw_frontend *fe, uint64_t features, struct disk_config *ret);

/*
 * Segments for requests of `size` bytes: `wanted` if the disk allows it, otherwise the nearest
 * power of two. Returns: 0 if no number is allowed.
 */
unsigned disk_segments(const struct disk_config *c, unsigned size, unsigned wanted);

/*
 * Does the disk allow requests of `size` bytes in this number of segments? If not, `why` names its
 * limits.
 */
bool disk_takes(const struct disk_config *c, unsigned size, unsigned segments, char *why,
                size_t why_size);
