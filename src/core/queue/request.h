/* SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause */
/*
 * A request inside the library, from its pool through the walk of its chain to the used ring.
 * Everything here runs under the lock of its queue.
 */
#pragma once

#include "base/list.h"
#include "core/memory/iotlb.h"
#include "core/memory/mem.h"
#include "core/ring/desc.h"
#include "core/ring/ring.h"

#include <godwit/queue.h>
#include <linux/virtio_ring.h>
#include <stdbool.h>
#include <stdint.h>

/* Limit on the descriptors and on the iovecs of one chain; equals IOV_MAX. */
#define GW_CHAIN_MAX 1024
/* Buffers that every request has room for; longer chains borrow a block of GW_CHAIN_MAX. */
#define GW_CHAIN_INLINE 16
/* Pieces that a translated indirect table may consist of. */
#define GW_TABLE_PIECES 8
/* Heads taken off the ring at a time. */
#define GW_POP_BATCH 64
/*
 * Limits on buffer bytes: of the requests that a queue passes to its device in one turn, and of
 * those that all queues of a daemon have in flight. A request may begin as long as the sum is below
 * the limit. So one request is always possible, and the last one may exceed the limit.
 */
#define GW_TURN_BYTES      (INT64_C(16) << 20)
#define GW_IN_FLIGHT_BYTES (INT64_C(256) << 20)
/* Limit on the requests that a queue passes to its device in one turn. */
#define GW_TURN_REQUESTS 256u
/*
 * Where daemons share workers, the queues of a daemon on one worker share both limits of a turn, so
 * that a daemon of many queues gets no more than one of few. A queue always has at least these.
 */
#define GW_TURN_BYTES_MIN    (INT64_C(1) << 20)
#define GW_TURN_REQUESTS_MIN 16u
/*
 * Bytes charged for a long chain: for its walk and its borrowed block. A bad chain is charged for
 * its walk, only in its turn. Without the charge, a driver could make chains of 1024 descriptors of
 * one byte each, which cost much and count little.
 */
#define GW_LONG_CHAIN_BYTES (INT64_C(128) << 10)
/* Limit on the buffer bytes of one request, if the device sets none. */
#define GW_REQUEST_BYTES (UINT32_C(64) << 20)

/* The iovecs and extents of a long chain; the queue keeps the block for later chains. */
struct gw_segments {
    struct gw_segments *next;
    struct iovec iov[GW_CHAIN_MAX];
    struct gw_extent extents[GW_CHAIN_MAX];
    struct gw_iova_extent iovas[GW_CHAIN_MAX]; /* if addresses are translated */
};

/* The requests that were taken off the ring and are not published yet (invariant.c). */
struct gw_in_flight {
    struct gw_list requests; /* [lock] the oldest first */
    unsigned n;              /* [lock] length of the list */
    uint32_t n_slots_left;   /* [lock] taken, but of no listed request */
    uint64_t n_taken;        /* [lock] heads ever taken off the ring */
    uint64_t now_ns;         /* [lock] coarse time of the last pop */
    uint64_t oldest_ns;      /* atomic: when the oldest was popped, 0: none */
    uint64_t n_copied;       /* [lock] bytes of their buffers that are copies */
    int64_t bytes;           /* [lock] of their buffers, and the charge for long chains */
};

/* Limits on what a driver can make us do. */
struct gw_limits {
    int64_t bytes_in_flight; /* this queue's share of GW_IN_FLIGHT_BYTES */
    int64_t turn_bytes;      /* of one turn */
    unsigned turn_requests;  /* likewise */
    int64_t bytes_left;      /* [lock] of turn_bytes; INT64_MAX outside of a turn */
    uint64_t requests_left;  /* [lock] of turn_requests; UINT64_MAX outside of a turn */
    int64_t room;            /* [lock] bytes left, while a batch is popped */
    uint32_t request_bytes;  /* of one request */
    uint32_t ring_size;
};

/* Memory for requests and the walk of their chains. */
struct gw_pool {
    struct gw_request_i *free;         /* [lock] by next_free */
    struct gw_segments *free_segments; /* [lock] */
    size_t request_size;               /* bytes for the device in each request */
    uint8_t *memory;                   /* [lock] all requests */
    unsigned n_used;                   /* [lock] requests that were ever used */
    unsigned size;
    bool has_iovas;           /* each request has room for the addresses of its descriptors */
    struct vring_desc *table; /* buffer for an indirect table that has to be copied */
    struct gw_tables *tables; /* fetched tables of the current batch; NULL: never needed */
};

/* A request with the library's private members. */
struct gw_request_i {
    struct gw_request pub;
    struct gw_list in_flight; /* queue.in_flight, the oldest first */
    struct gw_request_i *next_free;
    struct gw_segments *segments; /* NULL: the inline arrays are in use */
    struct gw_pin pin;
    uint8_t *status;             /* the last device-writable byte, NULL without one */
    uint64_t popped_ns;          /* coarse time */
    uint64_t position;           /* n_taken when it was taken */
    uint32_t generation;         /* the queue's generation when it was popped */
    uint32_t used_len;           /* length for the used element, if is_done */
    uint32_t len;                /* bytes of all its buffers, including those already consumed */
    uint16_t entry;              /* of the inflight part */
    bool is_resubmitted;         /* an earlier back-end left it in flight */
    bool is_bad;                 /* bad chain: its used element has length 0 */
    bool is_copied;              /* its buffers may be copies, see gw_mem_backend_fetch */
    bool is_done;                /* completed by the device; IN_ORDER: perhaps not yet its turn */
    uint16_t id;                 /* its id in the used element */
    uint16_t n_slots;            /* slots that it takes in the ring */
    uint16_t n_readable_extents; /* extents: first the readable, then the writable */
    uint16_t n_writable_extents;
    uint16_t n_iovas; /* translated addresses: the extents as in the descriptors */
    uint32_t epoch;   /* of the translation when it was popped */
    struct iovec iov[GW_CHAIN_INLINE];
    struct gw_extent extents[GW_CHAIN_INLINE];
    /* followed by request_size bytes for the device, and room for GW_CHAIN_INLINE iovas */
};

static inline const struct gw_extent *gw_request_extents(const struct gw_request_i *r)
{
    return r->segments ? r->segments->extents : r->extents;
}

/* The copy of a chain's first descriptor; undefined in a split ring if the id is out of range. */
static inline struct vring_desc gw_head_first(bool is_packed, const struct gw_head *head)
{
    return is_packed ? gw_desc_unpack(head->descs[0]) : head->first;
}

/* Does the head name a descriptor? If not, there is no chain to walk or to answer. */
bool gw_head_is_valid(const struct gw_queue *q, const struct gw_head *head);

/* The request pool of a queue, which never runs out: it is as large as the ring. */
int gw_request_pool_new(struct gw_queue *q);
void gw_request_pool_free(struct gw_queue *q);
struct gw_request_i *gw_request_take(struct gw_queue *q);
void gw_request_put(struct gw_queue *q, struct gw_request_i *r);
/* Count and log a bad chain. */
void gw_request_report_bad(struct gw_queue *q, const struct gw_request_i *r, const char *why);
/* Revert the statistics of a pop: the request turned out to be bad, or returns to the ring. */
void gw_request_uncount(struct gw_queue *q, const struct gw_request_i *r);
/* End a request without completing it, and keep it in the inflight part for the next back-end. */
void gw_request_keep_inflight(struct gw_queue *q, struct gw_request_i *r);
/*
 * End a request: count down the operations that wait for it, and return `r` to the pool. After the
 * last of several requests the caller calls gw_request_note_oldest.
 */
void gw_request_retire(struct gw_queue *q, struct gw_request_i *r);
void gw_request_note_oldest(struct gw_queue *q);

/*
 * Walk a chain once, from the copy of its first descriptor: copy the others, check all of them, and
 * pin the buffers.
 * Returns: NULL, or why the chain is bad, or gw_translation_missing; `r` then has no buffers and
 * holds no pins.
 */
const char *gw_chain_walk(struct gw_queue *q, struct gw_request_i *r, const struct gw_head *head);
/* Prefetch the indirect table at `addr` ahead of its walk. */
void gw_chain_prefetch_table(struct gw_queue *q, gw_gpa_t addr);
/*
 * Move the `n` extents of a request from its inline array to a block of the queue. Returns: NULL,
 * or why the chain is bad.
 */
const char *gw_chain_grow(struct gw_queue *q, struct gw_request_i *r, unsigned n);
/*
 * Locate the indirect table that a descriptor of a chain names (chain_table.c). The table stays
 * valid until the next call. Returns: NULL, or why it is bad, or gw_translation_missing.
 */
const char *gw_table_find(struct gw_queue *q, gw_gpa_t addr, uint32_t len, const void **ret);
/* Use a table in these pieces in place, or copy it. Returns: NULL, or why it is bad. */
const char *gw_table_use(struct gw_queue *q, const struct iovec *iov, int n_iov, const void **ret);
/* Before and after a batch of chains is walked: fetch all tables that are copies in one call. */
void gw_tables_fetch(struct gw_queue *q, const struct gw_head *heads, unsigned n);
void gw_tables_release(struct gw_queue *q);
/* Release what the walk acquired. */
void gw_chain_release(struct gw_queue *q, struct gw_request_i *r);
