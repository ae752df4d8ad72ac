/* SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause */
/*
 * The transfer of a device's state, from SET_DEVICE_STATE_FD to the result that CHECK_DEVICE_STATE
 * answers. It runs on the control worker in pieces, one each turn; a thread of its own sleeps in
 * the front-end's descriptor (fd/peer_stream.h). A session has up to one transfer.
 */
#pragma once

#include "core/daemon/daemon.h"

/* Does the device have a state, or declare that it has none? */
bool gw_state_is_offered(const struct gw_daemon *d);

/*
 * Begin a transfer through `*fd`. All rings are stopped. Replaces a transfer that has ended.
 * Ownership: takes `*fd`, or leaves it to the caller. `*ret_fd` is set to the descriptor that the
 * device sends instead, which the caller then owns.
 * Returns: 0; -EBUSY while another transfer runs; the error of the device, or of the descriptor.
 */
int gw_state_begin(struct gw_daemon *d, enum gw_state_direction direction, int *fd, int *ret_fd);

/*
 * CHECK_DEVICE_STATE. The session continues when the transfer has ended.
 * Returns: as a handler; -EINVAL without a transfer.
 */
int gw_state_check(struct gw_daemon *d);

/* Is the state being streamed? Then no ring may start. */
bool gw_state_is_running(const struct gw_daemon *d);

/* Does CHECK_DEVICE_STATE wait for the end of the transfer? */
bool gw_state_is_awaited(const struct gw_daemon *d);

/* The device can continue (gw_daemon_continue_state), or nothing has changed. */
void gw_state_continue(struct gw_daemon *d);

/* The timer of the session, while the transfer is awaited. */
void gw_state_check_time(struct gw_daemon *d);

/* Cancel the transfer, if any, and forget its result. */
void gw_state_cancel(struct gw_daemon *d);
