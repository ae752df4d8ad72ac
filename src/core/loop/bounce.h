/* SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause */
/*
 * Direct I/O on memory that the kernel cannot pin, such as frames of a Xen domain, through buffers
 * of our own. For all other I/O the kernel copies the data itself, so it needs no buffers.
 */
#pragma once

#include <godwit/worker.h>
#include <stdbool.h>

struct gw_loop;
struct gw_io_i;

/*
 * Start a read or write through a buffer if it needs one. As with preadv(2), it may transfer fewer
 * bytes than requested. Returns: was it started?
 */
bool gw_bounce_start(struct gw_loop *loop, struct gw_io_i *io);
