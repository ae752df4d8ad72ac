/* SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause */
/*
 * A back-end that never gives a session in postcopy a worker of its own: a disk that waits for a
 * missing page holds up all others of its worker.
 */
#include "core/move/postcopy_worker.h"

int __wrap_gw_postcopy_worker_begin(struct gw_daemon *d);
bool __wrap_gw_postcopy_worker_may_start(const struct gw_daemon *d, const struct gw_queue *q);

int __wrap_gw_postcopy_worker_begin(struct gw_daemon *d)
{
    return 0;
}

bool __wrap_gw_postcopy_worker_may_start(const struct gw_daemon *d, const struct gw_queue *q)
{
    return true;
}
