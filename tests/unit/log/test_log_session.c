/* SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause */
/* The dirty log as a front-end drives it: message order, refusals, replacement, stop and end. */
#include "../fixtures/daemon_log_fixture.h"
#include "base/proto.h"
#include "fdcheck.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <sys/eventfd.h>
#include <unistd.h>

/* ---- order ---- */

static void test_log_session_answers_with_an_echo(void **state)
{
    struct daemon_log_fixture b;

    daemon_log_fixture_begin(&b);
    daemon_log_fixture_start(&b);
    for (uint32_t flags = 0; flags <= GW_MSG_NEED_REPLY; flags += GW_MSG_NEED_REPLY) {
        struct gw_frontend_message more;

        daemon_log_fixture_new_log(&b, LATE, 5000);
        assert_int_equal(daemon_log_fixture_set_log_base(&b, b.log, 5000, b.log_size, flags), 0);
        assert_int_equal(gw_frontend_receive(b.fe, &more, 50), -ETIMEDOUT);
    }
    assert_int_equal(daemon_log_fixture_mappings(), 1);
    daemon_log_fixture_end(&b);
}

/* QEMU's order when a migration begins: log, LOG_ALL, rings; the rings run all the time. */
static void test_log_session_order_of_a_running_device(void **state)
{
    struct daemon_log_fixture b;

    daemon_log_fixture_begin(&b);
    daemon_log_fixture_start(&b);
    daemon_log_fixture_io(&b, 0, b.data, 1);
    daemon_log_fixture_give_log(&b);
    daemon_log_fixture_io(&b, 0, b.data, 1);
    assert_int_equal(daemon_log_fixture_count(b.log, b.log_size), 0);
    assert_int_equal(daemon_log_fixture_log_all(&b, true), 0);
    daemon_log_fixture_io(&b, 0, b.data + PAGE, 1);
    assert_true(daemon_log_fixture_is_marked(&b, b.data + PAGE));
    assert_int_equal(daemon_log_fixture_count(b.log, b.log_size), 1);
    assert_int_equal(daemon_log_fixture_log_ring(&b, 0, USED), 0);
    daemon_log_fixture_io(&b, 0, b.data + 3 * PAGE, 1);
    assert_true(daemon_log_fixture_is_marked(&b, b.data + 3 * PAGE));
    daemon_log_fixture_wait_marked(&b, USED);
    daemon_log_fixture_io(&b, 1, b.data + 5 * PAGE, PAGE + 1);
    assert_true(daemon_log_fixture_is_marked(&b, b.data + 5 * PAGE) &&
                daemon_log_fixture_is_marked(&b, b.data + 6 * PAGE));
    assert_int_equal(daemon_log_fixture_count(b.log, b.log_size), 5);
    daemon_log_fixture_end(&b);
}

/* QEMU's order when a device starts during a migration: LOG_ALL, memory, rings, log. */
static void test_log_session_order_of_a_device_that_starts(void **state)
{
    struct daemon_log_fixture b;

    daemon_log_fixture_begin(&b);
    daemon_log_fixture_connect(&b);
    assert_int_equal(daemon_log_fixture_log_all(&b, true), 0);
    daemon_log_fixture_start_queues(&b);
    assert_int_equal(daemon_log_fixture_log_ring(&b, 0, USED), 0);
    assert_int_equal(daemon_log_fixture_log_ring(&b, 1, 0), 0);
    daemon_log_fixture_add(&b, 0, b.data, 1);
    gw_driver_kick_always(b.drivers[0]);
    usleep(30000);
    assert_int_equal(__atomic_load_n(&b.n_ready, __ATOMIC_ACQUIRE), 0);
    daemon_log_fixture_give_log(&b);
    daemon_log_fixture_take(&b, 0);
    assert_true(daemon_log_fixture_is_marked(&b, b.data));
    daemon_log_fixture_wait_marked(&b, USED);
    assert_int_equal(daemon_log_fixture_count(b.log, b.log_size), 2);
    daemon_log_fixture_end(&b);
}

static void test_log_session_off_and_on_again(void **state)
{
    struct daemon_log_fixture b;

    daemon_log_fixture_begin(&b);
    daemon_log_fixture_start(&b);
    for (unsigned round = 0; round < 3; round++) {
        daemon_log_fixture_give_log(&b);
        assert_int_equal(daemon_log_fixture_log_all(&b, true), 0);
        assert_int_equal(daemon_log_fixture_log_ring(&b, 0, USED), 0);
        daemon_log_fixture_io(&b, 0, b.data, 1);
        assert_true(daemon_log_fixture_is_marked(&b, b.data));
        daemon_log_fixture_wait_marked(&b, USED);
        assert_int_equal(daemon_log_fixture_mappings(), 1);
        assert_int_equal(daemon_log_fixture_log_all(&b, false), 0);
        assert_int_equal(daemon_log_fixture_mappings(), 0);
        daemon_log_fixture_io(&b, 0, b.data + 9 * PAGE, 1);
        daemon_log_fixture_io(&b, 1, b.data + 33 * PAGE, 1);
        assert_int_equal(daemon_log_fixture_log_ring(&b, 0, 0), 0);
        assert_int_equal(daemon_log_fixture_count(b.log, b.log_size), 2);
    }
    /* After LOG_ALL the queue waits for a new log. */
    assert_int_equal(daemon_log_fixture_log_all(&b, true), 0);
    daemon_log_fixture_add(&b, 0, b.data, 1);
    usleep(20000);
    assert_int_equal(gw_driver_used_idx(b.drivers[0]), 6);
    daemon_log_fixture_give_log(&b);
    daemon_log_fixture_take(&b, 0);
    assert_true(daemon_log_fixture_is_marked(&b, b.data));
    daemon_log_fixture_end(&b);
}

/* ---- too small ---- */

static void test_log_session_too_small_for_memory_is_refused(void **state)
{
    struct daemon_log_fixture b;

    daemon_log_fixture_begin(&b);
    daemon_log_fixture_start(&b);
    daemon_log_fixture_new_log(&b, GPA + MEMORY - 8 * PAGE, 0); /* one byte too small */
    assert_int_equal(daemon_log_fixture_set_log_base(&b, b.log, 0, b.log_size, GW_MSG_NEED_REPLY),
                     -ECONNRESET);
    daemon_log_fixture_session_ends(&b, 1);
    daemon_log_fixture_expect_warning(&b, "SET_LOG_BASE");
    daemon_log_fixture_end(&b);
    daemon_log_fixture_begin(&b);
    daemon_log_fixture_start(&b);
    daemon_log_fixture_new_log(&b, GPA + MEMORY, 0); /* exactly large enough */
    assert_int_equal(daemon_log_fixture_set_log_base(&b, b.log, 0, b.log_size, 0), 0);
    daemon_log_fixture_end(&b);
}

/* A refused address changes nothing: the ring keeps running and logging. */
static void test_log_session_too_small_for_the_used_ring_is_refused(void **state)
{
    struct daemon_log_fixture b;

    daemon_log_fixture_begin(&b);
    daemon_log_fixture_start(&b);
    daemon_log_fixture_give_log(&b);
    assert_int_equal(daemon_log_fixture_log_all(&b, true), 0);
    assert_int_equal(daemon_log_fixture_log_ring(&b, 0, USED), 0);
    assert_int_equal(daemon_log_fixture_log_ring(&b, 0, LATE + MEMORY - b.used_len + 1),
                     -EREMOTEIO);
    daemon_log_fixture_expect_warning(&b, "used ring");
    assert_int_equal(daemon_log_fixture_log_ring(&b, 0, UINT64_MAX - 5), -EREMOTEIO);
    daemon_log_fixture_io(&b, 0, b.data, 1);
    daemon_log_fixture_wait_marked(&b, USED);
    daemon_log_fixture_give_log(&b);
    assert_int_equal(daemon_log_fixture_log_ring(&b, 0, LATE + MEMORY - b.used_len), 0);
    /* A log that covers memory, but not the ring's log address. */
    daemon_log_fixture_new_log(&b, GPA + MEMORY, 0);
    assert_int_equal(daemon_log_fixture_set_log_base(&b, b.log, 0, b.log_size, 0), -ECONNRESET);
    daemon_log_fixture_session_ends(&b, 1);
    daemon_log_fixture_end(&b);
}

/* The log address of a stopped ring is not checked before it starts. */
static void test_log_session_stopped_ring_may_lie_outside(void **state)
{
    struct daemon_log_fixture b;

    daemon_log_fixture_begin(&b);
    daemon_log_fixture_start(&b);
    daemon_log_fixture_give_log(&b);
    assert_int_equal(daemon_log_fixture_log_all(&b, true), 0);
    assert_int_equal(daemon_log_fixture_log_ring(&b, 1, LATE), 0);
    assert_int_equal(gw_frontend_stop_queue(b.fe, b.drivers[1]), 0);
    daemon_log_fixture_new_log(&b, GPA + MEMORY, 0);
    assert_int_equal(daemon_log_fixture_set_log_base(&b, b.log, 0, b.log_size, 0), 0);
    assert_int_equal(gw_frontend_set_vring_kick(b.fe, 1, gw_driver_kick_fd(b.drivers[1])),
                     -EREMOTEIO);
    assert_int_equal(daemon_log_fixture_log_ring(&b, 1, 0), 0);
    assert_int_equal(gw_frontend_start_queue(b.fe, b.drivers[1]), 0);
    daemon_log_fixture_io(&b, 1, b.data + 32 * PAGE, 1);
    daemon_log_fixture_end(&b);
}

static void test_log_session_region_added_later(void **state)
{
    struct daemon_log_fixture b;

    daemon_log_fixture_begin(&b);
    daemon_log_fixture_start(&b);
    daemon_log_fixture_new_log(&b, GPA + MEMORY, 0);
    assert_int_equal(daemon_log_fixture_set_log_base(&b, b.log, 0, b.log_size, 0), 0);
    assert_int_equal(daemon_log_fixture_log_all(&b, true), 0);
    daemon_log_fixture_add_region(&b, LATE, MEMORY);
    assert_int_equal(gw_frontend_add_mem_reg(b.fe, b.mem, LATE), -EREMOTEIO);
    daemon_log_fixture_expect_warning(&b, "does not cover the memory region");
    daemon_log_fixture_io(&b, 0, b.data, 1);
    assert_true(daemon_log_fixture_is_marked(&b, b.data));
    /* The log grows first, then memory. */
    daemon_log_fixture_give_log(&b);
    assert_int_equal(gw_frontend_add_mem_reg(b.fe, b.mem, LATE), 0);
    daemon_log_fixture_io(&b, 0, LATE + MEMORY - 1, 1);
    assert_true(daemon_log_fixture_is_marked(&b, LATE + MEMORY - 1));
    daemon_log_fixture_io(&b, 1, LATE, PAGE * 2);
    assert_true(daemon_log_fixture_is_marked(&b, LATE) &&
                daemon_log_fixture_is_marked(&b, LATE + PAGE));
    assert_int_equal(gw_frontend_rem_mem_reg(b.fe, b.mem, LATE), 0);
    /* Without LOG_ALL memory may grow beyond the log; then LOG_ALL is refused. */
    assert_int_equal(daemon_log_fixture_log_all(&b, false), 0);
    daemon_log_fixture_new_log(&b, GPA + MEMORY, 0);
    assert_int_equal(daemon_log_fixture_set_log_base(&b, b.log, 0, b.log_size, 0), 0);
    assert_int_equal(gw_frontend_add_mem_reg(b.fe, b.mem, LATE), 0);
    assert_int_equal(daemon_log_fixture_log_all(&b, true), -EREMOTEIO);
    daemon_log_fixture_io(&b, 0, b.data, 1);
    assert_int_equal(daemon_log_fixture_count(b.log, b.log_size), 0);
    daemon_log_fixture_end(&b);
}

/* ---- replacement, stop, end ---- */

static void test_log_session_replacement_with_a_request_in_flight(void **state)
{
    unsigned before;
    struct daemon_log_fixture b;
    int old;

    daemon_log_fixture_begin(&b);
    daemon_log_fixture_start(&b);
    daemon_log_fixture_give_log(&b);
    assert_int_equal(daemon_log_fixture_log_all(&b, true), 0);
    assert_int_equal(daemon_log_fixture_log_ring(&b, 0, USED), 0);
    __atomic_store_n(&b.hold, true, __ATOMIC_RELEASE);
    daemon_log_fixture_add(&b, 0, b.data + 2 * PAGE, PAGE);
    daemon_log_fixture_wait_held(&b);
    old = fcntl(b.log, F_DUPFD_CLOEXEC, 0);
    daemon_log_fixture_give_log(&b);
    assert_int_equal(daemon_log_fixture_mappings(), 1);
    before = daemon_log_fixture_count(old, b.log_size);
    daemon_log_fixture_release(&b);
    daemon_log_fixture_take(&b, 0);
    assert_true(daemon_log_fixture_is_marked(&b, b.data + 2 * PAGE));
    daemon_log_fixture_wait_marked(&b, USED);
    assert_false(daemon_log_fixture_fd_is_marked(old, b.data + 2 * PAGE));
    daemon_log_fixture_io(&b, 0, b.data + 7 * PAGE, PAGE);
    assert_int_equal(daemon_log_fixture_count(old, b.log_size), before);
    close(old);
    daemon_log_fixture_end(&b);
}

/* GET_VRING_BASE replies after the last request is written, marked and published. */
static void test_log_session_is_complete_when_a_ring_is_stopped(void **state)
{
    pthread_t thread;
    uint32_t base;
    struct daemon_log_fixture b;

    daemon_log_fixture_begin(&b);
    daemon_log_fixture_start(&b);
    daemon_log_fixture_give_log(&b);
    assert_int_equal(daemon_log_fixture_log_all(&b, true), 0);
    assert_int_equal(daemon_log_fixture_log_ring(&b, 0, USED), 0);
    __atomic_store_n(&b.hold, true, __ATOMIC_RELEASE);
    daemon_log_fixture_add(&b, 0, b.data + 2 * PAGE, PAGE);
    daemon_log_fixture_wait_held(&b);
    assert_int_equal(pthread_create(&thread, NULL, daemon_log_fixture_release_soon, &b), 0);
    assert_int_equal(gw_frontend_get_vring_base(b.fe, 0, &base), 0);
    assert_int_equal(base, 1);
    assert_int_equal(gw_driver_used_idx(b.drivers[0]), 1);
    assert_true(daemon_log_fixture_is_marked(&b, b.data + 2 * PAGE));
    assert_true(daemon_log_fixture_is_marked(&b, USED));
    pthread_join(thread, NULL);
    daemon_log_fixture_end(&b);
}

static void test_log_session_end_lets_go_of_everything(void **state)
{
    int fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    struct fdcheck *idle;
    struct daemon_log_fixture b;

    daemon_log_fixture_begin(&b);
    daemon_log_fixture_start(&b);
    gw_frontend_disconnect(b.fe);
    daemon_log_fixture_session_ends(&b, 1); /* the first session creates objects that stay */
    idle = fdcheck_begin();
    for (unsigned i = 2; i < 5; i++) {
        for (unsigned q = 0; q < QUEUES; q++)
            gw_driver_reset(b.drivers[q], 0);
        daemon_log_fixture_start(&b);
        daemon_log_fixture_new_log(&b, LATE, 0);
        assert_int_equal(daemon_log_fixture_set_log_base(&b, b.log, 0, b.log_size, 0), 0);
        assert_int_equal(daemon_log_fixture_set_log_fd(&b, fd), 0);
        assert_int_equal(daemon_log_fixture_log_all(&b, true), 0);
        assert_int_equal(daemon_log_fixture_log_ring(&b, 0, USED), 0);
        daemon_log_fixture_io(&b, 0, b.data, 1);
        assert_int_equal(daemon_log_fixture_mappings(), 1);
        gw_frontend_disconnect(b.fe);
        daemon_log_fixture_session_ends(&b, i);
        assert_int_equal(daemon_log_fixture_mappings(), 0);
        close(b.log);
        b.log = -1;
    }
    assert_int_equal(fdcheck_end(idle), 0);
    close(fd);
    daemon_log_fixture_end(&b);
}

/* ---- SET_LOG_FD ---- */

static bool is_signalled(int fd)
{
    struct pollfd p = {.fd = fd, .events = POLLIN};
    eventfd_t value;

    return poll(&p, 1, WAIT) == 1 && eventfd_read(fd, &value) == 0;
}

static void test_log_session_eventfd_is_signalled(void **state)
{
    int first = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    int second = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    struct daemon_log_fixture b;
    int fds[2];

    daemon_log_fixture_begin(&b);
    daemon_log_fixture_start(&b);
    assert_int_equal(daemon_log_fixture_set_log_fd(&b, first), 0);
    daemon_log_fixture_give_log(&b);
    assert_int_equal(daemon_log_fixture_log_all(&b, true), 0);
    daemon_log_fixture_io(&b, 0, b.data, 1);
    assert_true(is_signalled(first));
    assert_int_equal(daemon_log_fixture_set_log_fd(&b, second), 0);
    daemon_log_fixture_io(&b, 1, b.data + 32 * PAGE, 1);
    assert_true(is_signalled(second));
    daemon_log_fixture_give_log(&b); /* the log fd outlives the log */
    daemon_log_fixture_io(&b, 1, b.data + 32 * PAGE, 1);
    assert_true(is_signalled(second));
    assert_int_equal(pipe2(fds, O_CLOEXEC), 0);
    close(fds[0]);
    assert_int_equal(daemon_log_fixture_set_log_fd(&b, fds[1]),
                     -EREMOTEIO); /* no reader: SIGPIPE */
    close(fds[1]);
    daemon_log_fixture_io(&b, 0, b.data, 1);
    assert_true(is_signalled(second));
    daemon_log_fixture_end(&b);
    close(first);
    close(second);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        FDCHECK_TEST(test_log_session_answers_with_an_echo),
        FDCHECK_TEST(test_log_session_order_of_a_running_device),
        FDCHECK_TEST(test_log_session_order_of_a_device_that_starts),
        FDCHECK_TEST(test_log_session_off_and_on_again),
        FDCHECK_TEST(test_log_session_too_small_for_memory_is_refused),
        FDCHECK_TEST(test_log_session_too_small_for_the_used_ring_is_refused),
        FDCHECK_TEST(test_log_session_stopped_ring_may_lie_outside),
        FDCHECK_TEST(test_log_session_region_added_later),
        FDCHECK_TEST(test_log_session_replacement_with_a_request_in_flight),
        FDCHECK_TEST(test_log_session_is_complete_when_a_ring_is_stopped),
        FDCHECK_TEST(test_log_session_end_lets_go_of_everything),
        FDCHECK_TEST(test_log_session_eventfd_is_signalled),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
