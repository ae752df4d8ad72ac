/* SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause */
/*
 * The requests of the front-end without a file of their own ("Front-end message types" in the
 * specification). Ring requests are in fe_vring.c, memory requests in fe_memory.c.
 */
#include "fe_requests.h"

#include <errno.h>
#include <inttypes.h>
#include <string.h>

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
    [GW_MSG_SEND_RARP] = "SEND_RARP",
    [GW_MSG_NET_SET_MTU] = "NET_SET_MTU",
    [GW_MSG_SET_BACKEND_REQ_FD] = "SET_BACKEND_REQ_FD",
    [GW_MSG_IOTLB_MSG] = "IOTLB_MSG",
    [GW_MSG_SET_VRING_ENDIAN] = "SET_VRING_ENDIAN",
    [GW_MSG_GET_CONFIG] = "GET_CONFIG",
    [GW_MSG_SET_CONFIG] = "SET_CONFIG",
    [GW_MSG_CREATE_CRYPTO_SESSION] = "CREATE_CRYPTO_SESSION",
    [GW_MSG_CLOSE_CRYPTO_SESSION] = "CLOSE_CRYPTO_SESSION",
    [GW_MSG_POSTCOPY_ADVISE] = "POSTCOPY_ADVISE",
    [GW_MSG_POSTCOPY_LISTEN] = "POSTCOPY_LISTEN",
    [GW_MSG_POSTCOPY_END] = "POSTCOPY_END",
    [GW_MSG_GET_INFLIGHT_FD] = "GET_INFLIGHT_FD",
    [GW_MSG_SET_INFLIGHT_FD] = "SET_INFLIGHT_FD",
    [GW_MSG_GPU_SET_SOCKET] = "GPU_SET_SOCKET",
    [GW_MSG_RESET_DEVICE] = "RESET_DEVICE",
    [GW_MSG_VRING_KICK] = "VRING_KICK",
    [GW_MSG_GET_MAX_MEM_SLOTS] = "GET_MAX_MEM_SLOTS",
    [GW_MSG_ADD_MEM_REG] = "ADD_MEM_REG",
    [GW_MSG_REM_MEM_REG] = "REM_MEM_REG",
    [GW_MSG_SET_STATUS] = "SET_STATUS",
    [GW_MSG_GET_STATUS] = "GET_STATUS",
    [GW_MSG_GET_SHARED_OBJECT] = "GET_SHARED_OBJECT",
    [GW_MSG_SET_DEVICE_STATE_FD] = "SET_DEVICE_STATE_FD",
    [GW_MSG_CHECK_DEVICE_STATE] = "CHECK_DEVICE_STATE",
    [GW_MSG_GET_SHMEM_CONFIG] = "GET_SHMEM_CONFIG",
    [GW_MSG_GET_VRING_BASE_SKIP_DRAIN] = "GET_VRING_BASE_SKIP_DRAIN",
};

const char *gw_frontend_message_name(uint32_t request)
{
    if (request < sizeof(message_names) / sizeof(message_names[0]) && message_names[request])
        return message_names[request];
    return "request";
}

int gw_frontend_encode_nothing(struct gw_frontend_op *op, uint32_t request, uint64_t needs)
{
    op->call = (struct gw_frontend_call){.request = request, .needs = needs};
    return GW_FRONTEND_STEP_SEND;
}

int gw_frontend_encode_u64(struct gw_frontend_op *op, uint32_t request, uint64_t value)
{
    op->call =
        (struct gw_frontend_call){.request = request, .payload.u64 = value, .size = sizeof(value)};
    return GW_FRONTEND_STEP_SEND;
}

static int take_u64(struct gw_frontend_op *op, struct gw_frontend_message *answer)
{
    memcpy(op->call.ret, answer->payload, sizeof(uint64_t));
    return 0;
}

int gw_frontend_encode_get_u64(struct gw_frontend_op *op, uint32_t request, uint64_t needs,
                               uint64_t *ret)
{
    op->call = (struct gw_frontend_call){
        .request = request,
        .needs = needs,
        .has_reply = true,
        .reply_size = sizeof(*ret),
        .finish = take_u64,
        .ret = ret,
    };
    return GW_FRONTEND_STEP_SEND;
}

static int take_features(struct gw_frontend_op *op, struct gw_frontend_message *answer)
{
    memcpy(&op->fe->offered, answer->payload, sizeof(uint64_t));
    return take_u64(op, answer);
}

int gw_frontend_encode_get_features(struct gw_frontend_op *op, uint64_t *ret)
{
    int r = gw_frontend_encode_get_u64(op, GW_MSG_GET_FEATURES, 0, ret);

    op->call.finish = take_features;
    return r;
}

static int keep_features(struct gw_frontend_op *op, struct gw_frontend_message *answer)
{
    op->fe->features = op->call.payload.u64;
    return 0;
}

int gw_frontend_encode_set_features(struct gw_frontend_op *op, uint64_t features)
{
    int r = gw_frontend_encode_u64(op, GW_MSG_SET_FEATURES, features);

    op->call.finish = keep_features;
    return r;
}

static int keep_protocol_features(struct gw_frontend_op *op, struct gw_frontend_message *answer)
{
    op->fe->protocol_features = op->call.payload.u64;
    return 0;
}

int gw_frontend_encode_set_protocol_features(struct gw_frontend_op *op, uint64_t features)
{
    int r = gw_frontend_encode_u64(op, GW_MSG_SET_PROTOCOL_FEATURES, features);

    op->call.finish = keep_protocol_features;
    return r;
}

/* The payload of GET_CONFIG and SET_CONFIG: a header and `len` bytes. */
static int encode_config(struct gw_frontend_op *op, uint32_t request, uint32_t len,
                         const struct gw_wire_config *head)
{
    if (len == 0 || len > GW_FRONTEND_CONFIG_MAX)
        return gw_frontend_fail(-EINVAL, "%s: length %" PRIu32 " is not 1 to %d",
                                gw_frontend_message_name(request), len, GW_FRONTEND_CONFIG_MAX);
    op->call = (struct gw_frontend_call){
        .request = request,
        .size = (uint32_t)sizeof(*head) + len,
        .needs = GW_FRONTEND_NEEDS(CONFIG),
    };
    memcpy(op->call.payload.bytes, head, sizeof(*head));
    return GW_FRONTEND_STEP_SEND;
}

static int take_config(struct gw_frontend_op *op, struct gw_frontend_message *answer)
{
    size_t head = sizeof(struct gw_wire_config);
    struct gw_wire_config sent, got;

    memcpy(&sent, op->call.payload.bytes, head);
    memcpy(&got, answer->payload, head);
    if (got.offset != sent.offset || got.size != sent.size)
        return gw_frontend_break(op->fe, -EPROTO, "GET_CONFIG: reply for a different range");
    memcpy(op->call.ret, answer->payload + head, sent.size);
    return 0;
}

int gw_frontend_encode_get_config(struct gw_frontend_op *op, uint32_t offset, void *buf,
                                  uint32_t len)
{
    const struct gw_wire_config head = {.offset = offset, .size = len};
    int r = encode_config(op, GW_MSG_GET_CONFIG, len, &head);

    op->call.has_reply = true;
    op->call.reply_size = op->call.size;
    op->call.finish = take_config;
    op->call.ret = buf;
    return r;
}

int gw_frontend_encode_set_config(struct gw_frontend_op *op, uint32_t offset, const void *buf,
                                  uint32_t len, bool migration)
{
    const struct gw_wire_config head = {
        .offset = offset,
        .size = len,
        .flags = migration ? GW_CONFIG_F_MIGRATION : GW_CONFIG_F_WRITABLE,
    };
    int r = encode_config(op, GW_MSG_SET_CONFIG, len, &head);

    if (r > 0)
        memcpy(op->call.payload.bytes + sizeof(head), buf, len);
    return r;
}

int gw_frontend_check(struct gw_frontend *fe)
{
    int r;

    if (fe->fd < 0)
        return gw_frontend_fail(-ENOTCONN, "not connected");
    r = gw_frontend_check_broken(fe);
    return r < 0 || !gw_list_is_empty(&fe->ops) ? r : gw_frontend_check_silence(fe, NULL);
}

uint64_t gw_frontend_features(const struct gw_frontend *fe)
{
    return fe->features;
}

uint64_t gw_frontend_protocol_features(const struct gw_frontend *fe)
{
    return fe->protocol_features;
}
