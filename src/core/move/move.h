/* SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause */
/* Moving queues to other workers. Context: the control worker. */
#pragma once

#include "core/daemon/daemon.h"

/* Begin the moves that gw_queue_move asked for. */
void gw_moves_begin(struct gw_daemon *d);
