/* SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause */
/*
 * Hostile back-ends and a front-end with pending operations: whatever arrives, or does not arrive,
 * each operation ends once, with an error, and no descriptor stays open.
 */
#include "../fixtures/fe_line.h"
#include "fdcheck.h"

#include <godwit/frontend/fault.h>

#include <sys/mman.h>

#define N_PENDING 4

/* Pending operations of several kinds. The first one has an answer that `start` chose. */
struct pending {
    struct line l;
    struct end e[N_PENDING];
    uint64_t value;
    int uffd;
    uint8_t config[16];
    struct gw_frontend_inflight inflight;
    uint32_t base;
};

static void start_others(struct pending *p)
{
    assert_int_equal(gw_frontend_set_owner_async(p->l.fe, line_end, &p->e[1]), 0);
    assert_int_equal(gw_frontend_set_backend_req_fd_async(p->l.fe, line_end, &p->e[2]), 0);
    assert_int_equal(gw_frontend_get_features_async(p->l.fe, &p->value, line_end, &p->e[3]), 0);
}

/* All ended once with `r`, also those started now, and nothing was stored. */
static void expect_all(struct pending *p, int r)
{
    struct end late = {0};

    for (unsigned i = 0; i < N_PENDING; i++) {
        assert_true(p->e[i].n == 1 && p->e[i].r == r);
        assert_string_equal(p->e[i].error, p->e[0].error);
    }
    assert_int_equal(gw_frontend_set_owner_async(p->l.fe, line_end, &late), r);
    assert_int_equal(gw_frontend_set_owner(p->l.fe), r);
    assert_int_equal(gw_frontend_run(p->l.fe, 0), r);
    assert_int_equal(late.n, 0);
    assert_false(line_is_ready(&p->l));
    assert_int_equal(gw_frontend_poll_timeout(p->l.fe), -1);
    assert_true(p->value == LINE_PENDING && p->uffd == LINE_PENDING && p->base == LINE_PENDING);
    assert_true(p->inflight.fd == LINE_PENDING && p->config[0] == LINE_PENDING);
}

struct kind {
    uint32_t request;
    int (*start)(struct pending *p);
    uint32_t size; /* of the right answer */
    unsigned n_fds;
};

static int start_features(struct pending *p)
{
    return gw_frontend_get_features_async(p->l.fe, &p->value, line_end, &p->e[0]);
}

static int start_base(struct pending *p)
{
    return gw_frontend_get_vring_base_async(p->l.fe, 0, &p->base, line_end, &p->e[0]);
}

static int start_config(struct pending *p)
{
    return gw_frontend_get_config_async(p->l.fe, 0, p->config, 8, line_end, &p->e[0]);
}

static int start_inflight(struct pending *p)
{
    return gw_frontend_get_inflight_fd_async(p->l.fe, 1, 8, &p->inflight, line_end, &p->e[0]);
}

static int start_advise(struct pending *p)
{
    return gw_frontend_postcopy_advise_async(p->l.fe, &p->uffd, line_end, &p->e[0]);
}

static int start_listen(struct pending *p)
{
    return gw_frontend_postcopy_listen_async(p->l.fe, NULL, NULL, line_end, &p->e[0]);
}

static int start_negotiation(struct pending *p)
{
    const struct gw_frontend_options opt = {.size = sizeof(opt)};

    return gw_frontend_negotiate_async(p->l.fe, &opt, line_end, &p->e[0]);
}

static const struct kind kinds[] = {
    {GW_MSG_GET_FEATURES, start_features, 8, 0},    {GW_MSG_GET_VRING_BASE, start_base, 8, 0},
    {GW_MSG_GET_CONFIG, start_config, 20, 0},       {GW_MSG_GET_INFLIGHT_FD, start_inflight, 24, 1},
    {GW_MSG_POSTCOPY_ADVISE, start_advise, 0, 1},   {GW_MSG_POSTCOPY_LISTEN, start_listen, 8, 0},
    {GW_MSG_GET_FEATURES, start_negotiation, 8, 0},
};
#define N_KINDS (sizeof(kinds) / sizeof(kinds[0]))

static void pending_begin(struct pending *p, const struct kind *kind)
{
    *p = (struct pending){.value = LINE_PENDING,
                          .uffd = LINE_PENDING,
                          .config = {LINE_PENDING},
                          .inflight = {.fd = LINE_PENDING},
                          .base = LINE_PENDING};
    line_begin(&p->l);
    assert_int_equal(kind->start(p), 0);
    start_others(p);
    assert_int_equal(gw_frontend_run(p->l.fe, 0), 0);
    line_expect(&p->l, kind->request, NULL);
    line_expect_nothing(&p->l);
}

struct reply {
    struct gw_wire_header h;
    uint8_t payload[64];
};

static struct reply reply_to(const struct kind *kind)
{
    return (struct reply){.h = {.request = kind->request, .flags = REPLY_OK, .size = kind->size}};
}

/* Hang up before, in and after the header, and at each byte of the payload; with the fd on its way.
 */
static void test_fe_async_bad_hang_up_at_every_byte(void **state)
{
    for (unsigned k = 0; k < N_KINDS; k++) {
        const struct reply reply = reply_to(&kinds[k]);
        size_t len = sizeof(reply.h) + kinds[k].size;

        for (size_t at = 0; at < len; at++) {
            struct pending p;

            pending_begin(&p, &kinds[k]);
            if (at)
                line_send(&p.l, &reply, at, kinds[k].n_fds);
            if (at % 2)
                assert_int_equal(gw_frontend_run(p.l.fe, 0), 0);
            line_hang_up(&p.l);
            assert_true(line_is_ready(&p.l));
            assert_int_equal(gw_frontend_run(p.l.fe, 0), -ECONNRESET);
            expect_all(&p, -ECONNRESET);
            assert_non_null(strstr(p.e[0].error, "the back-end hung up"));
            line_finish(&p.l);
        }
    }
}

/* The same with messages on their way to the back-end, and with a session that stops halfway. */
static void test_fe_async_bad_hang_up_before_a_message(void **state)
{
    for (unsigned k = 0; k < N_KINDS; k++) {
        struct pending p = {.value = LINE_PENDING,
                            .uffd = LINE_PENDING,
                            .config = {LINE_PENDING},
                            .inflight = {.fd = LINE_PENDING},
                            .base = LINE_PENDING};

        line_begin(&p.l);
        assert_int_equal(kinds[k].start(&p), 0);
        start_others(&p);
        line_hang_up(&p.l);
        assert_true(line_is_ready(&p.l));
        assert_int_equal(gw_frontend_run(p.l.fe, 0), -ECONNRESET);
        expect_all(&p, -ECONNRESET);
        line_finish(&p.l);
    }
}

/* Answers of another message, length, or with fds that were not expected. */
static void test_fe_async_bad_answers_end_the_session(void **state)
{
    for (unsigned k = 0; k < N_KINDS; k++) {
        for (unsigned wrong = 0; wrong < 6; wrong++) {
            struct reply reply = reply_to(&kinds[k]);
            unsigned n_fds = kinds[k].n_fds;
            struct pending p;

            if (wrong == 0)
                reply.h.request = GW_MSG_SET_OWNER;
            if (wrong == 1)
                reply.h.flags |= GW_MSG_NEED_REPLY;
            if (wrong == 2)
                reply.h.size += 4;
            if (wrong == 3)
                reply.h.size = UINT32_MAX;
            if (wrong == 4)
                n_fds = kinds[k].n_fds + 1;
            if (wrong == 5)
                n_fds = 16;
            pending_begin(&p, &kinds[k]);
            line_send(&p.l, &reply, sizeof(reply.h) + (wrong == 3 ? 40 : reply.h.size), n_fds);
            assert_int_equal(gw_frontend_run(p.l.fe, 0), -EPROTO);
            expect_all(&p, -EPROTO);
            line_finish(&p.l);
        }
    }
}

/* Answers that are too short: 4 bytes instead of 8. */
static void test_fe_async_bad_short_answers_end_the_session(void **state)
{
    for (unsigned k = 0; k < N_KINDS; k++) {
        struct reply reply = reply_to(&kinds[k]);
        struct pending p;

        if (!kinds[k].size)
            continue;
        reply.h.size = 4;
        pending_begin(&p, &kinds[k]);
        line_send(&p.l, &reply, sizeof(reply.h) + 4, 1);
        assert_int_equal(gw_frontend_run(p.l.fe, 0), -EPROTO);
        expect_all(&p, -EPROTO);
        line_finish(&p.l);
    }
}

/* The right shape with wrong contents. */
static void test_fe_async_bad_contents_end_the_session(void **state)
{
    const struct kind *base = &kinds[1], *config = &kinds[2], *inflight = &kinds[3];
    struct reply reply;
    struct pending p;

    reply = reply_to(base);
    reply.payload[0] = 1; /* of another ring */
    pending_begin(&p, base);
    line_send(&p.l, &reply, 20, 0);
    assert_int_equal(gw_frontend_run(p.l.fe, 0), -EPROTO);
    expect_all(&p, -EPROTO);
    line_finish(&p.l);

    reply = reply_to(config); /* of 0 bytes */
    pending_begin(&p, config);
    line_send(&p.l, &reply, 32, 0);
    assert_int_equal(gw_frontend_run(p.l.fe, 0), -EPROTO);
    expect_all(&p, -EPROTO);
    line_finish(&p.l);

    reply = reply_to(inflight); /* no memory: /dev/null */
    memcpy(reply.payload,
           &(struct gw_wire_inflight){.mmap_size = 4096, .num_queues = 1, .queue_size = 8}, 24);
    pending_begin(&p, inflight);
    line_send(&p.l, &reply, 36, 1);
    assert_int_equal(gw_frontend_run(p.l.fe, 0), -EPROTO);
    expect_all(&p, -EPROTO);
    assert_non_null(strstr(p.e[0].error, "not memory"));
    line_finish(&p.l);
}

/* An answer may follow only its message: one that is early is not an answer. */
static void test_fe_async_bad_early_answers_end_the_session(void **state)
{
    struct pending p;

    pending_begin(&p, &kinds[0]);
    line_answer(&p.l, GW_MSG_GET_FEATURES, 1);
    line_answer(&p.l, GW_MSG_GET_FEATURES, 2);
    assert_int_equal(gw_frontend_run(p.l.fe, 0), -EPROTO);
    assert_true(p.e[0].n == 1 && p.e[0].r == 0 && p.value == 1);
    for (unsigned i = 1; i < N_PENDING; i++)
        assert_true(p.e[i].n == 1 && p.e[i].r == -EPROTO);
    assert_non_null(strstr(p.e[1].error, "SET_OWNER: the back-end sent an unsolicited message"));
    line_finish(&p.l);
}

/* The time limit is that of the message on the wire; the others end with it. */
static void test_fe_async_bad_silence_times_out(void **state)
{
    for (unsigned k = 0; k < N_KINDS; k++) {
        const struct reply reply = reply_to(&kinds[k]);
        struct pending p;
        int timeout;

        pending_begin(&p, &kinds[k]);
        assert_int_equal(gw_frontend_run(p.l.fe, 0), 0);
        assert_false(line_is_ready(&p.l));
        assert_int_equal(p.e[0].n, 0);
        line_finish(&p.l); /* nothing waited for the limit, which is long */
        for (unsigned i = 0; i < N_PENDING; i++)
            assert_true(p.e[i].n == 1 && p.e[i].r == -ECANCELED);

        p = (struct pending){.value = LINE_PENDING,
                             .uffd = LINE_PENDING,
                             .config = {LINE_PENDING},
                             .inflight = {.fd = LINE_PENDING},
                             .base = LINE_PENDING};
        line_begin(&p.l);
        gw_frontend_set_timeout(p.l.fe, 20);
        assert_int_equal(kinds[k].start(&p), 0);
        start_others(&p);
        assert_int_equal(gw_frontend_run(p.l.fe, 0), 0);
        timeout = gw_frontend_poll_timeout(p.l.fe);
        assert_true(timeout >= 0 && timeout <= 20);
        line_send(&p.l, &reply, sizeof(reply.h) - 1, kinds[k].n_fds);
        assert_int_equal(line_loop(&p.l, &p.e[N_PENDING - 1]), -ETIMEDOUT);
        expect_all(&p, -ETIMEDOUT);
        assert_non_null(strstr(p.e[0].error, "no answer in time"));
        line_finish(&p.l);
    }
}

/* A back-end that reads nothing: a message that does not fit waits for room, and has a limit. */
static void test_fe_async_bad_full_socket_waits_for_room(void **state)
{
    static const char zeros[4096];
    static char buf[4096];
    struct gw_frontend_config cfg = {.size = sizeof(cfg), .timeout_ms = 20, .no_gates = true};

    for (unsigned times_out = 0; times_out < 2; times_out++) {
        struct end e[2] = {0};
        struct line l;

        line_begin_with(&l, &cfg);
        while (gw_frontend_send_bytes(l.fe, zeros, sizeof(zeros)) == 0)
            ;
        gw_frontend_set_timeout(l.fe, times_out ? 20 : patience_ms());
        assert_int_equal(gw_frontend_set_owner_async(l.fe, line_end, &e[0]), 0);
        assert_int_equal(gw_frontend_set_log_fd_async(l.fe, l.peer, line_end, &e[1]), 0);
        (void)gw_frontend_run(l.fe, 0);
        if (!times_out) {
            assert_false(line_is_ready(&l));
            assert_int_equal(e[0].n, 0);
            while (recv(l.peer, buf, sizeof(buf), MSG_DONTWAIT) > 0)
                ;
            assert_true(line_is_ready(&l));
        }
        assert_int_equal(line_loop(&l, &e[1]), times_out ? -ETIMEDOUT : 0);
        assert_true(e[0].n == 1 && e[0].r == e[1].r);
        if (!times_out) {
            line_expect(&l, GW_MSG_SET_OWNER, NULL);
            line_expect(&l, GW_MSG_SET_LOG_FD, NULL);
        }
        line_finish(&l);
    }
}

/* Bytes that arrive while a message waits for room must not keep the loop busy. */
static void test_fe_async_bad_bytes_while_sending_wait(void **state)
{
    static const char zeros[4096];
    struct gw_frontend_config cfg = {.size = sizeof(cfg), .timeout_ms = 20, .no_gates = true};
    struct end e = {0};
    struct line l;

    line_begin_with(&l, &cfg);
    while (gw_frontend_send_bytes(l.fe, zeros, sizeof(zeros)) == 0)
        ;
    gw_frontend_set_timeout(l.fe, patience_ms());
    assert_int_equal(gw_frontend_set_owner_async(l.fe, line_end, &e), 0);
    assert_int_equal(gw_frontend_run(l.fe, 0), 0);
    line_send(&l, "?", 1, 1);
    assert_false(line_is_ready(&l));
    line_hang_up(&l);
    assert_int_equal(line_loop(&l, &e), -ECONNRESET);
    line_finish(&l);
}

/* A sequence that the back-end refuses in the middle ends, and the session continues. */
static void test_fe_async_bad_refusal_ends_a_sequence(void **state)
{
    const uint64_t features = UINT64_C(1) << GW_F_VERSION_1 | UINT64_C(1) << GW_F_PROTOCOL_FEATURES;
    const struct gw_frontend_options opt = {.size = sizeof(opt)};
    struct end e[2] = {0};
    struct line l;
    uint64_t value;

    line_begin(&l);
    assert_int_equal(gw_frontend_negotiate_async(l.fe, &opt, line_end, &e[0]), 0);
    assert_int_equal(gw_frontend_get_features_async(l.fe, &value, line_end, &e[1]), 0);
    assert_int_equal(gw_frontend_run(l.fe, 0), 0);
    line_expect(&l, GW_MSG_GET_FEATURES, NULL);
    line_answer(&l, GW_MSG_GET_FEATURES, features);
    assert_int_equal(gw_frontend_run(l.fe, 0), 0);
    line_expect(&l, GW_MSG_GET_PROTOCOL_FEATURES, NULL);
    line_answer(&l, GW_MSG_GET_PROTOCOL_FEATURES,
                1 << GW_PROTOCOL_F_REPLY_ACK | 1 << GW_PROTOCOL_F_BACKEND_REQ);
    assert_int_equal(gw_frontend_run(l.fe, 0), 0);
    line_expect(&l, GW_MSG_SET_PROTOCOL_FEATURES, NULL);
    line_expect(&l, GW_MSG_SET_BACKEND_REQ_FD, NULL);
    line_answer(&l, GW_MSG_SET_BACKEND_REQ_FD, 1);
    assert_int_equal(gw_frontend_run(l.fe, 0), 0);
    assert_true(e[0].n == 1 && e[0].r == -EREMOTEIO);
    assert_int_equal(gw_frontend_backend_fd(l.fe), -1);
    line_expect(&l, GW_MSG_GET_FEATURES, NULL);
    line_answer(&l, GW_MSG_GET_FEATURES, 3);
    assert_int_equal(line_loop(&l, &e[1]), 0);
    line_finish(&l);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        FDCHECK_TEST(test_fe_async_bad_hang_up_at_every_byte),
        FDCHECK_TEST(test_fe_async_bad_hang_up_before_a_message),
        FDCHECK_TEST(test_fe_async_bad_answers_end_the_session),
        FDCHECK_TEST(test_fe_async_bad_short_answers_end_the_session),
        FDCHECK_TEST(test_fe_async_bad_contents_end_the_session),
        FDCHECK_TEST(test_fe_async_bad_early_answers_end_the_session),
        FDCHECK_TEST(test_fe_async_bad_silence_times_out),
        FDCHECK_TEST(test_fe_async_bad_full_socket_waits_for_room),
        FDCHECK_TEST(test_fe_async_bad_bytes_while_sending_wait),
        FDCHECK_TEST(test_fe_async_bad_refusal_ends_a_sequence),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
