/* SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause */
/*
 * A request inside the library, from its pool through the walk of its chain to the used ring.
 * Everything here runs under the lock of its queue.
 */
#pragma once

#include "base/list.h"
#include "core/memory/mem.h"
#include "desc.h"
#include "ring.h"

#include <godwit/queue.h>
#include <linux/virtio_ring.h>
#include <stdbool.h>
#include <stdint.h>

/* Descriptors and iovecs of one chain; IOV_MAX is the same. */
#define GW_CHAIN_MAX 1024
/* What every request has room for; longer chains borrow a block of GW_CHAIN_MAX. */
#define GW_CHAIN_INLINE 16
/* Heads taken off the ring at a time. */
#define GW_POP_BATCH 64
/*
 * Limits on bytes of buffers: what a queue gives to its device in one turn of its worker, and what
 * all queues of a daemon have in flight. A request may begin as long as the sum is below the limit.
 * So one request is always possible, and the last one may exceed the limit.
 */
#define GW_TURN_BYTES      (INT64_C(16) << 20)
#define GW_IN_FLIGHT_BYTES (INT64_C(256) << 20)
/*
 * Bytes that a long chain is charged for the walk and for its borrowed block. A bad chain is
 * charged for the walk, in its turn only. Without the charge a driver could make chains of 1024
 * descriptors of one byte each, which cost much and count little.
 */
#define GW_LONG_CHAIN_BYTES (INT64_C(128) << 10)
/* Of one request, if the device sets no limit. */
#define GW_REQUEST_BYTES (UINT32_C(64) << 20)

/* A long chain's iovecs and extents, kept by the queue for the next one. */
struct gw_segments {
    struct gw_segments *next;
    struct iovec iov[GW_CHAIN_MAX];
    struct gw_extent extents[GW_CHAIN_MAX];
};

/* A request with what only the library knows of it. */
struct gw_request_i {
    struct gw_request pub;
    struct gw_list in_flight; /* queue.in_flight, the oldest first */
    struct gw_request_i *next_free;
    struct gw_segments *segments; /* NULL: inline ones */
    struct gw_pin pin;
    uint64_t popped_ns;     /* coarse */
    uint64_t position;      /* n_taken when it was taken */
    uint32_t epoch;         /* of the map it was born under */
    uint32_t used_len;      /* what is_done answers with */
    uint32_t len;           /* bytes of its buffers, whatever the device has consumed */
    uint16_t entry;         /* of the inflight part */
    bool is_again;          /* left behind by the back-end before */
    bool is_bad;            /* its answer says that nothing was written */
    bool is_copied;         /* its buffers may be copies, see gw_mem_backend_fetch */
    bool is_done;           /* IN_ORDER: answered by the device, and maybe not yet its turn */
    uint16_t id;            /* what names it in the used ring */
    uint16_t n_slots;       /* of the ring */
    uint16_t n_out_extents; /* extents: those of `out`, then those of `in` */
    uint16_t n_in_extents;
    struct iovec iov[GW_CHAIN_INLINE];
    struct gw_extent extents[GW_CHAIN_INLINE];
    /* request_size bytes of the device's own follow */
};

static inline const struct gw_extent *gw_request_extents(const struct gw_request_i *r)
{
    return r->segments ? r->segments->extents : r->extents;
}

/* The copy of a chain's first descriptor; a split ring has none for an id beyond it. */
static inline struct vring_desc gw_head_first(bool is_packed, const struct gw_head *head)
{
    return is_packed ? gw_desc_unpack(head->descs[0]) : head->first;
}

/* Requests of a queue: memory of the pool, taken and put back. */
int gw_request_pool_new(struct gw_queue *q);
void gw_request_pool_free(struct gw_queue *q);
void gw_request_put(struct gw_queue *q, struct gw_request_i *r);
/* The device has answered it, and it turns out to be a bad chain: counted and told as one. */
void gw_request_condemn(struct gw_queue *q, struct gw_request_i *r, const char *why);
/* It stays in the inflight part, and is in flight here no more. */
void gw_request_leave(struct gw_queue *q, struct gw_request_i *r);
/*
 * End a request: count down operations that wait for it, and return `r` to the pool. After the last
 * of several requests the caller updates the age of the oldest one.
 */
void gw_request_retire(struct gw_queue *q, struct gw_request_i *r);
void gw_request_note_oldest(struct gw_queue *q);

/*
 * Walk a chain once, from the copy of its first descriptor: copy the others, check all, pin their
 * buffers.
 * Returns: NULL, or why the chain is bad; it holds nothing then, and has no buffers.
 */
const char *gw_chain_walk(struct gw_queue *q, struct gw_request_i *r, const struct gw_head *head);
/* The address of an indirect table, ahead of its walk; a hint, nothing is read. */
void gw_chain_prefetch_table(struct gw_queue *q, gw_gpa_t addr);
/*
 * Fetch what was pinned as copies, for all of the requests in one go. Returns: how many are good,
 * which are moved to the front; the others are answered as bad chains.
 */
unsigned gw_request_fetch(struct gw_queue *q, struct gw_request **reqs, unsigned n_reqs);
/*
 * The indirect table that a descriptor of a chain names (chain_table.c). Returns: NULL, or why it
 * is bad. It stays as long as no other is asked for.
 */
const char *gw_table_find(struct gw_queue *q, gw_gpa_t addr, uint32_t len, const void **ret);
/* Before and after a batch of chains is walked: fetch the tables that are copies, in one go. */
void gw_tables_fetch(struct gw_queue *q, const struct gw_head *heads, unsigned n);
void gw_tables_release(struct gw_queue *q);
/* Give back what the walk took. */
void gw_chain_release(struct gw_queue *q, struct gw_request_i *r);

/* Publish what was put and notify; see complete.c for the order. */
void gw_queue_publish(struct gw_queue *q);
/* Mark all that the device may have written for it. A full fence is behind the writes. */
void gw_request_mark(const struct gw_queue *q, const struct gw_request_i *r);
/* Mark what was answered while there was LOG_ALL without a log, now that there is one. */
void gw_queue_mark_unlogged(struct gw_queue *q);
/* Answer a request that is in flight. */
void gw_request_answer(struct gw_queue *q, struct gw_request_i *r, uint32_t len);
/* Notify the driver, now or with the loop's next submission. */
void gw_queue_call(struct gw_queue *q);
