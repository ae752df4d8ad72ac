/* SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause */
/*
 * The device status of virtio (1.3, 2.1), which the front-end forwards: bits are added one after
 * another, and 0 resets the device. QEMU adds FEATURES_OK before ACKNOWLEDGE and DRIVER, so their
 * order is not checked.
 *
 * Messages: SET_STATUS, GET_STATUS.
 */
#include "dispatch.h"

#include <errno.h>
#include <inttypes.h>
#include <string.h>

/* Bits of the device status (virtio 1.3, 2.1). */
#define FEATURES_OK        0x8u
#define DEVICE_NEEDS_RESET 0x40u

static int status_reset(struct gw_daemon *d)
{
    int r = d->ops.set_status(d->dev, 0);

    d->session.status = 0;
    return r == 0 ? 0
                  : gw_fail(r < 0 ? r : -EINVAL, "the device cannot be reset: %s", strerror(-r));
}

/*
 * The device refuses the features. The driver learns of it when it reads the status again, and
 * finds FEATURES_OK clear (virtio 1.3, 3.1.1). So the session need not end.
 */
static int features_refused(struct gw_daemon *d, const struct gw_msg *msg, uint8_t status, int r)
{
    struct gw_session *s = &d->session;

    s->status = status & ~FEATURES_OK;
    (void)gw_fail(r, "the device refuses features %#" PRIx64 ": FEATURES_OK stays clear",
                  s->features);
    if ((msg->header.flags & GW_MSG_NEED_REPLY) &&
        gw_session_has_protocol(s, GW_PROTOCOL_F_REPLY_ACK))
        return r;
    gw_log(&d->log, GW_LOG_WARNING, "SET_STATUS: %s", gw_last_error());
    return 0;
}

int gw_ctl_set_status(struct gw_daemon *d, struct gw_msg *msg, struct gw_reply *reply)
{
    struct gw_session *s = &d->session;
    uint64_t status = gw_msg_u64(msg);
    unsigned cleared = s->status & ~(unsigned)status & ~DEVICE_NEEDS_RESET;
    int r;

    if (status > UINT8_MAX)
        return gw_fail(-EINVAL, "device status %#" PRIx64 " has more than 8 bits", status);
    if (status == 0)
        return gw_ctl_reset_rings(d, status_reset);
    if (cleared)
        return gw_fail(-EINVAL, "device status %#" PRIx64 " clears bits %#x; only 0 resets", status,
                       cleared);
    r = d->ops.set_status(d->dev, (uint8_t)status);
    r = r > 0 ? -EINVAL : r;
    if (r < 0 && (status & FEATURES_OK) && !(s->status & FEATURES_OK))
        return features_refused(d, msg, (uint8_t)status, r);
    if (r < 0)
        return gw_fail(r, "the device refuses status %#" PRIx64 ": %s", status, strerror(-r));
    s->status = (uint8_t)status;
    return 0;
}

int gw_ctl_get_status(struct gw_daemon *d, struct gw_msg *msg, struct gw_reply *reply)
{
    uint8_t status = d->session.status;

    if (d->ops.needs_reset && d->ops.needs_reset(d->dev))
        status |= DEVICE_NEEDS_RESET;
    gw_reply_u64(reply, status);
    return 0;
}

int gw_ctl_check_features_ok(const struct gw_session *s, uint64_t features)
{
    uint64_t changed = (features ^ s->features) & ~GW_BIT(GW_F_LOG_ALL);

    if (changed && (s->status & FEATURES_OK))
        return gw_fail(-EBUSY, "feature bits %#" PRIx64 " change after FEATURES_OK", changed);
    return 0;
}
