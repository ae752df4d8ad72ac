/* SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause */
/*
 * A session: one connection, from accept to hang-up. All functions run on the control worker, and
 * none of them waits. While a message is being handled the session reads no further one.
 */
#pragma once

#include "core/daemon/daemon.h"

/* Begin a session. Consumes `fd`. The end is reported by gw_control_session_ended. */
void gw_session_begin(struct gw_daemon *d, int fd);

/*
 * End the session: 0 after a hang-up or a stop of the daemon; a negative errno after a fault of
 * the front-end, which was logged. Takes until the queues have stopped, or the drain time-out.
 */
void gw_session_end(struct gw_daemon *d, int r);

/* Watch the owners of guest memory (gw_mem_backend_watch). Returns: 0; a negative errno. */
int gw_session_watch_owners(struct gw_daemon *d);

/* Send what waits for the back-end channel, and watch the channel. */
void gw_session_flush_backend(struct gw_daemon *d);

/* The operation that the message waited for has ended. No effect for GW_OP_PENDING. */
void gw_session_continue(struct gw_daemon *d, int r);

/* The control fd was signalled, and the daemon is not stopping: check what may have happened. */
void gw_session_check(struct gw_daemon *d);

/* The daemon's timer has fired. */
void gw_session_check_time(struct gw_daemon *d);
