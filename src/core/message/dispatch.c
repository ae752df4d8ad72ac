/* SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause */
/*
 * The table of messages. A row states what a message must look like and how it is answered. A
 * handler runs only for a message that matches its row. A new message needs a row and a handler.
 *
 * Every message that needs an answer gets exactly one. A refused message is answered if the
 * protocol provides for it: with a non-zero REPLY_ACK, or with the row's own answer. Otherwise the
 * session ends, because the front-end could not learn of the refusal.
 */
#include "dispatch.h"

#include "fd/peer_fd.h"

#include <errno.h>
#include <inttypes.h>
#include <string.h>

/* Number of fds that accompany a message. */
enum fds {
    FDS_NONE,
    FDS_ONE,
    FDS_MAYBE_ONE, /* optional; unused and closed */
    FDS_VRING,     /* one, or none with NOFD */
    FDS_REGIONS,   /* one per region */
};

/* Position of the ring index in the payload. */
enum ring {
    RING_NONE,
    RING_STATE, /* its first u32 */
    RING_FD,    /* bits 0-7 of its u64 */
};

enum answer {
    ANSWER_ACK,      /* u64, if NEED_REPLY is set and REPLY_ACK negotiated */
    ANSWER_ALWAYS,   /* its own payload; a refusal ends the session */
    ANSWER_OR_EMPTY, /* its own payload; empty if refused */
    ANSWER_OR_ZERO,  /* its own payload; zeroes if refused */
    ANSWER_ASKED,    /* u64, if NEED_REPLY is set, even without REPLY_ACK */
    ANSWER_STATUS,   /* u64, always */
    ANSWER_STATE_FD, /* u64, always: also says that no fd comes with it */
    ANSWER_NEVER,    /* none; a refusal ends the session */
};

/* The feature that must have been negotiated, usually a protocol feature (gate_is_open). */
enum gate {
    GATE_NONE = -1,
    GATE_MQ = GW_PROTOCOL_F_MQ,
    GATE_BACKEND_REQ = GW_PROTOCOL_F_BACKEND_REQ,
    GATE_PAGEFAULT = GW_PROTOCOL_F_PAGEFAULT,
    GATE_CONFIG = GW_PROTOCOL_F_CONFIG,
    GATE_INFLIGHT = GW_PROTOCOL_F_INFLIGHT_SHMFD,
    GATE_RESET_DEVICE = GW_PROTOCOL_F_RESET_DEVICE,
    GATE_RARP = GW_PROTOCOL_F_RARP,
    GATE_MTU = GW_PROTOCOL_F_NET_MTU,
    GATE_INBAND = GW_PROTOCOL_F_INBAND_NOTIFICATIONS,
    GATE_STATUS = GW_PROTOCOL_F_STATUS,
    GATE_MEM_SLOTS = GW_PROTOCOL_F_CONFIGURE_MEM_SLOTS,
    GATE_SHARED_OBJECT = GW_PROTOCOL_F_SHARED_OBJECT,
    GATE_SHMEM = GW_PROTOCOL_F_SHMEM,
    GATE_DEVICE_STATE = GW_PROTOCOL_F_DEVICE_STATE,
    GATE_SKIP_DRAIN = GW_PROTOCOL_F_GET_VRING_BASE_SKIP_DRAIN,
    GATE_PROTOCOL_FEATURES = 64, /* VHOST_USER_F_PROTOCOL_FEATURES itself */
    GATE_ACCESS_PLATFORM,        /* VIRTIO_F_ACCESS_PLATFORM */
};

struct row {
    const char *name;
    uint32_t size_min;
    uint32_t size_max;
    enum fds fds;
    enum ring ring;
    enum gate gate;
    enum answer answer;
    gw_handler *handle;
};

#define EXACTLY(n) (n), (n)
#define U64        EXACTLY(8)
#define STATE      EXACTLY(sizeof(struct gw_wire_vring_state))
#define REGION     EXACTLY(sizeof(struct gw_wire_single_region))
#define INFLIGHT   EXACTLY(sizeof(struct gw_wire_inflight))
#define TABLE      8, sizeof(struct gw_wire_mem_table)
#define XEN_TABLE  8, sizeof(struct gw_wire_xen_mem_table)
#define XEN_REGION EXACTLY(sizeof(struct gw_wire_xen_single_region))
#define IOTLB      EXACTLY(sizeof(struct gw_wire_iotlb))
#define DEV_STATE  EXACTLY(sizeof(struct gw_wire_device_state))
#define CONFIG     sizeof(struct gw_wire_config), sizeof(struct gw_wire_config) + GW_CONFIG_SIZE_MAX

/* clang-format off */
static const struct row rows[] = {
    [GW_MSG_GET_FEATURES] = {"GET_FEATURES", EXACTLY(0),
        FDS_NONE, RING_NONE, GATE_NONE, ANSWER_ALWAYS, gw_ctl_get_features},
    [GW_MSG_SET_FEATURES] = {"SET_FEATURES", U64,
        FDS_NONE, RING_NONE, GATE_NONE, ANSWER_ACK, gw_ctl_set_features},
    [GW_MSG_SET_OWNER] = {"SET_OWNER", EXACTLY(0),
        FDS_NONE, RING_NONE, GATE_NONE, ANSWER_ACK, gw_ctl_set_owner},
    [GW_MSG_RESET_OWNER] = {"RESET_OWNER", EXACTLY(0),
        FDS_NONE, RING_NONE, GATE_NONE, ANSWER_ACK, gw_ctl_reset_owner},
    [GW_MSG_SET_MEM_TABLE] = {"SET_MEM_TABLE", TABLE,
        FDS_REGIONS, RING_NONE, GATE_NONE, ANSWER_ACK, gw_ctl_set_mem_table},
    [GW_MSG_SET_LOG_BASE] = {"SET_LOG_BASE", EXACTLY(sizeof(struct gw_wire_log)),
        FDS_ONE, RING_NONE, GATE_NONE, ANSWER_ALWAYS, gw_ctl_set_log_base},
    [GW_MSG_SET_LOG_FD] = {"SET_LOG_FD", 0, 8,
        FDS_ONE, RING_NONE, GATE_NONE, ANSWER_ACK, gw_ctl_set_log_fd},
    [GW_MSG_SET_VRING_NUM] = {"SET_VRING_NUM", STATE,
        FDS_NONE, RING_STATE, GATE_NONE, ANSWER_ACK, gw_ctl_set_vring_num},
    [GW_MSG_SET_VRING_ADDR] = {"SET_VRING_ADDR", EXACTLY(sizeof(struct gw_wire_vring_addr)),
        FDS_NONE, RING_STATE, GATE_NONE, ANSWER_ACK, gw_ctl_set_vring_addr},
    [GW_MSG_SET_VRING_BASE] = {"SET_VRING_BASE", STATE,
        FDS_NONE, RING_STATE, GATE_NONE, ANSWER_ACK, gw_ctl_set_vring_base},
    [GW_MSG_GET_VRING_BASE] = {"GET_VRING_BASE", STATE,
        FDS_NONE, RING_STATE, GATE_NONE, ANSWER_ALWAYS, gw_ctl_get_vring_base},
    [GW_MSG_SET_VRING_KICK] = {"SET_VRING_KICK", U64,
        FDS_VRING, RING_FD, GATE_NONE, ANSWER_ACK, gw_ctl_set_vring_kick},
    [GW_MSG_SET_VRING_CALL] = {"SET_VRING_CALL", U64,
        FDS_VRING, RING_FD, GATE_NONE, ANSWER_ACK, gw_ctl_set_vring_call},
    [GW_MSG_SET_VRING_ERR] = {"SET_VRING_ERR", U64,
        FDS_VRING, RING_FD, GATE_NONE, ANSWER_ACK, gw_ctl_set_vring_err},
    [GW_MSG_GET_PROTOCOL_FEATURES] = {"GET_PROTOCOL_FEATURES", EXACTLY(0),
        FDS_NONE, RING_NONE, GATE_NONE, ANSWER_ALWAYS, gw_ctl_get_protocol_features},
    [GW_MSG_SET_PROTOCOL_FEATURES] = {"SET_PROTOCOL_FEATURES", U64,
        FDS_NONE, RING_NONE, GATE_NONE, ANSWER_ACK, gw_ctl_set_protocol_features},
    [GW_MSG_GET_QUEUE_NUM] = {"GET_QUEUE_NUM", EXACTLY(0),
        FDS_NONE, RING_NONE, GATE_MQ, ANSWER_ALWAYS, gw_ctl_get_queue_num},
    [GW_MSG_SET_VRING_ENABLE] = {"SET_VRING_ENABLE", STATE,
        FDS_NONE, RING_STATE, GATE_PROTOCOL_FEATURES, ANSWER_ACK, gw_ctl_set_vring_enable},
    [GW_MSG_SET_BACKEND_REQ_FD] = {"SET_BACKEND_REQ_FD", EXACTLY(0),
        FDS_ONE, RING_NONE, GATE_BACKEND_REQ, ANSWER_ACK, gw_ctl_set_backend_req_fd},
    [GW_MSG_IOTLB_MSG] = {"IOTLB_MSG", IOTLB,
        FDS_NONE, RING_NONE, GATE_ACCESS_PLATFORM, ANSWER_STATUS, gw_ctl_iotlb_msg},
    [GW_MSG_GET_CONFIG] = {"GET_CONFIG", CONFIG,
        FDS_NONE, RING_NONE, GATE_CONFIG, ANSWER_OR_EMPTY, gw_ctl_get_config},
    [GW_MSG_SET_CONFIG] = {"SET_CONFIG", CONFIG,
        FDS_NONE, RING_NONE, GATE_CONFIG, ANSWER_ACK, gw_ctl_set_config},
    [GW_MSG_POSTCOPY_ADVISE] = {"POSTCOPY_ADVISE", EXACTLY(0),
        FDS_NONE, RING_NONE, GATE_PAGEFAULT, ANSWER_OR_EMPTY, gw_ctl_postcopy_advise},
    [GW_MSG_POSTCOPY_LISTEN] = {"POSTCOPY_LISTEN", EXACTLY(0),
        FDS_NONE, RING_NONE, GATE_PAGEFAULT, ANSWER_ASKED, gw_ctl_postcopy_listen},
    [GW_MSG_POSTCOPY_END] = {"POSTCOPY_END", EXACTLY(0),
        FDS_NONE, RING_NONE, GATE_PAGEFAULT, ANSWER_STATUS, gw_ctl_postcopy_end},
    [GW_MSG_GET_INFLIGHT_FD] = {"GET_INFLIGHT_FD", INFLIGHT,
        FDS_NONE, RING_NONE, GATE_INFLIGHT, ANSWER_OR_ZERO, gw_ctl_get_inflight_fd},
    [GW_MSG_SET_INFLIGHT_FD] = {"SET_INFLIGHT_FD", INFLIGHT,
        FDS_ONE, RING_NONE, GATE_INFLIGHT, ANSWER_ACK, gw_ctl_set_inflight_fd},
    [GW_MSG_RESET_DEVICE] = {"RESET_DEVICE", EXACTLY(0),
        FDS_NONE, RING_NONE, GATE_RESET_DEVICE, ANSWER_ACK, gw_ctl_reset_device},
    [GW_MSG_GET_MAX_MEM_SLOTS] = {"GET_MAX_MEM_SLOTS", EXACTLY(0),
        FDS_NONE, RING_NONE, GATE_MEM_SLOTS, ANSWER_ALWAYS, gw_ctl_get_max_mem_slots},
    [GW_MSG_ADD_MEM_REG] = {"ADD_MEM_REG", REGION,
        FDS_ONE, RING_NONE, GATE_MEM_SLOTS, ANSWER_ACK, gw_ctl_add_mem_reg},
    [GW_MSG_REM_MEM_REG] = {"REM_MEM_REG", REGION,
        FDS_MAYBE_ONE, RING_NONE, GATE_MEM_SLOTS, ANSWER_ACK, gw_ctl_rem_mem_reg},
    [GW_MSG_GET_SHARED_OBJECT] = {"GET_SHARED_OBJECT", 0, sizeof(struct gw_wire_shared_object),
        FDS_NONE, RING_NONE, GATE_SHARED_OBJECT, ANSWER_OR_EMPTY, gw_ctl_get_shared_object},
    [GW_MSG_GET_SHMEM_CONFIG] = {"GET_SHMEM_CONFIG", EXACTLY(0),
        FDS_NONE, RING_NONE, GATE_SHMEM, ANSWER_OR_EMPTY, gw_ctl_get_shmem_config},
    [GW_MSG_SET_DEVICE_STATE_FD] = {"SET_DEVICE_STATE_FD", DEV_STATE,
        FDS_ONE, RING_NONE, GATE_DEVICE_STATE, ANSWER_STATE_FD, gw_ctl_set_device_state_fd},
    [GW_MSG_CHECK_DEVICE_STATE] = {"CHECK_DEVICE_STATE", EXACTLY(0),
        FDS_NONE, RING_NONE, GATE_DEVICE_STATE, ANSWER_STATUS, gw_ctl_check_device_state},
    [GW_MSG_SEND_RARP] = {"SEND_RARP", U64,
        FDS_NONE, RING_NONE, GATE_RARP, ANSWER_ACK, gw_ctl_send_rarp},
    [GW_MSG_NET_SET_MTU] = {"NET_SET_MTU", U64,
        FDS_NONE, RING_NONE, GATE_MTU, ANSWER_ACK, gw_ctl_net_set_mtu},
    [GW_MSG_VRING_KICK] = {"VRING_KICK", STATE,
        FDS_NONE, RING_STATE, GATE_INBAND, ANSWER_ACK, gw_ctl_vring_kick},
    [GW_MSG_SET_STATUS] = {"SET_STATUS", U64,
        FDS_NONE, RING_NONE, GATE_STATUS, ANSWER_ACK, gw_ctl_set_status},
    [GW_MSG_GET_STATUS] = {"GET_STATUS", EXACTLY(0),
        FDS_NONE, RING_NONE, GATE_STATUS, ANSWER_ALWAYS, gw_ctl_get_status},
    [GW_MSG_GET_VRING_BASE_SKIP_DRAIN] = {"GET_VRING_BASE_SKIP_DRAIN", STATE,
        FDS_NONE, RING_STATE, GATE_SKIP_DRAIN, ANSWER_ALWAYS, gw_ctl_get_vring_base_skip_drain},
};

/* Without LOG_SHMFD the payload is the address of the log, and the answer is a status. */
static const struct row log_base_by_address = {"SET_LOG_BASE", U64,
    FDS_NONE, RING_NONE, GATE_NONE, ANSWER_ACK, gw_ctl_set_log_base_by_address};

/* Between POSTCOPY_LISTEN and POSTCOPY_END, tables are answered with our addresses. */
static const struct row table_in_postcopy = {"SET_MEM_TABLE", TABLE,
    FDS_REGIONS, RING_NONE, GATE_NONE, ANSWER_OR_EMPTY, gw_ctl_set_mem_table};
static const struct row region_in_postcopy = {"ADD_MEM_REG", REGION,
    FDS_ONE, RING_NONE, GATE_MEM_SLOTS, ANSWER_OR_EMPTY, gw_ctl_add_mem_reg};
/* With XEN_MMAP every region also states its domain and how to map it. */
static const struct row xen_table = {"SET_MEM_TABLE", XEN_TABLE,
    FDS_REGIONS, RING_NONE, GATE_NONE, ANSWER_ACK, gw_ctl_set_mem_table};
static const struct row xen_add_region = {"ADD_MEM_REG", XEN_REGION,
    FDS_ONE, RING_NONE, GATE_MEM_SLOTS, ANSWER_ACK, gw_ctl_add_mem_reg};
static const struct row xen_rem_region = {"REM_MEM_REG", XEN_REGION,
    FDS_MAYBE_ONE, RING_NONE, GATE_MEM_SLOTS, ANSWER_ACK, gw_ctl_rem_mem_reg};
static const struct row acknowledgement = {"acknowledgement of a memory table", U64,
    FDS_NONE, RING_NONE, GATE_NONE, ANSWER_NEVER, gw_ctl_postcopy_acknowledge};
/* clang-format on */

/*
 * An acknowledgement carries the request number of the previous message, or GW_MSG_NONE if nothing
 * changed. Its 8-byte payload distinguishes it from all messages about memory, except for a table
 * without regions.
 */
static const struct row *find_row_in_postcopy(const struct gw_wire_header *h)
{
    bool is_short = h->size == sizeof(uint64_t);

    switch (h->request) {
    case GW_MSG_NONE:
    case GW_MSG_REM_MEM_REG:
        return is_short ? &acknowledgement : NULL;
    case GW_MSG_SET_MEM_TABLE:
        return is_short ? &acknowledgement : &table_in_postcopy;
    case GW_MSG_ADD_MEM_REG:
        return is_short ? &acknowledgement : &region_in_postcopy;
    default:
        return NULL;
    }
}

static const struct row *find_xen_row(uint32_t request)
{
    switch (request) {
    case GW_MSG_SET_MEM_TABLE:
        return &xen_table;
    case GW_MSG_ADD_MEM_REG:
        return &xen_add_region;
    case GW_MSG_REM_MEM_REG:
        return &xen_rem_region;
    default:
        return NULL;
    }
}

static const struct row *find_row(const struct gw_session *s, const struct gw_wire_header *h)
{
    const uint32_t request = h->request;
    const struct row *row = NULL;

    if (gw_postcopy_is_listening(&s->postcopy))
        row = find_row_in_postcopy(h);
    else if (gw_session_has_protocol(s, GW_PROTOCOL_F_XEN_MMAP))
        row = find_xen_row(request);
    if (row)
        return row;
    if (request == GW_MSG_SET_LOG_BASE && !gw_session_has_protocol(s, GW_PROTOCOL_F_LOG_SHMFD))
        return &log_base_by_address;
    return request < GW_ARRAY_SIZE(rows) && rows[request].handle ? &rows[request] : NULL;
}

static bool gate_is_open(const struct gw_session *s, enum gate gate)
{
    if (gate == GATE_NONE)
        return true;
    if (gate == GATE_PROTOCOL_FEATURES)
        return gw_session_has(s, GW_F_PROTOCOL_FEATURES);
    if (gate == GATE_ACCESS_PLATFORM)
        return gw_session_has(s, GW_F_ACCESS_PLATFORM);
    return gw_session_has_protocol(s, (enum gw_protocol_feature)gate);
}

static int check_fds(const struct row *row, const struct gw_msg *msg)
{
    const struct gw_wire_mem_table *table = (const void *)msg->payload;
    unsigned min = 0, max = 0;

    switch (row->fds) {
    case FDS_NONE:
        break;
    case FDS_ONE:
        min = max = 1;
        break;
    case FDS_MAYBE_ONE:
        max = 1;
        break;
    case FDS_VRING:
        min = max = gw_msg_u64(msg) & GW_VRING_FD_NONE ? 0 : 1;
        break;
    case FDS_REGIONS:
        min = max = table->num_regions;
        break;
    }
    if (msg->fds_error == -E2BIG)
        return gw_fail(-EBADMSG, "it comes with more than %d file descriptors", GW_MSG_FDS_MAX);
    if (msg->fds_error < 0)
        return gw_fail(msg->fds_error,
                       "its file descriptors cannot be received: %s; raise the limit (ulimit -n)",
                       strerror(-msg->fds_error));
    if (msg->n_fds < min || msg->n_fds > max)
        return gw_fail(-EBADMSG, "it comes with %u file descriptors instead of %u", msg->n_fds,
                       min);
    return 0;
}

/* The bits of SET_VRING_KICK, CALL and ERR that are not part of the ring index. */
static uint64_t name_of_channel(const struct gw_daemon *d, const struct gw_msg *msg)
{
    const uint64_t channel = GW_VRING_FD_NONE | GW_VRING_FD_EVTCHN;
    bool is_one = (gw_msg_u64(msg) & channel) == channel &&
                  msg->header.request != GW_MSG_SET_VRING_ERR &&
                  gw_session_has_protocol(&d->session, GW_PROTOCOL_F_XEN_MMAP);

    return is_one ? ~UINT64_C(0xffff) | channel : GW_VRING_FD_NONE;
}

static int check_ring(const struct gw_daemon *d, const struct row *row, const struct gw_msg *msg)
{
    uint64_t index = 0;

    if (row->ring == RING_STATE)
        index = *(const uint32_t *)(const void *)msg->payload;
    else if (row->ring == RING_FD)
        index = gw_msg_u64(msg) & ~name_of_channel(d, msg);
    if (index >= d->num_queues)
        return gw_fail(-EINVAL, "there is no queue %" PRIu64 ", only %u", index, d->num_queues);
    return 0;
}

/* The checks before the handler. `row` is NULL for an unknown message. */
static int check(const struct gw_daemon *d, const struct row *row, const struct gw_msg *msg)
{
    const struct gw_wire_header *h = &msg->header;
    int r;

    if ((h->flags & GW_MSG_VERSION_MASK) != GW_MSG_VERSION || (h->flags & GW_MSG_REPLY))
        return gw_fail(-EPROTO, "its flags are %#x", h->flags);
    if (!row)
        return gw_fail(-ENOSYS, "there is no such message");
    if (h->size < row->size_min || h->size > row->size_max)
        return gw_fail(-EBADMSG, "its payload is %u bytes, not %u%s", h->size, row->size_min,
                       row->size_min == row->size_max ? "" : " or more");
    r = check_fds(row, msg);
    if (r == 0)
        r = check_ring(d, row, msg);
    if (r == 0 && !gate_is_open(&d->session, row->gate))
        r = gw_fail(-EPERM, "its feature was not negotiated");
    return r;
}

static void send_reply(struct gw_daemon *d, const struct gw_msg *msg, const struct gw_reply *reply)
{
    const struct gw_wire_header header = {
        .request = msg->header.request,
        .flags = GW_MSG_VERSION | GW_MSG_REPLY,
        .size = reply->size,
    };

    gw_tx_init(&d->session.tx, &header, reply->payload, reply->fd);
}

/* Send the message's own answer, or its substitute if the message was refused. */
static int answer_itself(struct gw_daemon *d, const struct row *row, const struct gw_msg *msg,
                         struct gw_reply *reply, int r)
{
    if (r < 0 && row->answer == ANSWER_ALWAYS)
        return r;
    if (r < 0) {
        reply->size = row->answer == ANSWER_OR_ZERO ? row->size_min : 0;
        memset(reply->payload, 0, reply->size);
    }
    send_reply(d, msg, reply);
    return 0;
}

static bool wants_status(const struct gw_daemon *d, enum answer answer, const struct gw_msg *msg)
{
    bool is_asked = (msg->header.flags & GW_MSG_NEED_REPLY) != 0;

    switch (answer) {
    case ANSWER_STATUS:
        return true;
    case ANSWER_ASKED:
        return is_asked;
    case ANSWER_NEVER:
        return false;
    default:
        return is_asked && gw_session_has_protocol(&d->session, GW_PROTOCOL_F_REPLY_ACK);
    }
}

/* Returns: 0; a negative errno if the session must end. */
static int answer(struct gw_daemon *d, const struct row *row, const struct gw_msg *msg,
                  struct gw_reply *reply, int r)
{
    enum answer how = row ? row->answer : ANSWER_ACK;

    if (how == ANSWER_ALWAYS || how == ANSWER_OR_EMPTY || how == ANSWER_OR_ZERO)
        return answer_itself(d, row, msg, reply, r);
    if (how == ANSWER_STATE_FD) {
        if (r < 0)
            gw_reply_u64(reply, ((uint64_t)-r & GW_STATE_FD_ERROR_MASK) | GW_STATE_FD_NONE);
        send_reply(d, msg, reply);
        return 0;
    }
    if (!wants_status(d, how, msg))
        return r;
    gw_reply_u64(reply, (uint64_t)-r);
    send_reply(d, msg, reply);
    return 0;
}

const char *gw_dispatch_name(const struct gw_daemon *d)
{
    const struct row *row = d->session.row;

    return row ? row->name : "unknown message";
}

/*
 * QEMU (10.0) sends the fd of a shared object not with its answer on the back-end channel, but
 * with the next message to us that has no fds of its own.
 */
static void drop_misplaced_fd(struct gw_session *s, const struct row *row, struct gw_msg *msg)
{
    if (!row || row->fds != FDS_NONE || !s->has_misplaced_fd)
        return;
    s->has_misplaced_fd = false;
    if (msg->n_fds != 1)
        return;
    gw_peer_fd_close(&msg->fds[0]);
    msg->n_fds = 0;
}

int gw_dispatch(struct gw_daemon *d)
{
    struct gw_session *s = &d->session;
    struct gw_msg *msg = &s->rx.msg;
    const struct row *row = find_row(s, &msg->header);
    int r;

    drop_misplaced_fd(s, row, msg);
    r = check(d, row, msg);
    s->row = row;
    s->reply = (struct gw_reply){.fd = -1};
    return r < 0 ? r : row->handle(d, msg, &s->reply);
}

int gw_dispatch_answer(struct gw_daemon *d, int r)
{
    struct gw_session *s = &d->session;
    struct gw_msg *msg = &s->rx.msg;
    const struct row *row = s->row;
    const char *name = gw_dispatch_name(d);
    int end;

    gw_log(&d->log, GW_LOG_DEBUG, "%s (%u), %u bytes, %u fds: %s", name, msg->header.request,
           msg->header.size, msg->n_fds, r < 0 ? gw_last_error() : "ok");
    if (r < 0)
        gw_log(&d->log, GW_LOG_WARNING, "%s (%u) is refused: %s", name, msg->header.request,
               gw_last_error());
    end = answer(d, row, msg, &s->reply, r);
    if (end < 0)
        gw_log(&d->log, GW_LOG_WARNING, "the session ends: %s (%u) cannot be refused otherwise",
               name, msg->header.request);
    return end;
}
