/* SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause */
/* The control worker between sessions: how the next session begins, and when the daemon ends. */
#pragma once

#include "daemon.h"

/* Sources and posts of the control worker. Context: any thread, before the worker runs. */
void gw_control_init(struct gw_daemon *d);

/*
 * Start the control worker. Returns: 0; as gw_worker_start; -ENOMEM.
 * gw_control_done ends it, after the other workers.
 */
int gw_control_start(struct gw_daemon *d);
void gw_control_done(struct gw_daemon *d);

/* The session has ended, with 0 or a negative errno. Context: the control worker. */
void gw_control_session_ended(struct gw_daemon *d, int r);
