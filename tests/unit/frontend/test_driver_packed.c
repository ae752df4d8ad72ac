/* SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause */
/*
 * The driver of packed rings: its configuration, when it kicks, a device that breaks the rules, and
 * recovery after a crash. test_driver_layouts.c has what holds in both layouts.
 */
#include "../fixtures/driver_ring.h"
#include "fdcheck.h"

#include <godwit/frontend/log.h>

#include <errno.h>
#include <stdlib.h>

static void test_driver_packed_bad_config_is_refused(void **state)
{
    struct gw_driver_config cfg;
    struct gw_driver *d;
    struct driver_ring t;

    driver_ring_begin(&t, true, 8, 0, 0, false);
    cfg = t.cfg;
    cfg.queue_size = 32769;
    assert_int_equal(gw_driver_new(&d, &cfg), -EINVAL);
    cfg = t.cfg;
    cfg.desc += 8;
    assert_int_equal(gw_driver_new(&d, &cfg), -EINVAL);
    cfg = t.cfg;
    cfg.avail += 2;
    assert_int_equal(gw_driver_new(&d, &cfg), -EINVAL);
    cfg = t.cfg;
    cfg.desc = RING_MEM_GPA + RING_MEM_LEN - 7 * 16;
    assert_int_equal(gw_driver_new(&d, &cfg), -EFAULT);
    cfg = t.cfg;
    cfg.used = RING_MEM_GPA + RING_MEM_LEN;
    assert_int_equal(gw_driver_new(&d, &cfg), -EFAULT);
    driver_ring_finish(&t);
}

static void test_driver_packed_kicks_follow_the_flags(void **state)
{
    struct packed_place none = {0};
    struct driver_ring t;

    driver_ring_begin(&t, true, 8, 0, 0, false);
    assert_false(gw_driver_kick(t.d)); /* nothing to publish */
    driver_ring_add(&t, 0);
    assert_true(gw_driver_kick(t.d));
    packed_device_set_event(&t.packed, VRING_PACKED_EVENT_FLAG_DISABLE, none);
    driver_ring_add(&t, 1);
    assert_false(gw_driver_kick(t.d));
    gw_driver_kick_always(t.d);
    driver_ring_finish(&t);
}

/* EVENT_IDX: kick exactly when the descriptor of the event becomes available. */
static void test_driver_packed_kicks_follow_the_event(void **state)
{
    for (unsigned index = 0; index < 14; index++) {
        for (unsigned ahead = 0; ahead < 7; ahead++) {
            struct driver_ring t;

            driver_ring_begin(&t, true, 7, 0, index, true);
            packed_device_set_event(&t.packed, VRING_PACKED_EVENT_FLAG_DESC,
                                    packed_place_at(7, index + ahead));
            for (unsigned i = 0; i < 7; i++) {
                driver_ring_add(&t, i);
                assert_int_equal(gw_driver_kick(t.d), i == ahead);
            }
            driver_ring_finish(&t);
            /* One publication of all descriptors passes the event as well. */
            driver_ring_begin(&t, true, 7, 0, index, true);
            packed_device_set_event(&t.packed, VRING_PACKED_EVENT_FLAG_DESC,
                                    packed_place_at(7, index + ahead));
            for (unsigned i = 0; i < 7; i++)
                driver_ring_add(&t, i);
            assert_true(gw_driver_kick(t.d));
            driver_ring_finish(&t);
        }
    }
}

/* More than two laps are published without a kick: they passed the event, wherever it is. */
static void test_driver_packed_kick_is_not_lost_over_laps(void **state)
{
    for (unsigned n = 1; n < 9; n++) {
        struct gw_driver_used used;
        struct driver_ring t;

        driver_ring_begin(&t, true, 2, 0, 0, true);
        packed_device_set_event(&t.packed, VRING_PACKED_EVENT_FLAG_DESC, packed_place_at(2, 0));
        for (unsigned i = 0; i < n; i++) {
            driver_ring_add(&t, i);
            gw_driver_publish(t.d);
            driver_ring_serve(&t, 0);
            assert_int_equal(gw_driver_take(t.d, &used, 1), 1);
        }
        assert_true(gw_driver_kick(t.d));
        assert_false(gw_driver_kick(t.d));
        driver_ring_finish(&t);
    }
}

static void test_driver_packed_broken_device_is_told(void **state)
{
    const struct gw_driver_buf bufs[2] = {{.len = 8}, {.len = 8}};
    struct gw_driver_used used;
    struct driver_ring t;

    driver_ring_begin(&t, true, 8, 0, 0, false);
    driver_ring_add(&t, 1);
    gw_driver_publish(t.d);
    packed_device_push(&t.packed, 8, 1, 0);
    driver_ring_expect_broken(&t, "beyond the ring");

    driver_ring_add(&t, 1);
    driver_ring_add(&t, 2);
    gw_driver_publish(t.d);
    packed_device_push(&t.packed, 0, 1, 0);
    packed_device_push(&t.packed, 0, 1, 0); /* used twice */
    driver_ring_expect_broken(&t, "not in flight");

    /* The second descriptor of a chain has no valid id. */
    gw_driver_add(t.d, bufs, 1, 1, 0, 0);
    gw_driver_publish(t.d);
    packed_device_push(&t.packed, 1, 2, 0);
    driver_ring_expect_broken(&t, "not in flight");

    driver_ring_add(&t, 1);
    gw_driver_publish(t.d);
    t.packed.used.wrap = false;
    packed_device_push(&t.packed, 0, 1, 0);
    driver_ring_expect_broken(&t, "wrong wrap counter");

    packed_device_push(&t.packed, 0, 1, 0);
    driver_ring_expect_broken(&t, "where none was available");

    /* Added, but not published: the device cannot know it. */
    driver_ring_add(&t, 1);
    packed_device_push(&t.packed, 0, 1, 0);
    driver_ring_expect_broken(&t, "where none was available");

    driver_ring_add(&t, 1);
    gw_driver_publish(t.d);
    packed_device_push(&t.packed, 0, 1, 65);
    driver_ring_expect_broken(&t, "length");

    /* Without WRITE the length is meaningless. */
    driver_ring_add(&t, 7);
    gw_driver_publish(t.d);
    packed_device_push(&t.packed, 0, 1, 65);
    t.packed.ring[0].flags &= (uint16_t)~VRING_DESC_F_WRITE;
    assert_int_equal(gw_driver_take(t.d, &used, 1), 1);
    assert_true(used.cookie == 7 && used.len == 0);
    driver_ring_finish(&t);
}

static void test_driver_packed_broken_event_area_is_told(void **state)
{
    const struct {
        unsigned flags, offset;
        bool event;
    } cases[] = {{3, 0, true}, {2, 0, false}, {2, 8, true}};

    for (unsigned i = 0; i < 3; i++) {
        struct driver_ring t;

        driver_ring_begin(&t, true, 8, 0, 0, cases[i].event);
        driver_ring_add(&t, 1);
        packed_device_set_event(&t.packed, cases[i].flags,
                                (struct packed_place){.offset = cases[i].offset, .wrap = true});
        assert_true(gw_driver_kick(t.d));
        driver_ring_expect_broken(&t, "device event");
        driver_ring_finish(&t);
    }
}

/*
 * The base in GET_VRING_BASE: available index and wrap counter in the low half, used in the high
 * half.
 */
static void test_driver_packed_base_has_both_places(void **state)
{
    const struct {
        unsigned index;
        uint32_t base;
    } cases[] = {{0, 0x80008000}, {5, 0x80058005}, {7, 0}, {12, 0x50005}, {14, 0x80008000}};
    struct driver_ring t;
    unsigned taken;

    for (unsigned i = 0; i < 5; i++) {
        driver_ring_begin(&t, true, 7, 0, cases[i].index, false);
        assert_int_equal(gw_driver_base(t.d), cases[i].base);
        driver_ring_finish(&t);
    }
    driver_ring_begin(&t, true, 7, 0, 5, false);
    for (unsigned i = 0; i < 4; i++)
        driver_ring_add(&t, i);
    gw_driver_publish(t.d);
    driver_ring_serve(&t, 0);
    gw_driver_set_base(t.d, 0x80068006);
    assert_int_equal(gw_driver_check_base(t.d, &taken), 0);
    assert_int_equal(taken, 0);
    gw_driver_set_base(t.d, 0x80060001); /* after the wrap: three more popped */
    assert_int_equal(gw_driver_check_base(t.d, &taken), 0);
    assert_int_equal(taken, 2);
    gw_driver_set_base(t.d, 0x80060002);
    assert_int_equal(gw_driver_check_base(t.d, &taken), 0);
    assert_int_equal(taken, 3);
    gw_driver_set_base(t.d, 0x80060003); /* beyond the available descriptors */
    assert_int_equal(gw_driver_check_base(t.d, &taken), -EPROTO);
    gw_driver_set_base(t.d, 0x00000001); /* no used index, like DPDK */
    assert_int_equal(gw_driver_check_base(t.d, &taken), -EPROTO);
    gw_driver_set_base(t.d, 0x80068007); /* no such index */
    assert_int_equal(gw_driver_check_base(t.d, &taken), -EPROTO);
    gw_driver_set_base(t.d, 0x80068005); /* less than the used index */
    assert_int_equal(gw_driver_check_base(t.d, &taken), -EPROTO);
    driver_ring_finish(&t);
}

static void test_driver_packed_raw_access_writes_what_it_is_told(void **state)
{
    const struct gw_driver_packed_desc desc = {
        .addr = 0xdeadbeef, .len = 7, .id = 99, .flags = 0xffff};
    struct gw_driver_packed_desc got;
    uint16_t event, flags;
    uint32_t id = 1, len = 2;
    struct driver_ring t;

    driver_ring_begin(&t, true, 5, 0, 0, false);
    gw_driver_write_packed_desc(t.d, 6, &desc);
    assert_true(t.packed.ring[1].addr == 0xdeadbeef && t.packed.ring[1].len == 7);
    assert_true(t.packed.ring[1].flags == 0xffff && t.packed.ring[1].id == 99);
    gw_driver_read_packed_desc(t.d, 11, &got);
    assert_memory_equal(&got, &desc, sizeof(got));
    gw_driver_write_driver_event(t.d, 0x8004, 2);
    assert_true(t.packed.driver_event->off_wrap == 0x8004 && t.packed.driver_event->flags == 2);
    packed_device_set_event(&t.packed, 3, packed_place_at(5, 2));
    gw_driver_read_device_event(t.d, &event, &flags);
    assert_true(event == 0x8002 && flags == 3);
    /* Functions of the split layout have no effect: their memory does not exist. */
    gw_driver_write_desc(t.d, 0, 1, 2, 3, 4);
    gw_driver_write_avail(t.d, 0, 1);
    gw_driver_write_avail_idx(t.d, 1);
    gw_driver_write_avail_flags(t.d, 1);
    gw_driver_read_used(t.d, 0, &id, &len);
    assert_true(t.packed.ring[0].addr == 0 && t.packed.driver_event->off_wrap == 0x8004);
    assert_true(id == 1 && len == 2);
    driver_ring_finish(&t);
}

/*
 * Popped out of order by a device that crashed: each request it did not complete becomes available
 * again, once.
 */
static void test_driver_packed_requeue_offers_what_is_not_done(void **state)
{
    const struct gw_driver_buf bufs[3] = {
        {.addr = 0x1000, .len = 8}, {.addr = 0x2000, .len = 8}, {.addr = 0x3000, .len = 8}};

    for (unsigned index = 0; index < 22; index++) {
        struct packed_chain chains[6] = {0}, c = {0};
        struct gw_driver_used used[8];
        unsigned seen = 0, taken;
        struct driver_ring t;

        driver_ring_begin(&t, true, 11, 4, index, false);
        for (unsigned i = 0; i < 4; i++)
            assert_int_equal(gw_driver_add(t.d, bufs, 1, i % 3, i, 0), 0);
        assert_int_equal(gw_driver_add(t.d, bufs, 1, 2, 4, GW_DRIVER_INDIRECT), 0);
        gw_driver_kick(t.d);
        for (unsigned i = 0; i < 5; i++)
            assert_true(packed_device_pop(&t.packed, &chains[i]));
        packed_device_push(&t.packed, chains[4].id, chains[4].n_desc, 16);
        assert_int_equal(gw_driver_take(t.d, used, 8), 1);
        packed_device_push(&t.packed, chains[2].id, chains[2].n_desc, 16); /* not taken yet */
        /* A half-written element of the crashed device does not count, and does no harm. */
        t.packed.ring[t.packed.used.offset].id = chains[0].id;
        t.packed.ring[t.packed.used.offset].len = 77;
        assert_int_equal(gw_driver_n_used(t.d), 1);
        gw_driver_requeue(t.d);
        assert_int_equal(gw_driver_n_used(t.d), 1);
        assert_int_equal(gw_driver_check_base(t.d, &taken), 0);
        assert_int_equal(taken, 0);
        packed_device_init(&t.packed, t.mem, &t.cfg, gw_driver_used_idx(t.d));
        while (packed_device_pop(&t.packed, &c)) {
            unsigned i = 0;

            while (chains[i].id != c.id)
                i++;
            assert_true(c.n_desc == chains[i].n_desc && c.n_writable == chains[i].n_writable);
            assert_memory_equal(c.bufs, chains[i].bufs,
                                sizeof(c.bufs[0]) * (c.n_readable + c.n_writable));
            seen |= 1u << i;
            packed_device_push(&t.packed, c.id, c.n_desc, 0);
        }
        assert_int_equal(seen, 1u << 0 | 1u << 1 | 1u << 3);
        assert_int_equal(gw_driver_take(t.d, used, 8), 4);
        assert_int_equal(used[0].cookie, 2);
        assert_int_equal(gw_driver_check(t.d), 0);
        assert_int_equal(gw_driver_in_flight(t.d), 0);
        for (unsigned i = 0; i < 50; i++) {
            assert_int_equal(gw_driver_add(t.d, bufs, 1, 2, i, 0), 0);
            gw_driver_kick(t.d);
            driver_ring_serve(&t, 16);
            assert_int_equal(gw_driver_take(t.d, used, 8), 1);
        }
        driver_ring_finish(&t);
    }
}

/* Copies what the driver wrote, without the device's writes. */
struct copy {
    struct driver_ring *t;
    uint8_t *to;
};

static void copy_written(void *arg, gw_gpa_t gpa, uint64_t len)
{
    struct copy *c = arg;
    uint8_t *to = c->to + (gpa - RING_MEM_GPA);

    memcpy(to, gw_guest_mem_at(c->t->mem, gpa, len), len);
    gw_driver_overlay(c->t->d, gpa, to, len);
}

/*
 * The copy is the ring without the device's writes, so a difference from the ring is a write of the
 * device.
 */
static void test_driver_packed_overlay_has_nothing_of_the_device(void **state)
{
    struct copy copy;
    struct gw_guest_track *track;
    struct gw_driver_used used[8];
    struct driver_ring t;
    const struct vring_packed_desc *ring;
    uint64_t at;

    driver_ring_begin(&t, true, 5, 4, 3, true);
    copy = (struct copy){.t = &t, .to = calloc(1, RING_MEM_LEN)};
    assert_int_equal(gw_guest_track_new(&track), 0);
    assert_int_equal(gw_guest_track_add(track, RING_MEM_GPA, RING_MEM_LEN), 0);
    gw_driver_set_track(t.d, track);
    gw_driver_reset(t.d, 3);
    at = t.cfg.desc - RING_MEM_GPA;
    ring = (const void *)(copy.to + at);
    for (unsigned i = 0; i < 100; i++) {
        unsigned slot = t.packed.used.offset;
        uint16_t lap_before = i < 5 ? t.packed.used.wrap ? 0 : PACKED_AVAIL | PACKED_USED
                              : t.packed.used.wrap ? PACKED_USED
                                                   : PACKED_AVAIL;

        driver_ring_add(&t, 1);
        gw_driver_want_calls(t.d);
        /* Not published: the flags are those of the driver's previous lap. */
        gw_guest_track_take(track, copy_written, &copy);
        assert_int_equal(ring[slot].flags & (PACKED_AVAIL | PACKED_USED), lap_before);
        gw_driver_publish(t.d);
        driver_ring_serve(&t, 64);
        assert_int_equal(gw_driver_take(t.d, used, 8), 1);
        gw_guest_track_take(track, copy_written, &copy);
        assert_int_equal(ring[slot].flags & (PACKED_AVAIL | PACKED_USED),
                         t.packed.ring[slot].flags & PACKED_AVAIL ? PACKED_AVAIL : PACKED_USED);
        assert_int_equal(ring[slot].len, 64);
        assert_int_equal(ring[slot].addr, RING_MEM_GPA + 64);
        assert_memory_equal(copy.to + (t.cfg.avail - RING_MEM_GPA), t.packed.driver_event, 4);
        /* A copy without the overlay would have the device's flags. */
        assert_int_not_equal(ring[slot].flags, t.packed.ring[slot].flags);
    }
    gw_driver_set_track(t.d, NULL);
    gw_guest_track_free(track);
    free(copy.to);
    driver_ring_finish(&t);
}

static void test_driver_packed_places_have_names(void **state)
{
    struct driver_ring t;
    unsigned i;

    driver_ring_begin(&t, true, 8, 2, 0, false);
    assert_int_equal(gw_driver_find(t.d, t.cfg.desc + 16 * 7 + 15, &i),
                     GW_DRIVER_PLACE_PACKED_DESC);
    assert_int_equal(i, 7);
    assert_int_equal(gw_driver_find(t.d, t.cfg.avail + 3, &i), GW_DRIVER_PLACE_DRIVER_EVENT);
    assert_int_equal(gw_driver_find(t.d, t.cfg.used, &i), GW_DRIVER_PLACE_DEVICE_EVENT);
    assert_int_equal(gw_driver_find(t.d, t.cfg.used + 4, NULL), GW_DRIVER_PLACE_NONE);
    driver_ring_finish(&t);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        FDCHECK_TEST(test_driver_packed_bad_config_is_refused),
        FDCHECK_TEST(test_driver_packed_kicks_follow_the_flags),
        FDCHECK_TEST(test_driver_packed_kicks_follow_the_event),
        FDCHECK_TEST(test_driver_packed_kick_is_not_lost_over_laps),
        FDCHECK_TEST(test_driver_packed_broken_device_is_told),
        FDCHECK_TEST(test_driver_packed_broken_event_area_is_told),
        FDCHECK_TEST(test_driver_packed_base_has_both_places),
        FDCHECK_TEST(test_driver_packed_raw_access_writes_what_it_is_told),
        FDCHECK_TEST(test_driver_packed_requeue_offers_what_is_not_done),
        FDCHECK_TEST(test_driver_packed_overlay_has_nothing_of_the_device),
        FDCHECK_TEST(test_driver_packed_places_have_names),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
