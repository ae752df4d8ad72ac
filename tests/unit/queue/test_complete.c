/* SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause */
/* From completion to notification: batches, suppression in both directions, call fds that change or
 * fail. */
#include "../fixtures/fixture.h"
#include "fd/peer_fd.h"
#include "fdcheck.h"
#include "patience.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <unistd.h>

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

static uint64_t counter(int fd)
{
    eventfd_t value = 0;

    (void)eventfd_read(fd, &value);
    return value;
}

static int new_eventfd(int flags)
{
    int fd = eventfd(0, EFD_CLOEXEC | flags);

    assert_true(fd >= 0);
    return fd;
}

static int dup_of(int fd)
{
    int r = fcntl(fd, F_DUPFD_CLOEXEC, 0);

    assert_true(r >= 0);
    return r;
}

/* Hold `n` requests. */
static void hold(struct fixture *t, unsigned n)
{
    fixture_set_mode(t, FIXTURE_HOLD);
    for (unsigned i = 0; i < n; i++)
        fixture_add(t, i);
    gw_driver_kick(t->driver);
    fixture_wait_held(t, n);
    fixture_settle(t);
}

/* ---- batches ---- */

static void test_complete_turn_is_published_and_told_once(void **state)
{
    struct gw_queue_stats stats;
    struct fixture t;

    begin_and_run(&t, NULL);
    hold(&t, 50);
    assert_true(gw_driver_want_calls(t.driver));
    fixture_stats(&t, &stats);
    assert_int_equal(stats.in_flight, 50);
    assert_int_equal(stats.calls, 1); /* from the start */
    counter(gw_driver_call_fd(t.driver));
    fixture_release(&t, 50);
    fixture_settle(&t);
    fixture_stats(&t, &stats);
    assert_int_equal(stats.calls, 2);
    assert_int_equal(counter(gw_driver_call_fd(t.driver)), 1);
    assert_int_equal(gw_driver_used_idx(t.driver), 50);
    fixture_take(&t, 50);
    end(&t);
}

static int complete_and_look(void *arg)
{
    struct fixture *t = arg;

    gw_request_complete(t->held[0], FIXTURE_BUF_LEN);
    assert_int_equal(gw_driver_used_idx(t->driver), 0); /* at the end of the turn */
    gw_request_complete(t->held[1], FIXTURE_BUF_LEN);
    assert_int_equal(gw_driver_used_idx(t->driver), 0);
    gw_queue_flush(&t->queue);
    assert_int_equal(gw_driver_used_idx(t->driver), 2);
    gw_queue_flush(&t->queue);
    gw_request_complete(t->held[2], FIXTURE_BUF_LEN);
    t->n_held = 0;
    return 0;
}

static void test_complete_flush_publishes_at_once(void **state)
{
    struct gw_queue_stats stats;
    struct fixture t;

    begin_and_run(&t, NULL);
    hold(&t, 3);
    gw_driver_want_calls(t.driver);
    fixture_call(&t, complete_and_look, &t);
    fixture_settle(&t);
    fixture_stats(&t, &stats);
    assert_int_equal(stats.calls, 3); /* the start, the flush, the end of the turn */
    fixture_take(&t, 3);
    end(&t);
}

static uint16_t shown_after[8]; /* [i]: used index after i + 1 completions */

/* Complete each popped request at once, and record the used index after each. */
static int answer_and_look(void *dev, struct gw_queue *q)
{
    struct gw_request *reqs[8];
    struct fixture *t = dev;
    unsigned n = gw_queue_pop(q, reqs, fixture_look(&t->batch));

    for (unsigned i = 0; i < n; i++) {
        gw_request_complete(reqs[i], FIXTURE_BUF_LEN);
        shown_after[t->n_held] = gw_driver_used_idx(t->driver);
        __atomic_store_n(&t->n_held, t->n_held + 1, __ATOMIC_RELEASE);
    }
    return 0;
}

/* Eight requests are available when the queue starts; each batch is notified once. */
static void answer_eight(unsigned batch, uint64_t features, const uint16_t *expected)
{
    struct fixture_config cfg = {.queue_ready = answer_and_look, .features = features};
    struct gw_queue_stats stats;
    struct fixture t;

    fixture_begin(&t, &cfg);
    t.batch = batch;
    for (unsigned i = 0; i < 8; i++)
        fixture_add(&t, i);
    gw_driver_kick(t.driver);
    assert_true(gw_driver_want_calls(t.driver));
    fixture_run(&t);
    fixture_wait_for(&t.n_held, 8);
    fixture_settle(&t);
    assert_memory_equal(shown_after, expected, sizeof(shown_after));
    fixture_stats(&t, &stats);
    assert_int_equal(stats.calls + stats.calls_suppressed, 1 + 8 / batch); /* 1: from the start */
    assert_true(stats.calls >= 2);
    fixture_take(&t, 8);
    t.n_held = 0;
    end(&t);
}

static void test_complete_first_half_is_shown_while_the_device_works(void **state)
{
    static const uint16_t expected[] = {0, 0, 0, 4, 4, 4, 4, 8};

    answer_eight(8, 0, expected);
    answer_eight(8, FIXTURE_F_EVENT, expected);
}

static void test_complete_batch_is_shown_at_its_end_when_more_wait(void **state)
{
    static const uint16_t expected[] = {0, 0, 0, 0, 4, 6, 6, 8};

    answer_eight(4, 0, expected);
    answer_eight(4, FIXTURE_F_EVENT, expected);
}

static void test_complete_length_and_head_are_told_in_order(void **state)
{
    struct gw_driver_used used[3];
    struct fixture t;

    begin_and_run(&t, NULL);
    hold(&t, 3);
    for (unsigned i = 0; i < 3; i++)
        fixture_release(&t, 1);
    fixture_settle(&t);
    assert_int_equal(gw_driver_take(t.driver, used, 3), 3);
    for (unsigned i = 0; i < 3; i++) {
        assert_int_equal(used[i].cookie, i);
        assert_int_equal(used[i].len, FIXTURE_BUF_LEN);
    }
    end(&t);
}

/* ---- suppression ---- */

static void check_suppression(uint64_t features)
{
    struct fixture_config cfg = {.features = features, .base = 65530};
    struct gw_queue_stats stats;
    struct fixture t;
    int call;

    begin_and_run(&t, &cfg);
    call = gw_driver_call_fd(t.driver);
    hold(&t, 20);
    gw_driver_suppress_calls(t.driver);
    fixture_release(&t, 1); /* always notified: the first answer of a run with EVENT_IDX */
    fixture_settle(&t);
    counter(call);
    fixture_release(&t, 9);
    fixture_settle(&t);
    assert_int_equal(counter(call), 0);
    fixture_stats(&t, &stats);
    assert_true(stats.calls_suppressed >= 1);

    fixture_take(&t, 10);
    counter(call);
    assert_true(gw_driver_want_calls(t.driver));
    fixture_release(&t, 1);
    fixture_settle(&t);
    assert_int_equal(counter(call), 1);
    if (features & FIXTURE_F_EVENT) {
        fixture_release(&t, 1); /* already notified: not again before the driver asks */
        fixture_settle(&t);
        assert_int_equal(counter(call), 0);
    } else {
        fixture_release(&t, 1);
        fixture_settle(&t);
        assert_int_equal(counter(call), 1);
    }
    fixture_release(&t, 8);
    fixture_take(&t, 10);
    end(&t);
}

static void test_complete_calls_follow_flags(void **state)
{
    check_suppression(0);
}

static void test_complete_calls_follow_event_index(void **state)
{
    check_suppression(FIXTURE_F_EVENT);
}

/* The event may lie anywhere in a batch: notify if and only if the batch passes it. */
static void test_complete_event_inside_a_batch_is_told(void **state)
{
    struct fixture_config cfg = {.features = FIXTURE_F_EVENT};

    for (unsigned event = 0; event < 12; event++) {
        struct fixture t;

        begin_and_run(&t, &cfg);
        hold(&t, 10);
        fixture_set_used_event(&t, 100);
        fixture_release(&t, 1); /* the first */
        fixture_settle(&t);
        counter(gw_driver_call_fd(t.driver));
        fixture_set_used_event(&t, event);
        fixture_release(&t, 9); /* 1 .. 9 */
        fixture_settle(&t);
        assert_int_equal(counter(gw_driver_call_fd(t.driver)), event >= 1 && event <= 9);
        end(&t);
    }
}

/* NOTIFY_ON_EMPTY of old drivers: only the last answer is notified, despite suppression. */
static void check_notify_on_empty(uint64_t features)
{
    struct fixture_config cfg = {.features = features};
    bool empties = features & GW_BIT(GW_F_NOTIFY_ON_EMPTY);
    struct fixture t;
    int call;

    begin_and_run(&t, &cfg);
    call = gw_driver_call_fd(t.driver);
    hold(&t, 4);
    gw_driver_suppress_calls(t.driver);
    fixture_release(&t, 1); /* always notified: the first answer of a run with EVENT_IDX */
    fixture_settle(&t);
    counter(call);
    fixture_release(&t, 2);
    fixture_settle(&t);
    assert_int_equal(counter(call), 0);
    fixture_release(&t, 1);
    fixture_settle(&t);
    assert_int_equal(counter(call), empties);
    /* Nothing is in flight, but a request is still on the ring. */
    __atomic_store_n(&t.batch, 1, __ATOMIC_RELEASE);
    fixture_take(&t, 4);
    hold(&t, 1);
    fixture_set_mode(&t, FIXTURE_IGNORE);
    fixture_add(&t, 2);
    gw_driver_publish(t.driver);
    gw_driver_suppress_calls(t.driver);
    counter(call);
    fixture_release(&t, 1);
    fixture_settle(&t);
    assert_int_equal(counter(call), 0);
    fixture_set_mode(&t, FIXTURE_COMPLETE);
    gw_queue_wake(&t.queue);
    fixture_settle(&t);
    assert_int_equal(counter(call), empties);
    end(&t);
}

static void test_complete_notify_on_empty(void **state)
{
    const uint64_t bit = GW_BIT(GW_F_NOTIFY_ON_EMPTY);

    check_notify_on_empty(bit);
    check_notify_on_empty(bit | FIXTURE_F_EVENT);
    check_notify_on_empty(0);
    check_notify_on_empty(FIXTURE_F_EVENT);
}

/* The device asks for kicks exactly while the worker sleeps. */
static void check_kicks(uint64_t features)
{
    struct fixture_config cfg = {.features = features, .base = 65500};
    struct gw_queue_stats stats;
    struct fixture t;

    begin_and_run(&t, &cfg);
    for (unsigned i = 0; i < 100; i++) {
        fixture_settle(&t);
        fixture_add(&t, i);
        assert_true(gw_driver_kick(t.driver)); /* the worker sleeps and wants kicks */
        fixture_take(&t, 1);
    }
    fixture_settle(&t);
    fixture_stats(&t, &stats);
    assert_true(stats.kicks >= 100);
    /* The worker does not sleep while requests wait, and wants no kicks. */
    fixture_set_mode(&t, FIXTURE_IGNORE);
    fixture_add(&t, 100);
    assert_true(gw_driver_kick(t.driver));
    fixture_wait_for(&t.n_ready, 101);
    fixture_add(&t, 101);
    assert_false(gw_driver_kick(t.driver));
    fixture_set_mode(&t, FIXTURE_COMPLETE);
    gw_queue_wake(&t.queue);
    fixture_take(&t, 2);
    end(&t);
}

static void test_complete_kicks_are_asked_for_by_flags(void **state)
{
    check_kicks(0);
}

static void test_complete_kicks_are_asked_for_by_event_index(void **state)
{
    check_kicks(FIXTURE_F_EVENT);
}

/* ---- call fds ---- */

static void test_complete_without_call_fd_is_told_on_the_next_one(void **state)
{
    int first = new_eventfd(EFD_NONBLOCK), second = new_eventfd(EFD_NONBLOCK);
    struct fixture t;

    fixture_begin(&t, NULL);
    assert_int_equal(fixture_start(&t, FIXTURE_DRIVER_FD, 0), 0);
    fixture_enable(&t, true);
    fixture_add(&t, 1);
    gw_driver_want_calls(t.driver);
    gw_driver_kick(t.driver);
    while (gw_driver_used_idx(t.driver) == 0)
        fixture_settle(&t);
    fixture_set_call(&t, dup_of(first));
    fixture_settle(&t);
    assert_true(counter(first) > 0);
    /* The old fd may be signalled after the front-end has read it for the last time. */
    fixture_set_call(&t, dup_of(second));
    fixture_settle(&t);
    assert_true(counter(second) > 0);
    fixture_set_call(&t, FIXTURE_NO_FD);
    end(&t);
    close(first);
    close(second);
}

static void test_complete_full_call_fd_does_not_hang_the_worker(void **state)
{
    int blocking = new_eventfd(0), full = new_eventfd(EFD_NONBLOCK);
    eventfd_t value;
    struct fixture t;

    begin_and_run(&t, NULL);
    assert_int_equal(eventfd_write(blocking, UINT64_MAX - 1), 0);
    assert_int_equal(eventfd_write(full, UINT64_MAX - 1), 0);
    fixture_set_call(&t, dup_of(blocking));
    hold(&t, 3);
    gw_driver_want_calls(t.driver);
    fixture_release(&t, 1);
    fixture_settle(&t);
    fixture_set_call(&t, dup_of(full));
    fixture_release(&t, 1);
    fixture_settle(&t);
    assert_int_equal(eventfd_read(full, &value), 0);
    assert_true(value >= UINT64_MAX - 1);
    fixture_release(&t, 1);
    fixture_settle(&t);
    assert_int_equal(counter(full), 1);
    end(&t);
    close(blocking);
    close(full);
}

/*
 * The driver fills the counter just before the worker signals it. If the worker blocks on the
 * write, no thread reads the counter, and this test runs into its time limit.
 */
static void test_complete_call_fd_filled_meanwhile_does_not_hang_the_worker(void **state)
{
    int blocking = new_eventfd(0);
    struct fixture t;

    begin_and_run(&t, NULL);
    fixture_set_call(&t, dup_of(blocking));
    for (unsigned i = 0; i < 300; i++) {
        counter(blocking);
        assert_int_equal(eventfd_write(blocking, UINT64_MAX - 2), 0); /* room for one signal */
        hold(&t, 1);
        gw_driver_want_calls(t.driver);
        fixture_release(&t, 1);
        for (unsigned spins = 0; spins < i; spins++)
            __asm__ volatile("" ::: "memory");
        fcntl(blocking, F_SETFL, i % 2 ? O_NONBLOCK : 0);
        gw_eventfd_signal(blocking);
        fcntl(blocking, F_SETFL, 0);
        fixture_settle(&t);
        fixture_take(&t, 1);
    }
    counter(blocking);
    end(&t);
    close(blocking);
}

static void test_complete_blocking_call_fd_with_room_is_told(void **state)
{
    int blocking = new_eventfd(0);
    eventfd_t value;
    struct fixture t;

    begin_and_run(&t, NULL);
    fixture_set_call(&t, dup_of(blocking));
    assert_int_equal(eventfd_write(blocking, 1), 0);
    hold(&t, 1);
    gw_driver_want_calls(t.driver);
    fixture_release(&t, 1);
    fixture_settle(&t);
    assert_int_equal(eventfd_read(blocking, &value), 0);
    assert_true(value >= 2);
    end(&t);
    close(blocking);
}

/*
 * The call fd is replaced under load. The front-end reads the old fd once and never again, as QEMU
 * does when a vector is masked. No notification may be lost.
 */
static void test_complete_call_fd_swaps_under_load_lose_nothing(void **state)
{
    struct fixture_config cfg = {.features = FIXTURE_F_EVENT};
    int fds[2] = {new_eventfd(EFD_NONBLOCK), new_eventfd(EFD_NONBLOCK)};
    struct gw_driver_used used[8];
    struct fixture t;

    begin_and_run(&t, &cfg);
    fixture_set_call(&t, dup_of(fds[0]));
    for (unsigned i = 0; i < 3000; i++) {
        int now = fds[i % 2], next = fds[(i + 1) % 2];
        unsigned n = 0;

        assert_true(gw_driver_want_calls(t.driver));
        fixture_add(&t, i);
        gw_driver_kick(t.driver);
        if (i % 3) /* swap after the answer, or perhaps before it */
            fixture_settle(&t);
        counter(now); /* the last read of the old fd, perhaps too early */
        fixture_set_call(&t, dup_of(next));
        while (n == 0) {
            struct pollfd p = {.fd = next, .events = POLLIN};

            assert_int_equal(poll(&p, 1, (int)patience_ms()),
                             1); /* otherwise a notification was lost */
            counter(next);
            n = gw_driver_take(t.driver, used, 8);
        }
    }
    end(&t);
    close(fds[0]);
    close(fds[1]);
}

static void test_complete_start_tells_the_driver_to_look(void **state)
{
    struct fixture t;

    fixture_begin(&t, NULL);
    fixture_set_call(&t, FIXTURE_DRIVER_FD);
    assert_int_equal(fixture_start(&t, FIXTURE_DRIVER_FD, 0), 0);
    fixture_settle(&t);
    assert_true(counter(gw_driver_call_fd(t.driver)) > 0);
    end(&t);
}

static void *complete_all(void *arg)
{
    struct fixture *t = arg;

    for (unsigned i = 0; i < t->n_held; i++)
        gw_request_complete(t->held[i], FIXTURE_BUF_LEN);
    return NULL;
}

/* Outside the worker no turn ends that could publish the answer, so it is published at once. */
static void test_complete_on_other_thread_is_told_at_once(void **state)
{
    struct fixture_config cfg = {.sync = GW_SYNC_MUTEX};
    pthread_t thread;
    struct fixture t;

    begin_and_run(&t, &cfg);
    hold(&t, 5);
    gw_driver_want_calls(t.driver);
    counter(gw_driver_call_fd(t.driver));
    assert_int_equal(pthread_create(&thread, NULL, complete_all, &t), 0);
    pthread_join(thread, NULL);
    assert_int_equal(gw_driver_used_idx(t.driver), 5);
    assert_int_equal(counter(gw_driver_call_fd(t.driver)), 5);
    fixture_take(&t, 5);
    end(&t);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        FDCHECK_TEST(test_complete_turn_is_published_and_told_once),
        FDCHECK_TEST(test_complete_flush_publishes_at_once),
        FDCHECK_TEST(test_complete_first_half_is_shown_while_the_device_works),
        FDCHECK_TEST(test_complete_batch_is_shown_at_its_end_when_more_wait),
        FDCHECK_TEST(test_complete_length_and_head_are_told_in_order),
        FDCHECK_TEST(test_complete_calls_follow_flags),
        FDCHECK_TEST(test_complete_calls_follow_event_index),
        FDCHECK_TEST(test_complete_event_inside_a_batch_is_told),
        FDCHECK_TEST(test_complete_notify_on_empty),
        FDCHECK_TEST(test_complete_kicks_are_asked_for_by_flags),
        FDCHECK_TEST(test_complete_kicks_are_asked_for_by_event_index),
        FDCHECK_TEST(test_complete_without_call_fd_is_told_on_the_next_one),
        FDCHECK_TEST(test_complete_full_call_fd_does_not_hang_the_worker),
        FDCHECK_TEST(test_complete_call_fd_filled_meanwhile_does_not_hang_the_worker),
        FDCHECK_TEST(test_complete_blocking_call_fd_with_room_is_told),
        FDCHECK_TEST(test_complete_call_fd_swaps_under_load_lose_nothing),
        FDCHECK_TEST(test_complete_start_tells_the_driver_to_look),
        FDCHECK_TEST(test_complete_on_other_thread_is_told_at_once),
    };

    return FIXTURE_RUN_ALL(tests);
}
