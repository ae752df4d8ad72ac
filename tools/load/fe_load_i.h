/* SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause */
/* A load, as fe_load.c makes it and fe_load_run.c runs it. */
#pragma once

#include "fe_disk.h"
#include "frontend/transport/fe_histogram.h"

#define GW_GUEST_LOAD_SEGMENTS_MAX 32

enum gw_guest_load_slot_state {
    GW_GUEST_LOAD_SLOT_ARMED = 0,
    GW_GUEST_LOAD_SLOT_BUSY,
    GW_GUEST_LOAD_SLOT_HELD,
};

/* A buffer that is read into and left alone, with header and status. */
struct gw_guest_load_slot {
    struct gw_driver_blk blk;
    gw_gpa_t data;
    uint8_t *host;
    unsigned n_mem; /* in which of the memories that the load had one after the other `host` is */
    gw_gpa_t batch; /* the add it came with */
    uint64_t block; /* what was read */
    struct gw_guest_disk_known known;
    enum gw_guest_load_slot_state state;
    bool is_retired;
    bool is_used;
};

struct gw_guest_load_hold {
    struct gw_guest_load_slot **slots;
    unsigned n_slots;
    unsigned cursor; /* the next to be read into */
    unsigned fresh;  /* before that: from here to the last */
    unsigned n_armed;
};

/* For gw_guest_load_sample. */
struct gw_guest_load_live {
    /* atomic */
    uint64_t requests, bytes, stall, latency;
    uint64_t since; /* when the last request was completed; 0: nothing is in flight */
    /* the sampler's */
    uint64_t sampled_requests, sampled_bytes;
};

struct gw_guest_load_request {
    struct gw_driver_blk blk;
    struct gw_guest_load_slot *slot; /* whose buffers it uses this time; NULL: its own */
    gw_gpa_t data;
    gw_gpa_t allocated; /* from here, data_len() bytes */
    uint8_t *host;
    uint64_t block;
    uint64_t flush_covers; /* gw_guest_disk_flush */
    uint64_t start_ns;
    uint32_t type;
    bool in_flight;
    struct gw_guest_load_request *next; /* free, or of the same batch */
};

struct gw_guest_load_queue {
    struct gw_driver *driver;
    struct gw_guest_load_request *requests; /* as many as the depth */
    struct gw_guest_load_request *free;
};

/* Blocks that are read in their order, in place of random requests. */
struct gw_guest_load_sweep {
    bool is_on;
    uint64_t next, end;
};

struct gw_guest_load {
    struct gw_guest_load_config cfg;
    struct gw_guest_mem *mem;
    unsigned n_mem; /* counts the memories that it had */
    struct gw_guest_load_queue *queues;
    uint32_t block_size;
    unsigned n_in_flight;
    uint64_t n_completed; /* ever; `stats` may begin anew, and leave out a sweep */
    struct gw_guest_load_sweep sweep;
    uint64_t random[4];
    struct gw_guest_load_hold hold;
    struct gw_guest_load_live live;
    uint64_t progress_ns; /* when the last request was completed, or the first one submitted */
    int interrupted;      /* atomic */
    int interrupt_fd;
    struct gw_guest_load_stats stats;
    struct gw_guest_histogram latency;
    char error[256];
};

/*
 * fe_load_hold.c: a buffer for a read, NULL in `ret` when there is none; returns 0 or -EILSEQ for
 * one that was checked. Then its request is completed, or forgotten.
 */
int gw_guest_load_hold_take(struct gw_guest_load *l, struct gw_guest_load_queue *q,
                            struct gw_guest_load_slot **ret);
void gw_guest_load_hold_complete(struct gw_guest_load *l, struct gw_guest_load_slot *slot,
                                 uint64_t block);
void gw_guest_load_hold_abandon(struct gw_guest_load *l, struct gw_guest_load_slot *slot);
/* The load has another memory: find its buffers there, now. Returns: 0; -EFAULT. */
int gw_guest_load_hold_locate(const struct gw_guest_load *l, struct gw_guest_load_slot *slot);
void gw_guest_load_hold_done(struct gw_guest_load *l);

/* Remember why; returns `r`. */
int gw_guest_load_fail(struct gw_guest_load *l, int r, const char *format, ...)
    __attribute__((format(printf, 3, 4)));
