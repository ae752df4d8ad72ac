/* SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause */
/* The daemon with running queues: many queues, late requests, config changes. */
#include "../fixtures/daemon_fixture.h"
#include "patience.h"

#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

/* ---- SIGBUS: these tests must be first, because the handler is installed only once ---- */

#define LOST_GPA 0x10000000

static int write_to_request(void *dev, struct gw_queue *q)
{
    struct gw_request *r;

    while (gw_queue_pop(q, &r, 1) == 1) {
        size_t n = gw_request_write(r, "lost", 4);

        gw_request_complete(r, (uint32_t)n);
    }
    return 0;
}

/*
 * In a child: a front-end truncates memory, and makes it the buffer of a request. Returns: the
 * wait(2) status; the child exits with 0 if the daemon survives and ends the session.
 */
static int lose_memory(bool handle_sigbus)
{
    static const struct gw_device_ops ops = {.size = sizeof(ops), .queue_ready = write_to_request};
    struct gw_guest_region region = {.kind = GW_GUEST_FD, .gpa = LOST_GPA, .length = 1 << 20};
    struct gw_driver_buf buf = {.addr = LOST_GPA, .len = 16};
    struct gw_daemon_config cfg = daemon_fixture_config();
    struct rlimit none = {0, 0};
    pid_t pid = fork();
    struct gw_daemon *d;
    int status, r = 0;
    struct vm vm;

    assert_true(pid >= 0);
    if (pid > 0) {
        assert_int_equal(waitpid(pid, &status, 0), pid);
        return status;
    }
    (void)setrlimit(RLIMIT_CORE, &none);
    (void)signal(SIGBUS, SIG_DFL);
    cfg.handle_sigbus = handle_sigbus;
    region.fd = memfd_create("lost", MFD_CLOEXEC);
    if (ftruncate(region.fd, (off_t)region.length) < 0 || gw_daemon_new(&d, &cfg, &ops, NULL) < 0 ||
        gw_daemon_start_path(d, path) < 0)
        _exit(1);
    vm_boot(&vm, 1);
    if (gw_guest_mem_add(vm.mem, &region) < 0 ||
        gw_frontend_add_mem_reg(vm.fe, vm.mem, LOST_GPA) < 0 || ftruncate(region.fd, 0) < 0 ||
        gw_driver_add(vm.drivers[0], &buf, 0, 1, 0, 0) < 0)
        _exit(2);
    gw_driver_kick(vm.drivers[0]);
    for (unsigned i = 0; i < patience_ms() && r == 0; i++, usleep(1000))
        r = gw_frontend_check(vm.fe);
    gw_daemon_free(d);
    _exit(r == -ECONNRESET ? 0 : 3);
}

static void test_daemon_lost_memory_ends_a_process_that_did_not_ask_for_the_handler(void **state)
{
    int status = lose_memory(false);

    assert_true(WIFSIGNALED(status));
    assert_int_equal(WTERMSIG(status), SIGBUS);
    assert_int_equal(unlink(path), 0);
    strcat(path, ".lock");
    assert_int_equal(unlink(path), 0);
    *strrchr(path, '.') = '\0';
}

static void test_daemon_lost_memory_ends_the_session_alone_with_the_handler(void **state)
{
    int status = lose_memory(true);

    assert_true(WIFEXITED(status));
    assert_int_equal(WEXITSTATUS(status), 0);
}

static unsigned n_signals;

static void count_signal(int number)
{
    n_signals++;
}

/* A SIGBUS that is no loss reaches the handler that the embedder had installed. */
static void test_daemon_sigbus_handler_is_installed_on_request_only(void **state)
{
    const struct sigaction before = {.sa_handler = count_signal};
    struct gw_daemon_config cfg = daemon_fixture_config();
    struct sigaction now;
    struct vm vm;

    assert_int_equal(sigaction(SIGBUS, &before, NULL), 0);
    for (unsigned i = 0; i < 2; i++) {
        struct gw_daemon *d;

        cfg.handle_sigbus = i == 1;
        assert_int_equal(gw_daemon_new(&d, &cfg, &device_ops, &device), 0);
        assert_int_equal(gw_daemon_start_path(d, path), 0);
        vm_boot(&vm, 1);
        assert_int_equal(sigaction(SIGBUS, NULL, &now), 0);
        assert_int_equal(now.sa_handler == count_signal, i == 0);
        raise(SIGBUS);
        assert_int_equal(n_signals, i + 1);
        vm_unplug(&vm);
        gw_daemon_free(d);
    }
}

/* ---- queues ---- */

static void test_daemon_256_queues_over_chosen_workers_all_work(void **state)
{
    struct gw_daemon_config cfg = daemon_fixture_config();
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
    memset(workers, 0xff, sizeof(workers)); /* the daemon has copied it */
    assert_int_equal(gw_daemon_start_path(d, path), 0);
    vm_boot(&vm, N_QUEUES);
    for (unsigned i = 0; i < N_QUEUES; i++)
        vm_add(&vm, i);
    for (unsigned i = 0; i < N_QUEUES; i++) {
        assert_int_equal(gw_driver_wait(vm.drivers[i], patience_ms()), 0);
        assert_int_equal(gw_driver_take(vm.drivers[i], &used, 1), 1);
        assert_int_equal(used.cookie, i);
        assert_int_equal(device.worker_of[i], i * i % 3 + 1);
    }
    assert_int_equal(gw_frontend_stop(vm.fe, vm.drivers, N_QUEUES), 0);
    vm_unplug(&vm);
    gw_daemon_free(d);
    assert_int_equal(device.n_worker_stops, 3);
}

static void test_daemon_freed_while_a_session_runs(void **state)
{
    struct gw_daemon *d = daemon_fixture_new();
    struct vm vm;

    assert_int_equal(gw_daemon_start_path(d, path), 0);
    vm_boot(&vm, 1);
    for (unsigned i = 0; i < 5; i++)
        vm_add(&vm, 0);
    gw_daemon_free(d);
    expect_no_path();
    vm_unplug(&vm);
}

static void release_held(struct gw_post *post)
{
    while (device.n_held > 0)
        gw_request_complete(device.held[--device.n_held], 0);
}

static struct gw_post release = {.run = release_held};

/* The number of mappings of guest memory in this process, by the driver and the daemon. */
static unsigned n_guest_maps(void)
{
    FILE *maps = fopen("/proc/self/maps", "re");
    char line[512];
    unsigned n = 0;

    assert_non_null(maps);
    while (fgets(line, sizeof(line), maps))
        n += strstr(line, "/memfd:guest") != NULL;
    fclose(maps);
    return n;
}

static void wait_for_guest_maps(unsigned n)
{
    for (unsigned i = 0; i < patience_ms() && n_guest_maps() != n; i++)
        usleep(1000);
    assert_int_equal(n_guest_maps(), n);
}

static void start_holding(struct gw_daemon **d, unsigned num_queues)
{
    struct gw_daemon_config cfg = daemon_fixture_config();

    memset(&device, 0, sizeof(device));
    device.hold = true;
    cfg.num_queues = num_queues;
    cfg.drain_timeout_ms = 50;
    assert_int_equal(gw_daemon_new(d, &cfg, &device_ops, &device), 0);
    assert_int_equal(gw_daemon_start_path(*d, path), 0);
}

static void hold_one(struct vm *vm)
{
    unsigned n = __atomic_load_n(&device.n_held, __ATOMIC_ACQUIRE);

    vm_add(vm, 0);
    while (__atomic_load_n(&device.n_held, __ATOMIC_ACQUIRE) == n)
        usleep(100);
}

/* A device does not finish in time: the front-end does not wait longer, the next session is served,
 * and the memory stays mapped until the request completes. */
static void test_daemon_request_out_longer_than_the_time_out_harms_no_session(void **state)
{
    struct gw_driver_used used;
    struct gw_daemon *d;
    struct vm vm;

    start_holding(&d, 1);
    vm_boot(&vm, 1);
    hold_one(&vm);
    vm_unplug(&vm);
    vm.fe = daemon_fixture_connect();
    expect_served(vm.fe);
    gw_frontend_free(vm.fe);
    memset(device.held[0]->writable[0].iov_base, 1, 16);
    assert_int_equal(gw_worker_post(gw_daemon_worker(d, 0), &release), 0);
    device.hold = false;
    wait_for_guest_maps(0); /* without a session */
    vm_boot(&vm, 1);
    vm_add(&vm, 0);
    assert_int_equal(gw_driver_wait(vm.drivers[0], patience_ms()), 0);
    assert_int_equal(gw_driver_take(vm.drivers[0], &used, 1), 1);
    vm_unplug(&vm);
    gw_daemon_free(d);
}

/* After a refused reset some rings have stopped and others still will: a start at the last base
 * would process requests twice. */
static void test_daemon_refused_reset_is_followed_by_a_stop(void **state)
{
    struct gw_driver_used used;
    struct gw_daemon *d;
    struct vm vm;
    uint32_t base;

    start_holding(&d, 2);
    vm_boot(&vm, 2);
    hold_one(&vm);
    assert_int_equal(gw_frontend_reset_device(vm.fe), -EREMOTEIO);
    for (unsigned i = 0; i < 2; i++)
        assert_int_equal(gw_frontend_set_vring_kick(vm.fe, i, gw_driver_kick_fd(vm.drivers[i])),
                         -EREMOTEIO);
    assert_int_equal(gw_worker_post(gw_daemon_worker(d, 0), &release), 0);
    while (gw_driver_used_idx(vm.drivers[0]) == 0)
        usleep(100);
    assert_int_equal(gw_frontend_set_vring_kick(vm.fe, 0, gw_driver_kick_fd(vm.drivers[0])),
                     -EREMOTEIO);
    for (unsigned i = 0; i < 2; i++) {
        assert_int_equal(gw_frontend_get_vring_base(vm.fe, i, &base), 0);
        assert_int_equal(base, i == 0);
        assert_int_equal(gw_frontend_set_vring_kick(vm.fe, i, gw_driver_kick_fd(vm.drivers[i])), 0);
        assert_int_equal(gw_frontend_set_vring_call(vm.fe, i, gw_driver_call_fd(vm.drivers[i])), 0);
    }
    assert_int_equal(gw_driver_take(vm.drivers[0], &used, 1), 1);
    hold_one(&vm);
    assert_int_equal(__atomic_load_n(&device.n_held, __ATOMIC_ACQUIRE), 1);
    assert_int_equal(gw_frontend_reset_device(vm.fe), -EREMOTEIO);
    assert_int_equal(gw_worker_post(gw_daemon_worker(d, 0), &release), 0);
    while (gw_driver_used_idx(vm.drivers[0]) == 1)
        usleep(100);
    assert_int_equal(gw_frontend_reset_device(vm.fe), 0); /* succeeds after the late request */
    assert_int_equal(gw_frontend_set_vring_base(vm.fe, 0, 2), 0);
    assert_int_equal(gw_frontend_set_vring_kick(vm.fe, 0, gw_driver_kick_fd(vm.drivers[0])), 0);
    vm_unplug(&vm);
    gw_daemon_free(d);
}

/* A session replaces the memory table repeatedly, each time with a late request, and continues. */
static void test_daemon_old_memory_goes_with_its_last_request(void **state)
{
    struct gw_guest_region more = {.gpa = 0x10000000, .length = UINT64_C(1) << 20};
    struct gw_driver_used used;
    struct gw_daemon *d;
    struct vm vm;

    start_holding(&d, 1);
    vm_boot(&vm, 1);
    assert_int_equal(n_guest_maps(), 2);
    for (unsigned i = 0; i < 3; i++) {
        hold_one(&vm);
        assert_true(gw_frontend_set_mem_table(vm.fe, vm.mem) < 0); /* the drain times out */
        assert_int_equal(n_guest_maps(), 3 + i);
    }
    /* A later change that succeeds must not release the old maps; only the completion may. */
    more.gpa += more.length;
    assert_int_equal(gw_guest_mem_add(vm.mem, &more), 0);
    assert_int_equal(n_guest_maps(), 6);
    assert_int_equal(gw_worker_post(gw_daemon_worker(d, 0), &release), 0);
    wait_for_guest_maps(3); /* two of the driver, one of the table */
    for (unsigned i = 0; i < 3; i++) {
        assert_int_equal(gw_driver_wait(vm.drivers[0], patience_ms()), 0);
        assert_int_equal(gw_driver_take(vm.drivers[0], &used, 1), 1);
    }
    expect_served(vm.fe);
    vm_unplug(&vm);
    gw_daemon_free(d);
}

/* The memory of a request in flight when the daemon is freed stays mapped until it completes. */
static void test_daemon_freed_after_a_late_request(void **state)
{
    struct gw_daemon *d;
    struct vm vm;

    start_holding(&d, 1);
    vm_boot(&vm, 1);
    hold_one(&vm);
    gw_daemon_stop(d);
    assert_int_equal(gw_daemon_wait(d), 0);
    vm_unplug(&vm);
    assert_int_equal(n_guest_maps(), 1);
    assert_int_equal(gw_worker_post(gw_daemon_worker(d, 0), &release), 0);
    gw_daemon_free(d);
    assert_int_equal(n_guest_maps(), 0);
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
    struct gw_daemon *d = daemon_fixture_new();
    struct vm vm;

    for (unsigned i = 0; i < 10; i++)
        gw_daemon_config_changed(d); /* no session */
    assert_int_equal(gw_daemon_start_path(d, path), 0);
    vm_boot(&vm, 1);
    assert_int_equal(count_config_changes(&vm, 200), 1);
    assert_int_equal(gw_frontend_stop(vm.fe, vm.drivers, 1), 0);
    gw_daemon_config_changed(d); /* all rings are stopped */
    assert_int_equal(count_config_changes(&vm, 50), 0);
    assert_int_equal(gw_frontend_start_queue(vm.fe, vm.drivers[0]), 0);
    assert_int_equal(count_config_changes(&vm, 200), 1);
    gw_daemon_config_changed(d);
    assert_int_equal(count_config_changes(&vm, 200), 1);
    vm_unplug(&vm);
    gw_daemon_free(d);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        DAEMON_TEST(test_daemon_lost_memory_ends_a_process_that_did_not_ask_for_the_handler),
        DAEMON_TEST(test_daemon_lost_memory_ends_the_session_alone_with_the_handler),
        DAEMON_TEST(test_daemon_sigbus_handler_is_installed_on_request_only),
        DAEMON_TEST(test_daemon_256_queues_over_chosen_workers_all_work),
        DAEMON_TEST(test_daemon_freed_while_a_session_runs),
        DAEMON_TEST(test_daemon_request_out_longer_than_the_time_out_harms_no_session),
        DAEMON_TEST(test_daemon_refused_reset_is_followed_by_a_stop),
        DAEMON_TEST(test_daemon_old_memory_goes_with_its_last_request),
        DAEMON_TEST(test_daemon_freed_after_a_late_request),
        DAEMON_TEST(test_daemon_config_changes_are_told_and_become_one),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
