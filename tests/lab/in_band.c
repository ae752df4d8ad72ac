/* SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause */
/*
 * A back-end that offers in-band notifications, for user-mode Linux. Its rings are split, because
 * Linux 6.1 begins packed ones with SET_VRING_BASE 0, which is the second lap.
 */
#include "base/proto.h"

#include <godwit/daemon.h>

int __real_gw_daemon_new(struct gw_daemon **ret, const struct gw_daemon_config *cfg,
                         const struct gw_device_ops *ops, void *dev);
int __wrap_gw_daemon_new(struct gw_daemon **ret, const struct gw_daemon_config *cfg,
                         const struct gw_device_ops *ops, void *dev);

uint64_t __real_gw_daemon_features(const struct gw_daemon *d);
uint64_t __wrap_gw_daemon_features(const struct gw_daemon *d);

uint64_t __wrap_gw_daemon_features(const struct gw_daemon *d)
{
    return __real_gw_daemon_features(d) & ~(UINT64_C(1) << GW_F_RING_PACKED);
}

static uint64_t add_in_band(void *dev, uint64_t offered)
{
    return offered | UINT64_C(1) << GW_PROTOCOL_F_INBAND_NOTIFICATIONS;
}

int __wrap_gw_daemon_new(struct gw_daemon **ret, const struct gw_daemon_config *cfg,
                         const struct gw_device_ops *ops, void *dev)
{
    struct gw_device_ops changed = *ops;

    changed.protocol_features = add_in_band;
    return __real_gw_daemon_new(ret, cfg, &changed, dev);
}
