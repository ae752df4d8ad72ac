/* SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause */
/* The control worker between sessions: how the next session begins, and when the daemon ends. */
#pragma once

#include "daemon.h"

/*
 * What the daemon has on the control worker: sources, a post, and its timer. Returns: 0; -ENOMEM.
 * Context: any thread, before the daemon is started.
 */
int gw_control_init(struct gw_daemon *d);

/* A move has ended. Context: the control worker. */
void gw_control_moved(struct gw_daemon *d);

/* The session has ended, with 0 or a negative errno. Context: the control worker. */
void gw_control_session_ended(struct gw_daemon *d, int r);
