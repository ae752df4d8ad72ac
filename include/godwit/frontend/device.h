/* SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause */
/*
 * Requests that a device answers itself, and kicks that are messages. The second form of each does
 * not block, see <godwit/frontend/async.h>.
 *
 * Context, unless a function states another: the thread of the front-end.
 */
#ifndef GODWIT_FRONTEND_DEVICE_H
#define GODWIT_FRONTEND_DEVICE_H

#include <godwit/frontend/async.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif
#pragma GCC visibility push(default)

/*
 * Set, or read, the device status (virtio 1.3, 2.1): SET_STATUS and GET_STATUS. The status only
 * gains bits, and 0 resets the device. A device that refuses the features leaves FEATURES_OK (8)
 * clear. gw_frontend_start adds FEATURES_OK after SET_FEATURES, and ACKNOWLEDGE, DRIVER and
 * DRIVER_OK at its end; gw_frontend_stop sets 0. All of it needs STATUS (16).
 *
 * Returns: as gw_frontend_get_features.
 * Context: as gw_frontend_get_features.
 */
int gw_frontend_set_status(struct gw_frontend *fe, uint8_t status);
int gw_frontend_get_status(struct gw_frontend *fe, uint8_t *ret);

/*
 * Make a network device announce the guest, which has the address of 6 bytes at `mac`: SEND_RARP.
 * Needs RARP (2).
 *
 * Returns: as gw_frontend_get_features.
 * Context: as gw_frontend_get_features.
 */
int gw_frontend_send_rarp(struct gw_frontend *fe, const uint8_t *mac);

/*
 * Set the MTU of a network device: NET_SET_MTU. Needs NET_MTU (4).
 *
 * Returns: as gw_frontend_get_features.
 * Context: as gw_frontend_get_features.
 */
int gw_frontend_net_set_mtu(struct gw_frontend *fe, uint16_t mtu);

/*
 * Kick ring `index` with a message, which starts it if it is stopped: VRING_KICK. The back-end
 * sends its calls and errors on the back-end channel (requests 4 and 5, whose payload begins with
 * the ring as a u32), unless gw_frontend_set_vring_call or gw_frontend_set_vring_err set something
 * else. Needs INBAND_NOTIFICATIONS (14), which needs BACKEND_REQ (5) and REPLY_ACK (3).
 *
 * Returns: as gw_frontend_get_features.
 * Context: as gw_frontend_get_features.
 */
int gw_frontend_vring_kick(struct gw_frontend *fe, unsigned index);

/*
 * Start the request of the function without "_async".
 *
 * Ownership: the address at `mac` is copied.
 * Returns: as gw_frontend_get_features_async.
 */
int gw_frontend_set_status_async(struct gw_frontend *fe, uint8_t status, gw_frontend_done_cb *done,
                                 void *arg);
int gw_frontend_get_status_async(struct gw_frontend *fe, uint8_t *ret, gw_frontend_done_cb *done,
                                 void *arg);
int gw_frontend_send_rarp_async(struct gw_frontend *fe, const uint8_t *mac,
                                gw_frontend_done_cb *done, void *arg);
int gw_frontend_vring_kick_async(struct gw_frontend *fe, unsigned index, gw_frontend_done_cb *done,
                                 void *arg);
int gw_frontend_net_set_mtu_async(struct gw_frontend *fe, uint16_t mtu, gw_frontend_done_cb *done,
                                  void *arg);

#pragma GCC visibility pop
#ifdef __cplusplus
}
#endif
#endif
