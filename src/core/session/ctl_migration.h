/* SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause */
/* What other handlers ask of the dirty log. All return 0 or -ERANGE, with gw_last_error. */
#pragma once

#include "core/daemon/daemon.h"

/* LOG_ALL comes or goes. */
int gw_ctl_set_log_all(struct gw_daemon *d, bool all);

/* Does `log` cover all of the map, what is written of the ring? Without a log, yes. */
int gw_ctl_check_log_map(const struct gw_dirty_log *log, const struct gw_map *map);
int gw_ctl_check_log_ring(const struct gw_daemon *d, const struct gw_dirty_log *log,
                          const struct gw_vring *vring);
