/* SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause */
/* Starts and stops of queues that the device completes later. */
#include "../fixtures/daemon_fixture.h"
#include "patience.h"

#include <errno.h>
#include <pthread.h>
#include <string.h>
#include <unistd.h>

/* A device that takes time for what the test wants. */
static struct {
    bool delays_start, delays_stop;
    struct gw_queue *starting, *stopping; /* atomic */
    unsigned n_ready, n_stops;            /* atomic */
    int result;                           /* of what is completed */
    struct gw_post post;
} late;

static void set(struct gw_queue **to, struct gw_queue *q)
{
    __atomic_store_n(to, q, __ATOMIC_RELEASE);
}

static struct gw_queue *get(struct gw_queue **from)
{
    return __atomic_load_n(from, __ATOMIC_ACQUIRE);
}

static int late_queue_start(void *dev, struct gw_queue *q)
{
    if (!late.delays_start)
        return 0;
    set(&late.starting, q);
    return -EINPROGRESS;
}

static int late_queue_ready(void *dev, struct gw_queue *q)
{
    struct gw_request *r;

    __atomic_add_fetch(&late.n_ready, 1, __ATOMIC_RELEASE);
    while (gw_queue_pop(q, &r, 1) == 1)
        gw_request_complete(r, 0);
    return 0;
}

static void late_queue_stop(void *dev, struct gw_queue *q)
{
    __atomic_add_fetch(&late.n_stops, 1, __ATOMIC_RELEASE);
    if (get(&late.starting)) {
        set(&late.starting, NULL);
        gw_queue_complete_start(q, -ECANCELED);
    } else if (late.delays_stop) {
        gw_queue_delay_stop(q);
        set(&late.stopping, q);
    }
}

static const struct gw_device_ops late_ops = {
    .size = sizeof(late_ops),
    .queue_start = late_queue_start,
    .queue_ready = late_queue_ready,
    .queue_stop = late_queue_stop,
};

/* On the worker. */
static void complete(struct gw_post *post)
{
    struct gw_queue *starting = get(&late.starting), *stopping = get(&late.stopping);

    set(&late.starting, NULL);
    set(&late.stopping, NULL);
    if (starting)
        gw_queue_complete_start(starting, late.result);
    if (stopping)
        gw_queue_complete_stop(stopping, late.result);
}

static void complete_late(struct gw_daemon *d, int result)
{
    late.result = result;
    late.post.run = complete;
    assert_int_equal(gw_worker_post(gw_daemon_worker(d, 0), &late.post), 0);
}

static void await(struct gw_queue **what)
{
    for (unsigned ms = 0; !get(what) && ms < patience_ms(); ms++)
        usleep(1000);
    assert_non_null(get(what));
}

static struct gw_daemon *begin(unsigned drain_timeout_ms)
{
    struct gw_daemon_config cfg = daemon_fixture_config();
    struct gw_daemon *d;

    memset(&late, 0, sizeof(late));
    cfg.drain_timeout_ms = drain_timeout_ms;
    assert_int_equal(gw_daemon_new(&d, &cfg, &late_ops, NULL), 0);
    assert_int_equal(gw_daemon_start_path(d, path), 0);
    return d;
}

/* ---- a front-end that waits, in a thread ---- */

struct call {
    struct vm *vm;
    int (*run)(struct vm *vm);
    int result;
    bool is_done; /* atomic */
    pthread_t thread;
};

static void *call_main(void *arg)
{
    struct call *call = arg;

    call->result = call->run(call->vm);
    __atomic_store_n(&call->is_done, true, __ATOMIC_RELEASE);
    return NULL;
}

static void call_begin(struct call *call, struct vm *vm, int (*run)(struct vm *vm))
{
    *call = (struct call){.vm = vm, .run = run};
    assert_int_equal(pthread_create(&call->thread, NULL, call_main, call), 0);
}

static int call_end(struct call *call)
{
    assert_int_equal(pthread_join(call->thread, NULL), 0);
    return call->result;
}

static int start(struct vm *vm)
{
    return gw_frontend_start_queue(vm->fe, vm->drivers[0]);
}

static int stop(struct vm *vm)
{
    return gw_frontend_stop_queue(vm->fe, vm->drivers[0]);
}

/* A session with a queue that is stopped. */
static void boot_stopped(struct vm *vm)
{
    vm_boot(vm, 1);
    assert_int_equal(stop(vm), 0);
}

static void expect_request_served(struct vm *vm)
{
    struct gw_driver_used used;

    assert_int_equal(gw_driver_wait(vm->drivers[0], patience_ms()), 0);
    assert_int_equal(gw_driver_take(vm->drivers[0], &used, 1), 1);
}

/* ---- starts ---- */

static void test_daemon_start_is_answered_when_the_device_completes_it(void **state)
{
    struct gw_daemon *d = begin(0);
    char text[200];
    struct call call;
    struct vm vm;

    boot_stopped(&vm);
    late.delays_start = true;
    call_begin(&call, &vm, start);
    await(&late.starting);
    vm_add(&vm, 0);
    usleep(20000);
    assert_false(__atomic_load_n(&call.is_done, __ATOMIC_ACQUIRE));
    assert_int_equal(__atomic_load_n(&late.n_ready, __ATOMIC_ACQUIRE), 0);
    assert_int_equal(gw_daemon_find_stuck(d, text, sizeof(text)), 1);
    assert_non_null(strstr(text, "queue 0 waits for the device to start for "));
    complete_late(d, 0);
    assert_int_equal(call_end(&call), 0);
    expect_request_served(&vm);
    assert_int_equal(gw_daemon_find_stuck(d, text, sizeof(text)), 0);
    assert_int_equal(stop(&vm), 0);
    assert_int_equal(late.n_stops, 2);
    vm_unplug(&vm);
    gw_daemon_free(d);
}

static void test_daemon_start_can_be_refused_later(void **state)
{
    struct gw_daemon *d = begin(0);
    struct call call;
    struct vm vm;

    boot_stopped(&vm);
    late.delays_start = true;
    call_begin(&call, &vm, start);
    await(&late.starting);
    complete_late(d, -EBUSY);
    assert_int_equal(call_end(&call), -EREMOTEIO);
    late.delays_start = false;
    assert_int_equal(start(&vm), 0);
    vm_add(&vm, 0);
    expect_request_served(&vm);
    assert_int_equal(late.n_stops, 1);
    vm_unplug(&vm);
    gw_daemon_free(d);
}

/* The front-end hangs up, or the daemon is freed: the device gives the start up. */
static void test_daemon_start_is_cancelled_by_the_end_of_the_session(void **state)
{
    for (unsigned i = 0; i < 2; i++) {
        struct gw_daemon *d = begin(0);
        struct call call;
        struct vm vm;

        boot_stopped(&vm);
        late.delays_start = true;
        call_begin(&call, &vm, start);
        await(&late.starting);
        if (i == 0) {
            gw_daemon_stop(d);
            assert_int_equal(gw_daemon_wait(d), 0);
            assert_int_equal(gw_daemon_start_path(d, path), 0);
            assert_true(call_end(&call) < 0);
            vm_unplug(&vm);
            late.delays_start = false;
            vm_boot(&vm, 1);
            vm_add(&vm, 0);
            expect_request_served(&vm);
            gw_daemon_free(d);
        } else {
            gw_daemon_free(d);
            assert_true(call_end(&call) < 0);
        }
        vm_unplug(&vm);
        assert_int_equal(late.n_stops, i == 0 ? 3 : 2);
    }
}

/* ---- stops ---- */

static void test_daemon_stop_is_answered_when_the_device_completes_it(void **state)
{
    struct gw_daemon *d = begin(0);
    char text[200];
    struct call call;
    struct vm vm;

    vm_boot(&vm, 1);
    late.delays_stop = true;
    call_begin(&call, &vm, stop);
    await(&late.stopping);
    usleep(20000);
    assert_false(__atomic_load_n(&call.is_done, __ATOMIC_ACQUIRE));
    assert_int_equal(gw_daemon_find_stuck(d, text, sizeof(text)), 1);
    assert_non_null(strstr(text, "queue 0 waits for the device to stop for "));
    complete_late(d, 0);
    assert_int_equal(call_end(&call), 0);
    late.delays_stop = false;
    assert_int_equal(start(&vm), 0);
    vm_add(&vm, 0);
    expect_request_served(&vm);
    vm_unplug(&vm);
    gw_daemon_free(d);
}

static void test_daemon_stop_can_fail_later(void **state)
{
    struct gw_daemon *d = begin(0);
    struct call call;
    struct vm vm;

    vm_boot(&vm, 1);
    late.delays_stop = true;
    call_begin(&call, &vm, stop);
    await(&late.stopping);
    complete_late(d, -EIO);
    assert_true(call_end(&call) < 0); /* the session has ended without an answer */
    vm_unplug(&vm);
    late.delays_stop = false;
    vm_boot(&vm, 1);
    expect_served(vm.fe);
    vm_unplug(&vm);
    gw_daemon_free(d);
}

/* The next session begins; its queue cannot start before the device has completed the stop. */
static void test_daemon_stop_that_takes_longer_than_the_time_out(void **state)
{
    struct gw_daemon *d = begin(50);
    struct vm vm;

    vm_boot(&vm, 1);
    late.delays_stop = true;
    vm_unplug(&vm);
    await(&late.stopping);
    vm.fe = daemon_fixture_connect();
    expect_served(vm.fe);
    gw_frontend_free(vm.fe);
    late.delays_stop = false;
    complete_late(d, 0);
    for (bool is_stopping = true; is_stopping; usleep(1000)) {
        char text[200];

        is_stopping = gw_daemon_find_stuck(d, text, sizeof(text)) > 0;
    }
    vm_boot(&vm, 1);
    vm_add(&vm, 0);
    expect_request_served(&vm);
    vm_unplug(&vm);
    gw_daemon_free(d);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        DAEMON_TEST(test_daemon_start_is_answered_when_the_device_completes_it),
        DAEMON_TEST(test_daemon_start_can_be_refused_later),
        DAEMON_TEST(test_daemon_start_is_cancelled_by_the_end_of_the_session),
        DAEMON_TEST(test_daemon_stop_is_answered_when_the_device_completes_it),
        DAEMON_TEST(test_daemon_stop_can_fail_later),
        DAEMON_TEST(test_daemon_stop_that_takes_longer_than_the_time_out),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
