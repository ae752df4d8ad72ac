/* SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause */
/*
 * A queue whose addresses are translated (core/memory/iotlb.h). Everything except the functions for
 * the control worker is called under the queue's lock.
 *
 * A request whose buffers are not all mapped stays on the ring, with those behind it, until the
 * table changes; what is missing for any of them is asked for at once. It is not taken out of
 * order, because a front-end that stops the ring (GET_VRING_BASE) may answer no misses until the
 * ring has stopped, and a base cannot leave out a request between others that were completed. For
 * the same reason nothing waits for translations of a stopping queue.
 *
 * An invalidation waits for the requests in flight that use its range: their addresses are kept.
 * If the range contains the ring, it waits for all requests, publishes them, and detaches the ring
 * until its pages are mapped again.
 */
#pragma once

#include "core/loop/latch.h"
#include "core/memory/iotlb.h"
#include "core/memory/iotlb_misses.h"
#include "core/queue/request.h"

#include <stdbool.h>
#include <stdint.h>

struct gw_queue;

/* An invalidation that waits for its users in a queue; part of an operation. */
struct gw_iotlb_wait {
    struct gw_iotlb_wait *next;
    struct gw_latch *latch; /* counted when there is no user */
    struct gw_iova_range range;
    unsigned n_users; /* requests in flight */
    uint32_t epoch;   /* of the invalidation: users are older */
    bool has_ring;    /* also waits for the ring to be detached */
};

enum gw_translated_ring {
    GW_TRANSLATED_RING_USED = 0,
    GW_TRANSLATED_RING_LOSING, /* until no request is in flight */
    GW_TRANSLATED_RING_LOST,   /* detached, until its pages are mapped again */
};

struct gw_translation {
    const struct gw_iotlb *table; /* [lock] */
    struct gw_iotlb_misses *misses;
    bool is_blocked;               /* [lock] the next request misses an entry */
    enum gw_translated_ring ring;  /* [lock] */
    uint32_t epoch;                /* [lock] counts invalidations */
    struct gw_iotlb_wait *waiting; /* [lock] */
    struct gw_iotlb_cache cache;   /* [lock] */
};

/* What gw_chain_walk and gw_table_find return if a translation is missing. */
extern const char gw_translation_missing[];

/* ---- for the control worker ---- */

/* Use `table` from now on, which differs from the previous one only in `range`. */
void gw_queue_set_iotlb(struct gw_queue *q, const struct gw_iotlb *table,
                        struct gw_iova_range range);
/*
 * The same, after an invalidation of wait->range: wait->latch is counted when no request in flight
 * uses it. The rest of `wait` is filled in here.
 */
void gw_queue_invalidate_iotlb(struct gw_queue *q, const struct gw_iotlb *table,
                               struct gw_iotlb_wait *wait);

/* ---- for the queue ---- */

/* At its start and end. Returns: 0; -ENOMEM. */
int gw_translation_begin(struct gw_queue *q, const struct gw_iotlb *table,
                         struct gw_iotlb_misses *misses);
void gw_translation_end(struct gw_queue *q);
/* The session has ended and frees the table: only waits remain. */
void gw_translation_abandon(struct gw_queue *q);
/* The queue has published, and has a new map, for which `table` was made. */
void gw_translation_replace(struct gw_queue *q, const struct gw_iotlb *table);

/* No request may be taken: detach the ring if it is due. */
void gw_translation_settle(struct gw_queue *q);
/* The request is about to be retired. */
void gw_translation_note_retired(struct gw_queue *q, const struct gw_request_i *r);
/* The next request misses an entry: report what the requests behind it miss. */
void gw_translation_look_ahead(struct gw_queue *q);

/*
 * Translate the extents of a request in place; `n` and `n_readable` are how many it has before and
 * after. Returns: NULL; why the chain is bad; gw_translation_missing.
 */
const char *gw_translate_buffers(struct gw_queue *q, struct gw_request_i *r, unsigned *n,
                                 unsigned *n_readable);
/* As gw_table_find. */
const char *gw_translate_table(struct gw_queue *q, gw_iova_t iova, uint32_t len, const void **ret);
