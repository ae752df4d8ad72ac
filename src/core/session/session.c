/* SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause */
/*
 * One session on the control worker: messages are received, dispatched and answered, one at a time,
 * and any kind of end is cleaned up in steps. What the session waits for decides which events of
 * its socket it watches: the next message, room for an answer, or only a hang-up.
 */
#include "session.h"

#include "backend_req.h"
#include "base/cleanup.h"
#include "core/daemon/control.h"
#include "core/message/change.h"
#include "core/message/ctl_iotlb.h"
#include "core/message/dispatch.h"
#include "core/message/operation.h"
#include "core/move/postcopy_worker.h"
#include "core/state/transfer.h"
#include "fd/peer_fd.h"
#include "inband.h"

#include <errno.h>
#include <inttypes.h>
#include <poll.h>
#include <string.h>

/* How long an answer may wait for a front-end that does not read. */
#define SEND_PATIENCE_NS UINT64_C(10000000000)

/*
 * A front-end may send descriptors faster than they can be closed. It must not use up those of its
 * neighbours, so it waits, but no longer than a second: the backlog may be the work of another.
 */
#define FDS_AT_ONCE 16
#define PAUSE_NS    UINT64_C(1000000)
#define PAUSES_MAX  1000

/* ---- sources ---- */

static void unwatch(struct gw_daemon *d, struct gw_source *source)
{
    d->control->loop->ops->remove(d->control->loop, source);
}

/* Watch `source` for these events and a hang-up. Returns: false if the session must end. */
static bool watch(struct gw_daemon *d, struct gw_source *source, uint32_t events)
{
    int r;

    if (d->session.is_ending || (source->token && source->events == events))
        return true;
    unwatch(d, source);
    source->events = events;
    r = d->control->loop->ops->add(d->control->loop, source);
    if (r < 0)
        gw_log(&d->log, GW_LOG_ERROR, "the session ends: cannot wait for fd %d: %s", source->fd,
               strerror(-r));
    return r == 0;
}

static void watch_socket(struct gw_daemon *d, uint32_t events)
{
    if (!watch(d, &d->session.socket, events))
        gw_session_end(d, -ENOMEM);
}

/* ---- the end of a session ---- */

static int reset_queue(struct gw_queue *q, struct gw_op *op)
{
    gw_queue_reset(q);
    return 0;
}

static int stop_queue(struct gw_queue *q, struct gw_op *op)
{
    gw_queue_stop(q, &op->latch, GW_STOP_LOST);
    return GW_OP_PENDING;
}

/* Third step: no queue refers to anything of this session. */
static int finish_end(struct gw_daemon *d, struct gw_op *op, int r)
{
    struct gw_session *s = &d->session;

    gw_mapping_done(&s->inflight.mapping);
    gw_dirty_log_free(gw_steal(s->dirty_log.log));
    gw_close(&s->dirty_log.event_fd);
    gw_iotlb_free(gw_steal(s->iotlb));
    if (d->ops.reset)
        d->ops.reset(d->dev);
    if (d->ops.session_end)
        d->ops.session_end(d->dev);
    gw_log(&d->log, GW_LOG_INFO, "the session has ended");
    s->is_open = false;
    gw_postcopy_worker_end(d);
    gw_control_session_ended(d, s->result);
    return GW_OP_PENDING;
}

/* Second step: all queues have stopped, or their requests have taken too long. */
static int queues_stopped(struct gw_daemon *d, struct gw_op *op, int r)
{
    struct gw_session *s = &d->session;

    gw_change_end(d, gw_steal(s->end.change), r < 0);
    gw_map_free(gw_steal(s->pending));
    gw_mem_backend_unwatch(gw_steal(s->owners));
    return gw_op_wait(gw_steal(s->end.reset), finish_end); /* queues drop the dirty log */
}

void gw_session_end(struct gw_daemon *d, int r)
{
    struct gw_session *s = &d->session;

    if (s->is_ending)
        return;
    s->is_ending = true;
    s->result = r;
    s->waits_for_moves = false;
    gw_op_abandon(d);
    gw_state_cancel(d);
    gw_timer_stop(d->timer);
    gw_ctl_end_translation(d);
    unwatch(d, &s->socket);
    unwatch(d, &s->owners_source);
    gw_backend_req_end_session(d);
    /* First, so that no worker waits for a page and the front-end does not wait for an answer. */
    gw_postcopy_done(&s->postcopy);
    gw_daemon_expect_faults(d, false);
    gw_socket_hang_up(&s->socket.fd);
    gw_close(&s->reply.fd);
    gw_rx_reset(&s->rx);
    (void)gw_op_wait(gw_steal(s->end.stop), queues_stopped);
}

/* ---- messages ---- */

void gw_session_flush_backend(struct gw_daemon *d)
{
    struct gw_session *s = &d->session;
    bool full = gw_inband_flush(d);

    full = gw_backend_req_flush(d) || full;
    if (s->backend.fd >= 0 && !watch(d, &s->backend, full ? POLLOUT : 0))
        gw_session_end(d, -ENOMEM);
}

/* Log why nothing more can be received. Returns: 0 after a hang-up between messages; `r`. */
static int explain(struct gw_daemon *d, int r)
{
    if (r == -ENOTCONN)
        return 0;
    if (r == -EMSGSIZE)
        gw_log(&d->log, GW_LOG_WARNING,
               "the session ends: message too long: %" PRIu32 " bytes, limit %u",
               d->session.rx.msg.header.size, (unsigned)GW_MSG_PAYLOAD_MAX);
    else
        gw_log(&d->log, GW_LOG_WARNING, "the session ends: %s",
               r == -ECONNRESET ? "the front-end hung up in the middle of a message"
               : r == -EPROTO   ? "file descriptors came in the middle of a message"
                                : strerror(-r));
    return r;
}

static void cannot_answer(struct gw_daemon *d, const char *why)
{
    gw_log(&d->log, GW_LOG_WARNING, "the session ends: %s (%u): its answer cannot be sent: %s",
           gw_dispatch_name(d), d->session.rx.msg.header.request, why);
}

static void await_message(struct gw_daemon *d)
{
    struct gw_session *s = &d->session;

    if (s->n_fds >= FDS_AT_ONCE && s->n_pauses < PAUSES_MAX &&
        gw_peer_fd_backlog() >= FDS_AT_ONCE) {
        s->n_pauses++;
        gw_timer_start(d->timer, PAUSE_NS, 0);
        watch_socket(d, 0);
        return;
    }
    if (s->n_fds >= FDS_AT_ONCE)
        s->n_fds = 0;
    s->n_pauses = 0;
    watch_socket(d, POLLIN);
}

/* Send what is left of the answer, and then wait for the next message. */
static void send_answer(struct gw_daemon *d)
{
    struct gw_session *s = &d->session;
    int r = gw_tx_pump(&s->tx, s->socket.fd);

    if (r == -EAGAIN) {
        if (!s->is_sending)
            gw_timer_start(d->timer, SEND_PATIENCE_NS, 0);
        s->is_sending = true;
        watch_socket(d, POLLOUT);
        return;
    }
    gw_timer_stop(d->timer);
    s->is_sending = false;
    gw_close(&s->reply.fd);
    if (r < 0) {
        cannot_answer(d, strerror(-r));
        gw_session_end(d, r == -EPIPE || r == -ECONNRESET ? 0 : r);
        return;
    }
    s->tx = (struct gw_tx){.fd = -1};
    s->n_fds += s->rx.msg.n_fds;
    gw_rx_reset(&s->rx);
    gw_session_flush_backend(d);
    if (!s->is_ending)
        await_message(d);
}

void gw_session_continue(struct gw_daemon *d, int r)
{
    if (r == GW_OP_PENDING)
        return;
    if (r == 0)
        (void)gw_inband_flush(d); /* calls of a ring that has stopped precede the answer */
    r = gw_dispatch_answer(d, r);
    if (r < 0)
        gw_session_end(d, r);
    else
        send_answer(d);
}

static void receive(struct gw_daemon *d)
{
    struct gw_session *s = &d->session;
    int r = gw_rx_pump(&s->rx, s->socket.fd);

    if (r == 0)
        return;
    if (r < 0) {
        gw_session_end(d, explain(d, r));
        return;
    }
    s->heard = true;
    r = gw_dispatch(d);
    if (r == GW_OP_PENDING) /* in postcopy, a front-end that sends no more is as good as gone */
        watch_socket(d, gw_postcopy_is_listening(&s->postcopy) ? POLLRDHUP : 0);
    gw_session_continue(d, r);
}

/*
 * A hang-up while the message waits for queues. Waiting for requests would be in vain, and no more
 * pages will come. Otherwise the front-end may have sent more before, which is handled in its
 * order.
 */
static void hung_up(struct gw_daemon *d, uint32_t events)
{
    struct gw_session *s = &d->session;

    unwatch(d, &s->socket);
    gw_postcopy_abandon(&s->postcopy);
    if (!(events & (POLLHUP | POLLERR)) || !(gw_state_is_awaited(d) || (s->op && s->op->drains)))
        return;
    cannot_answer(d, "the front-end hung up");
    gw_session_end(d, 0);
}

static void socket_ready(struct gw_source *source, uint32_t events)
{
    struct gw_daemon *d = gw_container_of(source, struct gw_daemon, session.socket);

    if (source->events == POLLIN)
        receive(d);
    else if (source->events == POLLOUT)
        send_answer(d);
    else
        hung_up(d, events);
}

/* ---- the back-end channel, and owners of memory ---- */

static void backend_ready(struct gw_source *source, uint32_t events)
{
    struct gw_daemon *d = gw_container_of(source, struct gw_daemon, session.backend);

    if (events & ~(uint32_t)POLLOUT)
        gw_backend_req_hung_up(d);
    else
        gw_session_flush_backend(d);
}

/* If an owner of guest memory has gone, the session ends, which is no fault of the front-end. */
static void owners_changed(struct gw_source *source, uint32_t events)
{
    struct gw_daemon *d = gw_container_of(source, struct gw_daemon, session.owners_source);

    if (gw_mem_backend_check_owners(d->session.owners, d->session.map) == 0)
        return;
    gw_log(&d->log, GW_LOG_WARNING, "the session ends: %s", gw_last_error());
    gw_session_end(d, 0);
}

int gw_session_watch_owners(struct gw_daemon *d)
{
    struct gw_session *s = &d->session;
    int r = gw_mem_backend_watch(&s->owners);

    if (r < 0 || !s->owners)
        return r;
    s->owners_source.fd = gw_mem_backend_watch_fd(s->owners);
    return watch(d, &s->owners_source, POLLIN) ? 0 : -ENOMEM;
}

/* ---- the beginning ---- */

static void begin(struct gw_daemon *d, int fd)
{
    struct gw_session *s = &d->session;
    struct gw_vring *vrings = s->vrings;

    memset(s, 0, sizeof(*s));
    s->vrings = vrings;
    memset(vrings, 0, d->num_queues * sizeof(*vrings));
    s->socket = (struct gw_source){.fd = fd, .cb = socket_ready};
    s->backend = (struct gw_source){.fd = -1, .cb = backend_ready};
    s->owners_source = (struct gw_source){.fd = -1, .cb = owners_changed};
    s->dirty_log.event_fd = -1;
    s->reply.fd = -1;
    s->tx.fd = -1;
    gw_postcopy_init(&s->postcopy);
    gw_inband_reset(d);
}

/* The end of the session must not fail for lack of memory, so its operations are made first. */
static int make_operations(struct gw_daemon *d)
{
    struct gw_session *s = &d->session;
    int r = gw_map_new(&s->map, NULL, 0);

    if (r < 0)
        return r;
    s->end.stop = gw_op_new(d, NULL, stop_queue, 0);
    s->end.change = gw_change_new_map(d);
    s->end.reset = gw_op_new(d, NULL, reset_queue, 0);
    if (!s->end.stop || !s->end.change || !s->end.reset)
        return -ENOMEM;
    s->end.stop->drains = "stopping";
    return 0;
}

/* The device may refuse the session. */
static int start_device(struct gw_daemon *d)
{
    int r = d->ops.session_start ? d->ops.session_start(d->dev) : 0;

    if (r == 0)
        return 0;
    r = r < 0 ? r : -EINVAL;
    return gw_fail(r, "the device refuses it: %s", strerror(-r));
}

void gw_session_begin(struct gw_daemon *d, int fd)
{
    struct gw_session *s = &d->session;
    int r;

    begin(d, fd);
    r = make_operations(d);
    if (r == 0)
        r = start_device(d);
    if (r < 0) {
        gw_log(&d->log, GW_LOG_ERROR, "no session: %s", gw_last_error());
        gw_map_free(gw_steal(s->map));
        gw_op_free_unstarted(s->end.stop);
        gw_op_free_unstarted(s->end.change);
        gw_op_free_unstarted(s->end.reset);
        gw_postcopy_done(&s->postcopy);
        gw_socket_hang_up(&s->socket.fd);
        gw_control_session_ended(d, r);
        return;
    }
    s->is_open = true;
    gw_backend_req_begin_session(d);
    gw_log(&d->log, GW_LOG_INFO, "a front-end is connected");
    watch_socket(d, POLLIN);
}

/* ---- other events ---- */

/* If any thread hit a lost page of the front-end's memory, find and log it. */
static int check_loss(struct gw_daemon *d)
{
    const struct gw_session *s = &d->session;
    int r = 0;

    if (!__atomic_exchange_n(&d->loss.happened, false, __ATOMIC_ACQUIRE))
        return 0;
    for (unsigned i = 0; i < s->map->n_entries && r == 0; i++)
        r = gw_region_check(s->map->entries[i].region);
    if (r == 0 && s->dirty_log.log)
        r = gw_dirty_log_check(s->dirty_log.log);
    if (r == 0 && s->inflight.mapping.at)
        r = gw_mapping_check(&s->inflight.mapping, GW_INFLIGHT_NAME);
    if (r < 0)
        gw_log(&d->log, GW_LOG_ERROR, "the session ends: %s", gw_last_error());
    return r;
}

void gw_session_check(struct gw_daemon *d)
{
    int r;

    if (!d->session.is_open || d->session.is_ending)
        return;
    r = check_loss(d);
    if (r < 0) {
        gw_session_end(d, r);
        return;
    }
    gw_ctl_watch_misses(d);
    gw_state_continue(d);
    if (!d->session.is_ending)
        gw_session_flush_backend(d);
}

void gw_session_check_time(struct gw_daemon *d)
{
    if (d->session.op) {
        gw_op_check_time(d);
        return;
    }
    if (d->session.waits_for_moves) {
        gw_op_report_moves(d);
        return;
    }
    if (gw_state_is_awaited(d)) {
        gw_state_check_time(d);
        return;
    }
    if (d->session.n_pauses > 0) {
        await_message(d);
        return;
    }
    cannot_answer(d, "the front-end has not read for 10 s");
    gw_session_end(d, -ETIMEDOUT);
}
