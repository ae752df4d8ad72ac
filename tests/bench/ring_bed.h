/* SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause */
/*
 * One session with a disk on one ring, and a load of reads: the setup for data path measurements.
 */
#pragma once

#include "load/load.h"
#include <godwit/frontend/frontend.h>

#define RING_BED_STALL_MS 10000
#define RING_BED_EXTENT   (UINT64_C(16) << 20) /* the part of the disk that is read */

struct ring_bed_config {
    unsigned block_size;
    unsigned depth;
    bool packed, in_order;
    bool indirect; /* one ring descriptor per request, as in most guests */
    bool inflight; /* the back-end tracks in-flight requests */
};

struct ring_bed {
    struct gw_guest_mem *mem;
    struct gw_driver *driver;
    struct gw_frontend *fe;
    struct gw_frontend_inflight inflight;
    struct gw_guest_disk *disk;
    struct gw_guest_load *load; /* set by ring_bed_load */
};

/* Connect and start. Returns: 0 or a negative errno; call ring_bed_finish in either case. */
int ring_bed_start(struct ring_bed *b, const char *path, const struct ring_bed_config *cfg);
int ring_bed_load(struct ring_bed *b, const struct ring_bed_config *cfg);
/* Write all blocks: reads of pages that were never written would all hit the shared zero page. */
int ring_bed_fill(struct ring_bed *b);
/* Reconnect after the session was lost; ring_bed_resume starts a new one with the same rings. */
int ring_bed_connect(struct ring_bed *b, const char *path);
int ring_bed_resume(struct ring_bed *b, const struct ring_bed_config *cfg);
void ring_bed_finish(struct ring_bed *b);
