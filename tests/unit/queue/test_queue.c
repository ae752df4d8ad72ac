/* SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause */
/* The life cycle of a queue on its worker: start, enable, requests, parking, breaking, stop. */
#include "../fixtures/fixture.h"
#include "fdcheck.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/mman.h>
#include <unistd.h>

static void run_size(unsigned size, uint64_t features, unsigned n_requests)
{
    struct fixture_config cfg = {
        .size = size, .features = features, .mem_len = UINT64_C(16) << 20, .base = 65000};
    unsigned added = 0, taken = 0;
    struct gw_queue_stats stats;
    struct fixture t;

    fixture_begin(&t, &cfg);
    fixture_run(&t);
    while (taken < n_requests) {
        unsigned batch = size < n_requests - added ? size : n_requests - added;

        for (unsigned i = 0; i < batch; i++)
            fixture_add(&t, added++);
        gw_driver_kick(t.driver);
        fixture_take(&t, batch);
        taken += batch;
    }
    assert_int_equal(gw_driver_in_flight(t.driver), 0);
    assert_int_equal(fixture_stop(&t), fixture_index(&t, 65000 + n_requests));
    fixture_stats(&t, &stats);
    assert_int_equal(stats.requests, n_requests);
    assert_int_equal(stats.completed, n_requests);
    assert_int_equal(stats.bytes_written, UINT64_C(64) * n_requests);
    assert_int_equal(stats.in_flight, 0);
    assert_int_equal(stats.errors, 0);
    fixture_end(&t);
}

/* The 16-bit indices start at 65000, so each run wraps past 65535. Packed rings wrap many times. */
static void test_queue_any_size_wraps_around(void **state)
{
    run_size(1, 0, 2000);
    run_size(1, FIXTURE_F_EVENT, 2000);
    run_size(2, 0, 2000);
    run_size(2, FIXTURE_F_EVENT, 2000);
    run_size(256, 0, 70000);
    run_size(256, FIXTURE_F_EVENT, 70000);
    run_size(32768, 0, 100000);
    run_size(32768, FIXTURE_F_EVENT, 100000);
}

static int small_file(void)
{
    int fd = memfd_create("file", MFD_CLOEXEC);

    assert_true(fd >= 0);
    return fd;
}

static uint64_t counter(int fd)
{
    eventfd_t value = 0;

    (void)eventfd_read(fd, &value);
    return value;
}

static int new_eventfd(void)
{
    int fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);

    assert_true(fd >= 0);
    return fd;
}

static int dup_of(int fd)
{
    int r = fcntl(fd, F_DUPFD_CLOEXEC, 0);

    assert_true(r >= 0);
    return r;
}

static void begin_and_run(struct fixture *t, const struct fixture_config *cfg)
{
    fixture_begin(t, cfg);
    fixture_run(t);
}

static void end(struct fixture *t)
{
    fixture_stop(t);
    fixture_end(t);
}

/* ---- start ---- */

static void test_queue_impossible_start_is_refused(void **state)
{
    struct fixture t;
    gw_gpa_t used;

    fixture_begin(&t, NULL);
    t.cfg.size = 0;
    assert_int_equal(fixture_start(&t, FIXTURE_DRIVER_FD, 0), -EINVAL);
    t.cfg.size = 255;
    assert_int_equal(fixture_start(&t, FIXTURE_DRIVER_FD, 0), -EINVAL);
    t.cfg.size = 65536;
    assert_int_equal(fixture_start(&t, FIXTURE_DRIVER_FD, 0), -EINVAL);
    t.cfg.size = 256;
    assert_int_equal(fixture_start(&t, FIXTURE_DRIVER_FD, 0x10000), -EINVAL);
    assert_non_null(strstr(t.why, "base 0x10000"));
    used = t.used;
    t.used = FIXTURE_GPA + t.cfg.mem_len - 6 - 8 * 256 + 4; /* its event word lies outside */
    assert_int_equal(fixture_start(&t, FIXTURE_DRIVER_FD, 0), -EFAULT);
    assert_non_null(strstr(t.why, "used ring of 256"));
    t.used = used;
    assert_int_equal(t.queue.state, GW_QUEUE_STOPPED);
    /* The queue still works after the refusals. */
    fixture_run(&t);
    fixture_add(&t, 1);
    gw_driver_kick(t.driver);
    fixture_take(&t, 1);
    end(&t);
}

static void cannot_keep(void *dev, struct gw_queue *q)
{
    gw_queue_fail_stop(q, -EIO);
}

/* In postcopy a ring that failed to start is stopped like any other, and that stop succeeds. */
static void test_queue_failed_start_forgets_the_error_of_the_last_stop(void **state)
{
    struct fixture_config cfg = {.queue_stop = cannot_keep};
    struct fixture t;

    begin_and_run(&t, &cfg);
    fixture_stop(&t);
    assert_int_equal(gw_queue_stop_result(&t.queue), -EIO);
    t.cfg.size = 255;
    assert_int_equal(fixture_start(&t, FIXTURE_DRIVER_FD, 0), -EINVAL);
    assert_int_equal(gw_queue_stop_result(&t.queue), 0);
    fixture_end(&t);
}

static void test_queue_last_byte_of_memory_can_be_used_ring(void **state)
{
    struct fixture t;

    fixture_begin(&t, NULL);
    t.used = FIXTURE_GPA + t.cfg.mem_len - 6 - 8 * 256;
    t.used &= ~UINT64_C(3);
    assert_int_equal(fixture_start(&t, FIXTURE_DRIVER_FD, 0), 0);
    end(&t);
}

/* A file offset may misalign host addresses although the user addresses are aligned. */
static void test_queue_unaligned_host_address_is_refused(void **state)
{
    struct gw_guest_region region = {.gpa = 0, .length = 65536, .offset = 1};
    struct gw_map *map;
    struct fixture t;

    fixture_begin(&t, NULL);
    assert_int_equal(gw_guest_mem_add(t.mem, &region), 0);
    map = t.map;
    t.map = fixture_map(&t);
    t.desc = t.avail = t.used = 0;
    assert_int_equal(fixture_start(&t, FIXTURE_DRIVER_FD, 0), -EFAULT);
    assert_non_null(strstr(t.why, "aligned"));
    gw_map_free(map);
    fixture_end(&t);
}

static void test_queue_epoll_file_as_kick_fd_is_refused_and_closed(void **state)
{
    struct fixture_config cfg = {.loop = GW_LOOP_EPOLL};
    struct fixture t;

    fixture_begin(&t, &cfg);
    assert_int_equal(fixture_start(&t, small_file(), 0), -EPERM);
    assert_int_equal(fixture_start(&t, small_file(), 0), -EPERM);
    fixture_end(&t);
}

/* No fd could kick the queue any longer; requests in flight are still answered. */
static void test_queue_epoll_file_as_second_kick_fd_breaks_it(void **state)
{
    struct fixture_config cfg = {.loop = GW_LOOP_EPOLL};
    struct fixture t;

    begin_and_run(&t, &cfg);
    fixture_set_mode(&t, FIXTURE_HOLD);
    fixture_add(&t, 1);
    gw_driver_kick_always(t.driver);
    fixture_wait_held(&t, 1);
    assert_int_equal(fixture_start(&t, small_file(), 0), -EPERM);
    assert_true(gw_queue_is_started(&t.queue));
    assert_int_equal(fixture_look(&t.n_messages), 1);
    fixture_release(&t, 1);
    fixture_take(&t, 1);
    end(&t);
}

static void test_queue_other_kick_fd_takes_over(void **state)
{
    int other = new_eventfd();
    struct fixture t;

    begin_and_run(&t, NULL);
    fixture_add(&t, 1);
    gw_driver_kick(t.driver);
    fixture_take(&t, 1);
    assert_int_equal(fixture_start(&t, dup_of(other), 0), 0);
    fixture_settle(&t);
    __atomic_store_n(&t.n_ready, 0, __ATOMIC_RELEASE);
    fixture_add(&t, 2);
    gw_driver_publish(t.driver);
    assert_int_equal(eventfd_write(gw_driver_kick_fd(t.driver), 1), 0); /* no longer in use */
    usleep(20000);
    assert_int_equal(fixture_look(&t.n_ready), 0);
    assert_int_equal(eventfd_write(other, 1), 0);
    fixture_take(&t, 1);
    end(&t);
    close(other);
}

static void test_queue_started_before_enabled_waits(void **state)
{
    struct fixture t;

    fixture_begin(&t, NULL);
    fixture_add(&t, 1);
    gw_driver_kick_always(t.driver); /* before the queue is enabled */
    assert_int_equal(fixture_start(&t, FIXTURE_DRIVER_FD, 0), 0);
    fixture_set_call(&t, FIXTURE_DRIVER_FD);
    assert_true(gw_queue_is_started(&t.queue));
    assert_false(gw_queue_is_enabled(&t.queue));
    assert_int_equal(gw_queue_size(&t.queue), 256);
    gw_driver_kick_always(t.driver);
    fixture_settle(&t);
    assert_int_equal(fixture_look(&t.n_ready), 0);
    fixture_enable(&t, true); /* no kick follows */
    fixture_take(&t, 1);
    fixture_enable(&t, false);
    fixture_add(&t, 2);
    gw_driver_kick_always(t.driver);
    usleep(20000);
    assert_int_equal(fixture_look(&t.n_ready), 1);
    fixture_enable(&t, true);
    fixture_take(&t, 1);
    end(&t);
}

static void test_queue_enabled_before_started_runs_at_start(void **state)
{
    struct fixture t;

    fixture_begin(&t, NULL);
    fixture_enable(&t, true);
    fixture_set_call(&t, FIXTURE_DRIVER_FD);
    fixture_add(&t, 1);
    gw_driver_publish(t.driver);
    assert_int_equal(fixture_start(&t, FIXTURE_DRIVER_FD, 0), 0);
    fixture_take(&t, 1);
    assert_int_equal(fixture_stop(&t), 1);
    assert_int_equal(gw_queue_size(&t.queue), 0);
    assert_false(gw_queue_is_started(&t.queue));
    fixture_end(&t);
}

static int refuse(void *dev, struct gw_queue *q)
{
    return -1;
}

static void test_queue_start_refused_by_device_stops(void **state)
{
    struct fixture_config cfg = {.queue_start = refuse};
    struct fixture t;

    fixture_begin(&t, &cfg);
    fixture_enable(&t, true);
    assert_int_equal(fixture_start(&t, FIXTURE_DRIVER_FD, 0), -ECANCELED);
    assert_int_equal(t.queue.state, GW_QUEUE_STOPPED);
    t.ops.queue_start = NULL;
    fixture_run(&t);
    end(&t);
}

static int take_and_refuse(void *dev, struct gw_queue *q)
{
    struct fixture *t = dev;

    t->n_held = gw_queue_pop(q, t->held, 8);
    return -1;
}

/* The queue must not stop while the device still has its requests. */
static void test_queue_start_refused_with_requests_waits_for_them(void **state)
{
    struct fixture_config cfg = {.queue_start = take_and_refuse};
    struct fixture t;

    fixture_begin(&t, &cfg);
    fixture_enable(&t, true);
    fixture_add(&t, 1);
    gw_driver_publish(t.driver);
    assert_int_equal(fixture_start(&t, FIXTURE_DRIVER_FD, 0), -ECANCELED);
    assert_int_equal(fixture_look(&t.n_held), 1);
    assert_int_equal(t.queue.state, GW_QUEUE_STOPPING);
    fixture_release(&t, 1);
    fixture_settle(&t);
    assert_int_equal(t.queue.state, GW_QUEUE_STOPPED);
    assert_int_equal(gw_driver_used_idx(t.driver), 1);
    fixture_end(&t);
}

/* ---- broken ---- */

static void test_queue_impossible_index_breaks_it_until_restart(void **state)
{
    int err = new_eventfd(), late = new_eventfd();
    struct gw_queue_stats stats;
    struct fixture t;

    begin_and_run(&t, NULL);
    fixture_set_err(&t, dup_of(err));
    fixture_add(&t, 1);
    gw_driver_kick(t.driver);
    fixture_take(&t, 1);
    gw_driver_write_avail_idx(t.driver, 1 + 257);
    eventfd_write(gw_driver_kick_fd(t.driver), 1);
    fixture_wait_for(&t.n_messages, 1);
    fixture_settle(&t);
    assert_non_null(strstr(t.message, "broken until it is stopped"));
    assert_int_equal(counter(err), 1);
    /* The error is signalled once, regardless of further kicks. */
    eventfd_write(gw_driver_kick_fd(t.driver), 1);
    usleep(10000);
    fixture_settle(&t);
    assert_int_equal(fixture_look(&t.n_messages), 1);
    assert_int_equal(counter(err), 0);
    fixture_set_err(&t, dup_of(late));
    assert_int_equal(counter(late), 1);
    fixture_stats(&t, &stats);
    assert_int_equal(stats.errors, 1);
    assert_int_equal(fixture_stop(&t), 1);

    gw_driver_write_avail_idx(t.driver, 1);
    assert_int_equal(fixture_start(&t, FIXTURE_DRIVER_FD, 1), 0);
    fixture_set_call(&t, FIXTURE_DRIVER_FD);
    fixture_add(&t, 2);
    gw_driver_kick_always(t.driver);
    fixture_take(&t, 1);
    end(&t);
    close(err);
    close(late);
}

/* A ring never has more chains in flight than entries. */
static void test_queue_full_ring_is_not_broken(void **state)
{
    struct fixture_config cfg = {.size = 4};
    struct fixture t;

    begin_and_run(&t, &cfg);
    for (unsigned i = 0; i < 4; i++)
        fixture_add(&t, i);
    gw_driver_kick(t.driver);
    fixture_take(&t, 4);
    assert_int_equal(fixture_look(&t.n_messages), 0);
    end(&t);
}

static int no_device(void *dev, struct gw_queue *q)
{
    return -ENODEV;
}

static void test_queue_ready_error_breaks_it(void **state)
{
    struct fixture_config cfg = {.queue_ready = no_device};
    int err = new_eventfd();
    struct fixture t;

    begin_and_run(&t, &cfg);
    fixture_add(&t, 1);
    gw_driver_kick(t.driver);
    fixture_wait_for(&t.n_messages, 1);
    fixture_set_err(&t, dup_of(err));
    assert_int_equal(counter(err), 1);
    assert_non_null(strstr(t.message, strerror(ENODEV)));
    assert_int_equal(fixture_stop(&t), 0); /* the request was not lost */
    fixture_end(&t);
    close(err);
}

/* ---- stop ---- */

static unsigned n_stops;

static void count_stop(void *dev, struct gw_queue *q)
{
    n_stops++;
}

static void test_queue_stop_waits_for_what_is_in_flight(void **state)
{
    struct fixture_config cfg = {.queue_stop = count_stop};
    struct test_latch latch;
    struct fixture t;

    n_stops = 0;
    begin_and_run(&t, &cfg);
    fixture_set_mode(&t, FIXTURE_HOLD);
    for (unsigned i = 0; i < 3; i++)
        fixture_add(&t, i);
    gw_driver_kick(t.driver);
    fixture_wait_held(&t, 3);
    test_latch_init(&latch, 1);
    fixture_stop_begin(&t, &latch);
    assert_int_equal(n_stops, 1);
    assert_false(gw_queue_is_started(&t.queue));
    fixture_add(&t, 3); /* too late */
    gw_driver_kick_always(t.driver);
    fixture_release(&t, 2);
    assert_int_equal(test_latch_wait(&latch, 20000000), -ETIMEDOUT);
    assert_int_equal(fixture_look(&t.n_held), 1);
    fixture_release(&t, 1);
    assert_int_equal(test_latch_wait(&latch, FIXTURE_WAIT_MS * UINT64_C(1000000)), 0);
    test_latch_done(&latch);
    /* Published and notified before the latch opened. */
    assert_int_equal(gw_driver_used_idx(t.driver), 3);
    assert_true(counter(gw_driver_call_fd(t.driver)) > 0);
    assert_int_equal(n_stops, 1);
    assert_int_equal(t.queue.ring.ops->base(&t.queue.ring), fixture_base(&t, 3));
    fixture_end(&t);
}

static void test_queue_restart_continues_at_base(void **state)
{
    struct fixture t;
    uint32_t base = 0;
    unsigned taken = 0;

    begin_and_run(&t, NULL);
    for (unsigned round = 0; round < 50; round++) {
        unsigned n = 1 + round % 7;

        for (unsigned i = 0; i < n; i++)
            fixture_add(&t, i);
        gw_driver_kick(t.driver);
        if (round % 2) {
            fixture_take(&t, n);
            taken += n;
        }
        base = fixture_stop(&t);
        assert_int_equal(gw_driver_used_idx(t.driver), base);
        fixture_reset(&t);
        assert_int_equal(fixture_start(&t, FIXTURE_DRIVER_FD, base), 0);
        fixture_set_call(&t, FIXTURE_DRIVER_FD);
        fixture_enable(&t, true);
        if (round % 2 == 0) {
            fixture_take(&t, n);
            taken += n;
        }
    }
    assert_int_equal(fixture_stop(&t), taken);
    fixture_end(&t);
}

static void test_queue_stop_of_a_stopped_one_is_done_at_once(void **state)
{
    struct fixture t;

    begin_and_run(&t, NULL);
    fixture_stop(&t);
    fixture_stop(&t);
    fixture_end(&t);
}

/* The first stop timed out, and another one takes its place. */
static void test_queue_second_stop_ends_the_first(void **state)
{
    struct test_latch first, second;
    struct fixture t;

    begin_and_run(&t, NULL);
    fixture_set_mode(&t, FIXTURE_HOLD);
    fixture_add(&t, 1);
    gw_driver_kick(t.driver);
    fixture_wait_held(&t, 1);
    test_latch_init(&first, 1);
    test_latch_init(&second, 1);
    fixture_stop_begin(&t, &first);
    assert_int_equal(test_latch_wait(&first, 1000000), -ETIMEDOUT);
    fixture_stop_begin(&t, &second);
    assert_int_equal(test_latch_wait(&first, 0), -ECANCELED);
    assert_int_equal(test_latch_wait(&second, 1000000), -ETIMEDOUT);
    assert_int_equal(fixture_start(&t, FIXTURE_DRIVER_FD, 0), -EBUSY);
    assert_non_null(strstr(t.why, "1 requests of its last run"));
    fixture_release(&t, 1);
    assert_int_equal(test_latch_wait(&second, FIXTURE_WAIT_MS * UINT64_C(1000000)), 0);
    test_latch_done(&first);
    test_latch_done(&second);
    assert_int_equal(t.queue.state, GW_QUEUE_STOPPED);
    assert_int_equal(gw_driver_used_idx(t.driver), 1);
    fixture_end(&t);
}

/* Late answers of a session that ended without waiting must not write to the next one's rings. */
static void test_queue_late_answer_after_reset_writes_nothing(void **state)
{
    struct test_latch stop, latch;
    struct fixture t;

    begin_and_run(&t, NULL);
    fixture_set_mode(&t, FIXTURE_HOLD);
    fixture_add(&t, 1);
    fixture_add(&t, 2);
    gw_driver_kick(t.driver);
    fixture_wait_held(&t, 2);
    test_latch_init(&stop, 1);
    fixture_stop_begin(&t, &stop);
    fixture_reset(&t);
    fixture_release(&t, 1);
    fixture_settle(&t);
    assert_int_equal(gw_driver_used_idx(t.driver), 0);
    /* The next session has the same memory and does not wait for requests of the last one. */
    test_latch_init(&latch, 1);
    fixture_adopt_begin(&t, t.map, &latch);
    assert_int_equal(test_latch_wait(&latch, 0), 0);
    test_latch_done(&latch);
    fixture_release(&t, 1);
    fixture_settle(&t);
    assert_int_equal(t.queue.state, GW_QUEUE_STOPPED);
    assert_int_equal(test_latch_wait(&stop, 0), 0);
    test_latch_done(&stop);
    assert_int_equal(gw_driver_used_idx(t.driver), 0);
    fixture_set_mode(&t, FIXTURE_COMPLETE);
    fixture_run(&t); /* the queue starts at 0 again and finds both requests */
    fixture_take(&t, 2);
    end(&t);
}

/* ---- polled ---- */

static void test_queue_without_kick_fd_is_polled(void **state)
{
    struct gw_queue_stats stats;
    struct fixture t;

    fixture_begin(&t, NULL);
    assert_int_equal(fixture_start(&t, FIXTURE_NO_FD, 0), 0);
    fixture_set_call(&t, FIXTURE_DRIVER_FD);
    fixture_enable(&t, true);
    for (unsigned i = 0; i < 20; i++) {
        fixture_add(&t, i);
        assert_false(gw_driver_kick(t.driver)); /* kicks are suppressed */
        fixture_take(&t, 1);
        usleep(i * 100); /* from busy to resting */
    }
    fixture_enable(&t, false);
    fixture_add(&t, 20);
    gw_driver_publish(t.driver);
    usleep(2000);
    assert_int_equal(gw_driver_used_idx(t.driver), 20);
    fixture_enable(&t, true);
    fixture_take(&t, 1);
    fixture_stats(&t, &stats);
    assert_int_equal(stats.kicks, 0);
    /* Switch from polling to kicks. */
    assert_int_equal(fixture_start(&t, FIXTURE_DRIVER_FD, 0), 0);
    fixture_add(&t, 21);
    gw_driver_kick_always(t.driver);
    fixture_take(&t, 1);
    usleep(2000);
    fixture_add(&t, 22);
    assert_true(gw_driver_kick(t.driver));
    fixture_take(&t, 1);
    end(&t);
}

static void test_queue_worker_that_polls_needs_no_kick_under_load(void **state)
{
    struct fixture_config cfg = {.poll_us = 100000, .features = FIXTURE_F_EVENT};
    struct gw_queue_stats stats;
    bool kicked = false;
    struct fixture t;

    begin_and_run(&t, &cfg);
    for (unsigned i = 0; i < 1000; i++) {
        fixture_add(&t, i);
        gw_driver_kick(t.driver);
        fixture_take(&t, 1);
    }
    fixture_stats(&t, &stats);
    assert_true(stats.kicks < 500);
    /* Without requests it sleeps in the end, at a time that the machine decides. */
    for (unsigned i = 0; i < patience_ms() / 200 && !kicked; i++) {
        usleep(200000);
        fixture_add(&t, 1000 + i);
        kicked = gw_driver_kick(t.driver);
        fixture_take(&t, 1);
    }
    assert_true(kicked);
    end(&t);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        FDCHECK_TEST(test_queue_any_size_wraps_around),
        FDCHECK_TEST(test_queue_unaligned_host_address_is_refused),
        FDCHECK_TEST(test_queue_epoll_file_as_kick_fd_is_refused_and_closed),
        FDCHECK_TEST(test_queue_epoll_file_as_second_kick_fd_breaks_it),
        FDCHECK_TEST(test_queue_other_kick_fd_takes_over),
        FDCHECK_TEST(test_queue_started_before_enabled_waits),
        FDCHECK_TEST(test_queue_enabled_before_started_runs_at_start),
        FDCHECK_TEST(test_queue_start_refused_by_device_stops),
        FDCHECK_TEST(test_queue_start_refused_with_requests_waits_for_them),
        FDCHECK_TEST(test_queue_full_ring_is_not_broken),
        FDCHECK_TEST(test_queue_ready_error_breaks_it),
        FDCHECK_TEST(test_queue_stop_waits_for_what_is_in_flight),
        FDCHECK_TEST(test_queue_restart_continues_at_base),
        FDCHECK_TEST(test_queue_stop_of_a_stopped_one_is_done_at_once),
        FDCHECK_TEST(test_queue_second_stop_ends_the_first),
        FDCHECK_TEST(test_queue_late_answer_after_reset_writes_nothing),
        FDCHECK_TEST(test_queue_without_kick_fd_is_polled),
        FDCHECK_TEST(test_queue_worker_that_polls_needs_no_kick_under_load),
    };

    /* Tests for split rings only; test_ring_packed.c has the equivalents for packed rings. */
    const struct CMUnitTest split_tests[] = {
        FDCHECK_TEST(test_queue_impossible_start_is_refused),
        FDCHECK_TEST(test_queue_failed_start_forgets_the_error_of_the_last_stop),
        FDCHECK_TEST(test_queue_last_byte_of_memory_can_be_used_ring),
        FDCHECK_TEST(test_queue_impossible_index_breaks_it_until_restart),
    };

    return FIXTURE_RUN_ALL(tests) + FIXTURE_RUN_BOTH_LOOPS(split_tests);
}
