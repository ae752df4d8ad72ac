/* SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause */
/*
 * The virtio-blk device: its state (blk_device.c) and the life of one request (blk_request.c).
 */
#pragma once

#include <godwit.h>
#include <godwit/blk.h>
#include <linux/virtio_blk.h>
#include <stdatomic.h>

enum {
    BLK_BATCH = 64,   /* requests popped per turn of a queue */
    BLK_SECTOR = 512, /* unit of the protocol, independent of the logical block size */
    BLK_SEGMENTS_MAX = 32,
    BLK_RANGE_SECTORS_MAX = 1 << 22, /* 2 GiB in one discard or write-zeroes segment */
    BLK_N_KINDS = GW_BLK_WRITE_ZEROES + 1,
};

/* The limits that requests are checked against; copied once per batch. */
struct blk_limits {
    uint64_t size; /* disk size in bytes */
    uint32_t block_size;
    bool is_read_only;
    bool can_unmap;
    bool can_zero;
    bool is_write_through;
    uint32_t size_max;   /* maximum bytes of one data buffer */
    uint32_t seg_max;    /* maximum data buffers of a request */
    uint64_t length_max; /* maximum bytes of data in a request, regardless of features */
    const char *serial;  /* VIRTIO_BLK_ID_BYTES, padded with NUL */
};

/* As struct gw_blk_count. */
struct blk_count {
    _Atomic uint64_t submitted, bytes, failed;
};

/* The device's state of one queue; only the worker of that queue accesses it. */
struct blk_queue {
    const struct gw_blk *blk;
    struct gw_queue *q;
    struct blk_request *in_flight;      /* submitted to the store, not done; oldest first */
    struct blk_request **in_flight_end; /* link of the next request to append */
    bool is_stopping;                   /* the last request to end releases the store */
    bool is_starting;                   /* the start of the store is in progress */
    bool is_cancelled;                  /* the queue was stopped during its start */
    _Atomic bool is_pending;            /* a start or stop of the store is in progress */
    int stop_error;                     /* result of the last stop: 0 or a negative errno */
    struct gw_blk_user user;
    /* Any thread reads them. */
    struct blk_count counts[BLK_N_KINDS];
    _Atomic uint64_t refused;
} __attribute__((aligned(64))); /* queues of different workers share no cache line */

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
    struct gw_blk_io io;      /* last: members of the store may follow */
};

struct gw_blk {
    struct gw_blk_store_ops store_ops;
    void *store;
    struct gw_blk_config config; /* serial: see below */
    _Atomic uint64_t capacity;
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
    struct blk_queue *queues; /* config.num_queues */
    struct {                  /* of a transfer of the device state */
        struct gw_state_writer *writer;
        struct gw_state_reader *reader;
        bool has_cache; /* with is_write_back */
        bool is_write_back;
    } state;
};

/* blk_device.c: the writeback byte as the device honours it; set it. Context: control worker. */
bool gw_blk_has_cache(const struct gw_blk *blk);
void gw_blk_set_cache(struct gw_blk *blk, bool is_write_back);

/* blk_state.c: the callbacks of the device state (device.h). */
int gw_blk_state_begin(void *dev, enum gw_state_direction direction, int *ret_fd);
int64_t gw_blk_state_save(void *dev, void *buf, size_t size);
int64_t gw_blk_state_load(void *dev, const void *data, size_t size);
int gw_blk_state_end(void *dev, enum gw_state_direction direction, int result);

/*
 * Read and check a popped request. Returns: true: submit b->io; false: the request has ended with
 * the status b->result.
 */
bool gw_blk_request_parse(struct blk_request *b, struct gw_request *req,
                          const struct blk_limits *limits);

/* Process up to BLK_BATCH popped requests of a queue. They complete in the call or later. */
void gw_blk_requests_run(struct gw_request **reqs, unsigned n_reqs, struct blk_queue *queue,
                         const struct blk_limits *limits);

/*
 * Start a queue and claim the store. Returns: 0; -EINPROGRESS: gw_queue_complete_start follows; the
 * result of the store's start.
 */
int gw_blk_queue_start(struct blk_queue *queue, struct gw_queue *q);

/*
 * Stop a queue. The store is released when no request is in flight. If requests may be suspended
 * (`may_suspend`), the requests in flight are cancelled, and suspended if they do not end soon.
 */
void gw_blk_queue_stop(struct blk_queue *queue, bool may_suspend);

/* Log a message through the callback of the device. */
void gw_blk_log(const struct gw_blk_config *cfg, enum gw_log_level level, const char *format, ...)
    __attribute__((format(printf, 3, 4)));
