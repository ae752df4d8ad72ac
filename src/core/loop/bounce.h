/* SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause */
/*
 * Direct I/O on memory that the kernel cannot pin, as frames of a Xen domain: through memory of our
 * own. Everything else moves data by copying it itself, and needs no help.
 */
#pragma once

#include <godwit/worker.h>
#include <stdbool.h>

struct gw_loop;

/*
 * Start a read or write that needs that, so or in part: as of preadv(2), fewer bytes may be moved
 * than were asked for. Returns: was it started?
 */
bool gw_bounce_start(struct gw_loop *loop, struct gw_io *io);
