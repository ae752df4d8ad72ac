/* SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause */
/*
 * The ring messages: size, addresses, base, fds and enable; and starting and stopping a whole queue
 * of a driver with them.
 */
#include "fe_requests.h"
#include "frontend/driver/driver_i.h"
#include "frontend/driver/driver_parts.h"

#include <errno.h>
#include <string.h>

int gw_frontend_encode_vring_state(struct gw_frontend_op *op, uint32_t request, unsigned index,
                                   uint32_t num)
{
    op->call = (struct gw_frontend_call){
        .request = request,
        .payload.state = {.index = index, .num = num},
        .size = sizeof(op->call.payload.state),
    };
    return GW_FRONTEND_STEP_SEND;
}

int gw_frontend_encode_vring_addr(struct gw_frontend_op *op, unsigned index,
                                  const struct gw_frontend_vring_addr *addr)
{
    op->call = (struct gw_frontend_call){
        .request = GW_MSG_SET_VRING_ADDR,
        .payload.addr =
            {
                .index = index,
                .flags = addr->flags,
                .descriptor = addr->desc,
                .used = addr->used,
                .available = addr->avail,
                .log = addr->log,
            },
        .size = sizeof(op->call.payload.addr),
    };
    return GW_FRONTEND_STEP_SEND;
}

static int parse_base(struct gw_frontend_op *op, const struct gw_frontend_message *answer,
                      uint32_t *ret)
{
    unsigned index = op->call.payload.state.index;
    struct gw_wire_vring_state s;

    memcpy(&s, answer->payload, sizeof(s));
    if (s.index != index)
        return gw_frontend_break(op->fe, -EPROTO, "%s of ring %u: answered for ring %u",
                                 gw_frontend_message_name(op->call.request), index, s.index);
    *ret = s.num;
    return 0;
}

static int take_base(struct gw_frontend_op *op, struct gw_frontend_message *answer)
{
    return parse_base(op, answer, op->call.ret);
}

int gw_frontend_encode_get_base(struct gw_frontend_op *op, uint32_t request, unsigned index,
                                uint32_t *ret)
{
    int r = gw_frontend_encode_vring_state(op, request, index, 0);

    if (request == GW_MSG_GET_VRING_BASE_SKIP_DRAIN)
        op->call.needs = GW_FRONTEND_NEEDS(GET_VRING_BASE_SKIP_DRAIN);
    op->call.has_reply = true;
    op->call.reply_size = sizeof(struct gw_wire_vring_state);
    op->call.finish = take_base;
    op->call.ret = ret;
    return r;
}

int gw_frontend_encode_vring_fd(struct gw_frontend_op *op, uint32_t request, unsigned index, int fd)
{
    if (index > GW_VRING_FD_INDEX_MASK)
        return gw_frontend_fail(-EINVAL, "%s: no ring %u", gw_frontend_message_name(request),
                                index);
    gw_frontend_encode_u64(op, request, index | (fd < 0 ? GW_VRING_FD_NONE : 0));
    op->call.fds[0] = fd;
    op->call.n_fds = fd < 0 ? 0 : 1;
    return GW_FRONTEND_STEP_SEND;
}

/* Pass an eventfd of a driver, or its Xen event channel in bits that the specification leaves. */
static int encode_notifier(struct gw_frontend_op *op, uint32_t request, const struct gw_driver *d,
                           int fd)
{
    if (!d->has_channel)
        return gw_frontend_encode_vring_fd(op, request, d->index, fd);
    gw_frontend_encode_u64(op, request,
                           d->index | GW_VRING_FD_NONE | GW_VRING_FD_EVTCHN |
                               (uint64_t)d->domid << GW_VRING_FD_DOMID_SHIFT |
                               (uint64_t)d->port << GW_VRING_FD_PORT_SHIFT);
    op->call.needs = GW_FRONTEND_NEEDS(XEN_MMAP);
    return GW_FRONTEND_STEP_SEND;
}

int gw_frontend_encode_vring_kick(struct gw_frontend_op *op, unsigned index)
{
    int r = gw_frontend_encode_vring_state(op, GW_MSG_VRING_KICK, index, 0);

    op->call.needs = GW_FRONTEND_NEEDS(INBAND_NOTIFICATIONS);
    return r;
}

int gw_frontend_encode_vring_enable(struct gw_frontend_op *op, unsigned index, bool enable)
{
    int r = gw_frontend_encode_vring_state(op, GW_MSG_SET_VRING_ENABLE, index, enable);

    op->call.needs_virtio = UINT64_C(1) << GW_F_PROTOCOL_FEATURES;
    return r;
}

struct gw_frontend_vring_addr gw_frontend_vring_addr_of(const struct gw_driver *d)
{
    if (d->iova) {
        uint64_t used = gw_driver_iova(d, d->used_gpa, gw_driver_used_len(d), true);

        return (struct gw_frontend_vring_addr){
            .desc = gw_driver_iova(d, d->desc_gpa, gw_driver_desc_len(d), d->is_packed),
            .avail = gw_driver_iova(d, d->avail_gpa, gw_driver_avail_len(d), false),
            .used = used,
            .log = used, /* as in QEMU */
        };
    }
    return (struct gw_frontend_vring_addr){
        .desc = gw_guest_mem_uva(d->mem, d->desc_gpa),
        .avail = gw_guest_mem_uva(d->mem, d->avail_gpa),
        .used = gw_guest_mem_uva(d->mem, d->used_gpa),
        .log = d->used_gpa,
    };
}

int gw_frontend_encode_start_queue(struct gw_frontend_op *op, struct gw_driver *d, unsigned i)
{
    struct gw_frontend_vring_addr addr;

    switch (i) {
    case 0:
        return gw_frontend_encode_vring_state(op, GW_MSG_SET_VRING_NUM, d->index, d->size);
    case 1:
        return gw_frontend_encode_vring_state(op, GW_MSG_SET_VRING_BASE, d->index, d->base);
    case 2:
        addr = gw_frontend_vring_addr_of(d);
        /* With LOG_ALL the used ring is logged from the start, as in vhost_virtqueue_start. */
        if (op->fe->features >> GW_F_LOG_ALL & 1)
            addr.flags = GW_VRING_F_LOG;
        return gw_frontend_encode_vring_addr(op, d->index, &addr);
    case 3:
        /* Set even if the message fails: the back-end may have started the queue. */
        d->is_started = true;
        return encode_notifier(op, GW_MSG_SET_VRING_KICK, d, d->kick_fd);
    default:
        return encode_notifier(op, GW_MSG_SET_VRING_CALL, d, d->call_fd);
    }
}

static int take_driver_base(struct gw_frontend_op *op, struct gw_frontend_message *answer)
{
    uint32_t base = 0;
    int r = parse_base(op, answer, &base);

    if (r == 0)
        gw_driver_set_base(op->driver, base);
    return r;
}

int gw_frontend_encode_stop_queue(struct gw_frontend_op *op, struct gw_driver *d)
{
    int r = gw_frontend_encode_get_base(op, GW_MSG_GET_VRING_BASE, d->index, NULL);

    op->driver = d;
    op->call.finish = take_driver_base;
    return r;
}
