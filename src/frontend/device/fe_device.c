/* SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause */
/* Requests that the device answers: its status, and those of network devices. */
#include "frontend/transport/fe_requests.h"

#include <errno.h>
#include <string.h>

#define STATUS_FEATURES_OK 0x8u
#define STATUS_DRIVER_OK   0x7u /* with ACKNOWLEDGE and DRIVER */

int gw_frontend_encode_set_status(struct gw_frontend_op *op, uint8_t status)
{
    gw_frontend_encode_u64(op, GW_MSG_SET_STATUS, status);
    op->call.needs = GW_FRONTEND_NEEDS(STATUS);
    return GW_FRONTEND_STEP_SEND;
}

static int take_status(struct gw_frontend_op *op, struct gw_frontend_message *answer)
{
    uint64_t status;

    memcpy(&status, answer->payload, sizeof(status));
    if (status > UINT8_MAX)
        return gw_frontend_break(op->fe, -EPROTO, "GET_STATUS: answered with more than 8 bits");
    *(uint8_t *)op->call.ret = (uint8_t)status;
    return 0;
}

int gw_frontend_encode_get_status(struct gw_frontend_op *op, uint8_t *ret)
{
    int r = gw_frontend_encode_get_u64(op, GW_MSG_GET_STATUS, GW_FRONTEND_NEEDS(STATUS), NULL);

    op->call.ret = ret;
    op->call.finish = take_status;
    return r;
}

int gw_frontend_encode_send_rarp(struct gw_frontend_op *op, const uint8_t *mac)
{
    gw_frontend_encode_u64(op, GW_MSG_SEND_RARP, 0);
    memcpy(&op->call.payload.u64, mac, 6);
    op->call.needs = GW_FRONTEND_NEEDS(RARP);
    return GW_FRONTEND_STEP_SEND;
}

int gw_frontend_encode_net_set_mtu(struct gw_frontend_op *op, uint16_t mtu)
{
    gw_frontend_encode_u64(op, GW_MSG_NET_SET_MTU, mtu);
    op->call.needs = GW_FRONTEND_NEEDS(NET_MTU);
    return GW_FRONTEND_STEP_SEND;
}

/* An encoder as a step that is called again after its message. */
static int again(int r)
{
    return r == GW_FRONTEND_STEP_SEND ? GW_FRONTEND_STEP_SEND_AGAIN : r;
}

/*
 * Read the status, add bits that are missing, and read it again, because a device that refuses its
 * features leaves FEATURES_OK clear.
 */
static int add_status(struct gw_frontend_op *op, unsigned bits)
{
    bool has_bits = (op->status & bits) == bits;

    if (!(op->fe->protocol_features >> GW_PROTOCOL_F_STATUS & 1))
        return GW_FRONTEND_STEP_DONE;
    if (op->i == 1 && !has_bits)
        return again(gw_frontend_encode_set_status(op, (uint8_t)(op->status | bits)));
    if (op->i == 0 || (op->i == 2 && !has_bits))
        return again(gw_frontend_encode_get_status(op, &op->status));
    if (!has_bits)
        return gw_frontend_fail(-EREMOTEIO, "start: the back-end refused the features");
    return GW_FRONTEND_STEP_DONE;
}

int gw_frontend_step_features_ok(struct gw_frontend_op *op)
{
    return add_status(op, STATUS_FEATURES_OK);
}

int gw_frontend_step_driver_ok(struct gw_frontend_op *op)
{
    return add_status(op, STATUS_DRIVER_OK);
}

int gw_frontend_step_reset_status(struct gw_frontend_op *op)
{
    if (!(op->fe->protocol_features >> GW_PROTOCOL_F_STATUS & 1))
        return GW_FRONTEND_STEP_DONE;
    return gw_frontend_encode_set_status(op, 0);
}
