/* SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause */
/*
 * The inflight region: created here, kept by the front-end, and passed to the next back-end. Only
 * the queues interpret its contents, when they start.
 *
 * Messages: GET_INFLIGHT_FD, SET_INFLIGHT_FD.
 */
#include "base/cleanup.h"
#include "core/inflight/inflight.h"
#include "dispatch.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <string.h>
#include <sys/mman.h>

/* Words of the region are written with single stores, which requires alignment. */
#define REGION_ALIGN 8

static int check_shape(const struct gw_daemon *d, const struct gw_wire_inflight *wire)
{
    if (wire->num_queues == 0 || wire->num_queues > d->num_queues)
        return gw_fail(-EINVAL, GW_INFLIGHT_NAME " is for %u queues, and the device has %u",
                       wire->num_queues, d->num_queues);
    if (wire->queue_size == 0 || wire->queue_size > GW_QUEUE_SIZE_MAX)
        return gw_fail(-EINVAL, GW_INFLIGHT_NAME " is for rings of %u descriptors",
                       wire->queue_size);
    return 0;
}

/*
 * Entries in each part of a region created here: enough for the largest ring that the device
 * allows, even if the front-end asks for fewer. QEMU 10.0.13 asks for the size that its user
 * configured, or 128, and still lets the guest set up rings of 1024.
 */
static uint16_t part_size_for(const struct gw_daemon *d, uint16_t queue_size)
{
    unsigned n = GW_INFLIGHT_MADE_MIN;

    while (n < queue_size || n < d->queue_size_max)
        n *= 2;
    return (uint16_t)n;
}

/* Create a file whose size is sealed, so the front-end cannot truncate it under our mapping. */
static int make_file(int *ret_fd, uint64_t size)
{
    gw_cleanup_fd int fd = memfd_create("godwit-inflight", MFD_CLOEXEC | MFD_ALLOW_SEALING);

    if (fd < 0 || ftruncate(fd, (off_t)size) < 0 ||
        fcntl(fd, F_ADD_SEALS, F_SEAL_GROW | F_SEAL_SHRINK | F_SEAL_SEAL) < 0)
        return gw_fail(-errno, GW_INFLIGHT_NAME " of %#" PRIx64 " bytes cannot be made: %s", size,
                       strerror(errno));
    *ret_fd = gw_steal_fd(&fd);
    return 0;
}

/*
 * The front-end owns the region from the start and passes it back with SET_INFLIGHT_FD. The answer
 * repeats the queue size of the request: QEMU ignores the size in the answer, and other front-ends
 * insist on their own. The size of the parts follows from mmap_size (gw_inflight_region_part).
 */
int gw_ctl_get_inflight_fd(struct gw_daemon *d, struct gw_msg *msg, struct gw_reply *reply)
{
    struct gw_wire_inflight wire = *(const struct gw_wire_inflight *)(const void *)msg->payload;
    bool packed = gw_session_has(&d->session, GW_F_RING_PACKED);
    struct gw_mapping mapping;
    gw_cleanup_fd int fd = -1;
    uint16_t part_size;
    int r = check_shape(d, &wire);

    if (r < 0)
        return r;
    part_size = part_size_for(d, wire.queue_size);
    wire.mmap_offset = 0;
    wire.mmap_size = wire.num_queues * gw_inflight_stride(packed, part_size);
    r = make_file(&fd, wire.mmap_size);
    if (r == 0)
        r = gw_mapping_init(&mapping, GW_INFLIGHT_NAME, fd, 0, wire.mmap_size, 0);
    if (r < 0)
        return r;
    gw_inflight_format(mapping.at, packed, wire.num_queues, part_size);
    gw_mapping_done(&mapping);
    *(struct gw_wire_inflight *)(void *)reply->payload = wire;
    reply->size = sizeof(wire);
    reply->fd = gw_steal_fd(&fd);
    return 0;
}

/*
 * A ring takes its part of the region when it starts, so a started ring uses the old region, or
 * will use it when its start has reached the worker. A ring that is not started may still use it:
 * a device can refuse a start and complete the requests that it has taken later.
 */
static int check_unused(const struct gw_daemon *d)
{
    for (unsigned i = 0; i < d->num_queues; i++) {
        if (d->session.vrings[i].started)
            return gw_fail(-EBUSY, "queue %u runs, and may use " GW_INFLIGHT_NAME, i);
        if (gw_queue_uses_inflight(&d->queues[i]))
            return gw_fail(-EBUSY,
                           "requests of a refused start of queue %u have not finished, and may "
                           "use " GW_INFLIGHT_NAME "; send GET_VRING_BASE first",
                           i);
    }
    return 0;
}

int gw_ctl_set_inflight_fd(struct gw_daemon *d, struct gw_msg *msg, struct gw_reply *reply)
{
    const struct gw_wire_inflight *wire = (const void *)msg->payload;
    bool packed = gw_session_has(&d->session, GW_F_RING_PACKED);
    struct gw_inflight_region region = {
        .size = wire->mmap_size,
        .num_queues = wire->num_queues,
        .queue_size = wire->queue_size,
    };
    uint64_t needed = wire->num_queues * gw_inflight_stride(packed, wire->queue_size);
    int r = check_unused(d);

    if (r == 0)
        r = check_shape(d, wire);
    if (r == 0 && wire->mmap_size < needed)
        r = gw_fail(-EINVAL,
                    GW_INFLIGHT_NAME " of %#" PRIx64
                                     " bytes is too small for %u %s rings of %u descriptors,"
                                     " which take %#" PRIx64,
                    wire->mmap_size, wire->num_queues, packed ? "packed" : "split",
                    wire->queue_size, needed);
    if (r == 0 && wire->mmap_offset % REGION_ALIGN)
        r = gw_fail(-EINVAL, GW_INFLIGHT_NAME " at offset %#" PRIx64 " is not aligned to %u",
                    wire->mmap_offset, REGION_ALIGN);
    if (r == 0)
        r = gw_mapping_init(&region.mapping, GW_INFLIGHT_NAME, msg->fds[0], wire->mmap_offset,
                            wire->mmap_size, 0);
    if (r < 0)
        return r;
    gw_mapping_done(&d->session.inflight.mapping);
    d->session.inflight = region;
    gw_mapping_guard(&d->session.inflight.mapping, d->guard);
    return 0;
}
