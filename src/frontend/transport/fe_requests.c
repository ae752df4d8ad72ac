/* SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause */
/*
 * One function for each request of the front-end, on top of one routine that sends, waits and
 * checks the reply ("Communication" and "Front-end message types" in the specification). Ring
 * requests are in fe_vring.c, memory requests in fe_memory.c.
 *
 * A late, malformed or mismatched reply ends the session (fe->broken), because the following bytes
 * on the stream could be mistaken for the reply to another request.
 */
#include "fe_requests.h"
#include "fe_trace.h"

#include "base/clock.h"
#include "base/proto.h"

#include <errno.h>
#include <inttypes.h>
#include <string.h>
#include <sys/socket.h>

#define CONFIG_LEN_MAX 256 /* as in QEMU's front-end (VHOST_USER_MAX_CONFIG_SIZE) */

static const char *const message_names[] = {
    [GW_MSG_GET_FEATURES] = "GET_FEATURES",
    [GW_MSG_SET_FEATURES] = "SET_FEATURES",
    [GW_MSG_SET_OWNER] = "SET_OWNER",
    [GW_MSG_RESET_OWNER] = "RESET_OWNER",
    [GW_MSG_SET_MEM_TABLE] = "SET_MEM_TABLE",
    [GW_MSG_SET_LOG_BASE] = "SET_LOG_BASE",
    [GW_MSG_SET_LOG_FD] = "SET_LOG_FD",
    [GW_MSG_SET_VRING_NUM] = "SET_VRING_NUM",
    [GW_MSG_SET_VRING_ADDR] = "SET_VRING_ADDR",
    [GW_MSG_SET_VRING_BASE] = "SET_VRING_BASE",
    [GW_MSG_GET_VRING_BASE] = "GET_VRING_BASE",
    [GW_MSG_SET_VRING_KICK] = "SET_VRING_KICK",
    [GW_MSG_SET_VRING_CALL] = "SET_VRING_CALL",
    [GW_MSG_SET_VRING_ERR] = "SET_VRING_ERR",
    [GW_MSG_GET_PROTOCOL_FEATURES] = "GET_PROTOCOL_FEATURES",
    [GW_MSG_SET_PROTOCOL_FEATURES] = "SET_PROTOCOL_FEATURES",
    [GW_MSG_GET_QUEUE_NUM] = "GET_QUEUE_NUM",
    [GW_MSG_SET_VRING_ENABLE] = "SET_VRING_ENABLE",
    [GW_MSG_SET_BACKEND_REQ_FD] = "SET_BACKEND_REQ_FD",
    [GW_MSG_GET_CONFIG] = "GET_CONFIG",
    [GW_MSG_SET_CONFIG] = "SET_CONFIG",
    [GW_MSG_POSTCOPY_ADVISE] = "POSTCOPY_ADVISE",
    [GW_MSG_POSTCOPY_LISTEN] = "POSTCOPY_LISTEN",
    [GW_MSG_POSTCOPY_END] = "POSTCOPY_END",
    [GW_MSG_GET_INFLIGHT_FD] = "GET_INFLIGHT_FD",
    [GW_MSG_SET_INFLIGHT_FD] = "SET_INFLIGHT_FD",
    [GW_MSG_RESET_DEVICE] = "RESET_DEVICE",
    [GW_MSG_GET_MAX_MEM_SLOTS] = "GET_MAX_MEM_SLOTS",
    [GW_MSG_ADD_MEM_REG] = "ADD_MEM_REG",
    [GW_MSG_REM_MEM_REG] = "REM_MEM_REG",
    [GW_MSG_GET_VRING_BASE_SKIP_DRAIN] = "GET_VRING_BASE_SKIP_DRAIN",
};

const char *gw_frontend_message_name(uint32_t request)
{
    if (request < sizeof(message_names) / sizeof(message_names[0]) && message_names[request])
        return message_names[request];
    return "request";
}

int gw_frontend_gate(struct gw_frontend *fe, unsigned bit, uint32_t request)
{
    if (fe->cfg.no_gates || fe->protocol_features >> bit & 1)
        return 0;
    return gw_frontend_fail(-EOPNOTSUPP, "%s: protocol feature %u was not negotiated",
                            gw_frontend_message_name(request), bit);
}

/* Bytes that are pending before a request is sent are an unsolicited message. */
static int check_silence(struct gw_frontend *fe, const char *name)
{
    char byte;
    ssize_t n = recv(fe->fd, &byte, 1, MSG_PEEK | MSG_DONTWAIT);

    if (n > 0)
        return gw_frontend_break(fe, -EPROTO, "%s: the back-end sent an unsolicited message",
                                 name ? name : "idle");
    if (n == 0 || errno == ECONNRESET)
        return gw_frontend_fail_hung_up(fe, name);
    return 0;
}

/* A reply that does not fit its request ends the session; a rejection does not. */
static int check_reply(struct gw_frontend *fe, const struct gw_frontend_call *call,
                       const struct gw_frontend_message *msg, uint32_t want_size)
{
    const char *name = gw_frontend_message_name(call->request);

    if (msg->request != call->request)
        return gw_frontend_break(fe, -EPROTO, "%s: answered with id %" PRIu32, name, msg->request);
    /* QEMU compares all flags: version 1 and REPLY set, NEED_REPLY clear. */
    if (msg->flags != (GW_MSG_VERSION | GW_MSG_REPLY))
        return gw_frontend_break(fe, -EPROTO, "%s: answered with flags 0x%" PRIx32, name,
                                 msg->flags);
    if (msg->n_fds > (call->reply_fd ? 1 : 0))
        return gw_frontend_break(fe, -EPROTO, "%s: answered with %u fds", name, msg->n_fds);
    /* A reply without data rejects GET_CONFIG ("VHOST_USER_GET_CONFIG"). */
    if (call->request == GW_MSG_GET_CONFIG && msg->size < want_size &&
        (msg->size == 0 || msg->size == sizeof(struct gw_wire_config)))
        return gw_frontend_fail(-EREMOTEIO, "%s: the back-end refused", name);
    if (call->may_refuse && msg->size == 0 && want_size)
        return gw_frontend_fail(-EREMOTEIO, "%s: the back-end refused", name);
    /* The reply has 16 bytes, 8 (libvhost-user) or none (DPDK). */
    if (call->request == GW_MSG_SET_LOG_BASE && (msg->size == 0 || msg->size == sizeof(uint64_t)))
        return 0;
    if (msg->size != want_size)
        return gw_frontend_break(fe, -EPROTO, "%s: answered with %" PRIu32 " bytes, not %" PRIu32,
                                 name, msg->size, want_size);
    return 0;
}

static int await_reply(struct gw_frontend *fe, const struct gw_frontend_call *call,
                       uint64_t deadline)
{
    const char *name = gw_frontend_message_name(call->request);
    struct gw_frontend_message msg;
    uint64_t ack;
    int r;

    r = gw_frontend_wire_receive(fe->fd, &msg, deadline);
    if (r == -ETIMEDOUT)
        return gw_frontend_break(fe, r, "%s: no answer in time", name);
    if (r == -ECONNRESET)
        return gw_frontend_fail_hung_up(fe, NULL);
    if (r < 0)
        return gw_frontend_break(fe, r, "%s: %s", name,
                                 r == -EPROTO
                                     ? "an answer that is too long or has too many file descriptors"
                                     : strerror(-r));
    gw_frontend_trace_message(
        fe, GW_FRONTEND_TRACE_ANSWERED,
        &(struct gw_wire_header){.request = msg.request, .flags = msg.flags, .size = msg.size},
        msg.payload, msg.n_fds);
    r = check_reply(fe, call, &msg, call->reply ? call->reply_size : sizeof(ack));
    if (r == 0 && msg.n_fds)
        *call->reply_fd = msg.fds[--msg.n_fds];
    gw_frontend_message_done(&msg);
    if (r < 0)
        return r;
    if (call->reply) {
        memcpy(call->reply, msg.payload, msg.size < call->reply_size ? msg.size : call->reply_size);
        return 0;
    }
    memcpy(&ack, msg.payload, sizeof(ack));
    if (ack)
        return gw_frontend_fail(-EREMOTEIO, "%s: the back-end refused (0x%" PRIx64 ")", name, ack);
    return 0;
}

int gw_frontend_transact(struct gw_frontend *fe, const struct gw_frontend_call *call)
{
    bool acks = fe->protocol_features >> GW_PROTOCOL_F_REPLY_ACK & 1;
    enum gw_frontend_ack ack = call->ack == GW_FRONTEND_ACK_AUTO ? fe->cfg.ack : call->ack;
    const char *name = gw_frontend_message_name(call->request);
    struct gw_wire_header h = {
        .request = call->request, .flags = GW_MSG_VERSION, .size = call->size};
    struct iovec iov[2] = {
        {.iov_base = &h, .iov_len = sizeof(h)},
        {.iov_base = (void *)(uintptr_t)call->payload, .iov_len = call->size},
    };
    uint64_t deadline = gw_clock_ns() + (uint64_t)fe->cfg.timeout_ms * 1000000u;
    int r;

    if (fe->fd < 0)
        return gw_frontend_fail(-ENOTCONN, "%s: not connected", name);
    r = gw_frontend_check_broken(fe);
    if (r == 0)
        r = check_silence(fe, name);
    if (r < 0)
        return r;
    if (ack == GW_FRONTEND_ACK_ALWAYS || (ack == GW_FRONTEND_ACK_AUTO && acks && !call->reply))
        h.flags |= GW_MSG_NEED_REPLY;
    r = gw_frontend_wire_send(fe->fd, iov, call->size ? 2 : 1, call->fds, call->n_fds, deadline);
    if (r == -ECONNRESET)
        return gw_frontend_fail_hung_up(fe, name);
    if (r < 0)
        return gw_frontend_break(fe, r, "%s: %s", name, strerror(-r));
    gw_frontend_trace_message(fe, GW_FRONTEND_TRACE_SENT, &h, call->payload, call->n_fds);
    if (call->reply || (acks && h.flags & GW_MSG_NEED_REPLY))
        return await_reply(fe, call, deadline);
    return 0;
}

int gw_frontend_check(struct gw_frontend *fe)
{
    int r;

    if (fe->fd < 0)
        return gw_frontend_fail(-ENOTCONN, "not connected");
    r = gw_frontend_check_broken(fe);
    return r < 0 ? r : check_silence(fe, NULL);
}

static int get_u64(struct gw_frontend *fe, uint32_t request, uint64_t *ret)
{
    uint64_t value;
    struct gw_frontend_call call = {
        .request = request, .reply = &value, .reply_size = sizeof(value)};
    int r = gw_frontend_transact(fe, &call);

    if (r == 0)
        *ret = value;
    return r;
}

static int set_u64(struct gw_frontend *fe, uint32_t request, uint64_t value)
{
    struct gw_frontend_call call = {.request = request, .payload = &value, .size = sizeof(value)};

    return gw_frontend_transact(fe, &call);
}

static int set_nothing(struct gw_frontend *fe, uint32_t request)
{
    struct gw_frontend_call call = {.request = request};

    return gw_frontend_transact(fe, &call);
}

int gw_frontend_get_features(struct gw_frontend *fe, uint64_t *ret)
{
    int r = get_u64(fe, GW_MSG_GET_FEATURES, ret);

    if (r == 0)
        fe->offered = *ret;
    return r;
}

int gw_frontend_set_features(struct gw_frontend *fe, uint64_t features)
{
    int r = set_u64(fe, GW_MSG_SET_FEATURES, features);

    if (r == 0)
        fe->features = features;
    return r;
}

int gw_frontend_get_protocol_features(struct gw_frontend *fe, uint64_t *ret)
{
    return get_u64(fe, GW_MSG_GET_PROTOCOL_FEATURES, ret);
}

int gw_frontend_set_protocol_features(struct gw_frontend *fe, uint64_t features)
{
    int r = set_u64(fe, GW_MSG_SET_PROTOCOL_FEATURES, features);

    if (r == 0)
        fe->protocol_features = features;
    return r;
}

int gw_frontend_set_owner(struct gw_frontend *fe)
{
    return set_nothing(fe, GW_MSG_SET_OWNER);
}

int gw_frontend_reset_owner(struct gw_frontend *fe)
{
    return set_nothing(fe, GW_MSG_RESET_OWNER);
}

int gw_frontend_reset_device(struct gw_frontend *fe)
{
    int r = gw_frontend_gate(fe, GW_PROTOCOL_F_RESET_DEVICE, GW_MSG_RESET_DEVICE);

    return r < 0 ? r : set_nothing(fe, GW_MSG_RESET_DEVICE);
}

int gw_frontend_get_queue_num(struct gw_frontend *fe, uint64_t *ret)
{
    int r = gw_frontend_gate(fe, GW_PROTOCOL_F_MQ, GW_MSG_GET_QUEUE_NUM);

    return r < 0 ? r : get_u64(fe, GW_MSG_GET_QUEUE_NUM, ret);
}

static int config_args(struct gw_frontend *fe, uint32_t request, uint32_t len)
{
    if (len == 0 || len > CONFIG_LEN_MAX)
        return gw_frontend_fail(-EINVAL, "%s: length %" PRIu32 " is not 1 to %d",
                                gw_frontend_message_name(request), len, CONFIG_LEN_MAX);
    return gw_frontend_gate(fe, GW_PROTOCOL_F_CONFIG, request);
}

int gw_frontend_get_config(struct gw_frontend *fe, uint32_t offset, void *buf, uint32_t len)
{
    struct gw_wire_config head = {.offset = offset, .size = len};
    uint8_t payload[sizeof(head) + CONFIG_LEN_MAX] = {0};
    struct gw_frontend_call call = {
        .request = GW_MSG_GET_CONFIG,
        .payload = payload,
        .size = (uint32_t)sizeof(head) + len,
        .reply = payload,
        .reply_size = (uint32_t)sizeof(head) + len,
    };
    int r = config_args(fe, GW_MSG_GET_CONFIG, len);

    if (r < 0)
        return r;
    memcpy(payload, &head, sizeof(head));
    r = gw_frontend_transact(fe, &call);
    if (r < 0)
        return r;
    memcpy(&head, payload, sizeof(head));
    if (head.offset != offset || head.size != len)
        return gw_frontend_break(fe, -EPROTO, "GET_CONFIG: reply for a different range");
    memcpy(buf, payload + sizeof(head), len);
    return 0;
}

int gw_frontend_set_config(struct gw_frontend *fe, uint32_t offset, const void *buf, uint32_t len,
                           bool migration)
{
    struct gw_wire_config head = {
        .offset = offset,
        .size = len,
        .flags = migration ? GW_CONFIG_F_MIGRATION : GW_CONFIG_F_WRITABLE,
    };
    uint8_t payload[sizeof(head) + CONFIG_LEN_MAX];
    struct gw_frontend_call call = {
        .request = GW_MSG_SET_CONFIG,
        .payload = payload,
        .size = (uint32_t)sizeof(head) + len,
    };
    int r = config_args(fe, GW_MSG_SET_CONFIG, len);

    if (r < 0)
        return r;
    memcpy(payload, &head, sizeof(head));
    memcpy(payload + sizeof(head), buf, len);
    return gw_frontend_transact(fe, &call);
}

uint64_t gw_frontend_features(const struct gw_frontend *fe)
{
    return fe->features;
}

uint64_t gw_frontend_protocol_features(const struct gw_frontend *fe)
{
    return fe->protocol_features;
}
