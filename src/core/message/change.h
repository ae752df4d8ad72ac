/* SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause */
/* Changes of what all queues use: the map of guest memory, and the dirty log. */
#pragma once

#include "operation.h"

/*
 * Limit on replaced maps that requests still use. At the limit, the answer to a change waits for
 * the queues even in postcopy. Above the limit, a new map is refused until late requests end.
 */
#define GW_OLD_MAPS_MAX 16

/*
 * Replace the map of the session and of all queues; the old one is freed when no queue uses it,
 * and the message is answered then. Consumes `map`.
 * Returns: GW_OP_PENDING, and -ETIMEDOUT as the result if requests still use the old map; -EBUSY;
 * -ENOMEM.
 */
int gw_change_map(struct gw_daemon *d, struct gw_map *map);
/* The same in postcopy: does not wait for the queues. Returns: 0; as gw_change_map. */
int gw_change_map_posted(struct gw_daemon *d, struct gw_map *map);

/*
 * Replace the dirty log of the session and of all queues. What it replaces is freed when no queue
 * uses it. Consumes the resources in `log`. Returns: as gw_op_answer; -ENOMEM.
 */
int gw_change_log(struct gw_daemon *d, struct gw_dirty_log_state *log, gw_op_next *next);

/*
 * The end of the session's map. `op` was created by gw_change_new_map in advance. `is_used`:
 * requests in flight may still access its memory, which is then freed when they have ended.
 */
struct gw_op *gw_change_new_map(struct gw_daemon *d);
void gw_change_end(struct gw_daemon *d, struct gw_op *op, bool is_used);
