/* SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause */
/*
 * The virtio-blk device: its state (blk_device.c) and the life of one request (blk_request.c).
 */
#pragma once

#include "store.h"

#include <linux/virtio_blk.h>

enum {
    BLK_BATCH = 64,   /* requests popped per turn of a queue */
    BLK_SECTOR = 512, /* unit of the protocol, independent of the logical block size */
    BLK_SEGMENTS_MAX = 32,
    BLK_RANGE_SECTORS_MAX = 1 << 22, /* 2 GiB in one discard or write-zeroes segment */
};

/* The limits that requests are checked against; copied once per batch. */
struct blk_limits {
    uint64_t size; /* disk size in bytes */
    uint32_t block_size;
    bool is_read_only;
    bool can_unmap;
    bool is_write_through;
    uint32_t size_max;   /* maximum bytes of one data buffer */
    uint32_t seg_max;    /* maximum data buffers of a request */
    uint64_t length_max; /* maximum bytes of data in a request, regardless of features */
    const char *serial;  /* VIRTIO_BLK_ID_BYTES, padded with NUL */
};

/* The device's state of one queue; only the worker of that queue accesses it. */
struct blk_queue {
    struct gw_queue *q;
    struct store *store;
    struct blk_request *in_flight;      /* submitted to the store, not done; oldest first */
    struct blk_request **in_flight_end; /* link of the next request to append */
    bool is_stopping;                   /* the last request to end releases the store */
    bool is_starting;                   /* the start of the store is in progress */
    bool is_cancelled;                  /* the queue was stopped during its start */
    _Atomic bool is_pending;            /* a start or stop of the store is in progress */
    int stop_error;                     /* result of the last stop: 0 or a negative errno */
    struct store_user user;
};

struct blk_range {
    uint64_t offset;
    uint64_t length;
    bool may_unmap;
};

/* One request, in the private bytes that the library allocates with struct gw_request. */
struct blk_request {
    struct gw_request *req;
    struct blk_queue *queue;
    struct blk_request *next;  /* next request in flight */
    struct blk_request **link; /* pointer that points to this request */
    uint8_t result;            /* VIRTIO_BLK_S_* */
    uint16_t n_ranges;         /* discard and write zeroes only */
    uint16_t next_range;
    struct blk_range *ranges; /* allocated separately: the library clears this struct at each pop */
    struct store_io io;
};

/*
 * Read and check a popped request. Returns: true: submit b->io; false: the request has ended with
 * the status b->result.
 */
bool blk_request_parse(struct blk_request *b, struct gw_request *req,
                       const struct blk_limits *limits);

/* Process up to BLK_BATCH popped requests of a queue. They complete in the call or later. */
void blk_requests_run(struct gw_request **reqs, unsigned n_reqs, struct blk_queue *queue,
                      const struct blk_limits *limits);

/*
 * Start a queue and claim the store. Returns: 0; -EINPROGRESS: gw_queue_complete_start follows; the
 * negative errno of the store's start.
 */
int blk_queue_start(struct blk_queue *queue, struct gw_queue *q, struct store *store);

/*
 * Stop a queue. The store is released when no request is in flight. If requests may be suspended
 * (`may_suspend`), the requests in flight are cancelled, and suspended if they do not end soon.
 */
void blk_queue_stop(struct blk_queue *queue, bool may_suspend);

struct blk_options {
    unsigned num_queues;
    unsigned queue_size;
    const char *serial; /* NULL: none */
};

struct blk {
    struct store *store;
    unsigned num_queues;
    unsigned queue_size;
    char serial[VIRTIO_BLK_ID_BYTES];
    _Atomic bool is_write_through;
    /*
     * True: a queue was taken over from an earlier session, in which the driver may have turned the
     * write cache off. The device assumes it did until the setting is written in this session
     * (is_cache_set).
     */
    _Atomic bool is_taken_over;
    _Atomic bool is_cache_set;
    _Atomic bool can_set_cache; /* the driver accepted CONFIG_WCE */
    /* Limits that the driver accepted; UINT32_MAX if it did not. */
    _Atomic uint32_t size_max;
    _Atomic uint32_t seg_max;
    /* Control worker only; is_write_through is derived from these. */
    bool has_flush;           /* the driver accepted FLUSH */
    bool is_write_back;       /* the writeback byte of config space */
    struct blk_queue *queues; /* num_queues */
};

extern const struct gw_device_ops blk_ops;

/* Returns: 0; -ENOMEM. blk_done: after the daemon has been freed; also on a zeroed `blk`. */
int blk_init(struct blk *blk, struct store *store, const struct blk_options *o);
void blk_done(struct blk *blk);

/* Read the size of the store again and report a change to the driver. */
void blk_resize(struct blk *blk, struct gw_daemon *d);

/* Whether a queue waits for its store to start or stop. Context: any thread. */
bool blk_is_pending(const struct blk *blk);

/* Whether the last stop of a queue failed. Context: when no worker runs. */
bool blk_has_lost_data(const struct blk *blk);
