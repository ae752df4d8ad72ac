/* SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause */
/*
 * Features, ownership, reset: messages about the session as a whole.
 *
 * Messages: GET_FEATURES, SET_FEATURES, SET_OWNER, RESET_OWNER, GET_PROTOCOL_FEATURES,
 * SET_PROTOCOL_FEATURES, GET_QUEUE_NUM, SET_BACKEND_REQ_FD, RESET_DEVICE.
 */
#include "base/cleanup.h"
#include "core/session/backend_req.h"
#include "core/session/session.h"
#include "core/state/transfer.h"
#include "ctl_dirty_log.h"
#include "ctl_iotlb.h"
#include "dispatch.h"

#include <errno.h>
#include <inttypes.h>
#include <string.h>

/* Feature bits between front-end and back-end, which the device does not receive. */
#define TRANSPORT_BITS (GW_BIT(GW_F_PROTOCOL_FEATURES) | GW_BIT(GW_F_LOG_ALL))

int gw_ctl_get_features(struct gw_daemon *d, struct gw_msg *msg, struct gw_reply *reply)
{
    gw_reply_u64(reply, gw_daemon_features(d));
    return 0;
}

/* Does the device accept the features? The reason that it gives becomes that of the refusal. */
static int ask_device(struct gw_daemon *d,
                      int (*check)(void *dev, uint64_t features, char *why, size_t size),
                      uint64_t features)
{
    char why[160] = "";
    int r = check ? check(d->dev, features, why, sizeof(why)) : 0;

    if (r == 0)
        return 0;
    why[sizeof(why) - 1] = '\0';
    r = r < 0 ? r : -EINVAL;
    return gw_fail(r, "the device refuses: %s", why[0] ? why : strerror(-r));
}

/* The message has been checked, and LOG_ALL and the rings are as it demands. */
static int acked_features(struct gw_daemon *d, struct gw_op *op, int r)
{
    if (r == 0 && d->ops.features_acked)
        d->ops.features_acked(d->dev, d->session.features & ~TRANSPORT_BITS);
    return r;
}

static int accept_features(struct gw_daemon *d, struct gw_op *op, int r)
{
    struct gw_session *s = &d->session;

    if (r < 0)
        return r;
    s->features = gw_msg_u64(gw_session_msg(d));
    /* "Ring states": without PROTOCOL_FEATURES, rings are enabled from the start. */
    if (!gw_session_has(s, GW_F_PROTOCOL_FEATURES))
        return gw_ctl_enable(d, NULL, true, acked_features);
    return acked_features(d, NULL, 0);
}

int gw_ctl_set_features(struct gw_daemon *d, struct gw_msg *msg, struct gw_reply *reply)
{
    struct gw_session *s = &d->session;
    uint64_t features = gw_msg_u64(msg);
    uint64_t unknown = features & ~gw_daemon_features(d);
    int r;

    if (unknown)
        return gw_fail(-EINVAL, "feature bits %#" PRIx64 " were not offered", unknown);
    /* Only LOG_ALL may change while a ring runs. */
    for (unsigned i = 0; i < d->num_queues; i++)
        if (s->vrings[i].started && ((features ^ s->features) & ~GW_BIT(GW_F_LOG_ALL)))
            return gw_fail(-EBUSY, "feature bits %#" PRIx64 " change while queue %u runs",
                           features ^ s->features, i);
    if ((features & GW_BIT(GW_F_ACCESS_PLATFORM)) &&
        gw_session_has_protocol(s, GW_PROTOCOL_F_GPA_ADDRESSES))
        return gw_fail(-EINVAL, "addresses behind an IOMMU are no guest addresses (GPA_ADDRESSES)");
    r = gw_ctl_check_features_ok(s, features);
    if (r == 0)
        r = ask_device(d, d->ops.check_features, features & ~TRANSPORT_BITS);
    if (r == 0 && (features & GW_BIT(GW_F_ACCESS_PLATFORM)))
        r = gw_ctl_allow_translation(d);
    if (r < 0)
        return r;
    return gw_ctl_set_log_all(d, (features & GW_BIT(GW_F_LOG_ALL)) != 0, accept_features);
}

int gw_ctl_set_owner(struct gw_daemon *d, struct gw_msg *msg, struct gw_reply *reply)
{
    return 0; /* the connected front-end is the owner */
}

/* Deprecated; its only remaining effect is to disable all rings. */
int gw_ctl_reset_owner(struct gw_daemon *d, struct gw_msg *msg, struct gw_reply *reply)
{
    return gw_ctl_enable(d, NULL, false, gw_op_result);
}

int gw_ctl_get_protocol_features(struct gw_daemon *d, struct gw_msg *msg, struct gw_reply *reply)
{
    gw_reply_u64(reply, gw_daemon_protocol_features(d));
    return 0;
}

int gw_ctl_set_protocol_features(struct gw_daemon *d, struct gw_msg *msg, struct gw_reply *reply)
{
    uint64_t features = gw_msg_u64(msg);
    int r = gw_daemon_check_protocol_features(d, features);

    if (r == 0)
        r = ask_device(d, d->ops.check_protocol_features, features);
    if (r < 0)
        return r;
    if ((features & GW_BIT(GW_PROTOCOL_F_XEN_MMAP)) && !d->session.owners &&
        gw_session_watch_owners(d) < 0)
        gw_log(&d->log, GW_LOG_WARNING, "owners of guest memory are not watched: %s",
               gw_last_error());
    d->session.protocol_features = features;
    return 0;
}

int gw_ctl_get_queue_num(struct gw_daemon *d, struct gw_msg *msg, struct gw_reply *reply)
{
    gw_reply_u64(reply, d->num_queues);
    return 0;
}

int gw_ctl_set_backend_req_fd(struct gw_daemon *d, struct gw_msg *msg, struct gw_reply *reply)
{
    return gw_backend_req_set_fd(d, gw_steal_fd(&msg->fds[0]));
}

static int reset_done(struct gw_daemon *d, struct gw_op *op, int r)
{
    struct gw_session *s = &d->session;

    for (unsigned i = 0; i < d->num_queues; i++) {
        s->vrings[i].started = false;
        s->vrings[i].is_stopping = false;
        s->vrings[i].has_base = false;
        s->vrings[i].has_call = false;
    }
    return s->reset(d);
}

static int queues_stopped(struct gw_daemon *d, struct gw_op *op, int r)
{
    struct gw_session *s = &d->session;

    for (unsigned i = 0; i < d->num_queues && r == 0; i++)
        if (s->vrings[i].started)
            r = gw_queue_stop_result(&d->queues[i]);
    if (r == 0)
        r = gw_ctl_enable(d, NULL, false, reset_done);
    if (r < 0) {
        /* Every queue has stopped or will stop, but only a successful stop yields the base. */
        for (unsigned i = 0; i < d->num_queues; i++)
            s->vrings[i].is_stopping = s->vrings[i].started;
    }
    return r;
}

int gw_ctl_reset_rings(struct gw_daemon *d, int (*reset)(struct gw_daemon *d))
{
    gw_state_cancel(d);
    for (unsigned i = 0; i < d->num_queues; i++)
        gw_ctl_cancel_start(&d->session.vrings[i]);
    d->session.reset = reset;
    return gw_ctl_stop(d, NULL, GW_STOP_DRAIN, queues_stopped);
}

static int device_reset(struct gw_daemon *d)
{
    d->session.status = 0;
    if (d->ops.reset)
        d->ops.reset(d->dev);
    return 0;
}

int gw_ctl_reset_device(struct gw_daemon *d, struct gw_msg *msg, struct gw_reply *reply)
{
    return gw_ctl_reset_rings(d, device_reset);
}
