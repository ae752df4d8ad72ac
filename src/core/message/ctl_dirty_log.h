/* SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause */
/*
 * Dirty-log functions for other handlers. All return: 0; -ERANGE if the log is too small, with
 * gw_last_error.
 */
#pragma once

#include "operation.h"

/* Turn VHOST_F_LOG_ALL on or off, then continue with `next`. May also return as gw_change_log. */
int gw_ctl_set_log_all(struct gw_daemon *d, bool all, gw_op_next *next);

/* Check that `log` covers the whole map, or the logged part of the ring. NULL passes. */
int gw_ctl_check_log_map(const struct gw_dirty_log *log, const struct gw_map *map);
int gw_ctl_check_log_ring(const struct gw_daemon *d, const struct gw_dirty_log *log,
                          const struct gw_vring *vring);
