/* SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause */
/* Requests to the front-end, on the back-end channel. Control worker only. */
#pragma once

#include "core/daemon/daemon.h"

/* Consumes `fd`. Returns: 0; -EINVAL or -ENOTSOCK unless it is a connected Unix stream socket. */
int gw_backend_req_set_fd(struct gw_daemon *d, int fd);

/*
 * Send the pending CONFIG_CHANGE, if any, without waiting.
 * Returns: whether it is still pending because the channel is full.
 */
bool gw_backend_req_flush(struct gw_daemon *d);

/* Close the channel, if any. */
void gw_backend_req_close(struct gw_daemon *d);
