/* SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause */
/* The daemon's public API: creating, all ways of starting, sessions, stopping, freeing. */
#include "../fixtures/daemon_fixture.h"
#include "base/checked.h"
#include "base/struct_sizes.h"

#include <errno.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/socket.h>
#include <unistd.h>

/* ---- creating ---- */

static void expect_refused(const struct gw_daemon_config *cfg, const struct gw_device_ops *ops)
{
    struct gw_daemon *d = (void *)&device;

    assert_int_equal(gw_daemon_new(&d, cfg, ops, &device), -EINVAL);
    assert_ptr_equal(d, &device); /* untouched */
    assert_true(strlen(gw_last_error()) > 0);
}

static void test_daemon_config_out_of_limits_is_refused(void **state)
{
    struct gw_device_ops ops = device_ops;
    struct gw_daemon_config cfg = daemon_fixture_config();
    uint16_t workers[2] = {0, 1};

    expect_refused(NULL, &ops);
    expect_refused(&cfg, NULL);
    cfg.size = GW_FIRST_DAEMON_CONFIG - 1;
    expect_refused(&cfg, &ops);
    cfg = daemon_fixture_config();
    ops.size = GW_FIRST_DEVICE_OPS - 1;
    expect_refused(&cfg, &ops);
    ops = device_ops;
    ops.queue_ready = NULL;
    expect_refused(&cfg, &ops);
    ops = device_ops;
    cfg.num_queues = 257;
    expect_refused(&cfg, &ops);
    cfg = daemon_fixture_config();
    cfg.num_workers = 257;
    expect_refused(&cfg, &ops);
    cfg = daemon_fixture_config();
    cfg.queue_size_max = 1000;
    expect_refused(&cfg, &ops);
    cfg.queue_size_max = 65536;
    expect_refused(&cfg, &ops);
    cfg = daemon_fixture_config();
    cfg.sync = (enum gw_queue_sync)3;
    expect_refused(&cfg, &ops);
    cfg = daemon_fixture_config();
    cfg.loop = (enum gw_loop_kind)3;
    expect_refused(&cfg, &ops);
    cfg = daemon_fixture_config();
    cfg.reconnect_max_ms = 3600001;
    expect_refused(&cfg, &ops);
    cfg = daemon_fixture_config();
    cfg.num_queues = 2;
    cfg.queue_workers = workers; /* worker 1 does not exist */
    expect_refused(&cfg, &ops);
}

static void test_daemon_refused_worker_undoes_the_others(void **state)
{
    struct gw_daemon_config cfg = daemon_fixture_config();
    struct gw_daemon *d = NULL;

    memset(&device, 0, sizeof(device));
    device.worker_start_result = -EXDEV;
    cfg.num_workers = 5;
    assert_int_equal(gw_daemon_new(&d, &cfg, &device_ops, &device), -EXDEV);
    assert_null(d);
    assert_int_equal(device.n_worker_starts, 3);
    assert_int_equal(device.n_worker_stops, 2);
}

static void never(void *arg, int fd, uint32_t events)
{
    fail();
}

static int add_and_fail(void *dev, struct gw_worker *w)
{
    struct daemon_fixture *d = dev;

    assert_int_equal(gw_worker_add_fd(w, d->fd, POLLIN, never, d), 0);
    return d->worker_start_result;
}

/* What worker_start added before it failed is undone. */
static void test_daemon_refused_worker_leaves_nothing(void **state)
{
    static const struct {
        int returned, expected;
    } cases[] = {{-EXDEV, -EXDEV}, {1, -EINVAL}};
    struct gw_daemon_config cfg = daemon_fixture_config();
    struct gw_device_ops ops = device_ops;
    struct gw_daemon *d = NULL;

    memset(&device, 0, sizeof(device));
    ops.worker_start = add_and_fail;
    for (unsigned i = 0; i < GW_ARRAY_SIZE(cases); i++) {
        device.fd = eventfd(0, EFD_CLOEXEC);
        device.worker_start_result = cases[i].returned;
        assert_int_equal(gw_daemon_new(&d, &cfg, &ops, &device), cases[i].expected);
        assert_non_null(strstr(gw_last_error(), "worker 0 cannot start"));
        close(device.fd);
    }
    assert_int_equal(device.n_worker_stops, 0);
}

static void test_daemon_never_started_can_be_freed(void **state)
{
    struct gw_daemon *d = daemon_fixture_new();

    assert_non_null(gw_daemon_queue(d, 0));
    assert_null(gw_daemon_queue(d, 1));
    assert_non_null(gw_daemon_worker(d, 0));
    assert_null(gw_daemon_worker(d, 1));
    assert_int_equal(gw_daemon_wait(d), -EINVAL);
    gw_daemon_free(d);
    gw_daemon_free(NULL);
    assert_int_equal(device.n_worker_stops, 1);
}

/* ---- starting ---- */

static void test_daemon_started_twice_is_busy(void **state)
{
    struct gw_daemon *d = daemon_fixture_new();

    assert_int_equal(gw_daemon_start_path(d, path), 0);
    assert_int_equal(gw_daemon_start_path(d, path), -EBUSY);
    assert_int_equal(gw_daemon_start(d, eventfd(0, EFD_CLOEXEC)), -EBUSY); /* closes the fd */
    assert_int_equal(gw_daemon_start_client(d, path), -EBUSY);
    assert_int_equal(gw_daemon_serve(d, path), -EBUSY);
    gw_daemon_stop(d);
    assert_int_equal(gw_daemon_wait(d), 0);
    expect_no_path();
    assert_int_equal(gw_daemon_wait(d), -EINVAL);
    /* The daemon can start again. */
    assert_int_equal(gw_daemon_start_path(d, path), 0);
    gw_daemon_free(d);
    expect_no_path();
}

static void test_daemon_start_on_what_is_no_socket_fails(void **state)
{
    struct gw_daemon *d = daemon_fixture_new();
    char longest[200];

    assert_int_equal(gw_daemon_start(d, eventfd(0, EFD_CLOEXEC)), -ENOTSOCK);
    assert_int_equal(gw_daemon_start(d, socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0)), -EINVAL);
    assert_true(gw_daemon_start(d, -1) < 0);
    memset(longest, 'x', sizeof(longest) - 1);
    longest[199] = '\0';
    assert_int_equal(gw_daemon_start_path(d, longest), -ENAMETOOLONG);
    assert_int_equal(gw_daemon_start_path(d, "/nonexistent/s"), -ENOENT);
    assert_int_equal(gw_daemon_start_client(d, path), -ENOENT);
    /* After failed starts the daemon is not started. */
    assert_int_equal(gw_daemon_wait(d), -EINVAL);
    gw_daemon_free(d);
}

static void test_daemon_sessions_follow_one_another(void **state)
{
    struct gw_daemon *d = daemon_fixture_new();

    assert_int_equal(gw_daemon_start_path(d, path), 0);
    for (unsigned i = 0; i < 50; i++) {
        struct gw_frontend *fe = daemon_fixture_connect();

        if (i % 3)
            expect_served(fe);
        if (i % 3 == 2)
            gw_frontend_send_bytes(fe, "half", 4);
        gw_frontend_free(fe);
    }
    gw_daemon_stop(d);
    assert_int_equal(gw_daemon_wait(d), 0);
    gw_daemon_free(d);
}

static void test_daemon_connected_socket_is_served_once(void **state)
{
    struct gw_daemon *d = daemon_fixture_new();
    struct gw_frontend *fe;

    for (unsigned i = 0; i < 3; i++) {
        int ends[2];

        assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, ends), 0);
        assert_int_equal(gw_daemon_start(d, ends[0]), 0);
        assert_int_equal(gw_frontend_new(&fe, NULL), 0);
        assert_int_equal(gw_frontend_attach(fe, ends[1]), 0);
        expect_served(fe);
        if (i == 1) /* a payload longer than any message's */
            gw_frontend_send_raw(fe, 1, 1, 5000, NULL, 0, NULL, 0);
        if (i == 1)
            assert_int_equal(gw_daemon_wait(d), -EPROTO);
        gw_frontend_free(fe);
        if (i != 1)
            assert_int_equal(gw_daemon_wait(d), 0); /* a hang-up is not an error */
    }
    gw_daemon_free(d);
}

static void test_daemon_client_connects_and_serves(void **state)
{
    struct gw_daemon *d = daemon_fixture_new();
    struct sockaddr_storage storage = {.ss_family = AF_UNIX};
    int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    struct gw_frontend *fe;

    memcpy((char *)&storage + sizeof(sa_family_t), path, strlen(path) + 1);
    assert_int_equal(bind(fd, (struct sockaddr *)&storage, 110), 0);
    assert_int_equal(listen(fd, 1), 0);
    assert_int_equal(gw_daemon_start_client(d, path), 0);
    assert_int_equal(gw_frontend_new(&fe, NULL), 0);
    assert_int_equal(gw_frontend_accept(fe, fd), 0);
    expect_served(fe);
    gw_frontend_free(fe);
    assert_int_equal(gw_daemon_wait(d), 0);
    gw_daemon_free(d);
    close(fd);
    unlink(path); /* the test's own socket */
}

static void *serve(void *arg)
{
    return (void *)(intptr_t)gw_daemon_serve(arg, path);
}

static int joined(pthread_t thread)
{
    void *result;

    assert_int_equal(pthread_join(thread, &result), 0);
    return (int)(intptr_t)result;
}

static void test_daemon_serve_returns_after_the_hang_up(void **state)
{
    struct gw_daemon *d = daemon_fixture_new();
    struct gw_frontend *fe;
    pthread_t thread;

    for (unsigned i = 0; i < 2; i++) {
        assert_int_equal(pthread_create(&thread, NULL, serve, d), 0);
        fe = daemon_fixture_connect();
        expect_served(fe);
        if (i == 1)
            gw_frontend_send_raw(fe, 1, 1, 5000, NULL, 0, NULL, 0);
        gw_frontend_free(fe);
        assert_int_equal(joined(thread), i == 1 ? -EPROTO : 0);
        expect_no_path();
    }
    gw_daemon_free(d);
}

/* A second daemon finds the path in use and does not disturb the session of the first. */
static void test_daemon_second_on_a_path_disturbs_no_session(void **state)
{
    struct gw_daemon *d = daemon_fixture_new(), *second = daemon_fixture_new();
    struct gw_frontend *fe;
    pthread_t thread;

    assert_int_equal(pthread_create(&thread, NULL, serve, d), 0);
    while (access(path, F_OK) < 0)
        usleep(100);
    assert_int_equal(gw_daemon_serve(second, path), -EADDRINUSE);
    fe = daemon_fixture_connect();
    expect_served(fe);
    assert_int_equal(gw_daemon_start_path(second, path), -EADDRINUSE);
    expect_served(fe);
    gw_frontend_free(fe);
    assert_int_equal(joined(thread), 0);
    expect_no_path();
    gw_daemon_free(second);
    gw_daemon_free(d);
}

/* ---- stopping ---- */

static void test_daemon_stop_before_the_start_is_not_lost(void **state)
{
    struct gw_daemon *d = daemon_fixture_new();
    int ends[2];

    gw_daemon_stop(d);
    assert_int_equal(gw_daemon_serve(d, path), 0);
    gw_daemon_stop(d);
    assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, ends), 0);
    assert_int_equal(gw_daemon_start(d, ends[0]), 0);
    assert_int_equal(gw_daemon_wait(d), 0);
    close(ends[1]);
    /* The stop counts only once. */
    assert_int_equal(gw_daemon_start_path(d, path), 0);
    struct gw_frontend *fe = daemon_fixture_connect();
    expect_served(fe);
    gw_frontend_free(fe);
    gw_daemon_free(d);
}

static struct gw_daemon *signalled;

static void on_signal(int number)
{
    gw_daemon_stop(signalled);
}

static void test_daemon_stops_from_a_signal_handler(void **state)
{
    struct sigaction action = {.sa_handler = on_signal}, old;
    pthread_t thread;

    assert_int_equal(sigaction(SIGUSR1, &action, &old), 0);
    signalled = daemon_fixture_new();
    for (unsigned i = 0; i < 20; i++) {
        struct gw_frontend *fe;

        assert_int_equal(pthread_create(&thread, NULL, serve, signalled), 0);
        fe = daemon_fixture_connect();
        if (i % 2)
            expect_served(fe);
        errno = EXDEV;
        assert_int_equal(raise(SIGUSR1), 0);
        assert_int_equal(errno, EXDEV);
        assert_int_equal(joined(thread), 0);
        gw_frontend_free(fe);
    }
    gw_daemon_free(signalled);
    assert_int_equal(sigaction(SIGUSR1, &old, NULL), 0);
}

static void *stop_soon(void *arg)
{
    usleep(5000);
    gw_daemon_stop(arg);
    gw_daemon_stop(arg);
    return NULL;
}

static void test_daemon_stop_from_another_thread_ends_the_wait(void **state)
{
    struct gw_daemon *d = daemon_fixture_new();
    pthread_t thread;

    assert_int_equal(gw_daemon_start_path(d, path), 0);
    assert_int_equal(pthread_create(&thread, NULL, stop_soon, d), 0);
    assert_int_equal(gw_daemon_wait(d), 0);
    pthread_join(thread, NULL);
    gw_daemon_free(d);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        DAEMON_TEST(test_daemon_config_out_of_limits_is_refused),
        DAEMON_TEST(test_daemon_refused_worker_undoes_the_others),
        DAEMON_TEST(test_daemon_refused_worker_leaves_nothing),
        DAEMON_TEST(test_daemon_never_started_can_be_freed),
        DAEMON_TEST(test_daemon_started_twice_is_busy),
        DAEMON_TEST(test_daemon_start_on_what_is_no_socket_fails),
        DAEMON_TEST(test_daemon_sessions_follow_one_another),
        DAEMON_TEST(test_daemon_connected_socket_is_served_once),
        DAEMON_TEST(test_daemon_client_connects_and_serves),
        DAEMON_TEST(test_daemon_serve_returns_after_the_hang_up),
        DAEMON_TEST(test_daemon_second_on_a_path_disturbs_no_session),
        DAEMON_TEST(test_daemon_stop_before_the_start_is_not_lost),
        DAEMON_TEST(test_daemon_stops_from_a_signal_handler),
        DAEMON_TEST(test_daemon_stop_from_another_thread_ends_the_wait),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
