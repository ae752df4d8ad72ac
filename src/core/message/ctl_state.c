/* SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause */
/*
 * Device state ("Migrating back-end state"): only while the device is suspended, that is, all rings
 * are stopped. The answer to SET_DEVICE_STATE_FD is an error number, and whether the back-end sends
 * a descriptor of its own.
 *
 * Messages: SET_DEVICE_STATE_FD, CHECK_DEVICE_STATE.
 */
#include "base/cleanup.h"
#include "core/state/transfer.h"
#include "dispatch.h"

#include <errno.h>

static int check_suspended(const struct gw_daemon *d)
{
    for (unsigned i = 0; i < d->num_queues; i++)
        if (d->session.vrings[i].started)
            return gw_fail(-EBUSY, "queue %u runs: send GET_VRING_BASE first", i);
    return 0;
}

int gw_ctl_set_device_state_fd(struct gw_daemon *d, struct gw_msg *msg, struct gw_reply *reply)
{
    const struct gw_wire_device_state *wire = (const void *)msg->payload;
    int ret_fd = -1;
    int r;

    if (wire->direction != GW_STATE_SAVE && wire->direction != GW_STATE_LOAD)
        return gw_fail(-EINVAL, "direction %u is neither save (0) nor load (1)", wire->direction);
    if (wire->phase != GW_STATE_PHASE_STOPPED)
        return gw_fail(-EOPNOTSUPP, "phase %u is not stopped (0)", wire->phase);
    r = check_suspended(d);
    if (r == 0)
        r = gw_state_begin(d, (enum gw_state_direction)wire->direction, &msg->fds[0], &ret_fd);
    if (r < 0)
        return r;
    reply->fd = ret_fd;
    gw_reply_u64(reply, ret_fd < 0 ? GW_STATE_FD_NONE : 0);
    return 0;
}

int gw_ctl_check_device_state(struct gw_daemon *d, struct gw_msg *msg, struct gw_reply *reply)
{
    return gw_state_check(d);
}
