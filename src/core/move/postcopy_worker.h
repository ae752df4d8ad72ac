/* SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause */
/*
 * The worker of a session in postcopy. A queue that waits for a missing page holds up its worker.
 * So while a session listens for pages, a daemon that shares its workers with others runs its
 * queues on a worker of its own. Context: the control worker.
 */
#pragma once

#include "core/daemon/daemon.h"

/*
 * Before POSTCOPY_LISTEN: start the worker, and move all queues there. Returns: 0 if no queue has
 * to move; GW_OP_PENDING, and gw_ctl_postcopy_moved continues; -ENOMEM; the errno of a thread or
 * fd.
 */
int gw_postcopy_worker_begin(struct gw_daemon *d);

/* After postcopy: move the queues back. */
void gw_postcopy_worker_end(struct gw_daemon *d);

/* A move has ended: continue a POSTCOPY_LISTEN, or end the worker if no queue is left there. */
void gw_postcopy_worker_check(struct gw_daemon *d);

/*
 * Where a queue that is not moving has to go next: to the worker of postcopy and back, or where the
 * embedder wants it. Forgets what it returns. Returns: the worker; NULL if it may stay.
 */
struct gw_worker *gw_postcopy_worker_next(struct gw_daemon *d, struct gw_queue *q);

/* May the queue start now? Returns: false if it might wait for a page on a shared worker. */
bool gw_postcopy_worker_may_start(const struct gw_daemon *d, const struct gw_queue *q);
