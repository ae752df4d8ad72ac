/* SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause */
/*
 * What the agent in a domU and the tool in dom0 agree on. The agent grants one page, struct
 * xen_control, and some more for what does not fit into it, and offers one event channel; xenstore
 * carries only the introduction. The tool asks, the agent does and answers, one request at a time;
 * a load runs beside that.
 *
 * Neither trusts the other: what the other one can change is read once, and checked.
 */
#pragma once

#include <stdint.h>

#define XEN_PAGE     4096u
#define XEN_GRANT    (UINT64_C(1) << 63) /* in an address: it is a grant reference */
#define XEN_BULK     16u                 /* pages */
#define XEN_BULK_LEN (XEN_BULK * XEN_PAGE)
#define XEN_QUEUES   16u
#define XEN_LENT_MAX 16384u /* pages; their numbers fill what is for bulk */

/* Below the domain's own folder in xenstore, where it may write: "VERSION REFERENCE PORT". */
#define XEN_AGENT_KEY   "data/godwit-agent"
#define XEN_MAGIC       0x67774158u
#define XEN_VERSION     1u
#define XEN_ERROR_LEN   256u
#define XEN_STATE_LOAD  0x100u /* in place of a queue's number */
#define XEN_STATE_TRACK 0x101u

enum xen_op {
    XEN_OP_LEND = 1,    /* 0: pages; bulk: their references */
    XEN_OP_REVOKE,      /* 0: of the lent pages this one, 1: and so many behind it */
    XEN_OP_REGION,      /* 0: address, 1: pages, 2: nothing is allocated there; bulk: which */
    XEN_OP_REGION_GONE, /* 0: address */
    XEN_OP_ALLOC,       /* 0: length, 1: alignment; returns the address */
    XEN_OP_DRIVER,      /* bulk: struct xen_driver; returns a port */
    XEN_OP_LOAD,        /* bulk: struct xen_load; a load before is freed */
    XEN_OP_SAVE,        /* 0: of which queue, or XEN_STATE_*; returns the length */
    XEN_OP_GET,         /* 0: from there, 1: so many bytes of what was saved, into bulk */
    XEN_OP_PUT,         /* 0: there, 1: so many bytes from bulk, 2: of so many in all */
    XEN_OP_RESTORE,     /* 0: of which queue, or XEN_STATE_LOAD, what was put */
    XEN_OP_RUN,         /* 0: ms, 1: requests, 2: stall ms; it goes on behind the answer */
    XEN_OP_DRAIN,       /* 0: stall ms; the same */
    XEN_OP_STATS,       /* bulk: struct xen_stats; 0: restart them */
    XEN_OP_BYE,         /* forget drivers, regions and pages: for the next tool */
};

/* Behind the error numbers there is a sentence in `error`. */
struct xen_control {
    uint32_t magic;
    uint32_t request, answer; /* numbers: equal when nothing is asked */
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
    uint64_t requests, bytes; /* so far; atomic */
    uint64_t stall, latency;  /* the greatest since the tool has set them to 0; atomic */
    char error[XEN_ERROR_LEN];
};

_Static_assert(sizeof(struct xen_control) <= XEN_PAGE, "it is one page");

/* struct gw_driver_config. */
struct xen_driver {
    uint64_t desc, avail, used;
    uint32_t index, size, indirect_max, packed, place, padding;
};

/* struct gw_guest_load_config and that of its disk. */
struct xen_load {
    uint64_t disk_length, disk_seed, seed;
    uint32_t block_size, depth, write_percent, flush_percent, segments, hold_percent, n_queues;
    uint32_t indirect, no_data, scatter, blank;
};

/* struct gw_guest_load_stats. */
struct xen_stats {
    uint64_t requests, reads, writes, flushes, bytes, held, verified, kicks, sleeps, run_ns;
    uint64_t p50, p90, p99, p999, max, stall, in_flight;
};

/* What the driver's side wrote, in the state of XEN_STATE_TRACK. */
struct xen_run {
    uint64_t gpa, len;
};
