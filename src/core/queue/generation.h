/* SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause */
/*
 * The changes of a queue's map and log, by number (change.c). A new map begins a generation. The
 * queue has quiesced when no request or hold of an older generation is left: it no longer uses an
 * older map.
 */
#pragma once

#include "core/loop/latch.h"
#include "core/memory/iotlb.h"

#include <stdint.h>

struct gw_queue;

/* An entry in a queue's list of operations that wait for it to quiesce; part of the operation. */
struct gw_generation_wait {
    struct gw_generation_wait *next;
    struct gw_latch *latch; /* counted then */
};

struct gw_generation {
    uint64_t posted;  /* atomic: the latest change, perhaps still in the mailbox */
    uint64_t applied; /* [lock] the latest change that the queue has applied */
    uint32_t number;  /* [lock] counts the maps */
    unsigned n_old;   /* [lock] requests in flight and holds of older generations */
    struct gw_generation_wait *waiting; /* [lock] */
};

/*
 * Use `map` from now on, and the table of translated addresses that was made for it, if any. NULL,
 * for a stopping queue: no map, and the ring is no longer written.
 */
void gw_queue_set_map(struct gw_queue *q, const struct gw_map *map, const struct gw_iotlb *iotlb);
/*
 * The map just set begins a generation. When no request of an older one is in flight, the old map
 * is unused, and wait->latch is counted.
 */
void gw_queue_begin_generation(struct gw_queue *q, struct gw_generation_wait *wait);
/* Change `number` has been applied: requests may be taken that were made available after it. */
void gw_queue_note_applied(struct gw_queue *q, uint64_t number);

/* [lock] No request of an older generation is in flight: count the latches of all that wait. */
void gw_queue_note_quiesced(struct gw_queue *q);
