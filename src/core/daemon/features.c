/* SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause */
/*
 * The features that a daemon offers: what the library can do, what the device has callbacks for,
 * and what the device adds or withholds.
 */
#include "base/checked.h"
#include "core/state/transfer.h"
#include "daemon.h"

#include <errno.h>
#include <inttypes.h>

uint64_t gw_daemon_features(const struct gw_daemon *d)
{
    uint64_t features = d->ops.features ? d->ops.features(d->dev) : 0;

    /* Memory of Xen domains has grants instead. */
    if (d->mem_caps & GW_MEM_CAP_XEN)
        features &= ~GW_BIT(GW_F_ACCESS_PLATFORM);
    return features | GW_BIT(GW_F_NOTIFY_ON_EMPTY) | GW_BIT(GW_F_LOG_ALL) |
           GW_BIT(GW_F_ANY_LAYOUT) | GW_BIT(GW_F_RING_INDIRECT_DESC) | GW_BIT(GW_F_RING_EVENT_IDX) |
           GW_BIT(GW_F_PROTOCOL_FEATURES) | GW_BIT(GW_F_VERSION_1) | GW_BIT(GW_F_RING_PACKED) |
           GW_BIT(GW_F_IN_ORDER);
}

/* What can be offered, without the wishes of the device. */
static uint64_t usable_protocol_features(const struct gw_daemon *d)
{
    uint64_t features = GW_BIT(GW_PROTOCOL_F_MQ) | GW_BIT(GW_PROTOCOL_F_LOG_SHMFD) |
                        GW_BIT(GW_PROTOCOL_F_REPLY_ACK) | GW_BIT(GW_PROTOCOL_F_BACKEND_REQ) |
                        GW_BIT(GW_PROTOCOL_F_INFLIGHT_SHMFD) | GW_BIT(GW_PROTOCOL_F_RESET_DEVICE) |
                        GW_BIT(GW_PROTOCOL_F_CONFIGURE_MEM_SLOTS) |
                        GW_BIT(GW_PROTOCOL_F_GET_VRING_BASE_INFLIGHT) |
                        GW_BIT(GW_PROTOCOL_F_GET_VRING_BASE_SKIP_DRAIN);

    if (d->ops.get_config)
        features |= GW_BIT(GW_PROTOCOL_F_CONFIG);
    if (gw_state_is_offered(d))
        features |= GW_BIT(GW_PROTOCOL_F_DEVICE_STATE);
    if (d->ops.send_rarp)
        features |= GW_BIT(GW_PROTOCOL_F_RARP);
    if (d->ops.set_mtu)
        features |= GW_BIT(GW_PROTOCOL_F_NET_MTU);
    if (d->ops.set_status)
        features |= GW_BIT(GW_PROTOCOL_F_STATUS);
    if (d->has_postcopy)
        features |= GW_BIT(GW_PROTOCOL_F_PAGEFAULT);
    if (d->shmem)
        features |= GW_BIT(GW_PROTOCOL_F_SHMEM) | GW_BIT(GW_PROTOCOL_F_BACKEND_SEND_FD);
    if (d->ops.get_shared_object)
        features |= GW_BIT(GW_PROTOCOL_F_SHARED_OBJECT);
    if (d->ops.host_notifiers)
        features |= GW_BIT(GW_PROTOCOL_F_HOST_NOTIFIER) | GW_BIT(GW_PROTOCOL_F_BACKEND_SEND_FD);
    if (d->mem_caps & GW_MEM_CAP_XEN)
        features |= GW_BIT(GW_PROTOCOL_F_XEN_MMAP);
    return features;
}

/*
 * Offered only if the device asks for them: QEMU acknowledges INBAND_NOTIFICATIONS, which it does
 * not implement, and GPA_ADDRESSES excludes an IOMMU.
 */
#define ON_REQUEST \
    (GW_BIT(GW_PROTOCOL_F_INBAND_NOTIFICATIONS) | GW_BIT(GW_PROTOCOL_F_GPA_ADDRESSES))

/* A feature, and those without which it must not be negotiated. In the order of dependency. */
static const struct {
    enum gw_protocol_feature bit;
    uint64_t needs;
} needs[] = {
    {GW_PROTOCOL_F_INBAND_NOTIFICATIONS,
     GW_BIT(GW_PROTOCOL_F_BACKEND_REQ) | GW_BIT(GW_PROTOCOL_F_REPLY_ACK)},
    {GW_PROTOCOL_F_GET_VRING_BASE_INFLIGHT, GW_BIT(GW_PROTOCOL_F_INFLIGHT_SHMFD)},
    {GW_PROTOCOL_F_GET_VRING_BASE_SKIP_DRAIN, GW_BIT(GW_PROTOCOL_F_GET_VRING_BASE_INFLIGHT)},
};

uint64_t gw_daemon_protocol_features(struct gw_daemon *d)
{
    uint64_t usable = usable_protocol_features(d), features = usable;

    if (d->ops.protocol_features)
        features = d->ops.protocol_features(d->dev, usable);
    usable |= ON_REQUEST;
    if (features & ~usable)
        gw_log(&d->log, GW_LOG_ERROR,
               "protocol feature bits %#" PRIx64 " of the device are not offered: unknown, or a "
               "callback of the device is missing",
               features & ~usable);
    features &= usable;
    for (unsigned i = 0; i < GW_ARRAY_SIZE(needs); i++)
        if ((features & needs[i].needs) != needs[i].needs)
            features &= ~GW_BIT(needs[i].bit);
    return features;
}

int gw_daemon_check_protocol_features(struct gw_daemon *d, uint64_t features)
{
    uint64_t unknown = features & ~gw_daemon_protocol_features(d);

    if (unknown)
        return gw_fail(-EINVAL, "protocol feature bits %#" PRIx64 " were not offered", unknown);
    for (unsigned i = 0; i < GW_ARRAY_SIZE(needs); i++)
        if ((features & GW_BIT(needs[i].bit)) && (features & needs[i].needs) != needs[i].needs)
            return gw_fail(-EINVAL, "protocol feature %d needs %#" PRIx64 " beside it",
                           needs[i].bit, needs[i].needs);
    return 0;
}
