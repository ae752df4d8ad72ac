/* SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause */
/* Threads that perform file operations for a loop. */
#pragma once

#include <godwit/worker.h>

struct gw_io_pool;
struct gw_io_i;

/* Create a pool; its threads are started on demand. Returns: 0; -ENOMEM; -EMFILE. */
int gw_io_pool_new(struct gw_io_pool **ret);

/* End the threads; every operation must have been reaped. Accepts NULL. */
void gw_io_pool_free(struct gw_io_pool *pool);

/* Becomes readable when there is something to reap. */
int gw_io_pool_fd(const struct gw_io_pool *pool);

void gw_io_pool_start(struct gw_io_pool *pool, struct gw_io_i *io);

/* Cancel an operation that no thread has started; any other continues. */
void gw_io_pool_cancel(struct gw_io_pool *pool, struct gw_io_i *io);

/* Run `done` of all finished operations. */
void gw_io_pool_reap(struct gw_io_pool *pool);
