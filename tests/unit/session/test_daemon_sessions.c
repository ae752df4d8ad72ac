/* SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause */
/* The callbacks of a session: their order, and what a device may refuse, withhold and add. */
#include "../fixtures/daemon_fixture.h"
#include "base/checked.h"
#include "base/proto.h"
#include "on_worker.h"

#include <errno.h>
#include <pthread.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#define PROTOCOL(name) GW_BIT(GW_PROTOCOL_F_##name)
#define RING_EVENT_IDX GW_BIT(GW_F_RING_EVENT_IDX)
#define BASIC          (GW_BIT(GW_F_PROTOCOL_FEATURES) | GW_BIT(GW_F_VERSION_1))

/* The device: its callbacks in their order, and what it answers. */
static struct {
    pthread_mutex_t lock;
    pthread_cond_t changed;
    char calls[256]; /* [lock] */
    char log[4096];  /* [lock] */
    unsigned n_ends; /* [lock] */
    _Atomic int start_result, check_result, check_protocol_result;
    _Atomic uint64_t withheld, added;
    const char *_Atomic why;
} session = {.lock = PTHREAD_MUTEX_INITIALIZER, .changed = PTHREAD_COND_INITIALIZER};

static void called(const char *name)
{
    pthread_mutex_lock(&session.lock);
    strncat(session.calls, name, sizeof(session.calls) - strlen(session.calls) - 1);
    strncat(session.calls, " ", sizeof(session.calls) - strlen(session.calls) - 1);
    pthread_mutex_unlock(&session.lock);
}

/* Check the calls so far, and forget them. */
static void expect_calls(const char *expected)
{
    char calls[sizeof(session.calls)];

    pthread_mutex_lock(&session.lock);
    memcpy(calls, session.calls, sizeof(calls));
    session.calls[0] = '\0';
    pthread_mutex_unlock(&session.lock);
    assert_string_equal(calls, expected);
}

static int session_start(void *dev)
{
    called("session_start");
    return session.start_result;
}

static void session_end(void *dev)
{
    called("session_end");
    pthread_mutex_lock(&session.lock);
    session.n_ends++;
    pthread_cond_signal(&session.changed);
    pthread_mutex_unlock(&session.lock);
}

static uint64_t protocol_features(void *dev, uint64_t offered)
{
    return (offered & ~session.withheld) | session.added;
}

static int check(int result, char *why, size_t size)
{
    const char *reason = session.why;

    if (reason)
        snprintf(why, size, "%s", reason);
    return result;
}

static int check_features(void *dev, uint64_t features, char *why, size_t size)
{
    called("check_features");
    assert_int_equal(features & (GW_BIT(GW_F_LOG_ALL) | GW_BIT(GW_F_PROTOCOL_FEATURES)), 0);
    return check(session.check_result, why, size);
}

static int check_protocol_features(void *dev, uint64_t features, char *why, size_t size)
{
    called("check_protocol_features");
    return check(session.check_protocol_result, why, size);
}

static void features_acked(void *dev, uint64_t features)
{
    called("features_acked");
}

static int queue_start(void *dev, struct gw_queue *q)
{
    called("queue_start");
    return 0;
}

static int queue_ready(void *dev, struct gw_queue *q)
{
    return 0;
}

static void queue_stop(void *dev, struct gw_queue *q)
{
    called("queue_stop");
}

static void reset(void *dev)
{
    called("reset");
}

static int worker_start(void *dev, struct gw_worker *w)
{
    called("worker_start");
    return 0;
}

static void worker_stop(void *dev, struct gw_worker *w)
{
    called("worker_stop");
}

static void keep_log(void *arg, enum gw_log_level level, const char *message)
{
    pthread_mutex_lock(&session.lock);
    strncat(session.log, message, sizeof(session.log) - strlen(session.log) - 1);
    pthread_mutex_unlock(&session.lock);
}

static bool was_logged(const char *text)
{
    bool was;

    pthread_mutex_lock(&session.lock);
    was = strstr(session.log, text) != NULL;
    pthread_mutex_unlock(&session.lock);
    return was;
}

static struct gw_daemon *start_daemon(void)
{
    static const struct gw_device_ops ops = {
        .size = sizeof(ops),
        .features_acked = features_acked,
        .queue_start = queue_start,
        .queue_ready = queue_ready,
        .queue_stop = queue_stop,
        .reset = reset,
        .worker_start = worker_start,
        .worker_stop = worker_stop,
        .session_start = session_start,
        .session_end = session_end,
        .protocol_features = protocol_features,
        .check_features = check_features,
        .check_protocol_features = check_protocol_features,
    };
    struct gw_daemon_config cfg = daemon_fixture_config();
    struct gw_daemon *d;

    session.calls[0] = session.log[0] = '\0';
    session.n_ends = 0;
    session.start_result = session.check_result = session.check_protocol_result = 0;
    session.withheld = session.added = 0;
    session.why = NULL;
    cfg.log = keep_log;
    cfg.log_level = GW_LOG_INFO;
    assert_int_equal(gw_daemon_new(&d, &cfg, &ops, NULL), 0);
    assert_int_equal(gw_daemon_start_path(d, path), 0);
    return d;
}

static void wait_for_ends(unsigned n)
{
    pthread_mutex_lock(&session.lock);
    while (session.n_ends < n)
        pthread_cond_wait(&session.changed, &session.lock);
    pthread_mutex_unlock(&session.lock);
}

static struct gw_frontend *negotiate(uint64_t protocol)
{
    struct gw_frontend *fe = daemon_fixture_connect();

    assert_int_equal(gw_frontend_set_features(fe, BASIC), 0);
    assert_int_equal(gw_frontend_set_protocol_features(fe, protocol), 0);
    expect_served(fe); /* after both, which are not answered */
    return fe;
}

/* ---- order ---- */

static void test_sessions_callbacks_come_in_order(void **state)
{
    struct gw_daemon *d = start_daemon();
    struct vm vm;

    vm_boot(&vm, 1);
    vm_unplug(&vm);
    wait_for_ends(1);
    gw_daemon_free(d);
    expect_calls("worker_start session_start check_protocol_features check_features "
                 "features_acked queue_start queue_stop reset session_end worker_stop ");
}

static void test_sessions_end_also_when_the_daemon_is_freed(void **state)
{
    struct gw_daemon *d = start_daemon();
    struct gw_frontend *fe = daemon_fixture_connect();

    expect_served(fe);
    gw_daemon_free(d);
    expect_calls("worker_start session_start reset session_end worker_stop ");
    gw_frontend_free(fe);
}

static void test_sessions_can_be_refused_at_their_begin(void **state)
{
    struct gw_daemon *d = start_daemon();
    struct gw_frontend *fe;
    uint64_t features;

    for (unsigned i = 0; i < 3; i++) {
        session.start_result = i < 2 ? -EACCES : 1; /* any non-zero value */
        fe = daemon_fixture_connect();
        assert_int_equal(gw_frontend_get_features(fe, &features), -ECONNRESET);
        gw_frontend_free(fe);
    }
    assert_true(was_logged("no session: the device refuses it: Permission denied"));
    session.start_result = 0;
    fe = daemon_fixture_connect();
    expect_served(fe);
    gw_frontend_free(fe);
    wait_for_ends(1);
    gw_daemon_free(d);
    expect_calls("worker_start session_start session_start session_start session_start "
                 "reset session_end worker_stop ");
}

/* ---- offered features ---- */

static void test_sessions_withheld_features_take_others_with_them(void **state)
{
    struct gw_daemon *d = start_daemon();
    struct gw_frontend *fe = negotiate(PROTOCOL(REPLY_ACK));
    const uint64_t suspend =
        PROTOCOL(GET_VRING_BASE_INFLIGHT) | PROTOCOL(GET_VRING_BASE_SKIP_DRAIN);
    uint64_t all, few;

    assert_int_equal(gw_frontend_get_protocol_features(fe, &all), 0);
    assert_int_equal(all & suspend, suspend);
    session.withheld = PROTOCOL(INFLIGHT_SHMFD) | PROTOCOL(MQ);
    assert_int_equal(gw_frontend_get_protocol_features(fe, &few), 0);
    assert_int_equal(few, all & ~(session.withheld | suspend));
    assert_int_equal(gw_frontend_set_protocol_features(fe, all), -EREMOTEIO);
    assert_true(was_logged("were not offered"));
    assert_int_equal(gw_frontend_set_protocol_features(fe, few), 0);
    assert_int_equal(gw_frontend_get_queue_num(fe, &all), -EOPNOTSUPP);
    gw_frontend_free(fe);
    gw_daemon_free(d);
}

static void test_sessions_features_beyond_the_library_are_not_offered(void **state)
{
    struct gw_daemon *d = start_daemon();
    struct gw_frontend *fe = negotiate(PROTOCOL(REPLY_ACK));
    uint64_t before, after;

    assert_int_equal(gw_frontend_get_protocol_features(fe, &before), 0);
    session.added = GW_BIT(63) | PROTOCOL(CONFIG); /* there is no get_config */
    assert_int_equal(gw_frontend_get_protocol_features(fe, &after), 0);
    assert_int_equal(after, before);
    assert_true(was_logged("protocol feature bits 0x8000000000000200 of the device"));
    gw_frontend_free(fe);
    gw_daemon_free(d);
}

/* ---- guest addresses ---- */

static int is_started(void *arg)
{
    return gw_queue_is_started(arg);
}

static void test_sessions_with_guest_addresses(void **state)
{
    const struct gw_guest_region region = {.gpa = 0x100000, .length = 0x100000};
    const uint64_t gpa_addresses = PROTOCOL(REPLY_ACK) | PROTOCOL(GPA_ADDRESSES);
    struct gw_driver_config cfg = {.size = sizeof(cfg), .queue_size = 16};
    struct gw_frontend_options opt = {
        .size = sizeof(opt), .protocol_features = gpa_addresses, .n_drivers = 1};
    struct gw_daemon *d = start_daemon();
    struct gw_driver *driver;
    struct gw_frontend *fe;
    uint64_t offered;

    fe = negotiate(PROTOCOL(REPLY_ACK));
    assert_int_equal(gw_frontend_get_protocol_features(fe, &offered), 0);
    assert_int_equal(offered & PROTOCOL(GPA_ADDRESSES), 0); /* on request only */
    gw_frontend_free(fe);
    session.added = PROTOCOL(GPA_ADDRESSES);
    /* At first with user addresses: our front-end refuses to send them. */
    for (unsigned i = 0; i < 2; i++) {
        assert_int_equal(gw_guest_mem_new(&opt.mem, i == 0 ? 0x700000000000 : 0), 0);
        assert_int_equal(gw_guest_mem_add(opt.mem, &region), 0);
        cfg.mem = opt.mem;
        assert_int_equal(gw_driver_new(&driver, &cfg), 0);
        opt.drivers = &driver;
        fe = daemon_fixture_connect();
        assert_int_equal(gw_frontend_start(fe, &opt), i == 0 ? -EINVAL : 0);
        assert_int_equal(gw_frontend_protocol_features(fe), gpa_addresses);
        if (i == 1)
            assert_true(worker_call(gw_daemon_worker(d, 0), is_started, gw_daemon_queue(d, 0)));
        gw_frontend_free(fe);
        gw_driver_free(driver);
        gw_guest_mem_free(opt.mem);
    }
    gw_daemon_free(d);
}

static void test_sessions_refuse_other_addresses_than_those_of_the_guest(void **state)
{
    const struct gw_wire_mem_table table = {
        .num_regions = 1,
        .regions = {{.guest_addr = 0x100000, .size = 0x100000, .user_addr = 0x200000}},
    };
    struct gw_daemon *d = start_daemon();
    struct gw_frontend_message answer;
    struct gw_frontend *fe;
    uint64_t ack;
    int fd;

    session.added = PROTOCOL(GPA_ADDRESSES);
    fe = negotiate(PROTOCOL(REPLY_ACK) | PROTOCOL(GPA_ADDRESSES));
    fd = memfd_create("guest", MFD_CLOEXEC);
    assert_int_equal(ftruncate(fd, 0x100000), 0);
    assert_int_equal(gw_frontend_send_raw(fe, GW_MSG_SET_MEM_TABLE,
                                          GW_MSG_VERSION | GW_MSG_NEED_REPLY, 40, &table, 40, &fd,
                                          1),
                     0);
    close(fd);
    assert_int_equal(gw_frontend_receive(fe, &answer, 60000), 0);
    memcpy(&ack, answer.payload, sizeof(ack));
    assert_int_not_equal(ack, 0);
    assert_true(was_logged("with GPA_ADDRESSES the region at 0x100000 has user address 0x200000"));
    gw_frontend_free(fe);
    gw_daemon_free(d);
}

/* ---- refused features ---- */

static void test_sessions_refused_features_are_acknowledged_so(void **state)
{
    struct gw_daemon *d = start_daemon();
    struct gw_frontend *fe = negotiate(PROTOCOL(REPLY_ACK));

    expect_calls(
        "worker_start session_start check_features features_acked check_protocol_features ");
    session.check_result = -ENOTSUP;
    session.why = "EVENT_IDX on a Tuesday";
    assert_int_equal(gw_frontend_set_features(fe, BASIC | RING_EVENT_IDX), -EREMOTEIO);
    assert_true(was_logged("the device refuses: EVENT_IDX on a Tuesday"));
    session.check_protocol_result = -ENOTSUP;
    session.why = NULL;
    assert_int_equal(gw_frontend_set_protocol_features(fe, 0), -EREMOTEIO);
    assert_true(was_logged("the device refuses: Operation not supported"));
    expect_calls("check_features check_protocol_features ");
    /* Neither set has changed. */
    session.check_result = 1;
    assert_int_equal(gw_frontend_set_features(fe, BASIC), -EREMOTEIO);
    session.check_result = 0;
    assert_int_equal(gw_frontend_set_features(fe, BASIC), 0);
    gw_frontend_free(fe);
    gw_daemon_free(d);
}

static void test_sessions_refusal_without_an_answer_ends_the_session(void **state)
{
    struct gw_daemon *d = start_daemon();
    struct gw_frontend *fe = daemon_fixture_connect();
    uint64_t features;

    session.check_result = -EINVAL;
    assert_int_equal(gw_frontend_set_features(fe, BASIC), 0); /* sent */
    assert_int_equal(gw_frontend_get_features(fe, &features), -ECONNRESET);
    gw_frontend_free(fe);
    wait_for_ends(1);
    session.check_result = 0;
    session.check_protocol_result = -EINVAL;
    fe = daemon_fixture_connect();
    assert_int_equal(gw_frontend_set_features(fe, BASIC), 0);
    /* REPLY_ACK is not negotiated until this message succeeds. */
    (void)gw_frontend_set_protocol_features(fe, PROTOCOL(REPLY_ACK));
    assert_int_equal(gw_frontend_get_features(fe, &features), -ECONNRESET);
    gw_frontend_free(fe);
    wait_for_ends(2);
    gw_daemon_free(d);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        DAEMON_TEST(test_sessions_callbacks_come_in_order),
        DAEMON_TEST(test_sessions_end_also_when_the_daemon_is_freed),
        DAEMON_TEST(test_sessions_can_be_refused_at_their_begin),
        DAEMON_TEST(test_sessions_withheld_features_take_others_with_them),
        DAEMON_TEST(test_sessions_features_beyond_the_library_are_not_offered),
        DAEMON_TEST(test_sessions_with_guest_addresses),
        DAEMON_TEST(test_sessions_refuse_other_addresses_than_those_of_the_guest),
        DAEMON_TEST(test_sessions_refused_features_are_acknowledged_so),
        DAEMON_TEST(test_sessions_refusal_without_an_answer_ends_the_session),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
