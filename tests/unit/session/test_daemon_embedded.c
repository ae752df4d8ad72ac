/* SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause */
/* What an embedder may do with external workers on its thread, and what is refused. */
#include "../fixtures/daemon_fixture.h"
#include "../fixtures/fixture.h"
#include "base/checked.h"
#include "patience.h"

#include <errno.h>
#include <poll.h>
#include <pthread.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

static const enum gw_loop_kind loops[] = {GW_LOOP_URING, GW_LOOP_EPOLL};

/* Two external workers on this thread, and a daemon on the first. */
static struct {
    struct gw_workers *ws;
    struct gw_worker *a, *b;
    struct gw_daemon *d;
    unsigned n_ended, n_done;
    int r;
} e;

static void note_end(void *arg, int result)
{
    e.n_ended++;
}

static struct gw_daemon *make_daemon(struct gw_worker *w)
{
    struct gw_daemon_config cfg = daemon_fixture_config();
    struct gw_daemon *d;

    cfg.workers = &w;
    cfg.control = w;
    cfg.ended = note_end;
    assert_int_equal(gw_daemon_new(&d, &cfg, &device_ops, &device), 0);
    return d;
}

static void embed(enum gw_loop_kind loop)
{
    struct gw_workers_config cfg = {.size = sizeof(cfg), .num_workers = 2, .external = true};

    memset(&e, 0, sizeof(e));
    memset(&device, 0, sizeof(device));
    cfg.loop = loop;
    assert_int_equal(gw_workers_new(&e.ws, &cfg), 0);
    e.a = gw_workers_get(e.ws, 0);
    e.b = gw_workers_get(e.ws, 1);
    e.d = make_daemon(e.a);
    assert_int_equal(gw_daemon_start_path(e.d, path), 0);
}

static void expel(void)
{
    gw_daemon_free(e.d);
    assert_int_equal(gw_workers_free(e.ws), 0);
}

static void step(struct gw_worker *w)
{
    struct pollfd p = {.fd = gw_worker_fd(w), .events = POLLIN};

    assert_int_equal(poll(&p, 1, (int)patience_ms()), 1);
    assert_int_equal(gw_worker_run(w, 0), 0);
}

/* Run `fn` in a callback of worker a. */
struct call {
    struct gw_post post;
    void (*fn)(void);
    bool is_done;
};

static void run_call(struct gw_post *post)
{
    struct call *call = gw_container_of(post, struct call, post);

    call->fn();
    call->is_done = true;
}

static void in_callback(void (*fn)(void))
{
    struct call call = {.post.run = run_call, .fn = fn};

    assert_int_equal(gw_worker_post(e.a, &call.post), 0);
    while (!call.is_done)
        step(e.a);
}

static void *ask(void *arg)
{
    struct gw_frontend *fe = daemon_fixture_connect();

    expect_served(fe);
    gw_frontend_free(fe);
    return NULL;
}

/* A front-end on another thread; the worker runs until it has been served and has hung up. */
static void expect_served_soon(void)
{
    unsigned n_resets = device.n_resets;
    pthread_t front_end;

    assert_int_equal(pthread_create(&front_end, NULL, ask, NULL), 0);
    while (device.n_resets == n_resets)
        step(e.a);
    pthread_join(front_end, NULL);
}

/* ---- several workers on one thread ---- */

static struct gw_timer *timer;
static struct gw_io io;
static int file;
static char bytes[5];
static struct iovec iov = {.iov_base = bytes, .iov_len = sizeof(bytes)};

static void fired(void *arg)
{
    e.n_done++;
}

static void start_timer(void)
{
    gw_timer_start(timer, 1000000, 0);
}

static void read_done(struct gw_io *done, int res)
{
    assert_int_equal(res, sizeof(bytes));
    e.n_done++;
}

static void start_read(void)
{
    gw_io_preadv(e.b, &io, file, &iov, 1, 0);
}

static void test_embedded_worker_wakes_for_what_a_callback_of_another_began(void **state)
{
    file = memfd_create("file", MFD_CLOEXEC);
    assert_int_equal(ftruncate(file, sizeof(bytes)), 0);
    io.done = read_done;
    for (unsigned l = 0; l < GW_ARRAY_SIZE(loops); l++) {
        embed(loops[l]);
        assert_int_equal(gw_timer_new(&timer, e.b, fired, NULL), 0);
        in_callback(start_timer);
        while (e.n_done == 0)
            step(e.b);
        in_callback(start_read);
        while (e.n_done == 1)
            step(e.b);
        gw_timer_free(timer);
        expel();
    }
    close(file);
}

static struct gw_daemon *another;

static void make_another(void)
{
    another = make_daemon(e.b);
}

static void test_embedded_callback_makes_a_daemon_on_another_worker(void **state)
{
    for (unsigned l = 0; l < GW_ARRAY_SIZE(loops); l++) {
        embed(loops[l]);
        in_callback(make_another);
        assert_int_equal(device.n_worker_starts, 2);
        gw_daemon_free(another);
        expel();
    }
}

/* ---- refused ---- */

static void wait_inside(void)
{
    assert_int_equal(gw_daemon_wait(e.d), -EBUSY);
    gw_daemon_free(e.d); /* logs an error */
    assert_int_equal(gw_workers_free(e.ws), -EBUSY);
    e.n_done++;
}

static void free_workers_inside(void)
{
    e.r = gw_workers_free(e.ws);
}

static void test_embedded_callback_cannot_wait_or_free(void **state)
{
    for (unsigned l = 0; l < GW_ARRAY_SIZE(loops); l++) {
        embed(loops[l]);
        in_callback(wait_inside);
        assert_int_equal(e.n_done, 1);
        expect_served_soon();
        gw_daemon_free(e.d);
        in_callback(free_workers_inside);
        assert_int_equal(e.r, -EBUSY);
        assert_int_equal(gw_workers_free(e.ws), 0);
    }
}

/* The child of a fork cannot take the parent's events, nor remove its socket. */
static void test_embedded_child_cannot_run_or_free(void **state)
{
    for (unsigned l = 0; l < GW_ARRAY_SIZE(loops); l++) {
        int status;
        pid_t pid;

        embed(loops[l]);
        pid = fork();
        assert_true(pid >= 0);
        if (pid == 0) {
            gw_daemon_free(e.d);
            _exit(gw_worker_run(e.a, 0) == -EPERM && gw_daemon_wait(e.d) == -EPERM &&
                          gw_workers_free(e.ws) < 0
                      ? 0
                      : 1);
        }
        assert_int_equal(waitpid(pid, &status, 0), pid);
        assert_int_equal(status, 0);
        expect_served_soon();
        expel();
    }
}

static struct gw_frontend *connect_now(void)
{
    struct gw_frontend *fe = daemon_fixture_connect();

    assert_int_equal(
        poll(&(struct pollfd){.fd = gw_worker_fd(e.a), .events = POLLIN}, 1, (int)patience_ms()),
        1);
    while (poll(&(struct pollfd){.fd = gw_worker_fd(e.a), .events = POLLIN}, 1, 0) == 1)
        step(e.a);
    return fe;
}

/* A child that still has the descriptors does not keep the session open. */
static void test_embedded_child_keeps_no_session(void **state)
{
    for (unsigned l = 0; l < GW_ARRAY_SIZE(loops); l++) {
        struct pollfd p = {.events = POLLIN};
        struct gw_frontend *fe;
        int ends[2];
        char byte;
        pid_t pid;

        embed(loops[l]);
        fe = connect_now();
        assert_int_equal(pipe(ends), 0);
        pid = fork();
        assert_true(pid >= 0);
        if (pid == 0) {
            close(ends[1]);
            _exit((int)read(ends[0], &byte, 1)); /* until the parent has seen the end */
        }
        close(ends[0]);
        gw_daemon_stop(e.d);
        while (e.n_ended == 0)
            step(e.a);
        p.fd = gw_frontend_fd(fe);
        assert_int_equal(poll(&p, 1, (int)patience_ms()), 1);
        assert_int_equal(recv(p.fd, &byte, 1, MSG_DONTWAIT), 0);
        close(ends[1]);
        assert_int_equal(waitpid(pid, NULL, 0), pid);
        gw_frontend_free(fe);
        expel();
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        DAEMON_TEST(test_embedded_worker_wakes_for_what_a_callback_of_another_began),
        DAEMON_TEST(test_embedded_callback_makes_a_daemon_on_another_worker),
        DAEMON_TEST(test_embedded_callback_cannot_wait_or_free),
        DAEMON_TEST(test_embedded_child_cannot_run_or_free),
        DAEMON_TEST(test_embedded_child_keeps_no_session),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
