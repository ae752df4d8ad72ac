/* SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause */
/*
 * Notifications of packed rings in both directions: kicks and calls are sent when the event areas
 * request them, never otherwise, and none is lost.
 */
#include "../fixtures/packed_ring.h"
#include "fdcheck.h"
#include "patience.h"

#include <errno.h>
#include <poll.h>
#include <pthread.h>

static void test_driver_packed_events_kicks_follow_the_flags(void **state)
{
    struct packed_place none = {0};
    struct packed_ring t;

    packed_ring_begin(&t, 8, 0, 0, false);
    assert_false(gw_driver_kick(t.d)); /* nothing to publish */
    packed_ring_add(&t, 0);
    assert_true(gw_driver_kick(t.d));
    packed_device_set_event(&t.dev, VRING_PACKED_EVENT_FLAG_DISABLE, none);
    packed_ring_add(&t, 1);
    assert_false(gw_driver_kick(t.d));
    gw_driver_kick_always(t.d);
    packed_ring_finish(&t);
}

/* EVENT_IDX: kick exactly when the descriptor of the event becomes available. */
static void test_driver_packed_events_kicks_follow_the_event(void **state)
{
    for (unsigned index = 0; index < 14; index++) {
        for (unsigned ahead = 0; ahead < 7; ahead++) {
            struct packed_ring t;

            packed_ring_begin(&t, 7, 0, index, true);
            packed_device_set_event(&t.dev, VRING_PACKED_EVENT_FLAG_DESC,
                                    packed_place_at(7, index + ahead));
            for (unsigned i = 0; i < 7; i++) {
                packed_ring_add(&t, i);
                assert_int_equal(gw_driver_kick(t.d), i == ahead);
            }
            packed_ring_finish(&t);
            /* One publication of all descriptors passes the event as well. */
            packed_ring_begin(&t, 7, 0, index, true);
            packed_device_set_event(&t.dev, VRING_PACKED_EVENT_FLAG_DESC,
                                    packed_place_at(7, index + ahead));
            for (unsigned i = 0; i < 7; i++)
                packed_ring_add(&t, i);
            assert_true(gw_driver_kick(t.d));
            packed_ring_finish(&t);
        }
    }
}

/* More than two laps are published without a kick: they passed the event, wherever it is. */
static void test_driver_packed_events_kick_is_not_lost_over_laps(void **state)
{
    for (unsigned n = 1; n < 9; n++) {
        struct gw_driver_used used;
        struct packed_ring t;

        packed_ring_begin(&t, 2, 0, 0, true);
        packed_device_set_event(&t.dev, VRING_PACKED_EVENT_FLAG_DESC, packed_place_at(2, 0));
        for (unsigned i = 0; i < n; i++) {
            packed_ring_add(&t, i);
            gw_driver_publish(t.d);
            packed_ring_serve(&t, 0);
            assert_int_equal(gw_driver_take(t.d, &used, 1), 1);
        }
        assert_true(gw_driver_kick(t.d));
        assert_false(gw_driver_kick(t.d));
        packed_ring_finish(&t);
    }
}

static void test_driver_packed_events_calls_are_wanted_only_when_asked(void **state)
{
    for (unsigned event = 0; event < 2; event++) {
        struct gw_driver_used used;
        struct packed_ring t;

        packed_ring_begin(&t, 3, 0, 4, event);
        for (unsigned i = 0; i < 30; i++) {
            struct packed_place old = t.dev.used;

            packed_ring_add(&t, i);
            gw_driver_publish(t.d);
            if (i % 2)
                assert_true(gw_driver_want_calls(t.d));
            packed_ring_serve(&t, 0);
            assert_int_equal(packed_device_call_wanted(&t.dev, old), i % 2);
            if (i % 2) {
                assert_int_equal(t.dev.driver_event->flags, event ? 2 : 0);
                assert_false(
                    gw_driver_want_calls(t.d)); /* too late: a used descriptor is present */
            }
            assert_int_equal(gw_driver_take(t.d, &used, 1), 1);
            gw_driver_suppress_calls(t.d);
            assert_int_equal(t.dev.driver_event->flags, 1);
        }
        packed_ring_finish(&t);
    }
}

/* Completes one request after a delay, with or without the required call. */
struct slow {
    struct packed_ring *t;
    bool calls;
    bool spurious; /* a spurious call before */
};

static void *slow_main(void *arg)
{
    struct slow *s = arg;
    struct packed_chain c;

    if (s->spurious)
        packed_device_call(gw_driver_call_fd(s->t->d));
    usleep(20000);
    if (packed_device_pop(&s->t->dev, &c))
        packed_device_push(&s->t->dev, c.id, c.n_desc, 0);
    if (s->calls)
        packed_device_call(gw_driver_call_fd(s->t->d));
    return NULL;
}

static int wait_for_slow(struct slow s, bool event, unsigned ms)
{
    struct gw_driver_used used;
    struct packed_ring t;
    pthread_t thread;
    int result;

    packed_ring_begin(&t, 8, 0, 0, event);
    s.t = &t;
    assert_int_equal(gw_driver_wait(t.d, 5), -ETIMEDOUT);
    packed_ring_add(&t, 3);
    gw_driver_publish(t.d);
    assert_int_equal(pthread_create(&thread, NULL, slow_main, &s), 0);
    /* The driver reports a lost call only at its timeout, and the thread must have run by then. */
    result = gw_driver_wait(t.d, s.calls ? patience_ms() : ms);
    pthread_join(thread, NULL);
    assert_int_equal(gw_driver_take(t.d, &used, 1), 1);
    assert_int_equal(used.cookie, 3);
    packed_ring_finish(&t);
    return result;
}

static void test_driver_packed_events_wait_tells_calls_from_losses(void **state)
{
    const struct {
        struct slow slow;
        int result;
    } cases[] = {
        {{.calls = true}, 0},
        {{.calls = true, .spurious = true}, 0},
        {{.calls = false}, -ENOMSG},
        {{.calls = false, .spurious = true}, -ENOMSG},
    };

    for (unsigned i = 0; i < 8; i++) {
        int wanted = cases[i / 2].result, result = 1;

        /* On a busy machine the thread, or its spurious call, may be late. */
        for (unsigned ms = 600; result != wanted && ms <= patience_ms(); ms *= 4)
            result = wait_for_slow(cases[i / 2].slow, i % 2, ms);
        assert_int_equal(result, wanted);
    }
}

#define PATIENCE_MS patience_ms()

/* A device thread that sleeps on the kick fd and calls when required. */
struct echo {
    struct packed_ring *t;
    unsigned n;
    bool event;
    bool lost; /* requests were available, but no kick arrived */
};

static void *echo_main(void *arg)
{
    struct echo *e = arg;
    struct packed_device *dev = &e->t->dev;
    struct pollfd p = {.fd = gw_driver_kick_fd(e->t->d), .events = POLLIN};
    struct packed_chain c;
    uint64_t value;
    unsigned done = 0;

    while (done < e->n) {
        struct packed_place old = dev->used;
        unsigned before = done;

        packed_device_set_event(dev, VRING_PACKED_EVENT_FLAG_DISABLE, dev->avail);
        /* Places repeat after two laps, so a batch that decides about one call is one lap at most.
         */
        while (done < e->n && done - before < dev->size && packed_device_pop(dev, &c)) {
            packed_device_push(dev, c.id, c.n_desc, c.bufs[0].len);
            done++;
        }
        if (done != before && packed_device_call_wanted(dev, old))
            packed_device_call(gw_driver_call_fd(e->t->d));
        if (done == e->n)
            break;
        packed_device_set_event(
            dev, e->event ? VRING_PACKED_EVENT_FLAG_DESC : VRING_PACKED_EVENT_FLAG_ENABLE,
            dev->avail);
        /* Full barrier: request kicks before checking for requests again. */
        __atomic_thread_fence(__ATOMIC_SEQ_CST);
        if (packed_device_is_avail(dev))
            continue;
        if (poll(&p, 1, (int)PATIENCE_MS) == 0) {
            e->lost = true;
            break;
        }
        if (read(p.fd, &value, sizeof(value)) < 0)
            break;
    }
    return NULL;
}

static void run_echo(bool event, bool sleeps, unsigned n, unsigned batch)
{
    struct gw_driver_used used[64];
    unsigned sent = 0, done = 0;
    pthread_t thread;
    struct packed_ring t;
    struct echo e = {.t = &t, .n = n, .event = event};

    packed_ring_begin(&t, 60, 0, 0, event);
    assert_int_equal(pthread_create(&thread, NULL, echo_main, &e), 0);
    while (done < n) {
        unsigned got;

        for (unsigned i = 0; i < batch && sent < n && packed_ring_add(&t, sent % 1000) == 0; i++)
            sent++;
        gw_driver_kick(t.d);
        got = gw_driver_take(t.d, used, 64);
        if (got == 0 && sleeps)
            assert_int_equal(gw_driver_wait(t.d, PATIENCE_MS), 0);
        done += got;
    }
    pthread_join(thread, NULL);
    assert_false(e.lost);
    assert_int_equal(gw_driver_check(t.d), 0);
    packed_ring_finish(&t);
}

static void test_driver_packed_events_no_notification_is_lost_between_threads(void **state)
{
    for (unsigned i = 0; i < 4; i++) {
        run_echo(i & 1, i & 2, 50000, 1);
        run_echo(i & 1, i & 2, 100000, 7);
        run_echo(i & 1, i & 2, 100000, 60);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        FDCHECK_TEST(test_driver_packed_events_kicks_follow_the_flags),
        FDCHECK_TEST(test_driver_packed_events_kicks_follow_the_event),
        FDCHECK_TEST(test_driver_packed_events_kick_is_not_lost_over_laps),
        FDCHECK_TEST(test_driver_packed_events_calls_are_wanted_only_when_asked),
        FDCHECK_TEST(test_driver_packed_events_wait_tells_calls_from_losses),
        FDCHECK_TEST(test_driver_packed_events_no_notification_is_lost_between_threads),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
