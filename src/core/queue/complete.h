/* SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause */
/*
 * From completed requests to the driver's interrupt; complete.c has the order. Everything here runs
 * under the lock of the queue.
 */
#pragma once

#include "base/list.h"

#include <godwit/memory.h>
#include <stdbool.h>
#include <stdint.h>

struct gw_queue;
struct gw_request_i;

/* The requests that are completed, and not yet marked and published. */
struct gw_batch {
    struct gw_request_i *completed; /* [lock] list by next_free, the last first */
    struct gw_list link;            /* worker.dirty */
    unsigned n;                     /* [lock] completed since the last publish */
    unsigned publish_step;          /* the worker publishes at this `n`; 0: not yet known */
    bool partially_published;       /* [lock] published, but not yet notified */
    bool call_due;                  /* [lock] the driver wants to be notified */
    bool in_order;                  /* IN_ORDER: used in the order of in_flight.n_taken */
};

/* Publish the used elements written so far and notify the driver; complete.c has the order. */
void gw_queue_publish(struct gw_queue *q);
/* Mark all buffers that the device may have written. The caller has issued a full fence. */
void gw_request_mark(const struct gw_queue *q, const struct gw_request_i *r);
/* Mark what the device has just written, other than buffers of requests. Takes the queue's lock. */
void gw_queue_mark_write(struct gw_queue *q, gw_gpa_t gpa, uint64_t len);
/* Once there is a log: mark what was written while LOG_ALL was set without one. */
void gw_queue_mark_unlogged(struct gw_queue *q);
/* IN_ORDER: may its used element be skipped? That implies that its buffers are filled completely.
 */
bool gw_request_can_be_skipped(const struct gw_request_i *r);
/* Answer a request that is in flight. */
void gw_request_answer(struct gw_queue *q, struct gw_request_i *r, uint32_t len);
/* Notify the driver, now or with the loop's next submission. */
void gw_queue_call(struct gw_queue *q);
