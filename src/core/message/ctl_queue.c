/* SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause */
/*
 * Rings. The control worker collects the parameters of a ring, and passes them to the ring's worker
 * when SET_VRING_KICK starts the ring. It never reads a ring and keeps none of its fds.
 *
 * Messages: SET_VRING_NUM, SET_VRING_ADDR, SET_VRING_BASE, SET_VRING_KICK, SET_VRING_CALL,
 * SET_VRING_ERR, SET_VRING_ENABLE, VRING_KICK, GET_VRING_BASE, GET_VRING_BASE_SKIP_DRAIN.
 */
#include "base/cleanup.h"
#include "core/move/postcopy_worker.h"
#include "core/state/transfer.h"
#include "ctl_dirty_log.h"
#include "ctl_iotlb.h"
#include "dispatch.h"
#include "fd/peer_fd.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>

static uint32_t index_of(const struct gw_msg *msg)
{
    return gw_msg_u64(msg) & GW_VRING_FD_INDEX_MASK;
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

struct ring_log {
    bool log_used;
    gw_gpa_t addr;
};

static int run_set_ring_log(struct gw_queue *q, struct gw_op *op)
{
    const struct ring_log *log = op->arg;

    gw_queue_set_ring_log(q, log->log_used, log->addr);
    return 0;
}

/* The logging of the used ring is all that SET_VRING_ADDR may change in a running ring. */
static int set_ring_log(struct gw_daemon *d, const struct gw_wire_vring_addr *addr,
                        struct gw_vring *vring)
{
    struct ring_log log = {(addr->flags & GW_VRING_F_LOG) != 0, addr->log};
    struct gw_vring changed = *vring;
    struct gw_op *op;
    int r;

    changed.log_used = log.log_used;
    changed.log_addr = log.addr;
    r = gw_ctl_check_log_ring(d, d->session.dirty_log.log, &changed);
    if (r < 0)
        return r;
    op = gw_op_new(d, &d->queues[addr->index], run_set_ring_log, sizeof(log));
    if (!op)
        return -ENOMEM;
    *(struct ring_log *)op->arg = log;
    *vring = changed;
    return gw_op_answer(op, gw_op_result);
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
    return r;
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

/* VRING_KICK, whose index is where SET_VRING_KICK has it, too */
static bool is_kick(const struct gw_msg *msg)
{
    return msg->header.request == GW_MSG_VRING_KICK;
}

/* Takes the fd out of the message. */
static struct gw_notifier_name notifier_of(struct gw_msg *msg)
{
    return (struct gw_notifier_name){
        .fd = msg->n_fds == 1 ? gw_steal_fd(&msg->fds[0]) : -1,
        .channel = channel_of(msg),
        .in_band = is_kick(msg),
    };
}

/*
 * Check all that can be checked without reading the ring. The session does not wait for a
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

/* The notifications of a queue that are messages, because the front-end has set nothing else. */
static unsigned in_band_of(const struct gw_session *s, const struct gw_vring *vring)
{
    if (!gw_session_has_protocol(s, GW_PROTOCOL_F_INBAND_NOTIFICATIONS))
        return 0;
    return (vring->has_call ? 0 : GW_INBAND_CALL) | (vring->has_err ? 0 : GW_INBAND_ERR);
}

static int run_start(struct gw_queue *q, struct gw_op *op)
{
    struct gw_queue_start *start = op->arg;
    int r;

    start->latch = &op->latch;
    r = gw_queue_start(q, start);
    if (r == -EINPROGRESS)
        return GW_OP_PENDING;
    return start->is_posted ? 0 : r;
}

/* In postcopy the worker may be using `op->arg` at the same time; `r` is 0 then. */
static int queue_started(struct gw_daemon *d, struct gw_op *op, int r)
{
    const struct gw_msg *msg = gw_session_msg(d);
    uint32_t index = index_of(msg);
    struct gw_vring *vring = &d->session.vrings[index];

    if (r < 0)
        return gw_fail(r, "queue %u cannot start: %s", index,
                       ((const struct gw_queue_start *)op->arg)->why);
    vring->started = vring->was_started = true;
    gw_log(&d->log, GW_LOG_INFO, "queue %u starts: size %u, base %u%s", index, vring->config.size,
           vring->config.base,
           is_kick(msg)                         ? ", kicked by messages"
           : channel_of(msg).is_set             ? ", kicked by an event channel"
           : gw_msg_u64(msg) & GW_VRING_FD_NONE ? ", polled"
                                                : "");
    return 0;
}

/* Create the operation that starts a ring. Consumes the kick. Returns: NULL if memory is short. */
static struct gw_op *new_start(struct gw_daemon *d, uint32_t index, struct gw_notifier_name *kick,
                               bool is_posted)
{
    struct gw_session *s = &d->session;
    const struct gw_vring *vring = &s->vrings[index];
    struct gw_op *op = gw_op_new(d, &d->queues[index], run_start, sizeof(struct gw_queue_start));
    struct gw_queue_start *start;

    if (!op)
        return NULL;
    start = op->arg;
    *start = (struct gw_queue_start){
        .ring = vring->config,
        .map = s->map,
        .iotlb = gw_session_has(s, GW_F_ACCESS_PLATFORM) ? s->iotlb : NULL,
        .misses = &d->misses,
        .features = s->features,
        .kick = *kick,
        .in_band = in_band_of(s, vring),
        .is_first = !vring->was_started,
        .is_posted = is_posted,
    };
    kick->fd = -1;
    find_inflight(d, index, start);
    return op;
}

void gw_ctl_start_translated(struct gw_daemon *d, unsigned index)
{
    struct gw_vring *vring = &d->session.vrings[index];
    struct gw_op *op;

    if (!vring->lacks_translation || gw_ctl_ask_for_ring(d, &vring->config) > 0)
        return;
    op = new_start(d, index, &vring->kick, true);
    if (!op)
        return; /* tried again after the next message about translations */
    vring->lacks_translation = false;
    vring->was_started = true;
    gw_log(&d->log, GW_LOG_INFO, "queue %u starts: its memory is mapped", index);
    gw_op_detach(op);
}

static bool is_any_started(const struct gw_daemon *d)
{
    for (unsigned i = 0; i < d->num_queues; i++)
        if (d->session.vrings[i].started)
            return true;
    return false;
}

/* The start follows when the memory of the ring is mapped; until then its kick is kept. */
static int delay_start(struct gw_daemon *d, struct gw_msg *msg, struct gw_vring *vring)
{
    gw_ctl_cancel_start(vring);
    vring->kick = notifier_of(msg);
    vring->lacks_translation = true;
    vring->started = true;
    gw_log(&d->log, GW_LOG_INFO, "queue %u starts when its memory is mapped: size %u, base %u",
           index_of(msg), vring->config.size, vring->config.base);
    return 0;
}

static int start_queue(struct gw_daemon *d, struct gw_msg *msg, struct gw_vring *vring)
{
    uint32_t index = index_of(msg);
    bool is_posted = gw_postcopy_is_listening(&d->session.postcopy);
    struct gw_notifier_name kick;
    struct gw_op *op;
    int r;

    if (!gw_postcopy_worker_may_start(d, &d->queues[index]))
        return gw_fail(-EBUSY, "queue %u cannot start: it has requests of its last run", index);
    vring->config.base = base_of(d, vring);
    r = is_posted && !vring->started ? check_start(d, &vring->config) : 0;
    if (r < 0) {
        char why[160];

        snprintf(why, sizeof(why), "%s", gw_last_error());
        return gw_fail(r, "queue %u cannot start: %s", index, why);
    }
    if (gw_session_has(&d->session, GW_F_ACCESS_PLATFORM) &&
        (!vring->started || vring->lacks_translation)) {
        /* A front-end may not have answered while it stopped its rings. */
        if (!is_any_started(d))
            gw_iotlb_misses_renew(&d->misses);
        r = gw_ctl_ask_for_ring(d, &vring->config);
        if (r < 0)
            return gw_fail(r, "queue %u cannot start: its memory is not accessible", index);
        if (r > 0)
            return delay_start(d, msg, vring);
        gw_ctl_cancel_start(vring);
    }
    kick = notifier_of(msg);
    op = new_start(d, index, &kick, is_posted);
    if (!op) {
        gw_close(&kick.fd);
        return -ENOMEM;
    }
    return gw_op_answer(op, queue_started);
}

int gw_ctl_set_vring_kick(struct gw_daemon *d, struct gw_msg *msg, struct gw_reply *reply)
{
    const char *name = gw_dispatch_name(d);
    uint32_t index = index_of(msg);
    struct gw_vring *vring = &d->session.vrings[index];
    int r;

    if (vring->config.size == 0 || !vring->has_addr)
        return gw_fail(-EINVAL, "queue %u: %s before %s", index, name,
                       vring->has_addr ? "SET_VRING_NUM" : "SET_VRING_ADDR");
    if (vring->is_stopping)
        return gw_fail(-EBUSY,
                       "queue %u: %s after a refused RESET_DEVICE; send GET_VRING_BASE first",
                       index, name);
    if (gw_state_is_running(d))
        return gw_fail(-EBUSY, "queue %u: %s while the device state is transferred", index, name);
    r = gw_ctl_check_eventfd(msg);
    if (r == 0)
        r = gw_ctl_check_log_ring(d, d->session.dirty_log.log, vring);
    return r < 0 ? r : start_queue(d, msg, vring);
}

static int run_kick(struct gw_queue *q, struct gw_op *op)
{
    gw_count(&q->stats.kicks, 1);
    gw_queue_wake(q);
    return 0;
}

/* The first kick starts the ring ("Ring states"). */
int gw_ctl_vring_kick(struct gw_daemon *d, struct gw_msg *msg, struct gw_reply *reply)
{
    const struct gw_wire_vring_state *state = (const void *)msg->payload;
    struct gw_op *op;

    if (state->num != 0)
        return gw_fail(-EINVAL, "queue %u is kicked with %u, not 0", state->index, state->num);
    if (!vring_of(d, state)->started)
        return gw_ctl_set_vring_kick(d, msg, reply);
    op = gw_op_new(d, &d->queues[state->index], run_kick, 0);
    return op ? gw_op_answer(op, gw_op_result) : -ENOMEM;
}

struct set_notifier {
    struct gw_notifier_name name;
    char why[160]; /* of a failure, because gw_last_error belongs to the worker */
};

static int set_notifier(struct gw_queue *q, struct gw_op *op,
                        int (*set)(struct gw_queue *q, struct gw_notifier_name *name))
{
    struct set_notifier *arg = op->arg;
    int r = set(q, &arg->name);

    if (r < 0)
        snprintf(arg->why, sizeof(arg->why), "%s", gw_last_error());
    return r;
}

static int run_set_call(struct gw_queue *q, struct gw_op *op)
{
    return set_notifier(q, op, gw_queue_set_call);
}

static int run_set_err(struct gw_queue *q, struct gw_op *op)
{
    return set_notifier(q, op, gw_queue_set_err);
}

static int notifier_set(struct gw_daemon *d, struct gw_op *op, int r)
{
    const struct set_notifier *arg = op->arg;

    return r < 0 ? gw_fail(r, "queue %u: %s", op->queue->index, arg->why) : 0;
}

/*
 * The only failures are those of event channels, and then the session waits for the result: pages
 * of a Xen domain are never missing.
 */
static int hand_over(struct gw_daemon *d, struct gw_msg *msg, gw_op_run *run)
{
    int r = gw_ctl_check_eventfd(msg);
    struct gw_op *op;

    if (r < 0)
        return r;
    op = gw_op_new(d, &d->queues[index_of(msg)], run, sizeof(struct set_notifier));
    if (!op)
        return -ENOMEM;
    ((struct set_notifier *)op->arg)->name = notifier_of(msg);
    return gw_op_answer(op, notifier_set);
}

int gw_ctl_set_vring_call(struct gw_daemon *d, struct gw_msg *msg, struct gw_reply *reply)
{
    d->session.vrings[index_of(msg)].has_call = true;
    return hand_over(d, msg, run_set_call);
}

int gw_ctl_set_vring_err(struct gw_daemon *d, struct gw_msg *msg, struct gw_reply *reply)
{
    d->session.vrings[index_of(msg)].has_err = true;
    return hand_over(d, msg, run_set_err);
}

static int run_enable(struct gw_queue *q, struct gw_op *op)
{
    gw_queue_set_enabled(q, true);
    return 0;
}

static int run_disable(struct gw_queue *q, struct gw_op *op)
{
    gw_queue_set_enabled(q, false);
    return 0;
}

int gw_ctl_enable(struct gw_daemon *d, struct gw_queue *q, bool enable, gw_op_next *next)
{
    struct gw_op *op = gw_op_new(d, q, enable ? run_enable : run_disable, 0);

    return op ? gw_op_answer(op, next) : -ENOMEM;
}

int gw_ctl_set_vring_enable(struct gw_daemon *d, struct gw_msg *msg, struct gw_reply *reply)
{
    const struct gw_wire_vring_state *state = (const void *)msg->payload;

    if (state->num > 1)
        return gw_fail(-EINVAL, "queue %u is to be enabled by %u, not 0 or 1", state->index,
                       state->num);
    return gw_ctl_enable(d, &d->queues[state->index], state->num == 1, gw_op_result);
}

struct stop {
    enum gw_queue_stop how;
};

static int run_stop(struct gw_queue *q, struct gw_op *op)
{
    gw_queue_stop(q, &op->latch, ((const struct stop *)op->arg)->how);
    return GW_OP_PENDING;
}

int gw_ctl_stop(struct gw_daemon *d, struct gw_queue *q, enum gw_queue_stop how, gw_op_next *next)
{
    struct gw_op *op = gw_op_new(d, q, run_stop, sizeof(struct stop));

    if (!op)
        return -ENOMEM;
    op->drains = "stopping";
    ((struct stop *)op->arg)->how = how;
    return gw_op_wait(op, next);
}

/* The operation ordered the worker's last use of the ring before this. */
static void take_base(const struct gw_queue *q, struct gw_vring *vring)
{
    if (!q->start_failed)
        vring->config.base = q->ring.ops->base(&q->ring);
    vring->has_base = true;
    vring->has_call = false; /* a stop closes the call fd */
    vring->started = false;
    vring->is_stopping = false;
}

static int queue_stopped(struct gw_daemon *d, struct gw_op *op, int r)
{
    const struct gw_wire_vring_state *state = (const void *)gw_session_msg(d)->payload;
    struct gw_reply *reply = &d->session.reply;
    struct gw_vring *vring = vring_of(d, state);

    if (r == 0 && vring->started)
        r = gw_queue_stop_result(op->queue);
    if (r < 0)
        return r;
    if (vring->started) {
        take_base(op->queue, vring);
        gw_log(&d->log, GW_LOG_INFO, "queue %u stops: base %u", state->index, vring->config.base);
    }
    *(struct gw_wire_vring_state *)(void *)reply->payload =
        (struct gw_wire_vring_state){.index = state->index, .num = base_of(d, vring)};
    reply->size = sizeof(struct gw_wire_vring_state);
    return 0;
}

static int get_vring_base(struct gw_daemon *d, const struct gw_msg *msg, enum gw_queue_stop how)
{
    const struct gw_wire_vring_state *state = (const void *)msg->payload;

    gw_ctl_cancel_start(vring_of(d, state));
    return gw_ctl_stop(d, &d->queues[state->index], how, queue_stopped);
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

    return get_vring_base(d, msg, may_suspend ? GW_STOP_SUSPEND : GW_STOP_DRAIN);
}

int gw_ctl_get_vring_base_skip_drain(struct gw_daemon *d, struct gw_msg *msg,
                                     struct gw_reply *reply)
{
    return get_vring_base(d, msg, GW_STOP_SUSPEND);
}
