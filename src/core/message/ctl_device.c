/* SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause */
/*
 * Messages that a callback of the device answers. Each is offered only with its callback.
 *
 * Messages: SEND_RARP, NET_SET_MTU.
 */
#include "dispatch.h"

#include <errno.h>
#include <inttypes.h>
#include <string.h>

/* Of the MTU that a network device reports (virtio 1.3, 5.1.4). */
#define MTU_MIN 68u

static int result(const char *what, int r)
{
    r = r > 0 ? -EINVAL : r;
    return r < 0 ? gw_fail(r, "the device %s: %s", what, strerror(-r)) : 0;
}

int gw_ctl_send_rarp(struct gw_daemon *d, struct gw_msg *msg, struct gw_reply *reply)
{
    return result("cannot announce the guest", d->ops.send_rarp(d->dev, msg->payload));
}

int gw_ctl_net_set_mtu(struct gw_daemon *d, struct gw_msg *msg, struct gw_reply *reply)
{
    uint64_t mtu = gw_msg_u64(msg);

    if (mtu < MTU_MIN || mtu > UINT16_MAX)
        return gw_fail(-EINVAL, "an MTU of %" PRIu64 " is not %u to %u", mtu, MTU_MIN, UINT16_MAX);
    return result("refuses the MTU", d->ops.set_mtu(d->dev, (uint16_t)mtu));
}
