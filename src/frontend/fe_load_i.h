/* SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause */
/* A load, as fe_load.c makes it and fe_load_run.c runs it. */
#pragma once

#include "fe_histogram.h"

#include <godwit/load.h>

#define GW_GUEST_LOAD_SEGMENTS_MAX 32

struct gw_guest_load_request {
    struct gw_driver_blk blk;
    gw_gpa_t data;
    uint8_t *host;
    uint64_t block;
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

struct gw_guest_load {
    struct gw_guest_load_config cfg;
    struct gw_guest_mem *mem;
    struct gw_guest_load_queue *queues;
    uint32_t block_size;
    unsigned n_in_flight;
    uint64_t random[4];
    uint64_t progress_ns; /* when the last request was completed, or the first one submitted */
    int interrupted;      /* atomic */
    int interrupt_fd;
    struct gw_guest_load_stats stats;
    struct gw_guest_histogram latency;
    char error[256];
};

/* Remember why; returns `r`. */
int gw_guest_load_fail(struct gw_guest_load *l, int r, const char *format, ...)
    __attribute__((format(printf, 3, 4)));
