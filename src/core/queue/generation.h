/* SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause */
/*
 * The maps and logs of a queue, by number (change.c). A new map or log begins a generation. The
 * queue has quiesced when no request of an older generation is in flight.
 */
#pragma once

#include "core/loop/latch.h"
#include "core/memory/mem.h"

#include <stdint.h>

struct gw_queue;

struct gw_generation {
    uint64_t number;        /* [lock] the generation in use */
    uint64_t posted;        /* atomic: the latest one, perhaps still in the worker's mailbox */
    uint64_t quiesced;      /* atomic: older maps and logs than those of this one are unused */
    unsigned n_old;         /* [lock] requests in flight from older generations */
    struct gw_latch *latch; /* [lock] counted when the queue has quiesced */
    int wake_fd;            /* an eventfd signalled instead if `latch` is NULL, -1: none */
};

/* Use `map` from now on. */
void gw_queue_set_map(struct gw_queue *q, const struct gw_map *map);
/*
 * The map or log just set begins generation `number`. When no request of an older generation is in
 * flight, the old map or log is unused: `quiesced` becomes `number`, and `latch`, if any, is
 * counted.
 */
void gw_queue_begin_generation(struct gw_queue *q, uint64_t number, struct gw_latch *latch);

/* [lock] Report that no request of an older generation is in flight: the old map is unused. */
void gw_queue_note_quiesced(struct gw_queue *q);
