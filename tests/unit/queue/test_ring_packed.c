/* SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause */
/*
 * Features of packed rings only: wrap counters, sizes that are not a power of two, chains of
 * several slots, bases with two halves, event areas. test_queue.c, test_request.c and
 * test_complete.c test the behaviour that both layouts share.
 */
#include "../fixtures/packed_slots.h"
#include "fdcheck.h"

#include <errno.h>

/* Add a chain of `n` device-writable buffers. */
static int add_chain(struct fixture *t, unsigned n, unsigned flags)
{
    struct gw_driver_buf bufs[8];

    for (unsigned i = 0; i < n; i++)
        bufs[i] = (struct gw_driver_buf){t->buf + i, 1};
    return gw_driver_add(t->driver, bufs, 0, n, n, flags);
}

/* ---- sizes and laps ---- */

struct shape {
    unsigned size;
    unsigned chain; /* descriptors of a request, from 1 to this */
    uint64_t features;
};

/* Take all available answers. Returns: the number of slots freed. */
static unsigned take(struct fixture *t)
{
    struct gw_driver_used used[64];
    unsigned n, n_slots = 0;

    assert_int_equal(gw_driver_wait(t->driver, FIXTURE_WAIT_MS), 0);
    n = gw_driver_take(t->driver, used, 64);
    assert_int_equal(gw_driver_check(t->driver), 0);
    for (unsigned i = 0; i < n; i++) {
        /* The cookie is the number of descriptors, each for one byte. */
        assert_int_equal(used[i].len, used[i].cookie);
        n_slots += (unsigned)used[i].cookie;
    }
    return n_slots;
}

static void run_shape(const struct shape *shape, unsigned base)
{
    struct fixture_config cfg = {.size = shape->size,
                                 .features = FIXTURE_F_PACKED | shape->features,
                                 .base = (uint16_t)base,
                                 .mem_len = UINT64_C(4) << 20};
    unsigned n_slots = 0, n_left = 0, n = 0;
    unsigned total = 5 * shape->size > 2000 ? 5 * shape->size : 2000;
    struct fixture t;

    begin_and_run(&t, &cfg);
    while (n_slots < total) {
        unsigned len = 1 + n % shape->chain;

        if (add_chain(&t, len, 0) == 0) {
            n++;
            n_slots += len;
            n_left += len;
            continue;
        }
        gw_driver_kick(t.driver);
        n_left -= take(&t);
    }
    gw_driver_kick(t.driver);
    while (n_left > 0)
        n_left -= take(&t);
    assert_int_equal(fixture_stop(&t), fixture_index(&t, base % (2 * cfg.size) + n_slots));
    assert_int_equal(fixture_look(&t.n_messages), 0);
    fixture_end(&t);
}

static void test_ring_packed_any_size_wraps_around(void **state)
{
    static const struct shape shapes[] = {
        {1, 1, 0},
        {2, 2, 0},
        {3, 2, 0},
        {3, 3, FIXTURE_F_EVENT},
        {7, 5, 0},
        {7, 5, FIXTURE_F_EVENT},
        {100, 1, 0},
        {255, 8, 0},
        {300, 3, FIXTURE_F_EVENT},
        {1000, 7, 0},
        {32767, 8, FIXTURE_F_EVENT},
    };

    for (unsigned i = 0; i < GW_ARRAY_SIZE(shapes); i++)
        for (unsigned lap = 0; lap < 2; lap++)
            for (unsigned back = 1; back <= 3 && back <= shapes[i].size; back++)
                run_shape(&shapes[i], lap * shapes[i].size + shapes[i].size - back);
}

/* Hold `n` one-slot requests from slot `first` of the first lap on; the ring has 5 slots. */
static void hold_of_five(struct fixture *t, unsigned first, unsigned n)
{
    struct fixture_config cfg = {.size = 5, .features = FIXTURE_F_PACKED, .base = (uint16_t)first};

    begin_and_run(t, &cfg);
    fixture_set_mode(t, FIXTURE_HOLD);
    for (unsigned i = 0; i < n; i++)
        fixture_add(t, i);
    gw_driver_kick(t->driver);
    fixture_wait_held(t, n);
}

static void test_ring_packed_batch_goes_around_the_end(void **state)
{
    struct fixture t;

    hold_of_five(&t, 3, 5);
    fixture_release(&t, 4);
    fixture_settle(&t);
    check_used(&t, 3, 3, FIXTURE_BUF_LEN, true);
    check_used(&t, 4, 4, FIXTURE_BUF_LEN, true);
    check_used(&t, 0, 0, FIXTURE_BUF_LEN, false);
    check_used(&t, 1, 1, FIXTURE_BUF_LEN, false);
    fixture_take(&t, 4);
    fixture_release(&t, 1);
    fixture_take(&t, 1);
    assert_int_equal(fixture_stop_at(&t, GW_STOP_DRAIN), 0x00030003); /* the wrap counter is 0 */
    fixture_end(&t);
}

/* A chain is used at its first slot; the others stay as the driver wrote them. */
static void test_ring_packed_chain_is_used_at_its_first_slot(void **state)
{
    struct fixture_config cfg = {.size = 5, .features = FIXTURE_F_PACKED, .base = 3};
    struct gw_driver_packed_desc before, after;
    struct fixture t;

    begin_and_run(&t, &cfg);
    fixture_set_mode(&t, FIXTURE_HOLD);
    assert_int_equal(add_chain(&t, 3, 0), 0);
    assert_int_equal(add_chain(&t, 2, 0), 0);
    gw_driver_kick(t.driver);
    fixture_wait_held(&t, 2);
    gw_driver_read_packed_desc(t.driver, 4, &before);
    fixture_release(&t, 1);
    fixture_settle(&t);
    check_used(&t, 3, 3, 3, true);
    gw_driver_read_packed_desc(t.driver, 4, &after);
    assert_memory_equal(&before, &after, sizeof(before));
    fixture_release(&t, 1);
    fixture_settle(&t);
    check_used(&t, 1, 1, 2, false);
    end(&t);
}

/* ---- bases ---- */

static void test_ring_packed_impossible_start_is_refused(void **state)
{
    static const uint32_t bases[] = {
        0x80058005,                                                 /* beyond the ring */
        0x80008005, 0x80058000, 0x00000005, 0x7fffffff, 0x80038002, /* used is ahead of available */
        0x00018002, 0x80010002,                                     /* more than a lap behind */
    };
    struct fixture_config cfg = {.size = 5, .features = FIXTURE_F_PACKED};
    gw_gpa_t at;
    struct fixture t;

    fixture_begin(&t, &cfg);
    for (unsigned i = 0; i < GW_ARRAY_SIZE(bases); i++) {
        assert_int_equal(fixture_start_at(&t, FIXTURE_DRIVER_FD, bases[i]), -EINVAL);
        assert_non_null(strstr(t.why, "is impossible in a packed ring of 5"));
    }
    t.cfg.size = 0;
    assert_int_equal(fixture_start_at(&t, FIXTURE_DRIVER_FD, 0), -EINVAL);
    t.cfg.size = 32769;
    assert_int_equal(fixture_start_at(&t, FIXTURE_DRIVER_FD, 0), -EINVAL);
    t.cfg.size = 5;
    at = t.used;
    t.used = FIXTURE_GPA + t.cfg.mem_len - 2; /* half of it lies outside */
    assert_int_equal(fixture_start(&t, FIXTURE_DRIVER_FD, 0), -EFAULT);
    assert_non_null(strstr(t.why, "device event area"));
    t.used = at + 2;
    assert_int_equal(fixture_start(&t, FIXTURE_DRIVER_FD, 0), -EFAULT);
    assert_non_null(strstr(t.why, "aligned"));
    t.used = at;
    /* The queue still works after the refusals. */
    fixture_run(&t);
    fixture_add(&t, 1);
    gw_driver_kick(t.driver);
    fixture_take(&t, 1);
    end(&t);
}

static void test_ring_packed_base_is_answered_as_it_was_told(void **state)
{
    static const uint32_t bases[] = {0x80008000, 0x80048004, 0x00010001, 0x00018000,
                                     0x80030003, 0x80008004, 0x00000004};
    struct fixture_config cfg = {.size = 5, .features = FIXTURE_F_PACKED};
    struct fixture t;

    fixture_begin(&t, &cfg);
    for (unsigned i = 0; i < GW_ARRAY_SIZE(bases); i++) {
        bool dpdk = bases[i] >> 16 == 0;
        uint32_t base = dpdk ? bases[i] * 0x10001 : bases[i];

        assert_int_equal(fixture_start_at(&t, FIXTURE_DRIVER_FD, bases[i]), 0);
        assert_int_equal(fixture_stop_at(&t, GW_STOP_DRAIN), base);
    }
    fixture_end(&t);
}

/* DPDK sends a base of 16 bits, which is both the used and the available position. */
static void test_ring_packed_base_of_16_bits_is_both(void **state)
{
    struct fixture_config cfg = {.size = 5, .features = FIXTURE_F_PACKED, .base = 7};
    struct fixture t;

    fixture_begin(&t, &cfg);
    assert_int_equal(fixture_start_at(&t, FIXTURE_DRIVER_FD, 0x0002), 0);
    fixture_set_call(&t, FIXTURE_DRIVER_FD);
    fixture_enable(&t, true);
    fixture_add(&t, 1);
    gw_driver_kick(t.driver);
    fixture_take(&t, 1);
    check_used(&t, 2, 2, FIXTURE_BUF_LEN, false);
    assert_int_equal(fixture_stop_at(&t, GW_STOP_DRAIN), 0x00030003);
    fixture_end(&t);
}

/* Slots that a previous back-end took stay taken: they reduce the free slots for chains. */
static void test_ring_packed_base_with_taken_slots_leaves_them(void **state)
{
    struct fixture_config cfg = {.size = 5, .features = FIXTURE_F_PACKED, .base = 3};
    struct fixture t;

    fixture_begin(&t, &cfg);
    fixture_set_mode(&t, FIXTURE_HOLD);
    assert_int_equal(fixture_start_at(&t, FIXTURE_DRIVER_FD, 0x80018003), 0);
    fixture_enable(&t, true);
    for (unsigned i = 3; i < 5; i++)
        write_desc(&t, i, (uint16_t)i, AVAIL | WRITE | NEXT);
    write_desc(&t, 0, 0, USED | WRITE | NEXT); /* the third is not available */
    kick(&t);
    fixture_wait_for(&t.n_messages, 1);
    assert_non_null(strstr(t.message, "longer than the free part"));
    end(&t);
}

/* ---- unpopping ---- */

static int unpop_last(void *arg)
{
    struct fixture *t = arg;
    int r = gw_request_unpop(t->held[t->n_held - 1]);

    t->n_held -= r == 0;
    return r;
}

static void test_ring_packed_hands_back_over_the_end(void **state)
{
    struct fixture_config cfg = {.size = 7, .features = FIXTURE_F_PACKED, .base = 4};
    struct fixture t;

    begin_and_run(&t, &cfg);
    fixture_set_mode(&t, FIXTURE_HOLD);
    assert_int_equal(add_chain(&t, 2, 0), 0); /* 4, 5 */
    assert_int_equal(add_chain(&t, 3, 0), 0); /* 6, 0, 1 */
    assert_int_equal(add_chain(&t, 2, 0), 0); /* 2, 3: the ring is full */
    gw_driver_kick(t.driver);
    fixture_wait_held(&t, 3);
    for (unsigned i = 0; i < 3; i++)
        assert_int_equal(fixture_call(&t, unpop_last, &t), 0);
    assert_int_equal(t.queue.ring.ops->base(&t.queue.ring), fixture_base(&t, 4));
    gw_queue_wake(&t.queue);
    fixture_wait_held(&t, 3);
    assert_int_equal(fixture_call(&t, unpop_last, &t), 0);
    assert_int_equal(fixture_call(&t, unpop_last, &t), 0);
    assert_int_equal(t.queue.ring.ops->base(&t.queue.ring) & UINT16_MAX, 6 | WRAP);
    gw_queue_wake(&t.queue);
    fixture_wait_held(&t, 3);
    fixture_release(&t, 3);
    fixture_settle(&t);
    check_used(&t, 4, 4, 2, true);
    check_used(&t, 6, 6, 3, true);
    check_used(&t, 2, 2, 2, false);
    assert_int_equal(fixture_stop(&t), 4 + 7);
    fixture_end(&t);
}

/* ---- event areas ---- */

static bool is_told(struct fixture *t, unsigned n)
{
    fixture_settle(t);
    (void)counter(gw_driver_call_fd(t->driver));
    fixture_release(t, n);
    fixture_settle(t);
    return counter(gw_driver_call_fd(t->driver)) > 0;
}

/* Answers at 3, 4 of the first lap and 0, 1 of the second: which events do they pass? */
static void test_ring_packed_event_of_any_lap_and_place(void **state)
{
    for (unsigned offset = 0; offset < 8; offset++) {
        for (unsigned wrap = 0; wrap < 2; wrap++) {
            bool passed = wrap ? offset == 3 || offset == 4 : offset <= 1;
            struct fixture_config cfg = {
                .size = 5, .features = FIXTURE_F_PACKED | FIXTURE_F_EVENT, .base = 3};
            struct fixture t;

            begin_and_run(&t, &cfg);
            fixture_set_mode(&t, FIXTURE_HOLD);
            for (unsigned i = 0; i < 4; i++)
                fixture_add(&t, i);
            gw_driver_kick(t.driver);
            fixture_wait_held(&t, 4);
            gw_driver_write_driver_event(t.driver, (uint16_t)(offset | (wrap ? WRAP : 0)),
                                         VRING_PACKED_EVENT_FLAG_DESC);
            /* With an impossible event offset, notify: the driver must not sleep forever. */
            assert_int_equal(is_told(&t, 4), passed || offset >= 5);
            end(&t);
        }
    }
}

static void test_ring_packed_event_flags(void **state)
{
    static const struct {
        uint64_t features;
        uint16_t flags;
        bool told;
    } cases[] = {
        {0, VRING_PACKED_EVENT_FLAG_ENABLE, true},
        {0, VRING_PACKED_EVENT_FLAG_DISABLE, false},
        {0, VRING_PACKED_EVENT_FLAG_DESC, true}, /* not negotiated */
        {0, 3, true},                            /* reserved */
        {0, VRING_PACKED_EVENT_FLAG_DISABLE | 0xfffc, false},
        {FIXTURE_F_EVENT, VRING_PACKED_EVENT_FLAG_ENABLE, true},
        {FIXTURE_F_EVENT, VRING_PACKED_EVENT_FLAG_DISABLE, false},
        {FIXTURE_F_EVENT, VRING_PACKED_EVENT_FLAG_DESC, false}, /* at 0, which is passed */
        {FIXTURE_F_EVENT, 3, true},
    };

    for (unsigned i = 0; i < GW_ARRAY_SIZE(cases); i++) {
        struct fixture_config cfg = {
            .size = 5, .features = FIXTURE_F_PACKED | cases[i].features, .base = 1};
        struct fixture t;

        begin_and_run(&t, &cfg);
        fixture_set_mode(&t, FIXTURE_HOLD);
        fixture_add(&t, 1);
        gw_driver_kick(t.driver);
        fixture_wait_held(&t, 1);
        gw_driver_write_driver_event(t.driver, WRAP, cases[i].flags);
        assert_int_equal(is_told(&t, 1), cases[i].told);
        end(&t);
    }
}

static void check_device_event(struct fixture *t, unsigned place, unsigned flags)
{
    uint16_t event, is;

    fixture_settle(t);
    gw_driver_read_device_event(t->driver, &event, &is);
    assert_int_equal(is, flags);
    if (flags == VRING_PACKED_EVENT_FLAG_DESC)
        assert_int_equal(event, place);
}

static void test_ring_packed_asks_for_the_kick_of_the_next_slot(void **state)
{
    struct fixture_config cfg = {
        .size = 3, .features = FIXTURE_F_PACKED | FIXTURE_F_EVENT, .base = 1};
    static const unsigned places[] = {2 | WRAP, 0, 1, 2, 0 | WRAP, 1 | WRAP, 2 | WRAP};
    struct fixture t;

    begin_and_run(&t, &cfg);
    fixture_settle(&t);
    for (unsigned i = 0; i < GW_ARRAY_SIZE(places); i++) {
        fixture_add(&t, i);
        assert_true(gw_driver_kick(t.driver));
        fixture_take(&t, 1);
        check_device_event(&t, places[i], VRING_PACKED_EVENT_FLAG_DESC);
    }
    end(&t);
}

static void test_ring_packed_asks_for_kicks_only_when_empty(void **state)
{
    struct fixture_config cfg = {.features = FIXTURE_F_PACKED};
    struct fixture t;

    begin_and_run(&t, &cfg);
    fixture_set_mode(&t, FIXTURE_IGNORE);
    check_device_event(&t, 0, VRING_PACKED_EVENT_FLAG_ENABLE);
    fixture_add(&t, 1);
    gw_driver_kick(t.driver);
    fixture_wait_for(&t.n_ready, 1);
    check_device_event(&t, 0, VRING_PACKED_EVENT_FLAG_DISABLE);
    fixture_set_mode(&t, FIXTURE_COMPLETE);
    gw_queue_wake(&t.queue);
    fixture_take(&t, 1);
    check_device_event(&t, 0, VRING_PACKED_EVENT_FLAG_ENABLE);
    end(&t);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        FDCHECK_TEST(test_ring_packed_any_size_wraps_around),
        FDCHECK_TEST(test_ring_packed_batch_goes_around_the_end),
        FDCHECK_TEST(test_ring_packed_chain_is_used_at_its_first_slot),
        FDCHECK_TEST(test_ring_packed_impossible_start_is_refused),
        FDCHECK_TEST(test_ring_packed_base_is_answered_as_it_was_told),
        FDCHECK_TEST(test_ring_packed_base_of_16_bits_is_both),
        FDCHECK_TEST(test_ring_packed_base_with_taken_slots_leaves_them),
        FDCHECK_TEST(test_ring_packed_hands_back_over_the_end),
        FDCHECK_TEST(test_ring_packed_event_of_any_lap_and_place),
        FDCHECK_TEST(test_ring_packed_event_flags),
        FDCHECK_TEST(test_ring_packed_asks_for_the_kick_of_the_next_slot),
        FDCHECK_TEST(test_ring_packed_asks_for_kicks_only_when_empty),
    };

    return FIXTURE_RUN_BOTH_LOOPS(tests);
}
