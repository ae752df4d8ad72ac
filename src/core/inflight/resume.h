/* SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause */
/* How a queue continues where the previous back-end stopped. */
#pragma once

#include <stdbool.h>
#include <stdint.h>

struct gw_head;
struct gw_inflight_entry;
struct gw_queue;
struct gw_queue_start;

/* What the previous back-end left. */
struct gw_resume {
    struct gw_inflight_entry *resubmit; /* [lock] requests to pop before all others */
    unsigned n_resubmit;                /* [lock] */
    unsigned next_resubmit;             /* [lock] the first that is not popped yet */
    uint64_t first_suspended;           /* [lock] its position, or UINT64_MAX */
    bool ring_unmarked; /* [lock] its writes to the ring may be unmarked in the log */
    bool taken_over;    /* atomic: continues the inflight part of an earlier session */
    bool uses_region;   /* atomic: the queue may access its inflight part */
};

/*
 * [lock] Resume where the previous back-end stopped, according to the inflight part of the start.
 * Returns: 0; -EINVAL, -ENOMEM, with gw_last_error.
 */
int gw_queue_resume(struct gw_queue *q, const struct gw_queue_start *start);
/* [lock] Take up to `n` of the next requests to resubmit. Returns: how many. */
unsigned gw_queue_take_resubmits(struct gw_queue *q, struct gw_head *heads, unsigned n);
/* [lock] The queue has stopped: detach its inflight part. */
void gw_queue_end_inflight(struct gw_queue *q);
/*
 * May the queue still access the inflight region, for example when requests of a start that the
 * device refused complete late? Any thread; false orders all of its accesses before the call.
 */
bool gw_queue_uses_inflight(const struct gw_queue *q);
