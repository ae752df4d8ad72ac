/* SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause */
/* A set of workers, which any number of daemons use. */
#pragma once

#include "worker.h"

/*
 * As gw_workers_new, with messages to `log`, or to where `cfg` says if it is NULL. `thread_name` is
 * the whole name of the thread of a single worker; NULL: as `cfg` says.
 */
int gw_workers_make(struct gw_workers **ret, const struct gw_workers_config *cfg,
                    struct gw_log *log, const char *thread_name);
