/* SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause */
/*
 * The ring messages: size, addresses, base, fds and enable; and starting and stopping a whole queue
 * of a driver with them.
 */
#include "base/proto.h"
#include "fe_requests.h"
#include "frontend/driver/driver_i.h"

#include <errno.h>

static int set_state(struct gw_frontend *fe, uint32_t request, unsigned index, uint32_t num)
{
    struct gw_wire_vring_state s = {.index = index, .num = num};
    struct gw_frontend_call call = {.request = request, .payload = &s, .size = sizeof(s)};

    return gw_frontend_transact(fe, &call);
}

int gw_frontend_set_vring_num(struct gw_frontend *fe, unsigned index, uint32_t num)
{
    return set_state(fe, GW_MSG_SET_VRING_NUM, index, num);
}

int gw_frontend_set_vring_addr(struct gw_frontend *fe, unsigned index,
                               const struct gw_frontend_vring_addr *addr)
{
    struct gw_wire_vring_addr a = {
        .index = index,
        .flags = addr->flags,
        .descriptor = addr->desc,
        .used = addr->used,
        .available = addr->avail,
        .log = addr->log,
    };
    struct gw_frontend_call call = {
        .request = GW_MSG_SET_VRING_ADDR, .payload = &a, .size = sizeof(a)};

    return gw_frontend_transact(fe, &call);
}

int gw_frontend_set_vring_base(struct gw_frontend *fe, unsigned index, uint32_t base)
{
    return set_state(fe, GW_MSG_SET_VRING_BASE, index, base);
}

static int get_base(struct gw_frontend *fe, uint32_t request, unsigned index, uint32_t *ret)
{
    struct gw_wire_vring_state s = {.index = index}, answer;
    struct gw_frontend_call call = {
        .request = request,
        .payload = &s,
        .size = sizeof(s),
        .reply = &answer,
        .reply_size = sizeof(answer),
    };
    int r = gw_frontend_transact(fe, &call);

    if (r < 0)
        return r;
    if (answer.index != index)
        return gw_frontend_break(fe, -EPROTO, "%s of ring %u: answered for ring %u",
                                 gw_frontend_message_name(request), index, answer.index);
    *ret = answer.num;
    return 0;
}

int gw_frontend_get_vring_base(struct gw_frontend *fe, unsigned index, uint32_t *ret)
{
    return get_base(fe, GW_MSG_GET_VRING_BASE, index, ret);
}

int gw_frontend_get_vring_base_skip_drain(struct gw_frontend *fe, unsigned index, uint32_t *ret)
{
    uint32_t request = GW_MSG_GET_VRING_BASE_SKIP_DRAIN;
    int r = gw_frontend_gate(fe, GW_PROTOCOL_F_GET_VRING_BASE_SKIP_DRAIN, request);

    return r < 0 ? r : get_base(fe, request, index, ret);
}

static int set_vring_fd(struct gw_frontend *fe, uint32_t request, unsigned index, int fd)
{
    uint64_t value = index | (fd < 0 ? GW_VRING_FD_NONE : 0);
    struct gw_frontend_call call = {
        .request = request,
        .payload = &value,
        .size = sizeof(value),
        .fds = &fd,
        .n_fds = fd < 0 ? 0 : 1,
    };

    if (index > GW_VRING_FD_INDEX_MASK)
        return gw_frontend_fail(-EINVAL, "%s: no ring %u", gw_frontend_message_name(request),
                                index);
    return gw_frontend_transact(fe, &call);
}

/* Pass a Xen event channel, in bits that the specification does not use. */
static int set_vring_channel(struct gw_frontend *fe, uint32_t request, const struct gw_driver *d)
{
    uint64_t value = d->index | GW_VRING_FD_NONE | GW_VRING_FD_EVTCHN |
                     (uint64_t)d->domid << GW_VRING_FD_DOMID_SHIFT |
                     (uint64_t)d->port << GW_VRING_FD_PORT_SHIFT;
    struct gw_frontend_call call = {.request = request, .payload = &value, .size = sizeof(value)};
    int r = gw_frontend_gate(fe, GW_PROTOCOL_F_XEN_MMAP, request);

    return r < 0 ? r : gw_frontend_transact(fe, &call);
}

int gw_frontend_set_vring_kick(struct gw_frontend *fe, unsigned index, int fd)
{
    return set_vring_fd(fe, GW_MSG_SET_VRING_KICK, index, fd);
}

int gw_frontend_set_vring_call(struct gw_frontend *fe, unsigned index, int fd)
{
    return set_vring_fd(fe, GW_MSG_SET_VRING_CALL, index, fd);
}

int gw_frontend_set_vring_err(struct gw_frontend *fe, unsigned index, int fd)
{
    return set_vring_fd(fe, GW_MSG_SET_VRING_ERR, index, fd);
}

int gw_frontend_set_vring_enable(struct gw_frontend *fe, unsigned index, bool enable)
{
    if (!fe->cfg.no_gates && !(fe->features >> GW_F_PROTOCOL_FEATURES & 1))
        return gw_frontend_fail(-EOPNOTSUPP, "SET_VRING_ENABLE: feature 30 was not negotiated");
    return set_state(fe, GW_MSG_SET_VRING_ENABLE, index, enable);
}

struct gw_frontend_vring_addr gw_frontend_vring_addr_of(const struct gw_driver *d)
{
    return (struct gw_frontend_vring_addr){
        .desc = gw_guest_mem_uva(d->mem, d->desc_gpa),
        .avail = gw_guest_mem_uva(d->mem, d->avail_gpa),
        .used = gw_guest_mem_uva(d->mem, d->used_gpa),
        .log = d->used_gpa,
    };
}

int gw_frontend_start_queue(struct gw_frontend *fe, struct gw_driver *d)
{
    struct gw_frontend_vring_addr addr = gw_frontend_vring_addr_of(d);
    int r;

    /* With LOG_ALL the used ring is logged from the start, as in QEMU's vhost_virtqueue_start. */
    if (fe->features >> GW_F_LOG_ALL & 1)
        addr.flags = GW_VRING_F_LOG;
    r = gw_frontend_set_vring_num(fe, d->index, d->size);

    if (r == 0)
        r = gw_frontend_set_vring_base(fe, d->index, d->base);
    if (r == 0)
        r = gw_frontend_set_vring_addr(fe, d->index, &addr);
    if (r == 0) {
        /* Set even if the message fails: the back-end may have started the queue. */
        d->is_started = true;
        r = d->has_channel ? set_vring_channel(fe, GW_MSG_SET_VRING_KICK, d)
                           : gw_frontend_set_vring_kick(fe, d->index, d->kick_fd);
    }
    if (r == 0)
        r = d->has_channel ? set_vring_channel(fe, GW_MSG_SET_VRING_CALL, d)
                           : gw_frontend_set_vring_call(fe, d->index, d->call_fd);
    return r;
}

int gw_frontend_stop_queue(struct gw_frontend *fe, struct gw_driver *d)
{
    uint32_t base = 0;
    int r = gw_frontend_get_vring_base(fe, d->index, &base);

    if (r == 0)
        gw_driver_set_base(d, base);
    return r;
}
