/* SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause */
/*
 * The virtio-blk device: its state (blk_device.c) and the life of one request (blk_request.c).
 */
#pragma once

#include "store.h"

#include <linux/virtio_blk.h>

enum {
    BLK_BATCH = 64,   /* requests taken at once, before other queues have their turn */
    BLK_SECTOR = 512, /* the unit of the protocol, whatever the logical block */
    BLK_SEGMENTS_MAX = 32,
    BLK_RANGE_SECTORS_MAX = 1 << 22, /* 2 GiB in one discard or write-zeroes segment */
};

/* What a request is checked against; one copy of it per batch. */
struct blk_limits {
    uint64_t size; /* of the disk, in bytes */
    uint32_t block_size;
    bool is_read_only;
    bool can_unmap;
    bool is_write_through;
    uint32_t size_max;   /* bytes of one data buffer */
    uint32_t seg_max;    /* data buffers of a request */
    uint64_t length_max; /* bytes of data in a request, whatever the driver negotiated */
    const char *serial;  /* VIRTIO_BLK_ID_BYTES, padded with NUL */
};

/* A queue as its worker sees it; touched by that worker only. */
struct blk_queue {
    struct gw_queue *q;
    struct store *store;
    struct blk_request *in_flight;      /* submitted to the store, not done; the oldest first */
    struct blk_request **in_flight_end; /* where the next one is linked */
    bool is_stopping;                   /* the last one done lets go of the store */
    int stop_error;                     /* of the last stop: 0, or a negative errno */
};

struct blk_range {
    uint64_t offset;
    uint64_t length;
    bool may_unmap;
};

/* One request, in the bytes that the library keeps beside struct gw_request. */
struct blk_request {
    struct gw_request *req;
    struct blk_queue *queue;
    struct blk_request *next;  /* in flight */
    struct blk_request **link; /* what points to it there */
    uint8_t *status;           /* in guest memory; only ever written */
    uint32_t in_total;         /* bytes of writable buffers, the status included */
    uint8_t result;            /* VIRTIO_BLK_S_* */
    uint16_t n_ranges;         /* of discard and write zeroes */
    uint16_t next_range;
    struct blk_range *ranges; /* allocated for them: the library clears these bytes at each pop */
    struct store_io io;
};

/*
 * Read and check a popped request. Returns: true: b->io is to be submitted; false: it is over
 * already, b->result tells how.
 */
bool blk_request_parse(struct blk_request *b, struct gw_request *req,
                       const struct blk_limits *limits);

/* Take up to BLK_BATCH popped requests of a queue through to their completion, now or later. */
void blk_requests_run(struct gw_request **reqs, unsigned n_reqs, struct blk_queue *queue,
                      const struct blk_limits *limits);

/* The queue starts, and claims the store. Returns: 0, or why that will not be claimed. */
int blk_queue_start(struct blk_queue *queue, struct gw_queue *q, struct store *store);

/*
 * It stops: the store is let go of when nothing is in flight any more. Where requests may be
 * suspended, those are that are not over soon.
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
     * A queue continues an earlier session, in which the driver may have turned the write cache
     * off. The device assumes so until the setting is written in this session (is_cache_set).
     */
    _Atomic bool is_taken_over;
    _Atomic bool is_cache_set;
    _Atomic bool can_set_cache; /* the driver accepted CONFIG_WCE */
    /* What the driver must keep to; UINT32_MAX where it did not accept it. */
    _Atomic uint32_t size_max;
    _Atomic uint32_t seg_max;
    /* Control thread only: what is_write_through follows from. */
    bool has_flush;     /* the driver accepted FLUSH */
    bool is_write_back; /* the writeback byte of config space */
    struct blk_queue queues[GW_QUEUES_MAX];
};

extern const struct gw_device_ops blk_ops;

void blk_init(struct blk *blk, struct store *store, const struct blk_options *o);

/* SIGHUP: look at the size again and tell the driver. */
void blk_reload(void *dev, struct gw_daemon *d);

/* SIGUSR1: what went wrong with the store. */
void blk_report(void *dev, FILE *out);

/* Whether the last stop of a queue failed. Context: when no worker runs. */
bool blk_has_lost_data(const struct blk *blk);
