/* SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause */
/* Kicks, calls and errors as messages, from our front-end to our back-end and back. */
#include "../fixtures/daemon_fixture.h"
#include "base/checked.h"
#include "core/queue/queue.h"
#include "frontend/driver/driver_i.h"
#include "frontend/transport/fe_requests.h"
#include "patience.h"

#include <errno.h>
#include <godwit/frontend/device.h>
#include <linux/virtio_ring.h>
#include <poll.h>
#include <string.h>
#include <unistd.h>

#define BASIC          (GW_BIT(GW_F_PROTOCOL_FEATURES) | GW_BIT(GW_F_VERSION_1))
#define PROTOCOL(name) GW_BIT(GW_PROTOCOL_F_##name)
#define NEEDED         (PROTOCOL(REPLY_ACK) | PROTOCOL(BACKEND_REQ))
#define IN_BAND        (NEEDED | PROTOCOL(INBAND_NOTIFICATIONS))
#define N_RINGS        2u

static _Atomic bool holds; /* requests, until the queue stops */
static struct gw_request *held;

static int queue_ready(void *dev, struct gw_queue *q)
{
    struct gw_request *req;

    while (gw_queue_pop(q, &req, 1) == 1) {
        if (holds)
            held = req;
        else
            gw_request_complete(req, 0);
    }
    return 0;
}

static void queue_stop(void *dev, struct gw_queue *q)
{
    if (held)
        gw_request_complete(held, 0);
    held = NULL;
}

static uint64_t protocol_features(void *dev, uint64_t offered)
{
    return offered | PROTOCOL(INBAND_NOTIFICATIONS);
}

struct session {
    struct gw_daemon *daemon;
    struct gw_guest_mem *mem;
    struct gw_driver *driver;
    struct gw_frontend *fe;
};

static struct gw_daemon *start_daemon(void)
{
    static const struct gw_device_ops ops = {
        .size = sizeof(ops),
        .queue_ready = queue_ready,
        .queue_stop = queue_stop,
        .protocol_features = protocol_features,
    };
    struct gw_daemon_config cfg = daemon_fixture_config();
    struct gw_daemon *d;

    holds = false;
    cfg.num_queues = N_RINGS;
    assert_int_equal(gw_daemon_new(&d, &cfg, &ops, NULL), 0);
    assert_int_equal(gw_daemon_start_path(d, path), 0);
    return d;
}

/* A session as that of user-mode Linux: ring 0 is configured and enabled, but has no eventfds. */
static void session_begin(struct session *s)
{
    const struct gw_guest_region region = {.gpa = 0x100000, .length = UINT64_C(1) << 20};
    struct gw_driver_config cfg = {.size = sizeof(cfg), .queue_size = 16};
    struct gw_frontend_vring_addr addr;

    s->daemon = start_daemon();
    s->fe = daemon_fixture_negotiate(IN_BAND);
    assert_int_equal(gw_frontend_set_backend_req_fd(s->fe), 0);
    assert_int_equal(gw_guest_mem_new(&s->mem, 0x700000000000), 0);
    assert_int_equal(gw_guest_mem_add(s->mem, &region), 0);
    cfg.mem = s->mem;
    assert_int_equal(gw_driver_new(&s->driver, &cfg), 0);
    addr = gw_frontend_vring_addr_of(s->driver);
    assert_int_equal(gw_frontend_set_mem_table(s->fe, s->mem), 0);
    assert_int_equal(gw_frontend_set_vring_num(s->fe, 0, 16), 0);
    assert_int_equal(gw_frontend_set_vring_addr(s->fe, 0, &addr), 0);
    assert_int_equal(gw_frontend_set_vring_enable(s->fe, 0, true), 0);
}

static void session_end(struct session *s)
{
    gw_frontend_free(s->fe);
    gw_daemon_free(s->daemon);
    gw_driver_free(s->driver);
    gw_guest_mem_free(s->mem);
}

static void add_request(struct session *s)
{
    const struct gw_driver_buf buf = {.addr = 0x100000, .len = 16};

    (void)gw_driver_want_calls(s->driver);
    assert_int_equal(gw_driver_add(s->driver, &buf, 0, 1, 1, 0), 0);
    gw_driver_publish(s->driver);
}

static bool has_message(const struct session *s)
{
    struct pollfd p = {.fd = gw_frontend_backend_fd(s->fe), .events = POLLIN};

    return poll(&p, 1, 0) == 1;
}

static void expect_message(struct session *s, uint32_t request)
{
    const struct gw_wire_vring_state ring_0 = {0};
    struct gw_frontend_message msg;

    assert_int_equal(gw_frontend_backend_request(s->fe, &msg, patience_ms()), 0);
    assert_int_equal(msg.request, request);
    assert_int_equal(msg.flags, GW_MSG_VERSION); /* not NEED_REPLY: nothing waits for us */
    assert_int_equal(msg.size, sizeof(ring_0));
    assert_memory_equal(msg.payload, &ring_0, sizeof(ring_0));
    assert_int_equal(msg.n_fds, 0);
}

/* Calls until the driver has its request. */
static void expect_used(struct session *s)
{
    struct gw_driver_used used;

    while (gw_driver_take(s->driver, &used, 1) == 0)
        expect_message(s, GW_BACKEND_MSG_VRING_CALL);
}

static void test_inband_kick_starts_a_ring_and_calls_come_back(void **state)
{
    struct session s;
    uint32_t base;

    session_begin(&s);
    add_request(&s);
    assert_false(gw_queue_is_started(gw_daemon_queue(s.daemon, 0)));
    assert_int_equal(gw_frontend_vring_kick(s.fe, 0), 0);
    assert_true(gw_queue_is_started(gw_daemon_queue(s.daemon, 0)));
    expect_used(&s);
    for (unsigned i = 0; i < 100; i++) {
        add_request(&s);
        assert_int_equal(gw_frontend_vring_kick(s.fe, 0), 0);
        expect_used(&s);
    }
    assert_int_equal(gw_frontend_get_vring_base(s.fe, 0, &base), 0);
    assert_int_equal(base, 101);
    /* A kick starts it again, where it stopped. */
    add_request(&s);
    assert_int_equal(gw_frontend_vring_kick(s.fe, 0), 0);
    expect_used(&s);
    session_end(&s);
}

/* A polled ring would have found the second request. */
static void test_inband_ring_is_not_polled(void **state)
{
    struct gw_queue_stats stats;
    struct session s;

    session_begin(&s);
    assert_int_equal(gw_frontend_vring_kick(s.fe, 0), 0);
    add_request(&s);
    assert_int_equal(gw_frontend_vring_kick(s.fe, 0), 0);
    expect_used(&s);
    gw_queue_stats(gw_daemon_queue(s.daemon, 0), &stats);
    assert_int_equal(stats.kicks, 1); /* the first one was the start */
    assert_false(gw_daemon_queue(s.daemon, 0)->poll.always);
    /* NOFD asks for polling, also with this feature. */
    assert_int_equal(gw_frontend_set_vring_kick(s.fe, 0, -1), 0);
    assert_true(gw_daemon_queue(s.daemon, 0)->poll.always);
    add_request(&s);
    expect_used(&s);
    session_end(&s);
}

static void test_inband_call_fd_is_preferred(void **state)
{
    struct gw_driver_used used;
    struct session s;
    uint32_t base;

    session_begin(&s);
    assert_int_equal(gw_frontend_set_vring_call(s.fe, 0, gw_driver_call_fd(s.driver)), 0);
    add_request(&s);
    assert_int_equal(gw_frontend_vring_kick(s.fe, 0), 0);
    assert_int_equal(gw_driver_wait(s.driver, patience_ms()), 0);
    assert_int_equal(gw_driver_take(s.driver, &used, 1), 1);
    assert_int_equal(gw_frontend_get_vring_base(s.fe, 0, &base), 0);
    assert_false(has_message(&s));
    /* The stop took the fd back: calls are messages again. */
    add_request(&s);
    assert_int_equal(gw_frontend_vring_kick(s.fe, 0), 0);
    expect_used(&s);
    assert_int_equal(gw_frontend_get_vring_base(s.fe, 0, &base), 0);
    while (has_message(&s))
        expect_message(&s, GW_BACKEND_MSG_VRING_CALL);
    /* NOFD: the driver polls. */
    assert_int_equal(gw_frontend_set_vring_call(s.fe, 0, -1), 0);
    add_request(&s);
    assert_int_equal(gw_frontend_vring_kick(s.fe, 0), 0);
    assert_int_equal(gw_frontend_get_vring_base(s.fe, 0, &base), 0);
    assert_int_equal(gw_driver_take(s.driver, &used, 1), base == 3);
    assert_false(has_message(&s));
    session_end(&s);
}

/* The front-end must not lose the call for requests that end in a stop. */
static void test_inband_call_precedes_the_answer_of_a_stop(void **state)
{
    struct gw_driver_used used;
    struct session s;
    uint32_t base;

    session_begin(&s);
    assert_int_equal(gw_frontend_vring_kick(s.fe, 0), 0);
    expect_message(&s, GW_BACKEND_MSG_VRING_CALL); /* of the start */
    holds = true;
    add_request(&s);
    assert_int_equal(gw_frontend_vring_kick(s.fe, 0), 0);
    assert_int_equal(gw_frontend_get_vring_base(s.fe, 0, &base), 0);
    if (base == 1) { /* it was popped before the stop */
        assert_true(has_message(&s));
        expect_message(&s, GW_BACKEND_MSG_VRING_CALL);
        assert_int_equal(gw_driver_take(s.driver, &used, 1), 1);
    }
    session_end(&s);
}

static void test_inband_error_of_a_broken_ring(void **state)
{
    struct vring_avail *avail;
    struct session s;

    session_begin(&s);
    assert_int_equal(gw_frontend_vring_kick(s.fe, 0), 0);
    expect_message(&s, GW_BACKEND_MSG_VRING_CALL);
    avail = gw_guest_mem_at(s.mem, s.driver->avail_gpa, sizeof(*avail));
    __atomic_store_n(&avail->idx, 1000, __ATOMIC_RELEASE);
    assert_int_equal(gw_frontend_vring_kick(s.fe, 0), 0);
    expect_message(&s, GW_BACKEND_MSG_VRING_ERR);
    session_end(&s);
}

/* A front-end that does not read its channel costs no memory, and misses nothing. */
static void test_inband_calls_do_not_add_up(void **state)
{
    struct gw_driver_used used[16];
    struct session s;
    unsigned n = 0;

    session_begin(&s);
    for (unsigned i = 0; i < 2000; i++) {
        add_request(&s);
        assert_int_equal(gw_frontend_vring_kick(s.fe, 0), 0);
        while (gw_driver_take(s.driver, used, 16) == 0)
            usleep(10);
    }
    while (has_message(&s)) {
        expect_message(&s, GW_BACKEND_MSG_VRING_CALL);
        n++;
    }
    assert_in_range(n, 1, 1999);
    add_request(&s);
    assert_int_equal(gw_frontend_vring_kick(s.fe, 0), 0);
    expect_used(&s);
    session_end(&s);
}

/* ---- bad input ---- */

static void test_inband_bad_kicks_are_refused(void **state)
{
    const struct gw_frontend_config cfg = {.size = sizeof(cfg), .no_gates = true};
    const struct gw_wire_vring_state with_num = {.index = 0, .num = 1};
    struct gw_frontend_message answer;
    struct gw_frontend *fe;
    struct session s;
    uint64_t ack = 0;

    session_begin(&s);
    assert_int_equal(gw_frontend_vring_kick(s.fe, 1), -EREMOTEIO); /* not configured */
    assert_int_equal(gw_frontend_vring_kick(s.fe, N_RINGS), -EREMOTEIO);
    assert_int_equal(gw_frontend_vring_kick(s.fe, UINT32_MAX), -EREMOTEIO);
    assert_int_equal(gw_frontend_send_raw(s.fe, GW_MSG_VRING_KICK,
                                          GW_MSG_VERSION | GW_MSG_NEED_REPLY, sizeof(with_num),
                                          &with_num, sizeof(with_num), NULL, 0),
                     0);
    assert_int_equal(gw_frontend_receive(s.fe, &answer, patience_ms()), 0);
    memcpy(&ack, answer.payload, sizeof(ack));
    assert_int_not_equal(ack, 0);
    assert_false(gw_queue_is_started(gw_daemon_queue(s.daemon, 0)));
    assert_false(has_message(&s));
    add_request(&s);
    assert_int_equal(gw_frontend_vring_kick(s.fe, 0), 0);
    expect_used(&s);
    gw_frontend_disconnect(s.fe);

    /* Without the feature. */
    assert_int_equal(gw_frontend_new(&fe, &cfg), 0);
    assert_int_equal(gw_frontend_connect(fe, path), 0);
    assert_int_equal(gw_frontend_set_features(fe, BASIC), 0);
    assert_int_equal(gw_frontend_set_protocol_features(fe, NEEDED), 0);
    assert_int_equal(gw_frontend_vring_kick(fe, 0), -EREMOTEIO);
    gw_frontend_free(fe);
    fe = daemon_fixture_negotiate(NEEDED);
    assert_int_equal(gw_frontend_vring_kick(fe, 0), -EOPNOTSUPP);
    gw_frontend_free(fe);
    session_end(&s);
}

/* "The back-end should close the connection." */
static void test_inband_without_its_needs_ends_the_session(void **state)
{
    static const uint64_t sets[] = {0, PROTOCOL(REPLY_ACK), PROTOCOL(BACKEND_REQ)};
    struct gw_daemon *d = start_daemon();
    uint64_t features;

    for (unsigned i = 0; i < GW_ARRAY_SIZE(sets); i++) {
        struct gw_frontend *fe = daemon_fixture_connect();

        assert_int_equal(gw_frontend_set_features(fe, BASIC), 0);
        (void)gw_frontend_set_protocol_features(fe, sets[i] | PROTOCOL(INBAND_NOTIFICATIONS));
        assert_int_equal(gw_frontend_get_features(fe, &features), -ECONNRESET);
        gw_frontend_free(fe);
    }
    gw_daemon_free(d);
}

static void test_inband_is_offered_on_request_only(void **state)
{
    struct gw_daemon *d = daemon_fixture_new();
    struct gw_frontend *fe;
    uint64_t features;

    assert_int_equal(gw_daemon_start_path(d, path), 0);
    fe = daemon_fixture_negotiate(NEEDED);
    assert_int_equal(gw_frontend_get_protocol_features(fe, &features), 0);
    assert_int_equal(features & PROTOCOL(INBAND_NOTIFICATIONS), 0);
    gw_frontend_free(fe);
    gw_daemon_free(d);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        DAEMON_TEST(test_inband_kick_starts_a_ring_and_calls_come_back),
        DAEMON_TEST(test_inband_ring_is_not_polled),
        DAEMON_TEST(test_inband_call_fd_is_preferred),
        DAEMON_TEST(test_inband_call_precedes_the_answer_of_a_stop),
        DAEMON_TEST(test_inband_error_of_a_broken_ring),
        DAEMON_TEST(test_inband_calls_do_not_add_up),
        DAEMON_TEST(test_inband_bad_kicks_are_refused),
        DAEMON_TEST(test_inband_without_its_needs_ends_the_session),
        DAEMON_TEST(test_inband_is_offered_on_request_only),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
