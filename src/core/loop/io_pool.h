/* SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause */
/* Threads that do file operations for a loop that cannot. */
#pragma once

#include <godwit/worker.h>

struct gw_io_pool;

/* A pool without threads yet; they come with the operations. Returns: 0; -ENOMEM; -EMFILE. */
int gw_io_pool_new(struct gw_io_pool **ret);

/* Ends the threads; every operation must have been reaped. NULL is fine. */
void gw_io_pool_free(struct gw_io_pool *pool);

/* Becomes readable when there is something to reap. */
int gw_io_pool_fd(const struct gw_io_pool *pool);

void gw_io_pool_start(struct gw_io_pool *pool, struct gw_io *io);

/* End an operation that no thread has begun; any other goes on. */
void gw_io_pool_cancel(struct gw_io_pool *pool, struct gw_io *io);

/* Run `done` of everything that finished. */
void gw_io_pool_reap(struct gw_io_pool *pool);
