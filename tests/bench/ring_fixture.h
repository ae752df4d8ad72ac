/* SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause */
/*
 * One session with a disk on one ring, and a load of reads: the setup for data path measurements.
 */
#pragma once

#include "load/load.h"
#include <godwit/frontend/frontend.h>

#define RING_FIXTURE_STALL_MS 10000
#define RING_FIXTURE_EXTENT   (UINT64_C(16) << 20) /* the part of the disk that is read */

struct ring_fixture_config {
    unsigned block_size;
    unsigned depth;
    bool packed, in_order;
    bool indirect; /* one ring descriptor per request, as in most guests */
    bool inflight; /* the back-end tracks in-flight requests */
};

struct ring_fixture {
    struct gw_guest_mem *mem;
    struct gw_driver *driver;
    struct gw_frontend *fe;
    struct gw_frontend_inflight inflight;
    struct gw_guest_disk *disk;
    struct gw_guest_load *load; /* set by ring_fixture_load */
};

/* Connect and start. Returns: 0 or a negative errno; call ring_fixture_finish in either case. */
int ring_fixture_start(struct ring_fixture *b, const char *path,
                       const struct ring_fixture_config *cfg);
int ring_fixture_load(struct ring_fixture *b, const struct ring_fixture_config *cfg);
/* Write all blocks: reads of pages that were never written would all hit the shared zero page. */
int ring_fixture_fill(struct ring_fixture *b);
/* Reconnect after the session was lost; ring_fixture_resume starts a new session on these rings. */
int ring_fixture_connect(struct ring_fixture *b, const char *path);
int ring_fixture_resume(struct ring_fixture *b, const struct ring_fixture_config *cfg);
void ring_fixture_finish(struct ring_fixture *b);
