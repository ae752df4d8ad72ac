/* SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause */
/*
 * The config space. A payload is a header and exactly the number of bytes that it states.
 *
 * Messages: GET_CONFIG, SET_CONFIG.
 */
#include "dispatch.h"

#include <errno.h>
#include <string.h>

static int check_config(const struct gw_msg *msg, const struct gw_wire_config *config)
{
    if (config->size > GW_CONFIG_SIZE_MAX || config->offset > GW_CONFIG_SIZE_MAX - config->size)
        return gw_fail(-EINVAL, "config space of %u bytes at %u is beyond %u", config->size,
                       config->offset, GW_CONFIG_SIZE_MAX);
    if (msg->header.size != sizeof(*config) + config->size)
        return gw_fail(-EBADMSG, "a payload of %u bytes is to hold %u of config space",
                       msg->header.size, config->size);
    return 0;
}

int gw_ctl_get_config(struct gw_daemon *d, struct gw_msg *msg, struct gw_reply *reply)
{
    const struct gw_wire_config *asked = (const void *)msg->payload;
    struct gw_wire_config *config = (void *)reply->payload;
    int r = check_config(msg, asked);

    if (r < 0)
        return r;
    *config = *asked;
    r = d->ops.get_config(d->dev, asked->offset, config->data, asked->size);
    if (r < 0)
        return gw_fail(r, "the device cannot give %u bytes of config space at %u: %s", asked->size,
                       asked->offset, strerror(-r));
    reply->size = (uint32_t)sizeof(*config) + asked->size;
    return 0;
}

int gw_ctl_set_config(struct gw_daemon *d, struct gw_msg *msg, struct gw_reply *reply)
{
    const struct gw_wire_config *config = (const void *)msg->payload;
    int r = check_config(msg, config);

    if (r < 0)
        return r;
    if (config->flags != GW_CONFIG_F_WRITABLE && config->flags != GW_CONFIG_F_MIGRATION)
        return gw_fail(-EINVAL, "config flags %#x are unknown", config->flags);
    if (!d->ops.set_config)
        return gw_fail(-EOPNOTSUPP, "the device's config space is read-only");
    r = d->ops.set_config(d->dev, config->offset, config->data, config->size,
                          config->flags == GW_CONFIG_F_MIGRATION);
    return r < 0 ? gw_fail(r, "the device refuses %u bytes of config space at %u: %s", config->size,
                           config->offset, strerror(-r))
                 : 0;
}
