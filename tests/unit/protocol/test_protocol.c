/* SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause */
/*
 * The table of messages of the specification. For each message that the front-end sends, the
 * back-end accepts it in its right form and refuses every other size, one fd too many or too few,
 * the message without its feature, and flags of an answer; the front-end encodes the same form, and
 * takes a refusal and an answer of another size for what they are. docs/protocol.md has the same
 * rows.
 */
#include "../fixtures/daemon_fixture.h"
#include "../fixtures/fe_peer.h"
#include "base/checked.h"

#include <errno.h>
#include <godwit/frontend/async.h>
#include <godwit/frontend/device.h>
#include <godwit/frontend/log.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/mman.h>
#include <unistd.h>

#define UNGATED  (-1)
#define BASIC    (GW_BIT(GW_F_PROTOCOL_FEATURES) | GW_BIT(GW_F_VERSION_1))
#define MEM_SIZE (1u << 20)
#define GPA      UINT64_C(0x100000)
#define UVA      UINT64_C(0x700000100000)

/* How a message is answered. */
enum reply {
    ACK,         /* with REPLY_ACK: a number, 0 for success */
    ANSWER,      /* of `reply_size` bytes; a refusal ends the session */
    MAY_REFUSE,  /* the same; a refusal is an answer without payload */
    MAY_BE_ZERO, /* the same; a refusal is an answer of zeroes */
};

enum fd_of {
    NO_FD = 0,
    EVENTFD,
    MEMORY,
    SOCKET,
    OPTIONAL_MEMORY,
};

static struct {
    struct gw_guest_mem *mem;
    struct gw_guest_log *log;
} guest;

static uint64_t value;
static uint32_t value32;
static uint8_t buf[8];
static struct gw_frontend_inflight inflight;

/* ---- the table ---- */

struct row {
    uint32_t request;
    int gate; /* a protocol feature */
    enum reply reply;
    uint32_t size, reply_size;
    enum fd_of fd;
    uint64_t payload[5];
    int (*send)(struct gw_frontend *fe); /* by the front-end */
    bool longer;                         /* a longer payload may be right, too */
    bool needs_ring;                     /* that is configured */
};

#define SEND(name, arguments)                      \
    static int send_##name(struct gw_frontend *fe) \
    {                                              \
        return gw_frontend_##name arguments;       \
    }

SEND(get_features, (fe, &value))
SEND(set_features, (fe, BASIC))
SEND(set_owner, (fe))
SEND(reset_owner, (fe))
SEND(set_mem_table, (fe, guest.mem))
SEND(set_log_base, (fe, guest.log))
SEND(set_vring_num, (fe, 0, 16))
SEND(set_vring_addr,
     (fe, 0, &(const struct gw_frontend_vring_addr){UVA, UVA + 4096, UVA + 8192, 0, 0}))
SEND(set_vring_base, (fe, 0, 0))
SEND(get_vring_base, (fe, 0, &value32))
SEND(set_log_fd, (fe, 2))
SEND(set_vring_kick, (fe, 0, 2))
SEND(vring_kick, (fe, 0))
SEND(set_vring_call, (fe, 0, 2))
SEND(set_vring_err, (fe, 0, 2))
SEND(get_protocol_features, (fe, &value))
SEND(set_protocol_features, (fe, 0))
SEND(get_queue_num, (fe, &value))
SEND(set_vring_enable, (fe, 0, false))
SEND(send_rarp, (fe, buf))
SEND(net_set_mtu, (fe, 1500))
SEND(set_backend_req_fd, (fe))
SEND(get_config, (fe, 0, buf, 8))
SEND(set_config, (fe, 0, buf, 8, false))
SEND(reset_device, (fe))
SEND(get_max_mem_slots, (fe, &value))
SEND(add_mem_reg, (fe, guest.mem, GPA))
SEND(rem_mem_reg, (fe, guest.mem, GPA))
SEND(set_status, (fe, 1))
SEND(get_status, (fe, buf))
SEND(get_inflight_fd, (fe, 1, 16, &inflight))
SEND(get_vring_base_skip_drain, (fe, 0, &value32))

#define P(name) GW_PROTOCOL_F_##name

/* clang-format off */
static const struct row rows[] = {
    {GW_MSG_GET_FEATURES, UNGATED, ANSWER, 0, 8, .send = send_get_features},
    {GW_MSG_SET_FEATURES, UNGATED, ACK, 8, .payload = {BASIC}, .send = send_set_features},
    {GW_MSG_SET_OWNER, UNGATED, ACK, 0, .send = send_set_owner},
    {GW_MSG_RESET_OWNER, UNGATED, ACK, 0, .send = send_reset_owner},
    {GW_MSG_SET_MEM_TABLE, UNGATED, ACK, 40, .fd = MEMORY, .payload = {1, GPA, MEM_SIZE, UVA, 0},
     .send = send_set_mem_table, .longer = true},
    {GW_MSG_SET_LOG_BASE, P(LOG_SHMFD), ANSWER, 16, 16, MEMORY, {4096, 0}, send_set_log_base},
    {GW_MSG_SET_VRING_NUM, UNGATED, ACK, 8, .payload = {UINT64_C(16) << 32},
     .send = send_set_vring_num},
    {GW_MSG_SET_VRING_ADDR, UNGATED, ACK, 40, .payload = {0, UVA, UVA + 8192, UVA + 4096, 0},
     .send = send_set_vring_addr},
    {GW_MSG_SET_VRING_BASE, UNGATED, ACK, 8, .payload = {0}, .send = send_set_vring_base},
    {GW_MSG_GET_VRING_BASE, UNGATED, ANSWER, 8, 8, .payload = {0}, .send = send_get_vring_base},
    {GW_MSG_SET_LOG_FD, UNGATED, ACK, 0, .fd = EVENTFD, .send = send_set_log_fd, .longer = true},
    {GW_MSG_SET_VRING_KICK, UNGATED, ACK, 8, .fd = EVENTFD, .payload = {0},
     .send = send_set_vring_kick, .needs_ring = true},
    {GW_MSG_SET_VRING_CALL, UNGATED, ACK, 8, .fd = EVENTFD, .payload = {0},
     .send = send_set_vring_call},
    {GW_MSG_SET_VRING_ERR, UNGATED, ACK, 8, .fd = EVENTFD, .payload = {0},
     .send = send_set_vring_err},
    {GW_MSG_GET_PROTOCOL_FEATURES, UNGATED, ANSWER, 0, 8, .send = send_get_protocol_features},
    {GW_MSG_SET_PROTOCOL_FEATURES, UNGATED, ACK, 8, .payload = {GW_BIT(P(REPLY_ACK))},
     .send = send_set_protocol_features},
    {GW_MSG_GET_QUEUE_NUM, P(MQ), ANSWER, 0, 8, .send = send_get_queue_num},
    {GW_MSG_SET_VRING_ENABLE, UNGATED, ACK, 8, .payload = {0}, .send = send_set_vring_enable},
    {GW_MSG_SEND_RARP, P(RARP), ACK, 8, .payload = {0}, .send = send_send_rarp},
    {GW_MSG_NET_SET_MTU, P(NET_MTU), ACK, 8, .payload = {1500}, .send = send_net_set_mtu},
    {GW_MSG_SET_BACKEND_REQ_FD, P(BACKEND_REQ), ACK, 0, .fd = SOCKET,
     .send = send_set_backend_req_fd},
    {GW_MSG_GET_CONFIG, P(CONFIG), MAY_REFUSE, 20, 20, NO_FD, {UINT64_C(8) << 32}, send_get_config},
    {GW_MSG_SET_CONFIG, P(CONFIG), ACK, 20, .payload = {UINT64_C(8) << 32},
     .send = send_set_config},
    {GW_MSG_GET_INFLIGHT_FD, P(INFLIGHT_SHMFD), MAY_BE_ZERO, 24, 24, NO_FD, {0, 0, 16u << 16 | 1},
     send_get_inflight_fd},
    {GW_MSG_RESET_DEVICE, P(RESET_DEVICE), ACK, 0, .send = send_reset_device},
    {GW_MSG_VRING_KICK, P(INBAND_NOTIFICATIONS), ACK, 8, .payload = {0}, .send = send_vring_kick,
     .needs_ring = true},
    {GW_MSG_GET_MAX_MEM_SLOTS, P(CONFIGURE_MEM_SLOTS), ANSWER, 0, 8,
     .send = send_get_max_mem_slots},
    {GW_MSG_ADD_MEM_REG, P(CONFIGURE_MEM_SLOTS), ACK, 40, .fd = MEMORY,
     .payload = {0, GPA, MEM_SIZE, UVA, 0}, .send = send_add_mem_reg},
    {GW_MSG_REM_MEM_REG, P(CONFIGURE_MEM_SLOTS), ACK, 40, .fd = OPTIONAL_MEMORY,
     .payload = {0, GPA, MEM_SIZE, UVA, 0}, .send = send_rem_mem_reg},
    {GW_MSG_SET_STATUS, P(STATUS), ACK, 8, .payload = {1}, .send = send_set_status},
    {GW_MSG_GET_STATUS, P(STATUS), ANSWER, 0, 8, .send = send_get_status},
    {GW_MSG_GET_VRING_BASE_SKIP_DRAIN, P(GET_VRING_BASE_SKIP_DRAIN), ANSWER, 8, 8, .payload = {0},
     .send = send_get_vring_base_skip_drain},
};
/* clang-format on */

/*
 * Messages whose right form depends on more than a table can say, with tests of their own, and
 * those that docs/protocol.md lists as not implemented.
 */
static const uint32_t elsewhere[] = {
    GW_MSG_IOTLB_MSG,
    GW_MSG_SET_VRING_ENDIAN,
    GW_MSG_CREATE_CRYPTO_SESSION,
    GW_MSG_CLOSE_CRYPTO_SESSION,
    GW_MSG_POSTCOPY_ADVISE,
    GW_MSG_POSTCOPY_LISTEN,
    GW_MSG_POSTCOPY_END,
    GW_MSG_SET_INFLIGHT_FD,
    GW_MSG_GPU_SET_SOCKET,
    GW_MSG_GET_SHARED_OBJECT,
    GW_MSG_SET_DEVICE_STATE_FD,
    GW_MSG_CHECK_DEVICE_STATE,
    GW_MSG_GET_SHMEM_CONFIG,
};

static void test_protocol_table_has_every_message(void **state)
{
    for (uint32_t id = GW_MSG_NONE + 1; id <= GW_MSG_GET_VRING_BASE_SKIP_DRAIN; id++) {
        unsigned n = 0;

        for (unsigned i = 0; i < GW_ARRAY_SIZE(rows); i++)
            n += rows[i].request == id;
        for (unsigned i = 0; i < GW_ARRAY_SIZE(elsewhere); i++)
            n += elsewhere[i] == id;
        if (n != 1)
            fail_msg("message %u is in %u rows", id, n);
    }
}

/* ---- the back-end ---- */

static int queue_ready(void *dev, struct gw_queue *q)
{
    return 0;
}

static uint64_t protocol_features(void *dev, uint64_t offered)
{
    return offered | GW_BIT(P(INBAND_NOTIFICATIONS));
}

static int get_config(void *dev, uint32_t off, void *to, uint32_t len)
{
    memset(to, 0, len);
    return 0;
}

static int set_config(void *dev, uint32_t off, const void *from, uint32_t len, bool migration)
{
    return 0;
}

static int set_status(void *dev, uint8_t status)
{
    return 0;
}

static int send_rarp(void *dev, const uint8_t *mac)
{
    return 0;
}

static int set_mtu(void *dev, uint16_t mtu)
{
    return 0;
}

static struct gw_daemon *start_daemon(void)
{
    static const struct gw_device_ops ops = {
        .size = sizeof(ops),
        .queue_ready = queue_ready,
        .protocol_features = protocol_features,
        .get_config = get_config,
        .set_config = set_config,
        .set_status = set_status,
        .send_rarp = send_rarp,
        .set_mtu = set_mtu,
    };
    struct gw_daemon_config cfg = daemon_fixture_config();
    struct gw_daemon *d;

    assert_int_equal(gw_daemon_new(&d, &cfg, &ops, NULL), 0);
    assert_int_equal(gw_daemon_start_path(d, path), 0);
    return d;
}

/* A message that differs from its right form. */
struct wrong {
    const char *how;
    uint32_t size;
    uint32_t flags;
    unsigned n_fds;
    bool without_feature, without_ack;
};

static int new_fd(enum fd_of kind, int *ret_other)
{
    int pair[2], fd;

    switch (kind) {
    case MEMORY:
    case OPTIONAL_MEMORY:
        fd = memfd_create("protocol", MFD_CLOEXEC);
        assert_int_equal(ftruncate(fd, MEM_SIZE), 0);
        return fd;
    case SOCKET:
        assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair), 0);
        *ret_other = pair[1];
        return pair[0];
    default:
        return eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    }
}

static struct gw_frontend *connect_for(const struct row *row, const struct wrong *w)
{
    struct gw_frontend *fe = daemon_fixture_connect();
    uint64_t offered, features = w->without_ack ? 0 : GW_BIT(P(REPLY_ACK));

    assert_int_equal(gw_frontend_set_features(fe, BASIC), 0);
    assert_int_equal(gw_frontend_get_protocol_features(fe, &offered), 0);
    if (!w->without_feature)
        features = w->without_ack
                       ? offered & ~GW_BIT(P(REPLY_ACK)) & ~GW_BIT(P(INBAND_NOTIFICATIONS))
                       : offered;
    assert_int_equal(gw_frontend_set_protocol_features(fe, features), 0);
    if (row->needs_ring) {
        assert_int_equal(gw_frontend_set_mem_table(fe, guest.mem), 0);
        assert_int_equal(send_set_vring_num(fe), 0);
        assert_int_equal(send_set_vring_addr(fe), 0);
    }
    if (row->request == GW_MSG_REM_MEM_REG && !w->without_feature)
        assert_int_equal(send_add_mem_reg(fe), 0);
    return fe;
}

/* Returns: the answer's size, with its first number; -ECONNRESET if the session ended instead. */
static int exchange(const struct row *row, const struct wrong *w, uint64_t *ret_first)
{
    struct gw_frontend *fe = connect_for(row, w);
    static _Alignas(8) uint8_t payload[GW_MSG_PAYLOAD_MAX];
    struct gw_frontend_message answer = {0};
    int fds[2] = {-1, -1}, other = -1, r;

    memset(payload, 0, sizeof(payload));
    memcpy(payload, row->payload, sizeof(row->payload));
    for (unsigned i = 0; i < w->n_fds; i++)
        fds[i] = new_fd(i == 0 ? row->fd : EVENTFD, &other);
    assert_int_equal(
        gw_frontend_send_raw(fe, row->request, w->flags, w->size, payload, w->size, fds, w->n_fds),
        0);
    r = gw_frontend_receive(fe, &answer, patience_ms());
    if (r == 0) {
        if (answer.request != row->request || answer.flags != PEER_REPLY_OK)
            fail_msg("message %u, %s: answered as %u, flags %#x", row->request, w->how,
                     answer.request, answer.flags);
        memcpy(ret_first, answer.payload, sizeof(*ret_first));
        r = (int)answer.size;
    }
    gw_frontend_message_done(&answer);
    for (unsigned i = 0; i < w->n_fds; i++)
        close(fds[i]);
    if (other >= 0)
        close(other);
    gw_frontend_free(fe);
    return r;
}

static struct wrong right_form(const struct row *row)
{
    return (struct wrong){.how = "right",
                          .size = row->size,
                          .flags = GW_MSG_VERSION | GW_MSG_NEED_REPLY,
                          .n_fds = row->fd != NO_FD && row->fd != OPTIONAL_MEMORY};
}

static void expect_accepted(const struct row *row)
{
    const struct wrong form = right_form(row);
    uint32_t size = row->reply == ACK ? 8 : row->reply_size;
    uint64_t first = 1;
    int r = exchange(row, &form, &first);

    if (r != (int)size || (row->reply == ACK && first != 0))
        fail_msg("message %u: answered with %d bytes, %#lx", row->request, r, (unsigned long)first);
}

static void expect_refused(const struct row *row, const struct wrong *w)
{
    uint64_t first = 0;
    int r = exchange(row, w, &first);
    bool as_row = (row->reply == ANSWER || w->without_ack) && row->reply != MAY_REFUSE &&
                  row->reply != MAY_BE_ZERO;
    int expected = as_row                      ? -ECONNRESET
                   : row->reply == MAY_REFUSE  ? 0
                   : row->reply == MAY_BE_ZERO ? (int)row->reply_size
                                               : 8;

    if (r != expected || (expected == 8 && first == 0))
        fail_msg("message %u, %s: %d instead of %d", row->request, w->how, r, expected);
}

static void try_sizes(const struct row *row)
{
    const uint32_t sizes[] = {row->size + 1, row->size + 8, row->size ? row->size - 1 : 4096,
                              row->size ? 0 : 4096, 4096};

    for (unsigned i = 0; i < GW_ARRAY_SIZE(sizes); i++) {
        struct wrong w = right_form(row);

        if (row->longer && sizes[i] > row->size && sizes[i] != 4096)
            continue;
        w.how = "wrong size";
        w.size = sizes[i];
        expect_refused(row, &w);
        w.without_ack = true;
        w.how = "wrong size, without REPLY_ACK";
        if (row->gate != P(INBAND_NOTIFICATIONS))
            expect_refused(row, &w);
    }
}

static void test_protocol_backend_accepts_and_refuses(void **state)
{
    struct gw_daemon *d = start_daemon();

    for (unsigned i = 0; i < GW_ARRAY_SIZE(rows); i++) {
        const struct row *row = &rows[i];
        struct wrong w = right_form(row);

        expect_accepted(row);
        try_sizes(row);
        w.how = "too many fds";
        w.n_fds = row->fd == NO_FD ? 1 : 2;
        expect_refused(row, &w);
        w = right_form(row);
        w.how = "an answer";
        w.flags |= GW_MSG_REPLY;
        expect_refused(row, &w);
        w.how = "version 2";
        w.flags = 2 | GW_MSG_NEED_REPLY;
        expect_refused(row, &w);
        w = right_form(row);
        w.how = "too few fds";
        if (w.n_fds == 1) {
            w.n_fds = 0;
            expect_refused(row, &w);
        }
        w = right_form(row);
        w.how = "without its feature";
        w.without_feature = true;
        if (row->gate >= 0 && row->request != GW_MSG_SET_LOG_BASE) /* which has another form */
            expect_refused(row, &w);
    }
    gw_daemon_free(d);
}

/* ---- the front-end ---- */

/* The answer of a peer to `row`, after two messages that it does not answer. */
static int ask_peer(const struct row *row, struct peer_step answer, struct peer_seen *ret_seen)
{
    struct peer_step steps[3] = {{.len = 0}, {.len = 0}, answer};
    struct gw_frontend *fe;
    struct peer p;
    int r;

    fe = peer_begin(&p, steps, GW_ARRAY_SIZE(steps));
    assert_int_equal(gw_frontend_set_features(fe, BASIC), 0);
    assert_int_equal(gw_frontend_set_protocol_features(fe, UINT64_MAX & ~GW_BIT(P(XEN_MMAP)) &
                                                               ~GW_BIT(P(GPA_ADDRESSES))),
                     0);
    r = row->send(fe);
    peer_finish(&p, fe);
    assert_in_range(p.n_seen, 3, PEER_MESSAGES_MAX);
    *ret_seen = p.seen[2];
    return r;
}

static struct peer_step right_answer(const struct row *row)
{
    struct peer_step step = peer_answer_u64(row->request, 0);

    if (row->reply != ACK) {
        step.reply.size = row->reply_size;
        step.len = row->reply_size;
    }
    if (row->request == GW_MSG_GET_CONFIG)
        memcpy(step.payload, row->payload, sizeof(row->payload));
    return step;
}

static void expect_result(const struct row *row, const char *how, struct peer_step answer,
                          int expected)
{
    struct peer_seen seen;
    unsigned n_fds = row->fd != NO_FD && row->fd != OPTIONAL_MEMORY;
    int r = ask_peer(row, answer, &seen);

    if (r != expected)
        fail_msg("message %u, %s: %d instead of %d: %s", row->request, how, r, expected,
                 gw_frontend_last_error());
    if (seen.h.request != row->request || seen.h.size != row->size || seen.n_fds != n_fds ||
        seen.h.flags != (GW_MSG_VERSION | (row->reply == ACK ? GW_MSG_NEED_REPLY : 0)))
        fail_msg("message %u: sent as %u, %u bytes, %u fds, flags %#x", row->request,
                 seen.h.request, seen.h.size, seen.n_fds, seen.h.flags);
}

static void test_protocol_frontend_sends_and_checks_answers(void **state)
{
    for (unsigned i = 0; i < GW_ARRAY_SIZE(rows); i++) {
        const struct row *row = &rows[i];
        struct peer_step step = right_answer(row);

        expect_result(row, "right", step, 0);
        step.reply.request++;
        expect_result(row, "another number", step, -EPROTO);
        step = right_answer(row);
        step.reply.flags |= GW_MSG_NEED_REPLY;
        expect_result(row, "flags of a request", step, -EPROTO);
        step = right_answer(row);
        step.reply.size++;
        step.len++;
        expect_result(row, "a byte too long", step, -EPROTO);
        expect_result(row, "a hang-up", (struct peer_step){.hang_up = true}, -ECONNRESET);
        if (row->reply == ACK)
            expect_result(row, "a refusal", peer_answer_u64(row->request, 1), -EREMOTEIO);
        step = right_answer(row);
        step.reply.size = 0;
        step.len = 0;
        if (row->reply == MAY_REFUSE)
            expect_result(row, "no payload", step, -EREMOTEIO);
    }
}

static void test_protocol_frontend_sends_nothing_without_the_feature(void **state)
{
    const struct gw_frontend_config cfg = {.size = sizeof(cfg), .timeout_ms = PEER_TIMEOUT_MS};

    for (unsigned i = 0; i < GW_ARRAY_SIZE(rows); i++) {
        struct gw_frontend *fe;
        struct peer p;

        if (rows[i].gate < 0 || rows[i].request == GW_MSG_SET_LOG_BASE)
            continue;
        fe = peer_begin_with(&p, NULL, 0, &cfg);
        if (rows[i].send(fe) != -EOPNOTSUPP)
            fail_msg("message %u is sent without its feature", rows[i].request);
        peer_finish(&p, fe);
        assert_int_equal(p.n_seen, 0);
    }
}

static int setup(void **state)
{
    const struct gw_guest_region region = {.gpa = GPA, .length = MEM_SIZE};
    const struct gw_guest_log_config log = {.size = sizeof(log), .length = 4096};

    if (gw_guest_mem_new(&guest.mem, UVA - GPA) < 0 || gw_guest_mem_add(guest.mem, &region) < 0)
        return -1;
    return gw_guest_log_new(&guest.log, &log);
}

static int teardown(void **state)
{
    gw_guest_log_free(guest.log);
    gw_guest_mem_free(guest.mem);
    return 0;
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        DAEMON_TEST(test_protocol_table_has_every_message),
        DAEMON_TEST(test_protocol_backend_accepts_and_refuses),
        DAEMON_TEST(test_protocol_frontend_sends_and_checks_answers),
        DAEMON_TEST(test_protocol_frontend_sends_nothing_without_the_feature),
    };

    return cmocka_run_group_tests(tests, setup, teardown);
}
