/* SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause */
/* Requests to the front-end, on the back-end channel. Control thread only. */
#pragma once

#include "core/daemon/daemon.h"

/* Consumes `fd`. Returns: 0; -EINVAL when it is no Unix stream socket. */
int gw_backend_req_set_fd(struct gw_daemon *d, int fd);

/*
 * Tell what waits to be told, if it can be told now.
 * Returns: is something left that a writable channel would let out?
 */
bool gw_backend_req_flush(struct gw_daemon *d);
