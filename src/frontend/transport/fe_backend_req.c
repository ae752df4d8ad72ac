/* SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause */
/*
 * The back-end channel ("Back-end communication"): a socket pair, one end of which
 * SET_BACKEND_REQ_FD passes to the back-end. Messages are received without interpretation;
 * fe_channel.c or the caller handles them.
 */
#include "base/cleanup.h"
#include "base/clock.h"
#include "fd/peer_fd.h"
#include "fe_requests.h"
#include "fe_trace.h"
#include "frontend/channel/fe_channel.h"

#include <errno.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#define REQUESTS_PER_TURN 16

static int keep_channel(struct gw_frontend_op *op, struct gw_frontend_message *answer)
{
    struct gw_frontend *fe = op->fe;
    int r;

    gw_frontend_close_channel(fe);
    fe->backend_fd = gw_steal_fd(&op->channel[0]);
    r = gw_frontend_watch(fe);
    if (r == 0)
        return 0;
    gw_frontend_close_channel(fe);
    return gw_frontend_fail(r, "SET_BACKEND_REQ_FD: %s", strerror(-r));
}

int gw_frontend_encode_backend_req_fd(struct gw_frontend_op *op)
{
    int r;

    if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, op->channel) < 0) {
        r = -errno;
        return gw_frontend_fail(r, "SET_BACKEND_REQ_FD: %s", strerror(-r));
    }
    op->has_channel = true;
    op->call = (struct gw_frontend_call){
        .request = GW_MSG_SET_BACKEND_REQ_FD,
        .needs = GW_FRONTEND_NEEDS(BACKEND_REQ),
        .fds = {op->channel[1]},
        .n_fds = 1,
        .finish = keep_channel,
    };
    return GW_FRONTEND_STEP_SEND;
}

void gw_frontend_close_channel(struct gw_frontend *fe)
{
    gw_frontend_rx_reset(&fe->backend_rx);
    fe->backend_tx = (struct gw_frontend_tx){0};
    gw_close(&fe->backend_reply_fd);
    gw_frontend_close(fe, &fe->backend_fd);
    fe->n_channels++;
}

void gw_frontend_set_backend_cb(struct gw_frontend *fe, gw_frontend_backend_cb *cb, void *arg)
{
    fe->backend_cb = cb;
    fe->backend_arg = arg;
    (void)gw_frontend_watch(fe);
}

/* Call back with the request in backend_rx, and prepare its answer. */
static void answer_request(struct gw_frontend *fe)
{
    struct gw_frontend_message msg = fe->backend_rx.msg;
    unsigned channel = fe->n_channels;
    bool always = false; /* "VHOST_USER_BACKEND_SHARED_OBJECT_LOOKUP" */
    uint64_t value = ENOSYS;
    int fd = -1;

    fe->backend_rx.msg.n_fds = 0;
    gw_frontend_trace_message(fe, GW_FRONTEND_TRACE_ASKED, &fe->backend_rx.header, msg.payload,
                              msg.n_fds);
    fe->is_serving = true;
    if (gw_frontend_serve_request(fe, &msg, &value, &fd))
        always = msg.request == GW_BACKEND_MSG_SHARED_OBJECT_LOOKUP;
    else if (fe->backend_cb)
        value = fe->backend_cb(fe->backend_arg, &msg);
    fe->is_serving = false;
    gw_peer_fd_close_all(msg.fds, msg.n_fds);
    /* The callback may have hung up. */
    if ((!(msg.flags & GW_MSG_NEED_REPLY) && !always) || channel != fe->n_channels) {
        gw_close(&fd);
        return;
    }
    fe->backend_reply_fd = fd;
    fe->backend_value = value;
    fe->backend_header = (struct gw_wire_header){
        .request = msg.request,
        .flags = GW_MSG_VERSION | GW_MSG_REPLY,
        .size = sizeof(value),
    };
    fe->backend_tx = (struct gw_frontend_tx){
        .iov = {{.iov_base = &fe->backend_header, .iov_len = sizeof(fe->backend_header)},
                {.iov_base = &fe->backend_value, .iov_len = sizeof(fe->backend_value)}},
        .fds = &fe->backend_reply_fd,
        .n_fds = fd >= 0,
    };
}

/* Returns: 0 if there may be more to do; -EAGAIN; an error after which the channel is of no use. */
static int serve_one(struct gw_frontend *fe)
{
    int r;

    if (!gw_frontend_tx_is_empty(&fe->backend_tx)) {
        r = gw_frontend_wire_send(fe->backend_fd, &fe->backend_tx);
        if (r < 0)
            return r;
        gw_frontend_trace_message(fe, GW_FRONTEND_TRACE_REPLIED, &fe->backend_header,
                                  &fe->backend_value, fe->backend_reply_fd >= 0);
        gw_close(&fe->backend_reply_fd);
    }
    r = gw_frontend_wire_receive(fe->backend_fd, &fe->backend_rx);
    if (r == 0)
        answer_request(fe);
    return r;
}

void gw_frontend_serve_channel(struct gw_frontend *fe)
{
    for (unsigned n = 0; n < REQUESTS_PER_TURN; n++) {
        int r;

        if (fe->broken || !gw_frontend_serves(fe) || fe->is_serving || fe->backend_fd < 0)
            break;
        r = serve_one(fe);
        if (r < 0 && r != -EAGAIN)
            gw_frontend_close_channel(fe);
        if (r < 0)
            break;
    }
}

int gw_frontend_backend_fd(const struct gw_frontend *fe)
{
    return fe->backend_fd;
}

int gw_frontend_backend_request(struct gw_frontend *fe, struct gw_frontend_message *ret,
                                unsigned timeout_ms)
{
    int r;

    ret->n_fds = 0;
    if (fe->backend_fd < 0)
        return gw_frontend_fail(-ENOTCONN, "back-end request: no channel");
    r = gw_frontend_wire_receive_all(fe->backend_fd, &fe->backend_rx, ret,
                                     gw_clock_ns() + timeout_ms * GW_NS_PER_MS);
    if (r < 0)
        return gw_frontend_fail(r, "back-end request: %s", strerror(-r));
    gw_frontend_trace_message(fe, GW_FRONTEND_TRACE_ASKED, &fe->backend_rx.header, ret->payload,
                              ret->n_fds);
    return 0;
}

int gw_frontend_backend_reply(struct gw_frontend *fe, const struct gw_frontend_message *msg,
                              uint64_t value)
{
    struct gw_wire_header h = {
        .request = msg->request,
        .flags = GW_MSG_VERSION | GW_MSG_REPLY,
        .size = sizeof(value),
    };
    struct gw_frontend_tx tx = {.iov = {{.iov_base = &h, .iov_len = sizeof(h)},
                                        {.iov_base = &value, .iov_len = sizeof(value)}}};
    int r;

    if (fe->backend_fd < 0)
        return gw_frontend_fail(-ENOTCONN, "back-end reply: no channel");
    r = gw_frontend_wire_send_all(fe->backend_fd, &tx,
                                  gw_clock_ns() + fe->cfg.timeout_ms * GW_NS_PER_MS);
    if (r < 0)
        return gw_frontend_fail(r, "back-end reply: %s", strerror(-r));
    gw_frontend_trace_message(fe, GW_FRONTEND_TRACE_REPLIED, &h, &value, 0);
    return 0;
}
