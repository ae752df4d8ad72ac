/* SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause */
/* One session with a disk, on one ring, and a load of reads: what is measured of the data path. */
#pragma once

#include "load/load.h"
#include <godwit/frontend/frontend.h>

#define RING_BED_STALL_MS 10000
#define RING_BED_EXTENT   (UINT64_C(16) << 20) /* bytes of the disk that are read */

struct ring_bed_config {
    unsigned block_size;
    unsigned depth;
    bool packed, in_order;
    bool indirect; /* one descriptor of the ring for each request, as by most guests */
    bool inflight; /* the back-end keeps track of what it has taken */
};

struct ring_bed {
    struct gw_guest_mem *mem;
    struct gw_driver *driver;
    struct gw_frontend *fe;
    struct gw_frontend_inflight inflight;
    struct gw_guest_disk *disk;
    struct gw_guest_load *load; /* of ring_bed_load */
};

/* Connect and start. Returns: 0; a negative errno; either way ring_bed_finish is due. */
int ring_bed_start(struct ring_bed *b, const char *path, const struct ring_bed_config *cfg);
int ring_bed_load(struct ring_bed *b, const struct ring_bed_config *cfg);
/* Write all blocks: pages never written would all be read from one page of zeros. */
int ring_bed_fill(struct ring_bed *b);
/* Connect once more, after its session was lost, and begin a new one with what there is. */
int ring_bed_connect(struct ring_bed *b, const char *path);
int ring_bed_resume(struct ring_bed *b, const struct ring_bed_config *cfg);
void ring_bed_finish(struct ring_bed *b);
