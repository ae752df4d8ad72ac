/* SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause */
/* Internal state of a load: created by fe_load.c, run by fe_load_run.c. */
#pragma once

#include "base/histogram.h"
#include "fe_disk.h"

#define GW_GUEST_LOAD_SEGMENTS_MAX 32

enum gw_guest_load_slot_state {
    GW_GUEST_LOAD_SLOT_ARMED = 0,
    GW_GUEST_LOAD_SLOT_BUSY,
    GW_GUEST_LOAD_SLOT_HELD,
};

/* A held buffer: read into once, then left unchanged; with its own header and status. */
struct gw_guest_load_slot {
    struct gw_driver_blk blk;
    gw_gpa_t data;
    uint8_t *host;
    unsigned n_mem; /* the load's n_mem for which `host` is valid */
    gw_gpa_t batch; /* the gpa of the gw_guest_load_hold_add that added it */
    uint64_t block; /* block that was read */
    struct gw_guest_disk_known known;
    enum gw_guest_load_slot_state state;
    bool is_retired;
    bool is_used;
};

struct gw_guest_load_hold {
    struct gw_guest_load_slot **slots;
    unsigned n_slots;
    unsigned cursor; /* next buffer to be read into */
    unsigned fresh;  /* newly added buffers from here on are used first */
    unsigned n_armed;
};

/* Counters for gw_guest_load_sample. */
struct gw_guest_load_live {
    /* atomic */
    uint64_t requests, bytes, stall, latency;
    uint64_t since; /* last completion time; 0: nothing in flight */
    /* used by the sampler only */
    uint64_t sampled_requests, sampled_bytes;
};

struct gw_guest_load_request {
    struct gw_driver_blk blk;
    struct gw_guest_load_slot *slot; /* held buffer in use for this read; NULL: its own buffer */
    gw_gpa_t data;
    gw_gpa_t allocated; /* start of the allocation of data_len() bytes */
    uint8_t *host;
    uint64_t block;
    uint64_t flush_covers; /* gw_guest_disk_flush */
    uint64_t start_ns;
    uint32_t type;
    bool in_flight;
    struct gw_guest_load_request *next; /* next free request, or next in a batch */
};

struct gw_guest_load_queue {
    struct gw_driver *driver;
    struct gw_guest_load_request *requests; /* array of cfg.depth */
    struct gw_guest_load_request *free;
};

/* A sequential read of a range of blocks, instead of random requests. */
struct gw_guest_load_sweep {
    bool is_on;
    uint64_t next, end;
};

struct gw_guest_load {
    struct gw_guest_load_config cfg;
    struct gw_guest_mem *mem;
    unsigned n_mem; /* number of memory changes */
    struct gw_guest_load_queue *queues;
    uint32_t block_size;
    unsigned n_in_flight;
    uint64_t n_completed; /* total; `stats` can be reset and excludes sweeps */
    struct gw_guest_load_sweep sweep;
    uint64_t random;
    struct gw_guest_load_hold hold;
    struct gw_guest_load_live live;
    uint64_t progress_ns; /* last completion, or first submission when idle */
    int interrupted;      /* atomic */
    int interrupt_fd;
    struct gw_guest_load_stats stats;
    struct gw_histogram latency;
    char error[256];
};

struct gw_guest_load_limits {
    uint64_t start_ns;
    uint64_t deadline_ns;  /* UINT64_MAX: none */
    uint64_t stall_ns;     /* UINT64_MAX: none */
    uint64_t last_request; /* stop when n_completed reaches this */
    bool drain;
};

/*
 * fe_load_run.c, the parts of a run: its beginning; one turn over all queues, which adds the number
 * of completed requests to `ret_n`; a pause after turns without work; the check for a stall; its
 * end.
 */
void gw_guest_load_begin(struct gw_guest_load *l, const struct gw_guest_load_limits *lim);
int gw_guest_load_turn(struct gw_guest_load *l, const struct gw_guest_load_limits *lim,
                       unsigned *ret_n);
void gw_guest_load_relax(unsigned n_idle);
int gw_guest_load_check_stall(struct gw_guest_load *l, uint64_t stall_ns, uint64_t now_ns);
void gw_guest_load_end(struct gw_guest_load *l, const struct gw_guest_load_limits *lim);

/*
 * fe_load_hold.c: take a buffer for a read; *ret is NULL if none is ready. Returns: 0; -EILSEQ if a
 * buffer that was checked is wrong. Later, complete or abandon the request.
 */
int gw_guest_load_hold_take(struct gw_guest_load *l, struct gw_guest_load_queue *q,
                            struct gw_guest_load_slot **ret);
void gw_guest_load_hold_complete(struct gw_guest_load *l, struct gw_guest_load_slot *slot,
                                 uint64_t block);
void gw_guest_load_hold_abandon(struct gw_guest_load *l, struct gw_guest_load_slot *slot);
/* Find the buffer in the load's current memory. Returns: 0; -EFAULT. */
int gw_guest_load_hold_locate(const struct gw_guest_load *l, struct gw_guest_load_slot *slot);
void gw_guest_load_hold_done(struct gw_guest_load *l);

/* Store the reason, unless one is stored already. Returns: `r`. */
int gw_guest_load_fail(struct gw_guest_load *l, int r, const char *format, ...)
    __attribute__((format(printf, 3, 4)));
