/* SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause */
/*
 * Rings. The control thread collects the parameters of a ring, and passes them to the worker when
 * SET_VRING_KICK starts the ring. It never reads a ring and keeps none of its fds.
 */
#include "base/cleanup.h"
#include "core/daemon/all_queues.h"
#include "ctl_migration.h"
#include "dispatch.h"
#include "fd/peer_fd.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>

/* Arguments of a call on the queue's worker, possibly run later; the call owns the fds. */
struct queue_call {
    struct gw_queue *queue;
    struct gw_queue_start start;
    struct gw_notifier_name notifier;
    bool enable;
    bool log_used;
    gw_gpa_t log_addr;
    char why[160]; /* of a failure, because gw_last_error belongs to the worker */
};

static int post_or_call(struct gw_daemon *d, int (*fn)(void *), struct queue_call *call)
{
    return gw_daemon_post_or_call(d, call->queue->worker, fn, call, sizeof(*call));
}

static struct gw_vring *vring_of(struct gw_daemon *d, const struct gw_wire_vring_state *state)
{
    return &d->session.vrings[state->index];
}

/* A ring can be configured only while it is stopped ("Ring states"). */
static int check_stopped(const struct gw_vring *vring, uint32_t index)
{
    return vring->started ? gw_fail(-EBUSY, "queue %u runs", index) : 0;
}

int gw_ctl_set_vring_num(struct gw_daemon *d, struct gw_msg *msg, struct gw_reply *reply)
{
    const struct gw_wire_vring_state *state = (const void *)msg->payload;
    struct gw_vring *vring = vring_of(d, state);
    int r = check_stopped(vring, state->index);

    if (r < 0)
        return r;
    r = gw_ring_check_size(gw_session_has(&d->session, GW_F_RING_PACKED), state->num,
                           d->queue_size_max);
    if (r == 0)
        vring->config.size = state->num;
    return r;
}

static int on_set_ring_log(void *arg)
{
    struct queue_call *call = arg;

    gw_queue_set_ring_log(call->queue, call->log_used, call->log_addr);
    return 0;
}

/* The logging of the used ring is all that SET_VRING_ADDR may change in a running ring. */
static int set_ring_log(struct gw_daemon *d, const struct gw_wire_vring_addr *addr,
                        struct gw_vring *vring)
{
    struct queue_call call = {
        .queue = &d->queues[addr->index],
        .log_used = (addr->flags & GW_VRING_F_LOG) != 0,
        .log_addr = addr->log,
    };
    struct gw_vring next = *vring;
    int r;

    next.log_used = call.log_used;
    next.log_addr = call.log_addr;
    r = gw_ctl_check_log_ring(d, d->session.dirty_log.log, &next);
    if (r < 0)
        return r;
    *vring = next;
    return post_or_call(d, on_set_ring_log, &call);
}

int gw_ctl_set_vring_addr(struct gw_daemon *d, struct gw_msg *msg, struct gw_reply *reply)
{
    const struct gw_wire_vring_addr *addr = (const void *)msg->payload;
    struct gw_vring *vring = &d->session.vrings[addr->index];
    struct gw_ring_config *c = &vring->config;
    int r;

    if (addr->descriptor % 16 || addr->available % 2 || addr->used % 4)
        return gw_fail(-EINVAL,
                       "ring addresses %#" PRIx64 ", %#" PRIx64 ", %#" PRIx64
                       " are not aligned to 16, 2 and 4",
                       addr->descriptor, addr->available, addr->used);
    if (vring->started &&
        (c->desc != addr->descriptor || c->avail != addr->available || c->used != addr->used))
        return check_stopped(vring, addr->index);
    r = set_ring_log(d, addr, vring);
    if (r < 0)
        return r;
    c->desc = addr->descriptor;
    c->avail = addr->available;
    c->used = addr->used;
    vring->has_addr = true;
    return 0;
}

/* The default base is index 0; for a packed ring, both wrap counters are 1. */
static uint32_t base_of(const struct gw_daemon *d, const struct gw_vring *vring)
{
    if (vring->has_base)
        return vring->config.base;
    return gw_session_has(&d->session, GW_F_RING_PACKED) ? UINT32_C(0x80008000) : 0;
}

int gw_ctl_set_vring_base(struct gw_daemon *d, struct gw_msg *msg, struct gw_reply *reply)
{
    const struct gw_wire_vring_state *state = (const void *)msg->payload;
    struct gw_vring *vring = vring_of(d, state);
    int r = check_stopped(vring, state->index);

    if (r < 0)
        return r;
    if (state->num > UINT16_MAX && !gw_session_has(&d->session, GW_F_RING_PACKED))
        return gw_fail(-EINVAL, "base %#x of a split ring is beyond 16 bits", state->num);
    vring->config.base = state->num;
    vring->has_base = true;
    return 0;
}

/* A file of any other kind could block the thread that polls it or writes to it forever. */
int gw_ctl_check_eventfd(const struct gw_msg *msg)
{
    if (msg->n_fds == 1 && gw_peer_fd_kind(msg->fds[0]) != GW_PEER_FD_EVENTFD)
        return gw_fail(-EINVAL, "its file descriptor is not an eventfd");
    return 0;
}

/* The event channel that replaces an fd, if any; dispatch.c refuses it where it is not allowed. */
static struct gw_evtchn_name channel_of(const struct gw_msg *msg)
{
    uint64_t value = gw_msg_u64(msg);

    return (struct gw_evtchn_name){
        .domid = value >> GW_VRING_FD_DOMID_SHIFT & UINT16_MAX,
        .port = (uint32_t)(value >> GW_VRING_FD_PORT_SHIFT),
        .is_set = (value & GW_VRING_FD_EVTCHN) != 0,
    };
}

/*
 * Check all that can be checked without reading the ring. The control thread does not wait for a
 * posted start, so a start that fails on the worker breaks the queue instead of being refused.
 */
static int check_start(const struct gw_daemon *d, const struct gw_ring_config *ring)
{
    bool packed = gw_session_has(&d->session, GW_F_RING_PACKED);
    int r = gw_ring_check_size(packed, ring->size, d->queue_size_max);

    return r < 0 ? r : gw_ring_check_memory(packed, ring, d->session.map);
}

/* A ring that does not fit the inflight region runs untracked: the guest needs its device. */
static void find_inflight(struct gw_daemon *d, uint32_t index, struct gw_queue_start *start)
{
    bool packed = gw_session_has(&d->session, GW_F_RING_PACKED);
    int r = gw_inflight_region_part(&d->session.inflight, index, packed, start->ring.size,
                                    &start->inflight, &start->inflight_size);

    if (r < 0)
        gw_log(&d->log, GW_LOG_WARNING,
               "queue %u: its requests are not tracked, and are lost if this back-end dies: %s",
               index, gw_last_error());
}

static int on_start(void *arg)
{
    struct queue_call *call = arg;
    int r = gw_queue_start(call->queue, &call->start);

    return call->start.is_posted ? 0 : r;
}

static int start_queue(struct gw_daemon *d, struct queue_call *call, struct gw_vring *vring)
{
    struct gw_queue_start *start = &call->start;
    int r = 0;

    vring->config.base = base_of(d, vring);
    start->ring = vring->config;
    find_inflight(d, call->queue->index, start);
    start->map = d->session.map;
    start->features = d->session.features;
    start->is_first = !vring->was_started;
    start->is_posted = gw_postcopy_is_listening(&d->session.postcopy);
    if (start->is_posted && !vring->started)
        r = check_start(d, &start->ring);
    if (r < 0) {
        snprintf(start->why, sizeof(start->why), "%s", gw_last_error());
        gw_close(&start->kick.fd);
    } else {
        r = post_or_call(d, on_start, call);
    }
    return r < 0 ? gw_fail(r, "queue %u cannot start: %s", call->queue->index, start->why) : 0;
}

int gw_ctl_set_vring_kick(struct gw_daemon *d, struct gw_msg *msg, struct gw_reply *reply)
{
    uint32_t index = gw_msg_u64(msg) & GW_VRING_FD_INDEX_MASK;
    struct gw_vring *vring = &d->session.vrings[index];
    struct queue_call call = {.queue = &d->queues[index], .start.kick.fd = -1};
    struct gw_queue_start *start = &call.start;
    int r;

    if (vring->config.size == 0 || !vring->has_addr)
        return gw_fail(-EINVAL, "queue %u: SET_VRING_KICK before %s", index,
                       vring->has_addr ? "SET_VRING_NUM" : "SET_VRING_ADDR");
    if (vring->is_stopping)
        return gw_fail(-EBUSY,
                       "queue %u: SET_VRING_KICK after a refused RESET_DEVICE; send GET_VRING_BASE "
                       "first",
                       index);
    r = gw_ctl_check_eventfd(msg);
    if (r < 0)
        return r;
    r = gw_ctl_check_log_ring(d, d->session.dirty_log.log, vring);
    if (r < 0)
        return r;
    if (msg->n_fds == 1)
        start->kick.fd = gw_steal_fd(&msg->fds[0]);
    start->kick.channel = channel_of(msg);
    r = start_queue(d, &call, vring);
    if (r < 0)
        return r;
    vring->started = vring->was_started = true;
    gw_log(&d->log, GW_LOG_INFO, "queue %u starts: size %u, base %u%s", index, vring->config.size,
           vring->config.base,
           start->kick.channel.is_set ? ", kicked by an event channel"
           : msg->n_fds               ? ""
                                      : ", polled");
    return 0;
}

static int set_notifier(struct queue_call *call,
                        int (*set)(struct gw_queue *q, struct gw_notifier_name *name))
{
    int r = set(call->queue, &call->notifier);

    if (r < 0)
        snprintf(call->why, sizeof(call->why), "%s", gw_last_error());
    return r;
}

static int on_set_call(void *arg)
{
    return set_notifier(arg, gw_queue_set_call);
}

static int on_set_err(void *arg)
{
    return set_notifier(arg, gw_queue_set_err);
}

/*
 * The only failures are those of event channels, and then no call is posted: pages of a Xen domain
 * are never missing.
 */
static int hand_over(struct gw_daemon *d, struct gw_msg *msg, int (*fn)(void *))
{
    uint32_t index = gw_msg_u64(msg) & GW_VRING_FD_INDEX_MASK;
    struct queue_call call = {
        .queue = &d->queues[index],
        .notifier = {.fd = -1, .channel = channel_of(msg)},
    };
    int r = gw_ctl_check_eventfd(msg);

    if (r < 0)
        return r;
    if (msg->n_fds == 1)
        call.notifier.fd = gw_steal_fd(&msg->fds[0]);
    r = post_or_call(d, fn, &call);
    return r < 0 ? gw_fail(r, "queue %u: %s", index, call.why) : 0;
}

int gw_ctl_set_vring_call(struct gw_daemon *d, struct gw_msg *msg, struct gw_reply *reply)
{
    return hand_over(d, msg, on_set_call);
}

int gw_ctl_set_vring_err(struct gw_daemon *d, struct gw_msg *msg, struct gw_reply *reply)
{
    return hand_over(d, msg, on_set_err);
}

static int on_enable(void *arg)
{
    struct queue_call *call = arg;

    gw_queue_set_enabled(call->queue, call->enable);
    return 0;
}

int gw_ctl_set_vring_enable(struct gw_daemon *d, struct gw_msg *msg, struct gw_reply *reply)
{
    const struct gw_wire_vring_state *state = (const void *)msg->payload;
    struct queue_call call = {.queue = &d->queues[state->index], .enable = state->num == 1};

    if (state->num > 1)
        return gw_fail(-EINVAL, "queue %u is to be enabled by %u, not 0 or 1", state->index,
                       state->num);
    return post_or_call(d, on_enable, &call);
}

struct stop {
    struct gw_queue *queue;
    struct gw_latch *latch;
    enum gw_queue_stop how;
};

static int on_stop(void *arg)
{
    struct stop *stop = arg;

    gw_queue_stop(stop->queue, stop->latch, stop->how);
    return 0;
}

/* The latch ordered the worker's last use of the ring before this. */
static void take_base(const struct gw_queue *q, struct gw_vring *vring)
{
    if (!q->start_failed)
        vring->config.base = q->ring.ops->base(&q->ring);
    vring->has_base = true;
    vring->started = false;
    vring->is_stopping = false;
}

static int get_vring_base(struct gw_daemon *d, struct gw_msg *msg, struct gw_reply *reply,
                          enum gw_queue_stop how)
{
    const struct gw_wire_vring_state *state = (const void *)msg->payload;
    struct gw_wire_vring_state *result = (void *)reply->payload;
    struct gw_vring *vring = vring_of(d, state);
    struct gw_queue *q = &d->queues[state->index];
    struct gw_latch latch;
    struct stop stop = {.queue = q, .latch = &latch, .how = how};
    int r;

    gw_latch_init(&latch, 1);
    (void)gw_worker_call(q->worker, on_stop, &stop);
    r = gw_daemon_drain(d, &latch, "stopping");
    gw_latch_done(&latch);
    if (r < 0)
        return r;
    gw_daemon_reclaim(d); /* the dirty log is complete before the front-end reads it */
    r = vring->started ? gw_queue_stop_result(q) : 0;
    if (r < 0)
        return r;
    if (vring->started) {
        take_base(q, vring);
        gw_log(&d->log, GW_LOG_INFO, "queue %u stops: base %u", state->index, vring->config.base);
    }
    *result = (struct gw_wire_vring_state){.index = state->index, .num = base_of(d, vring)};
    reply->size = sizeof(*result);
    return 0;
}

/*
 * With GET_VRING_BASE_INFLIGHT alone, this stop may leave requests in the inflight region. With
 * GET_VRING_BASE_SKIP_DRAIN as well, the front-end chooses by message, and this message drains.
 */
int gw_ctl_get_vring_base(struct gw_daemon *d, struct gw_msg *msg, struct gw_reply *reply)
{
    const struct gw_session *s = &d->session;
    bool may_suspend = gw_session_has_protocol(s, GW_PROTOCOL_F_GET_VRING_BASE_INFLIGHT) &&
                       !gw_session_has_protocol(s, GW_PROTOCOL_F_GET_VRING_BASE_SKIP_DRAIN);

    return get_vring_base(d, msg, reply, may_suspend ? GW_STOP_SUSPEND : GW_STOP_DRAIN);
}

int gw_ctl_get_vring_base_skip_drain(struct gw_daemon *d, struct gw_msg *msg,
                                     struct gw_reply *reply)
{
    return get_vring_base(d, msg, reply, GW_STOP_SUSPEND);
}
