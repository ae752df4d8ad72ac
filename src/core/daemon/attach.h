/* SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause */
/*
 * A daemon and its workers: made for it, or given to it. Making and freeing a daemon are the only
 * calls that wait for a worker; where the calling thread runs the worker itself, they do not.
 */
#pragma once

#include "daemon.h"

/*
 * Make or take the workers, and call worker_start on each. Returns: 0; -EINVAL; -ENOMEM; as
 * gw_workers_new; what worker_start returned. After an error, gw_daemon_detach cleans up.
 */
int gw_daemon_attach(struct gw_daemon *d, const struct gw_daemon_config *cfg);

/* The beginning on one worker, where it is called. Returns: 0; what worker_start returned. */
int gw_daemon_enter_worker(struct gw_daemon *d, struct gw_worker *w);

/* Call worker_stop on each worker. On return no worker refers to a queue of the daemon. */
void gw_daemon_detach(struct gw_daemon *d);

/* Free the workers that were made for the daemon. */
void gw_daemon_free_workers(struct gw_daemon *d);

/*
 * May this thread wait for the daemon? Returns: 0; -EBUSY in a callback of one of its workers, or
 * of any worker on the thread of its external ones; -EPERM in a child of the process that made it.
 */
int gw_daemon_check_wait(const struct gw_daemon *d, const char *what);

/*
 * Run the external workers of the calling thread until the daemon has ended. Returns: false if this
 * thread has none that the daemon uses.
 */
bool gw_daemon_run_workers(struct gw_daemon *d);
