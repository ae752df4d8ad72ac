/* SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause */
/*
 * One message and its answer ("Communication" in the specification), in steps that never wait.
 *
 * A late, malformed or mismatched answer ends the session, because the following bytes on the
 * stream could be mistaken for the answer to another message.
 */
#include "fe_requests.h"
#include "fe_trace.h"

#include "base/clock.h"

#include <errno.h>
#include <inttypes.h>
#include <string.h>
#include <sys/socket.h>

int gw_frontend_check_needs(const struct gw_frontend_op *op)
{
    uint64_t missing = op->call.needs & ~op->fe->protocol_features;
    uint64_t missing_virtio = op->call.needs_virtio & ~op->fe->features;
    const char *name = gw_frontend_message_name(op->call.request);

    if (op->fe->cfg.no_gates)
        return 0;
    if (missing)
        return gw_frontend_fail(-EOPNOTSUPP, "%s: protocol feature %d was not negotiated", name,
                                __builtin_ctzll(missing));
    if (missing_virtio)
        return gw_frontend_fail(-EOPNOTSUPP, "%s: feature %d was not negotiated", name,
                                __builtin_ctzll(missing_virtio));
    return 0;
}

int gw_frontend_check_silence(struct gw_frontend *fe, const char *name)
{
    char byte;
    ssize_t n = recv(fe->fd, &byte, 1, MSG_PEEK | MSG_DONTWAIT);

    if (n > 0 || fe->rx.got)
        return gw_frontend_break(fe, -EPROTO, "%s: the back-end sent an unsolicited message",
                                 name ? name : "idle");
    if (n == 0 || errno == ECONNRESET)
        return gw_frontend_fail_hung_up(fe, name);
    return 0;
}

int gw_frontend_begin_message(struct gw_frontend_op *op)
{
    struct gw_frontend_call *call = &op->call;
    struct gw_frontend *fe = op->fe;
    const char *name = gw_frontend_message_name(call->request);
    enum gw_frontend_ack ack = call->ack == GW_FRONTEND_ACK_AUTO ? fe->cfg.ack : call->ack;
    bool acks = fe->protocol_features >> GW_PROTOCOL_F_REPLY_ACK & 1;
    int r = gw_frontend_check_needs(op);

    if (r < 0)
        return r;
    r = gw_frontend_check_silence(fe, name);
    if (r < 0)
        return r;
    fe->header = (struct gw_wire_header){
        .request = call->request, .flags = GW_MSG_VERSION, .size = call->size};
    if (ack == GW_FRONTEND_ACK_ALWAYS || (ack == GW_FRONTEND_ACK_AUTO && acks && !call->has_reply))
        fe->header.flags |= GW_MSG_NEED_REPLY;
    fe->expects_answer = call->has_reply || (acks && fe->header.flags & GW_MSG_NEED_REPLY);
    fe->tx = (struct gw_frontend_tx){
        .iov = {{.iov_base = &fe->header, .iov_len = sizeof(fe->header)},
                {.iov_base = &call->payload, .iov_len = call->size}},
        .fds = call->fds,
        .n_fds = call->n_fds,
    };
    fe->deadline = gw_clock_ns() + fe->cfg.timeout_ms * GW_NS_PER_MS;
    fe->phase = GW_FRONTEND_SENDING;
    return 0;
}

static int finish_message(struct gw_frontend_op *op, struct gw_frontend_message *answer)
{
    op->fe->phase = GW_FRONTEND_PREPARING;
    return op->call.finish ? op->call.finish(op, answer) : 0;
}

int gw_frontend_send_message(struct gw_frontend_op *op)
{
    struct gw_frontend *fe = op->fe;
    const char *name = gw_frontend_message_name(op->call.request);
    int r = gw_frontend_wire_send(fe->fd, &fe->tx);

    if (r == -EAGAIN)
        return GW_FRONTEND_STEP_WAIT;
    if (r == -ECONNRESET)
        return gw_frontend_fail_hung_up(fe, name);
    if (r < 0)
        return gw_frontend_break(fe, r, "%s: %s", name, strerror(-r));
    gw_frontend_trace_message(fe, GW_FRONTEND_TRACE_SENT, &fe->header, &op->call.payload,
                              op->call.n_fds);
    fe->phase = GW_FRONTEND_RECEIVING;
    return fe->expects_answer ? 0 : finish_message(op, NULL);
}

/* An answer to another message ends the session; a rejection does not. */
static int check_answer(struct gw_frontend_op *op, const struct gw_frontend_message *msg)
{
    const struct gw_frontend_call *call = &op->call;
    uint32_t size = call->has_reply ? call->reply_size : sizeof(uint64_t);
    const char *name = gw_frontend_message_name(call->request);
    struct gw_frontend *fe = op->fe;

    if (msg->request != call->request)
        return gw_frontend_break(fe, -EPROTO, "%s: answered with id %" PRIu32, name, msg->request);
    /* QEMU compares all flags: version 1 and REPLY set, NEED_REPLY clear. */
    if (msg->flags != (GW_MSG_VERSION | GW_MSG_REPLY))
        return gw_frontend_break(fe, -EPROTO, "%s: answered with flags 0x%" PRIx32, name,
                                 msg->flags);
    if (msg->n_fds > call->has_reply_fd)
        return gw_frontend_break(fe, -EPROTO, "%s: answered with %u fds", name, msg->n_fds);
    /* An answer without data rejects GET_CONFIG ("VHOST_USER_GET_CONFIG"). */
    if (call->request == GW_MSG_GET_CONFIG && msg->size < size &&
        (msg->size == 0 || msg->size == sizeof(struct gw_wire_config)))
        return gw_frontend_fail(-EREMOTEIO, "%s: the back-end refused", name);
    if (call->may_refuse && msg->size == 0 && size)
        return gw_frontend_fail(-EREMOTEIO, "%s: the back-end refused", name);
    /* The answer has 16 bytes, 8 (libvhost-user) or none (DPDK). */
    if (call->request == GW_MSG_SET_LOG_BASE && (msg->size == 0 || msg->size == sizeof(uint64_t)))
        return 0;
    /* Some repeat the payload, some do not (libvhost-user, if QEMU up to 10 sent none). */
    if (call->request == GW_MSG_GET_SHARED_OBJECT && msg->size <= size)
        return 0;
    if (msg->size != size)
        return gw_frontend_break(fe, -EPROTO, "%s: answered with %" PRIu32 " bytes, not %" PRIu32,
                                 name, msg->size, size);
    return 0;
}

static int check_ack(struct gw_frontend_op *op, const struct gw_frontend_message *msg)
{
    uint64_t ack;

    memcpy(&ack, msg->payload, sizeof(ack));
    if (!ack)
        return 0;
    return gw_frontend_fail(-EREMOTEIO, "%s: the back-end refused (0x%" PRIx64 ")",
                            gw_frontend_message_name(op->call.request), ack);
}

int gw_frontend_receive_answer(struct gw_frontend_op *op)
{
    struct gw_frontend *fe = op->fe;
    struct gw_frontend_message *msg = &fe->rx.msg;
    int r = gw_frontend_wire_receive(fe->fd, &fe->rx);

    if (r == -EAGAIN)
        return GW_FRONTEND_STEP_WAIT;
    if (r == -ECONNRESET)
        return gw_frontend_fail_hung_up(fe, NULL);
    if (r < 0)
        return gw_frontend_break(fe, r, "%s: %s", gw_frontend_message_name(op->call.request),
                                 r == -EPROTO
                                     ? "an answer that is too long or has too many file descriptors"
                                     : strerror(-r));
    gw_frontend_trace_message(fe, GW_FRONTEND_TRACE_ANSWERED, &fe->rx.header, msg->payload,
                              msg->n_fds);
    r = check_answer(op, msg);
    if (r == 0 && !op->call.has_reply)
        r = check_ack(op, msg);
    if (r == 0)
        r = finish_message(op, op->call.has_reply ? msg : NULL);
    fe->phase = GW_FRONTEND_PREPARING;
    gw_frontend_rx_reset(&fe->rx);
    return r;
}
