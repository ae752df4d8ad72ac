/* SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause */
/* The daemon from outside: making, starting in every way, sessions, stopping, freeing. */
#include "fdcheck.h"

#include <godwit.h>
#include <godwit/frontend.h>

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <pthread.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>

#define N_QUEUES 256u

struct device {
    unsigned worker_of[N_QUEUES]; /* where each queue started, + 1 */
    unsigned n_worker_starts;     /* atomic */
    unsigned n_worker_stops;      /* atomic */
    int worker_start_result;
    struct gw_request *held[16];
    unsigned n_held; /* atomic */
    bool hold;
};

static int queue_start(void *dev, struct gw_queue *q)
{
    struct device *d = dev;

    d->worker_of[gw_queue_index(q)] = gw_worker_index(gw_queue_worker(q)) + 1;
    return 0;
}

static int queue_ready(void *dev, struct gw_queue *q)
{
    struct device *d = dev;
    struct gw_request *reqs[16];
    int n = gw_queue_pop(q, reqs, 16);

    for (int i = 0; i < n; i++) {
        if (d->hold) {
            d->held[d->n_held] = reqs[i];
            __atomic_store_n(&d->n_held, d->n_held + 1, __ATOMIC_RELEASE);
        } else {
            gw_request_complete(reqs[i], 0);
        }
    }
    return 0;
}

static int worker_start(void *dev, struct gw_worker *w)
{
    struct device *d = dev;
    unsigned n = __atomic_add_fetch(&d->n_worker_starts, 1, __ATOMIC_ACQ_REL);

    return n == 3 ? d->worker_start_result : 0;
}

static void worker_stop(void *dev, struct gw_worker *w)
{
    struct device *d = dev;

    __atomic_add_fetch(&d->n_worker_stops, 1, __ATOMIC_ACQ_REL);
}

static int get_config(void *dev, uint32_t off, void *buf, uint32_t len)
{
    memset(buf, 0, len);
    return 0;
}

static void silent(void *arg, enum gw_diag_level level, const char *message)
{
}

static const struct gw_device_ops device_ops = {
    .size = sizeof(device_ops),
    .get_config = get_config,
    .queue_start = queue_start,
    .queue_ready = queue_ready,
    .worker_start = worker_start,
    .worker_stop = worker_stop,
};

static struct device device;

static struct gw_daemon_config config(void)
{
    return (struct gw_daemon_config){.size = sizeof(struct gw_daemon_config), .diag = silent};
}

static struct gw_daemon *new_daemon(void)
{
    struct gw_daemon_config cfg = config();
    struct gw_daemon *d;

    memset(&device, 0, sizeof(device));
    assert_int_equal(gw_daemon_new(&d, &cfg, &device_ops, &device), 0);
    return d;
}

static char path[128];

static int setup(void **state)
{
    char dir[] = "/tmp/godwit-test-XXXXXX";

    if (fdcheck_setup(state) < 0 || !mkdtemp(dir))
        return -1;
    snprintf(path, sizeof(path), "%s/socket", dir);
    return 0;
}

static int teardown(void **state)
{
    *strrchr(path, '/') = '\0';
    return rmdir(path) < 0 ? -1 : fdcheck_teardown(state);
}

static struct gw_frontend *connected(void)
{
    struct gw_frontend *fe;

    assert_int_equal(gw_frontend_new(&fe, NULL), 0);
    assert_int_equal(gw_frontend_connect(fe, path), 0);
    return fe;
}

/* One exchange proves that the session is served. */
static void expect_served(struct gw_frontend *fe)
{
    uint64_t features;

    assert_int_equal(gw_frontend_get_features(fe, &features), 0);
    assert_true(features & UINT64_C(1) << 32);
}

static void expect_no_path(void)
{
    struct stat st;

    assert_int_equal(lstat(path, &st), -1);
    assert_int_equal(errno, ENOENT);
}

/* ---- making ---- */

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
    struct gw_daemon_config cfg = config();
    uint16_t workers[2] = {0, 1};

    expect_refused(NULL, &ops);
    expect_refused(&cfg, NULL);
    cfg.size--;
    expect_refused(&cfg, &ops);
    cfg = config();
    ops.size--;
    expect_refused(&cfg, &ops);
    ops = device_ops;
    ops.queue_ready = NULL;
    expect_refused(&cfg, &ops);
    ops = device_ops;
    cfg.num_queues = 257;
    expect_refused(&cfg, &ops);
    cfg = config();
    cfg.num_workers = 257;
    expect_refused(&cfg, &ops);
    cfg = config();
    cfg.queue_size_max = 1000;
    expect_refused(&cfg, &ops);
    cfg.queue_size_max = 65536;
    expect_refused(&cfg, &ops);
    cfg = config();
    cfg.sync = (enum gw_queue_sync)3;
    expect_refused(&cfg, &ops);
    cfg = config();
    cfg.loop = (enum gw_loop_kind)3;
    expect_refused(&cfg, &ops);
    cfg = config();
    cfg.num_queues = 2;
    cfg.queue_workers = workers; /* there is no worker 1 */
    expect_refused(&cfg, &ops);
}

static void test_daemon_refused_worker_undoes_the_others(void **state)
{
    struct gw_daemon_config cfg = config();
    struct gw_daemon *d = NULL;

    memset(&device, 0, sizeof(device));
    device.worker_start_result = -EXDEV;
    cfg.num_workers = 5;
    assert_int_equal(gw_daemon_new(&d, &cfg, &device_ops, &device), -EXDEV);
    assert_null(d);
    assert_int_equal(device.n_worker_starts, 3);
    assert_int_equal(device.n_worker_stops, 2);
}

static void test_daemon_never_started_can_be_freed(void **state)
{
    struct gw_daemon *d = new_daemon();

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
    struct gw_daemon *d = new_daemon();

    assert_int_equal(gw_daemon_start_path(d, path), 0);
    assert_int_equal(gw_daemon_start_path(d, path), -EBUSY);
    assert_int_equal(gw_daemon_start(d, eventfd(0, EFD_CLOEXEC)), -EBUSY); /* closed */
    assert_int_equal(gw_daemon_start_client(d, path), -EBUSY);
    assert_int_equal(gw_daemon_serve(d, path), -EBUSY);
    gw_daemon_stop(d);
    assert_int_equal(gw_daemon_wait(d), 0);
    expect_no_path();
    assert_int_equal(gw_daemon_wait(d), -EINVAL);
    /* And again. */
    assert_int_equal(gw_daemon_start_path(d, path), 0);
    gw_daemon_free(d);
    expect_no_path();
}

static void test_daemon_start_on_what_is_no_socket_fails(void **state)
{
    struct gw_daemon *d = new_daemon();
    char longest[200];

    assert_int_equal(gw_daemon_start(d, eventfd(0, EFD_CLOEXEC)), -ENOTSOCK);
    assert_int_equal(gw_daemon_start(d, socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0)), -EINVAL);
    assert_true(gw_daemon_start(d, -1) < 0);
    memset(longest, 'x', sizeof(longest) - 1);
    longest[199] = '\0';
    assert_int_equal(gw_daemon_start_path(d, longest), -ENAMETOOLONG);
    assert_int_equal(gw_daemon_start_path(d, "/nonexistent/s"), -ENOENT);
    assert_int_equal(gw_daemon_start_client(d, path), -ENOENT);
    /* None of that counts as started. */
    assert_int_equal(gw_daemon_wait(d), -EINVAL);
    gw_daemon_free(d);
}

static void test_daemon_sessions_follow_one_another(void **state)
{
    struct gw_daemon *d = new_daemon();

    assert_int_equal(gw_daemon_start_path(d, path), 0);
    for (unsigned i = 0; i < 50; i++) {
        struct gw_frontend *fe = connected();

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
    struct gw_daemon *d = new_daemon();
    struct gw_frontend *fe;

    for (unsigned i = 0; i < 3; i++) {
        int ends[2];

        assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, ends), 0);
        assert_int_equal(gw_daemon_start(d, ends[0]), 0);
        assert_int_equal(gw_frontend_new(&fe, NULL), 0);
        assert_int_equal(gw_frontend_attach(fe, ends[1]), 0);
        expect_served(fe);
        if (i == 1) /* a payload that no message has */
            gw_frontend_send_raw(fe, 1, 1, 5000, NULL, 0, NULL, 0);
        if (i == 1)
            assert_int_equal(gw_daemon_wait(d), -EPROTO);
        gw_frontend_free(fe);
        if (i != 1)
            assert_int_equal(gw_daemon_wait(d), 0); /* a hang-up is success */
    }
    gw_daemon_free(d);
}

static void test_daemon_client_connects_and_serves(void **state)
{
    struct gw_daemon *d = new_daemon();
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
    unlink(path); /* not the daemon's */
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
    struct gw_daemon *d = new_daemon();
    struct gw_frontend *fe;
    pthread_t thread;

    for (unsigned i = 0; i < 2; i++) {
        assert_int_equal(pthread_create(&thread, NULL, serve, d), 0);
        fe = connected();
        expect_served(fe);
        if (i == 1)
            gw_frontend_send_raw(fe, 1, 1, 5000, NULL, 0, NULL, 0);
        gw_frontend_free(fe);
        assert_int_equal(joined(thread), i == 1 ? -EPROTO : 0);
        expect_no_path();
    }
    gw_daemon_free(d);
}

/* ---- stopping ---- */

static void test_daemon_stop_before_the_start_is_not_lost(void **state)
{
    struct gw_daemon *d = new_daemon();
    int ends[2];

    gw_daemon_stop(d);
    assert_int_equal(gw_daemon_serve(d, path), 0);
    gw_daemon_stop(d);
    assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, ends), 0);
    assert_int_equal(gw_daemon_start(d, ends[0]), 0);
    assert_int_equal(gw_daemon_wait(d), 0);
    close(ends[1]);
    /* It counts once. */
    assert_int_equal(gw_daemon_start_path(d, path), 0);
    struct gw_frontend *fe = connected();
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
    signalled = new_daemon();
    for (unsigned i = 0; i < 20; i++) {
        struct gw_frontend *fe;

        assert_int_equal(pthread_create(&thread, NULL, serve, signalled), 0);
        fe = connected();
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
    struct gw_daemon *d = new_daemon();
    pthread_t thread;

    assert_int_equal(gw_daemon_start_path(d, path), 0);
    assert_int_equal(pthread_create(&thread, NULL, stop_soon, d), 0);
    assert_int_equal(gw_daemon_wait(d), 0);
    pthread_join(thread, NULL);
    gw_daemon_free(d);
}

/* ---- queues ---- */

struct vm {
    struct gw_guest_mem *mem;
    struct gw_driver *drivers[N_QUEUES];
    unsigned n;
    struct gw_frontend *fe;
};

static void boot(struct vm *vm, unsigned n)
{
    struct gw_guest_region region = {.gpa = 0x100000, .length = UINT64_C(8) << 20};
    struct gw_frontend_options opt = {.size = sizeof(opt), .n_drivers = n};

    vm->n = n;
    assert_int_equal(gw_guest_mem_new(&vm->mem, 0x700000000000), 0);
    assert_int_equal(gw_guest_mem_add(vm->mem, &region), 0);
    for (unsigned i = 0; i < n; i++) {
        struct gw_driver_config cfg = {
            .size = sizeof(cfg), .mem = vm->mem, .index = i, .queue_size = 16};

        assert_int_equal(gw_driver_new(&vm->drivers[i], &cfg), 0);
    }
    vm->fe = connected();
    opt.mem = vm->mem;
    opt.drivers = vm->drivers;
    assert_int_equal(gw_frontend_start(vm->fe, &opt), 0);
}

static void unplug(struct vm *vm)
{
    gw_frontend_free(vm->fe);
    for (unsigned i = 0; i < vm->n; i++)
        gw_driver_free(vm->drivers[i]);
    gw_guest_mem_free(vm->mem);
}

static void add(struct vm *vm, unsigned queue)
{
    struct gw_driver_buf buf = {.addr = 0x100000, .len = 16};

    assert_int_equal(gw_driver_add(vm->drivers[queue], &buf, 0, 1, queue, 0), 0);
    gw_driver_kick(vm->drivers[queue]);
}

static void test_daemon_256_queues_over_chosen_workers_all_work(void **state)
{
    struct gw_daemon_config cfg = config();
    uint16_t workers[N_QUEUES];
    struct gw_driver_used used;
    struct gw_daemon *d;
    struct vm vm;

    for (unsigned i = 0; i < N_QUEUES; i++)
        workers[i] = (uint16_t)(i * i % 3);
    memset(&device, 0, sizeof(device));
    cfg.num_queues = N_QUEUES;
    cfg.num_workers = 3;
    cfg.queue_workers = workers;
    assert_int_equal(gw_daemon_new(&d, &cfg, &device_ops, &device), 0);
    memset(workers, 0xff, sizeof(workers)); /* it was copied */
    assert_int_equal(gw_daemon_start_path(d, path), 0);
    boot(&vm, N_QUEUES);
    for (unsigned i = 0; i < N_QUEUES; i++)
        add(&vm, i);
    for (unsigned i = 0; i < N_QUEUES; i++) {
        assert_int_equal(gw_driver_wait(vm.drivers[i], 10000), 0);
        assert_int_equal(gw_driver_take(vm.drivers[i], &used, 1), 1);
        assert_int_equal(used.cookie, i);
        assert_int_equal(device.worker_of[i], i * i % 3 + 1);
    }
    assert_int_equal(gw_frontend_stop(vm.fe, vm.drivers, N_QUEUES), 0);
    unplug(&vm);
    gw_daemon_free(d);
    assert_int_equal(device.n_worker_stops, 3);
}

static void test_daemon_freed_while_a_session_runs(void **state)
{
    struct gw_daemon *d = new_daemon();
    struct vm vm;

    assert_int_equal(gw_daemon_start_path(d, path), 0);
    boot(&vm, 1);
    for (unsigned i = 0; i < 5; i++)
        add(&vm, 0);
    gw_daemon_free(d);
    expect_no_path();
    unplug(&vm);
}

static void release_held(void *arg)
{
    while (device.n_held > 0)
        gw_request_complete(device.held[--device.n_held], 0);
}

/* A device that does not finish in time: the front-end is not kept waiting, the next one is served,
 * and the memory is there until the request ends. */
static void test_daemon_request_out_longer_than_the_time_out_harms_no_session(void **state)
{
    struct gw_daemon_config cfg = config();
    struct gw_driver_used used;
    struct gw_daemon *d;
    struct vm vm;

    memset(&device, 0, sizeof(device));
    device.hold = true;
    cfg.drain_timeout_ms = 50;
    assert_int_equal(gw_daemon_new(&d, &cfg, &device_ops, &device), 0);
    assert_int_equal(gw_daemon_start_path(d, path), 0);
    boot(&vm, 1);
    add(&vm, 0);
    while (__atomic_load_n(&device.n_held, __ATOMIC_ACQUIRE) == 0)
        usleep(100);
    unplug(&vm);
    vm.fe = connected();
    expect_served(vm.fe);
    gw_frontend_free(vm.fe);
    memset(device.held[0]->in[0].iov_base, 1, 16);
    assert_int_equal(gw_worker_post(gw_daemon_worker(d, 0), release_held, NULL), 0);
    device.hold = false;
    usleep(20000);
    boot(&vm, 1);
    add(&vm, 0);
    assert_int_equal(gw_driver_wait(vm.drivers[0], 10000), 0);
    assert_int_equal(gw_driver_take(vm.drivers[0], &used, 1), 1);
    unplug(&vm);
    gw_daemon_free(d);
}

/* ---- config changes ---- */

static unsigned count_config_changes(struct vm *vm, unsigned timeout_ms)
{
    unsigned n = 0;
    struct gw_frontend_message msg;

    while (gw_frontend_backend_request(vm->fe, &msg, timeout_ms) == 0) {
        assert_int_equal(msg.request, 2);
        assert_int_equal(msg.size, 0);
        gw_frontend_message_done(&msg);
        n++;
    }
    return n;
}

static void test_daemon_config_changes_are_told_and_become_one(void **state)
{
    struct gw_daemon *d = new_daemon();
    struct vm vm;

    for (unsigned i = 0; i < 10; i++)
        gw_daemon_config_changed(d); /* nobody is there */
    assert_int_equal(gw_daemon_start_path(d, path), 0);
    boot(&vm, 1);
    assert_int_equal(count_config_changes(&vm, 200), 1);
    assert_int_equal(gw_frontend_stop(vm.fe, vm.drivers, 1), 0);
    gw_daemon_config_changed(d); /* all rings are stopped */
    assert_int_equal(count_config_changes(&vm, 50), 0);
    assert_int_equal(gw_frontend_start_queue(vm.fe, vm.drivers[0]), 0);
    assert_int_equal(count_config_changes(&vm, 200), 1);
    gw_daemon_config_changed(d);
    assert_int_equal(count_config_changes(&vm, 200), 1);
    unplug(&vm);
    gw_daemon_free(d);
}

#define DAEMON_TEST(f) cmocka_unit_test_setup_teardown(f, setup, teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        DAEMON_TEST(test_daemon_config_out_of_limits_is_refused),
        DAEMON_TEST(test_daemon_refused_worker_undoes_the_others),
        DAEMON_TEST(test_daemon_never_started_can_be_freed),
        DAEMON_TEST(test_daemon_started_twice_is_busy),
        DAEMON_TEST(test_daemon_start_on_what_is_no_socket_fails),
        DAEMON_TEST(test_daemon_sessions_follow_one_another),
        DAEMON_TEST(test_daemon_connected_socket_is_served_once),
        DAEMON_TEST(test_daemon_client_connects_and_serves),
        DAEMON_TEST(test_daemon_serve_returns_after_the_hang_up),
        DAEMON_TEST(test_daemon_stop_before_the_start_is_not_lost),
        DAEMON_TEST(test_daemon_stops_from_a_signal_handler),
        DAEMON_TEST(test_daemon_stop_from_another_thread_ends_the_wait),
        DAEMON_TEST(test_daemon_256_queues_over_chosen_workers_all_work),
        DAEMON_TEST(test_daemon_freed_while_a_session_runs),
        DAEMON_TEST(test_daemon_request_out_longer_than_the_time_out_harms_no_session),
        DAEMON_TEST(test_daemon_config_changes_are_told_and_become_one),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
