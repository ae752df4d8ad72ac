/* SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause */
/* Notifications to the front-end by messages. Control worker only. */
#pragma once

#include "core/daemon/daemon.h"

/*
 * Send the pending calls and errors of all queues, without waiting. They precede the answer to a
 * message that stops a ring, and so do not depend on whether rings run.
 * Returns: whether some are still pending because the channel is full.
 */
bool gw_inband_flush(struct gw_daemon *d);

/* A session begins: forget what the previous one has not received. */
void gw_inband_reset(struct gw_daemon *d);
