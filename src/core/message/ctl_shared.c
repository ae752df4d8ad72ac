/* SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause */
/*
 * What a device shares in addition to guest memory: regions that it maps, objects of its own.
 *
 * Messages: GET_SHMEM_CONFIG, GET_SHARED_OBJECT.
 */
#include "dispatch.h"

#include <string.h>

int gw_ctl_get_shmem_config(struct gw_daemon *d, struct gw_msg *msg, struct gw_reply *reply)
{
    memcpy(reply->payload, d->shmem, sizeof(*d->shmem));
    reply->size = sizeof(*d->shmem);
    return 0;
}

/* The answer repeats the payload. QEMU up to 10 sends none, and gets no object. */
int gw_ctl_get_shared_object(struct gw_daemon *d, struct gw_msg *msg, struct gw_reply *reply)
{
    struct gw_wire_shared_object object;
    int fd;

    if (msg->header.size != 0 && msg->header.size != sizeof(object))
        return gw_fail(-EBADMSG, "its payload is %u bytes, not %zu", msg->header.size,
                       sizeof(object));
    reply->size = msg->header.size;
    if (msg->header.size == 0)
        return 0;
    memcpy(&object, msg->payload, sizeof(object));
    memcpy(reply->payload, &object, sizeof(object));
    fd = d->ops.get_shared_object(d->dev, object.uuid);
    if (fd < 0)
        gw_log(&d->log, GW_LOG_INFO, "GET_SHARED_OBJECT: the device has no such object: %s",
               strerror(-fd));
    reply->fd = fd < 0 ? -1 : fd;
    return 0;
}
