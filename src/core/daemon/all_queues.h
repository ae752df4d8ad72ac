/* SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause */
/*
 * How the control thread calls all queues of a daemon, waits until they have stopped or quiesced,
 * or calls a worker that may be waiting for a page.
 */
#pragma once

#include "daemon.h"

/* Run `fn(q, arg)` for every queue, on its worker, and wait for all of them. */
void gw_daemon_call_on_queues(struct gw_daemon *d, void (*fn)(struct gw_queue *q, void *arg),
                              void *arg);

/*
 * Run `fn` on a worker. In postcopy the worker may be waiting for a page, so the call is posted
 * with a copy of `arg` (`size` bytes), and `fn` owns the resources in the copy. Calls run in order,
 * whether posted or waited for.
 * Returns: the result of `fn`; 0 if the call was posted, and then the result of `fn` is lost.
 */
int gw_daemon_post_or_call(struct gw_daemon *d, struct gw_worker *w, int (*fn)(void *arg),
                           void *arg, size_t size);
/* The same for every queue. `arg` is not copied: it must be valid until all have run `fn`. */
void gw_daemon_post_to_queues(struct gw_daemon *d, void (*fn)(struct gw_queue *q, void *arg),
                              void *arg);

/*
 * Wait for a latch that the queues count, and log slow queues; `what` names the operation in the
 * log. After -ETIMEDOUT no queue refers to the latch.
 */
int gw_daemon_drain(struct gw_daemon *d, struct gw_latch *latch, const char *what);

/* Stop every queue. Returns: 0; -ETIMEDOUT if some queues are still stopping. */
int gw_daemon_stop_queues(struct gw_daemon *d, enum gw_queue_stop how);
