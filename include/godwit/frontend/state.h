/* SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause */
/*
 * The state of a device, for a migration or a snapshot: what a back-end knows and the driver will
 * not repeat. It is a stream of bytes, which only the back-end interprets.
 */
#ifndef GODWIT_FRONTEND_STATE_H
#define GODWIT_FRONTEND_STATE_H

#include <godwit/frontend/frontend.h>
#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif
#pragma GCC visibility push(default)

/* enum gw_frontend_state_direction: where a device state goes. */
enum gw_frontend_state_direction {
    GW_FRONTEND_STATE_SAVE = 0, /* the back-end writes it */
    GW_FRONTEND_STATE_LOAD = 1, /* the back-end reads it */
};

/*
 * Begin to move the state of the device through `fd`, a pipe or the like: SET_DEVICE_STATE_FD. All
 * rings must be stopped until gw_frontend_check_device_state. The end of the state is the end of
 * the file. Needs DEVICE_STATE (19). gw_frontend_save_state and gw_frontend_load_state do all of
 * it.
 *
 * Ownership: `fd` stays the caller's. If the back-end sends a descriptor to use instead, it is in
 * `ret_fd`, and the caller closes it; -1: none. The back-end may keep any call on it, or on the
 * other end of a pipe, waiting.
 * Returns: as gw_frontend_get_features; -EINVAL for an unknown direction.
 * Context: as gw_frontend_get_features.
 */
int gw_frontend_set_device_state_fd(struct gw_frontend *fe,
                                    enum gw_frontend_state_direction direction, int fd,
                                    int *ret_fd);

/*
 * Ask whether the state was moved completely: CHECK_DEVICE_STATE. A back-end may answer only after
 * it has read or written all of it.
 *
 * Returns: as gw_frontend_get_features; -EREMOTEIO if it failed.
 * Context: as gw_frontend_get_features.
 */
int gw_frontend_check_device_state(struct gw_frontend *fe);

/*
 * Save the state of the device: all of it, up to `limit` bytes. All rings must be stopped. Fails if
 * no byte arrives for the time limit of requests.
 *
 * Ownership: free `ret_data` with free(3); NULL if `ret_len` is 0.
 * Returns: as gw_frontend_check_device_state; -EFBIG if the state is longer; -ENOMEM; -EMFILE and
 * other errnos of pipe2(2) and eventfd(2); -ETIMEDOUT if the bytes stop, and the session continues.
 * Context: as gw_frontend_get_features.
 */
int gw_frontend_save_state(struct gw_frontend *fe, uint64_t limit, void **ret_data,
                           size_t *ret_len);

/*
 * Load a state into the device: `len` bytes at `data`, which gw_frontend_save_state returned in
 * another session, before the rings start.
 *
 * Returns: as gw_frontend_save_state; -EPIPE if the back-end reports success without reading all of
 * it.
 * Context: as gw_frontend_get_features.
 */
int gw_frontend_load_state(struct gw_frontend *fe, const void *data, size_t len);

#pragma GCC visibility pop
#ifdef __cplusplus
}
#endif
#endif
