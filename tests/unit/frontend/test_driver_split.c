/* SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause */
/*
 * The driver of split rings: its configuration, when it kicks, a device that breaks the rules, and
 * recovery after a crash. test_driver_layouts.c has what holds in both layouts.
 */
#include "../fixtures/driver_ring.h"
#include "fdcheck.h"

#include <errno.h>

static void begin(struct driver_ring *t, unsigned size, uint16_t base, bool event)
{
    driver_ring_begin(t, false, size, 0, base, event);
}

static void test_driver_split_bad_config_is_refused(void **state)
{
    struct gw_driver_config cfg;
    struct gw_driver *d;
    struct driver_ring t;

    begin(&t, 8, 0, false);
    cfg = t.cfg;
    cfg.queue_size = 3;
    assert_int_equal(gw_driver_new(&d, &cfg), -EINVAL);
    cfg.queue_size = 65536;
    assert_int_equal(gw_driver_new(&d, &cfg), -EINVAL);
    cfg = t.cfg;
    cfg.size--;
    assert_int_equal(gw_driver_new(&d, &cfg), -EINVAL);
    cfg = t.cfg;
    cfg.desc += 8;
    assert_int_equal(gw_driver_new(&d, &cfg), -EINVAL);
    cfg = t.cfg;
    cfg.used = RING_MEM_GPA + RING_MEM_LEN - 8 * 8 - 4; /* the event field is outside */
    assert_int_equal(gw_driver_new(&d, &cfg), -EFAULT);
    cfg = (struct gw_driver_config){
        .size = sizeof(cfg), .mem = t.mem, .queue_size = 32768, .indirect_max = 128};
    assert_int_equal(gw_driver_new(&d, &cfg), -ENOSPC);
    driver_ring_finish(&t);
}

static void test_driver_split_kicks_follow_the_flags(void **state)
{
    struct driver_ring t;

    begin(&t, 8, 0, false);
    assert_false(gw_driver_kick(t.d)); /* nothing to publish */
    driver_ring_add(&t, 0);
    assert_true(gw_driver_kick(t.d));
    t.split.used->flags = VRING_USED_F_NO_NOTIFY;
    driver_ring_add(&t, 1);
    assert_false(gw_driver_kick(t.d));
    gw_driver_kick_always(t.d);
    driver_ring_finish(&t);
}

/* EVENT_IDX: kick exactly when the index passes the event, anywhere in 16 bits. */
static void test_driver_split_kicks_follow_the_event(void **state)
{
    const uint16_t bases[] = {0, 100, 32767, 65530, 65535};

    for (unsigned b = 0; b < 5; b++) {
        for (unsigned ahead = 0; ahead < 6; ahead++) {
            struct driver_ring t;

            begin(&t, 8, bases[b], true);
            split_device_set_avail_event(&t.split, (uint16_t)(bases[b] + ahead));
            for (unsigned i = 0; i < 8; i++) {
                driver_ring_add(&t, i);
                assert_int_equal(gw_driver_kick(t.d), i == ahead);
            }
            driver_ring_finish(&t);
            /* One publication of all requests passes the event as well. */
            begin(&t, 8, bases[b], true);
            split_device_set_avail_event(&t.split, (uint16_t)(bases[b] + ahead));
            for (unsigned i = 0; i < 8; i++)
                driver_ring_add(&t, i);
            assert_true(gw_driver_kick(t.d));
            driver_ring_finish(&t);
        }
    }
}

static void test_driver_split_broken_device_is_told(void **state)
{
    struct driver_ring t;

    begin(&t, 8, 0, false);
    driver_ring_add(&t, 1);
    split_device_push(&t.split, 8, 0);
    driver_ring_expect_broken(&t, "beyond the ring");

    driver_ring_add(&t, 1);
    driver_ring_add(&t, 2);
    split_device_push(&t.split, 0, 0);
    split_device_push(&t.split, 0, 0); /* used twice */
    driver_ring_expect_broken(&t, "not in flight");

    driver_ring_add(&t, 1);
    split_device_push(&t.split, 0, 0);
    split_device_push(&t.split, 1, 0);
    driver_ring_expect_broken(&t, "more used elements");

    driver_ring_add(&t, 1);
    split_device_push(&t.split, 0, 65);
    driver_ring_expect_broken(&t, "length");
    driver_ring_finish(&t);
}

static void test_driver_split_raw_access_writes_what_it_is_told(void **state)
{
    uint32_t id, len;
    struct driver_ring t;

    begin(&t, 4, 0, false);
    gw_driver_write_desc(t.d, 5, 0xdeadbeef, 7, 0xffff, 99);
    gw_driver_write_avail(t.d, 6, 1);
    gw_driver_write_avail_idx(t.d, 1000);
    gw_driver_write_avail_flags(t.d, 0x1234);
    assert_true(t.split.desc[1].addr == 0xdeadbeef && t.split.desc[1].len == 7);
    assert_true(t.split.desc[1].flags == 0xffff && t.split.desc[1].next == 99);
    assert_true(t.split.avail->ring[2] == 1 && t.split.avail->idx == 1000);
    assert_int_equal(t.split.avail->flags, 0x1234);
    gw_driver_kick_always(t.d);
    assert_int_equal(t.split.avail->idx, 1000); /* the driver published nothing itself */
    split_device_push(&t.split, 77, 88);
    gw_driver_read_used(t.d, 0, &id, &len);
    assert_true(id == 77 && len == 88);
    driver_ring_finish(&t);
}

/*
 * Popped out of order by a device that crashed: each request it did not complete becomes available
 * again, once.
 */
static void test_driver_split_requeue_offers_what_is_not_done(void **state)
{
    struct gw_driver_used used[8];
    unsigned seen = 0;
    struct driver_ring t;

    begin(&t, 8, 65533, false);
    for (uint64_t i = 0; i < 6; i++)
        assert_int_equal(driver_ring_add(&t, i), 0);
    gw_driver_kick(t.d);
    split_device_push(&t.split, 4, 64);
    assert_int_equal(gw_driver_take(t.d, used, 8), 1);
    split_device_push(&t.split, 2, 64); /* completed, but not taken yet */
    assert_int_equal(gw_driver_n_used(t.d), 1);
    gw_driver_requeue(t.d);
    assert_int_equal((uint16_t)gw_driver_base(t.d), 65535);
    assert_int_equal(t.split.avail->idx, 3);
    for (uint16_t i = 65535; i != 3; i++)
        seen |= 1u << t.split.avail->ring[i & 7];
    assert_int_equal(seen, 1u << 0 | 1u << 1 | 1u << 3 | 1u << 5);
    assert_int_equal(gw_driver_take(t.d, used, 8), 1);
    assert_int_equal(used[0].cookie, 2);
    for (unsigned head = 0; head < 8; head++) {
        if (seen >> head & 1)
            split_device_push(&t.split, head, 64);
    }
    assert_int_equal(gw_driver_take(t.d, used, 8), 4);
    assert_int_equal(gw_driver_in_flight(t.d), 0);
    assert_int_equal(driver_ring_add(&t, 9), 0);
    gw_driver_publish(t.d);
    assert_int_equal(t.split.avail->idx, 4);
    driver_ring_finish(&t);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        FDCHECK_TEST(test_driver_split_bad_config_is_refused),
        FDCHECK_TEST(test_driver_split_kicks_follow_the_flags),
        FDCHECK_TEST(test_driver_split_kicks_follow_the_event),
        FDCHECK_TEST(test_driver_split_broken_device_is_told),
        FDCHECK_TEST(test_driver_split_raw_access_writes_what_it_is_told),
        FDCHECK_TEST(test_driver_split_requeue_offers_what_is_not_done),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
