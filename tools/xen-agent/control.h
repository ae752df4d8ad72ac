/* SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause */
/*
 * The interface between the agent in a domU and the tool in dom0. The agent grants a page with
 * struct xen_control and further pages for bulk data, and offers an event channel; xenstore only
 * carries their numbers. The tool sends one request at a time, and the agent answers; a load may
 * run concurrently.
 *
 * Neither side trusts the other: each reads a shared value once, and checks it.
 */
#pragma once

#include <stdint.h>

#define XEN_PAGE     4096u
#define XEN_GRANT    (UINT64_C(1) << 63) /* flag in an address: the address is a grant reference */
#define XEN_BULK     16u                 /* pages for bulk data */
#define XEN_BULK_LEN (XEN_BULK * XEN_PAGE)
#define XEN_QUEUES   16u
#define XEN_LENT_MAX 16384u /* pages; their references fill the bulk pages */

/*
 * Key in the domain's own folder of xenstore, where the agent may write: "VERSION REFERENCE PORT".
 */
#define XEN_AGENT_KEY   "data/godwit-agent"
#define XEN_MAGIC       0x67774158u
#define XEN_VERSION     1u
#define XEN_ERROR_LEN   256u
#define XEN_STATE_LOAD  0x100u /* instead of the number of a queue */
#define XEN_STATE_TRACK 0x101u

enum xen_op {
    XEN_OP_LEND = 1, /* 0: number of pages; bulk: returns their references */
    XEN_OP_REVOKE,   /* 0: first lent page, 1: number of pages */
    XEN_OP_REGION,   /* 0: address, 1: pages, 2: allocate nothing there; bulk: indices of lent pages
                      */
    XEN_OP_REGION_GONE, /* 0: address */
    XEN_OP_ALLOC,       /* 0: length, 1: alignment; returns the address */
    XEN_OP_DRIVER,      /* bulk: struct xen_driver; returns a port */
    XEN_OP_LOAD,        /* bulk: struct xen_load; replaces the previous load */
    XEN_OP_SAVE,        /* 0: queue, or XEN_STATE_*; returns the length */
    XEN_OP_GET,         /* 0: offset, 1: bytes of the saved state; bulk: returns them */
    XEN_OP_PUT,         /* 0: offset, 1: bytes, 2: total length of the state; bulk: the bytes */
    XEN_OP_RESTORE,     /* 0: queue, or XEN_STATE_LOAD; uses the state that was put */
    XEN_OP_RUN,         /* 0: ms, 1: requests, 2: stall ms; continues after the answer */
    XEN_OP_DRAIN,       /* 0: stall ms; continues after the answer */
    XEN_OP_STATS,       /* bulk: returns struct xen_stats; 0: restart them */
    XEN_OP_BYE,         /* free drivers, regions and pages, for the next tool */
};

/* After a negative result, `error` has a sentence. */
struct xen_control {
    uint32_t magic;
    uint32_t request, answer; /* numbers; equal when no request is pending */
    uint32_t op;
    int32_t result; /* 0, or a negative errno */
    uint32_t n_refs;
    uint32_t refs[XEN_BULK];
    uint64_t arg[4];
    uint64_t ret;
    /* of the load */
    uint32_t interrupt; /* set by the tool */
    uint32_t running;
    int32_t run_result;
    uint32_t padding;
    uint64_t requests, bytes; /* total; atomic */
    uint64_t stall, latency;  /* the greatest since the tool set them to 0; atomic */
    char error[XEN_ERROR_LEN];
};

_Static_assert(sizeof(struct xen_control) <= XEN_PAGE, "it is one page");

/* See struct gw_driver_config. */
struct xen_driver {
    uint64_t desc, avail, used;
    uint32_t index, size, indirect_max, packed, place, padding;
};

/* See struct gw_guest_load_config and the configuration of its disk. */
struct xen_load {
    uint64_t disk_length, disk_seed, seed;
    uint32_t block_size, depth, write_percent, flush_percent, segments, hold_percent, n_queues;
    uint32_t indirect, no_data, scatter, blank;
};

/* See struct gw_guest_load_stats. */
struct xen_stats {
    uint64_t requests, reads, writes, flushes, bytes, held, verified, kicks, sleeps, run_ns;
    uint64_t p50, p90, p99, p999, max, stall, in_flight;
};

/* A range that the agent's driver wrote; the state of XEN_STATE_TRACK is an array of them. */
struct xen_run {
    uint64_t gpa, len;
};
