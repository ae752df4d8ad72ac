/* SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause */
/*
 * The back-end channel ("Back-end communication"): a socket pair, one end of which
 * SET_BACKEND_REQ_FD passes to the back-end. Messages are received without interpretation; the
 * caller handles them.
 */
#include "base/clock.h"
#include "base/proto.h"
#include "fd/peer_fd.h"
#include "fe_requests.h"
#include "fe_trace.h"

#include <errno.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

int gw_frontend_set_backend_req_fd(struct gw_frontend *fe)
{
    int pair[2], r;
    struct gw_frontend_call call = {
        .request = GW_MSG_SET_BACKEND_REQ_FD, .fds = &pair[1], .n_fds = 1};

    r = gw_frontend_gate(fe, GW_PROTOCOL_F_BACKEND_REQ, call.request);
    if (r < 0)
        return r;
    if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair) < 0) {
        r = -errno;
        return gw_frontend_fail(r, "SET_BACKEND_REQ_FD: %s", strerror(-r));
    }
    r = gw_frontend_transact(fe, &call);
    close(pair[1]);
    if (r < 0) {
        gw_peer_fd_close(&pair[0]);
        return r;
    }
    gw_peer_fd_close(&fe->backend_fd);
    fe->backend_fd = pair[0];
    return 0;
}

int gw_frontend_backend_fd(const struct gw_frontend *fe)
{
    return fe->backend_fd;
}

int gw_frontend_backend_request(struct gw_frontend *fe, struct gw_frontend_message *ret,
                                unsigned timeout_ms)
{
    int r;

    if (fe->backend_fd < 0)
        return gw_frontend_fail(-ENOTCONN, "back-end request: no channel");
    r = gw_frontend_wire_receive(fe->backend_fd, ret,
                                 gw_clock_ns() + (uint64_t)timeout_ms * 1000000u);
    if (r < 0)
        return gw_frontend_fail(r, "back-end request: %s", strerror(-r));
    gw_frontend_trace_message(
        fe, GW_FRONTEND_TRACE_ASKED,
        &(struct gw_wire_header){.request = ret->request, .flags = ret->flags, .size = ret->size},
        ret->payload, ret->n_fds);
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
    struct iovec iov[2] = {
        {.iov_base = &h, .iov_len = sizeof(h)},
        {.iov_base = &value, .iov_len = sizeof(value)},
    };
    uint64_t deadline = gw_clock_ns() + (uint64_t)fe->cfg.timeout_ms * 1000000u;
    int r;

    if (fe->backend_fd < 0)
        return gw_frontend_fail(-ENOTCONN, "back-end reply: no channel");
    r = gw_frontend_wire_send(fe->backend_fd, iov, 2, NULL, 0, deadline);
    if (r < 0)
        return gw_frontend_fail(r, "back-end reply: %s", strerror(-r));
    gw_frontend_trace_message(fe, GW_FRONTEND_TRACE_REPLIED, &h, &value, 0);
    return 0;
}
