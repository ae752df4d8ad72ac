/* SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause */
/*
 * The driver of packed rings against a simple device (packed_device.h) in real guest memory:
 * layout, wrap counters, a device that breaks the rules, and recovery after a crash.
 */
#include "../fixtures/packed_ring.h"
#include "fdcheck.h"

#include <godwit/frontend/log.h>

#include <errno.h>
#include <stdlib.h>

static void test_driver_packed_bad_config_is_refused(void **state)
{
    struct gw_driver_config cfg;
    struct gw_driver *d;
    struct packed_ring t;

    packed_ring_begin(&t, 8, 0, 0, false);
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
    cfg.desc = PACKED_MEM_GPA + PACKED_MEM_LEN - 7 * 16;
    assert_int_equal(gw_driver_new(&d, &cfg), -EFAULT);
    cfg = t.cfg;
    cfg.used = PACKED_MEM_GPA + PACKED_MEM_LEN;
    assert_int_equal(gw_driver_new(&d, &cfg), -EFAULT);
    packed_ring_finish(&t);
}

/* Freed rings return all of their memory, down to the last byte. */
static void test_driver_packed_allocated_rings_are_released(void **state)
{
    struct gw_driver_config cfg;
    struct gw_driver *d;
    struct packed_ring t;
    gw_gpa_t gpa;

    packed_ring_begin(&t, 1, 0, 0, false);
    cfg = (struct gw_driver_config){
        .size = sizeof(cfg), .mem = t.mem, .indirect_max = 16, .packed = true};
    for (unsigned i = 0; i < 1000; i++) {
        assert_int_equal(gw_driver_new(&d, &cfg), 0);
        assert_int_equal(gw_driver_size(d), 256);
        gw_driver_free(d);
    }
    assert_int_equal(gw_guest_mem_alloc(t.mem, PACKED_MEM_LEN - 4096, 1, &gpa), 0);
    gw_guest_mem_release(t.mem, gpa, PACKED_MEM_LEN - 4096);
    packed_ring_finish(&t);
}

static void check_chain(struct packed_ring *t, unsigned flags, unsigned n_desc)
{
    const struct gw_driver_buf bufs[4] = {{.addr = 0x11000, .len = 16},
                                          {.addr = 0x22000, .len = 512},
                                          {.addr = 0x33000, .len = 4096},
                                          {.addr = 0x44000, .len = 1}};
    struct packed_chain c;
    struct gw_driver_used used;

    assert_int_equal(gw_driver_add(t->d, bufs, 1, 3, 42, flags), 0);
    assert_false(packed_device_pop(&t->dev, &c)); /* not published */
    gw_driver_publish(t->d);
    assert_true(packed_device_pop(&t->dev, &c));
    assert_true(c.n_readable == 1 && c.n_writable == 3);
    assert_int_equal(c.n_desc, n_desc);
    for (unsigned i = 0; i < 4; i++)
        assert_true(c.bufs[i].addr == bufs[i].addr && c.bufs[i].len == bufs[i].len);
    assert_int_equal(gw_driver_in_flight(t->d), 1);
    packed_device_push(&t->dev, c.id, c.n_desc, 4609);
    assert_int_equal(gw_driver_take(t->d, &used, 1), 1);
    assert_true(used.cookie == 42 && used.len == 4609 && used.id == c.id);
    assert_int_equal(gw_driver_take(t->d, &used, 1), 0);
    assert_int_equal(gw_driver_in_flight(t->d), 0);
}

static void test_driver_packed_chains_are_laid_out_both_ways(void **state)
{
    const unsigned sizes[] = {4, 5, 7, 8};
    struct packed_ring t;

    for (unsigned s = 0; s < 4; s++) {
        for (unsigned index = 0; index < 2 * sizes[s]; index++) {
            packed_ring_begin(&t, sizes[s], 4, index, false);
            for (unsigned i = 0; i < 20; i++) {
                check_chain(&t, 0, 4);
                check_chain(&t, GW_DRIVER_INDIRECT, 1);
            }
            packed_ring_finish(&t);
        }
    }
}

/* Several chains become available at once, by one store. */
static void test_driver_packed_nothing_is_seen_before_it_is_published(void **state)
{
    struct packed_chain c;
    struct packed_ring t;

    packed_ring_begin(&t, 8, 0, 5, false);
    for (uint64_t i = 0; i < 6; i++)
        assert_int_equal(packed_ring_add(&t, i), 0);
    assert_false(packed_device_pop(&t.dev, &c));
    gw_driver_publish(t.d);
    for (uint64_t i = 0; i < 6; i++) {
        assert_true(packed_device_pop(&t.dev, &c));
        assert_true(c.bufs[0].addr == PACKED_MEM_GPA + 64 * i);
    }
    assert_false(packed_device_pop(&t.dev, &c));
    packed_ring_finish(&t);
}

static void test_driver_packed_full_ring_and_bad_chains_are_refused(void **state)
{
    const struct gw_driver_buf bufs[5] = {{.addr = PACKED_MEM_GPA, .len = 1}};
    struct packed_ring t;

    packed_ring_begin(&t, 4, 4, 0, false);
    assert_int_equal(gw_driver_add(t.d, bufs, 0, 0, 0, 0), -EINVAL);
    assert_int_equal(gw_driver_add(t.d, bufs, 5, 0, 0, GW_DRIVER_INDIRECT), -EINVAL);
    assert_int_equal(gw_driver_add(t.d, bufs, 5, 0, 0, 0), -ENOSPC);
    assert_int_equal(gw_driver_add(t.d, bufs, 3, 0, 0, 0), 0);
    assert_int_equal(gw_driver_add(t.d, bufs, 2, 0, 0, 0), -ENOSPC);
    assert_int_equal(gw_driver_add(t.d, bufs, 4, 0, 0, GW_DRIVER_INDIRECT), 0);
    assert_int_equal(gw_driver_add(t.d, bufs, 4, 0, 0, GW_DRIVER_INDIRECT), -ENOSPC);
    packed_ring_finish(&t);
}

/* Random chains, completed in random order, until the ring wraps many times. */
static void run_model(unsigned size, unsigned rounds)
{
    struct gw_driver_buf bufs[4] = {{.len = 8}, {.len = 8}, {.len = 8}, {.len = 8}};
    struct packed_chain *chains = calloc(size, sizeof(*chains)), held;
    bool *out = calloc(rounds, sizeof(*out));
    unsigned next = 0, done = 0, n, n_chains = 0;
    struct gw_driver_used used[8];
    struct packed_ring t;

    packed_ring_begin(&t, size, 4, size + size / 2, true);
    while (done < rounds) {
        unsigned len = 1 + (unsigned)rand() % 4;

        if (next < rounds && rand() % 3) {
            bufs[0].addr = next;
            if (gw_driver_add(t.d, bufs, 1, len - 1, next, rand() % 2 ? GW_DRIVER_INDIRECT : 0) ==
                0)
                out[next++] = true;
            if (rand() % 2)
                gw_driver_publish(t.d);
        }
        if (next == rounds)
            gw_driver_publish(t.d);
        if (packed_device_pop(&t.dev, &held))
            chains[n_chains++] = held;
        if (n_chains && rand() % 2) {
            unsigned k = (unsigned)rand() % n_chains;

            packed_device_push(&t.dev, chains[k].id, chains[k].n_desc, 8 * chains[k].n_writable);
            chains[k] = chains[--n_chains];
        }
        n = gw_driver_take(t.d, used, (unsigned)rand() % 9);
        for (unsigned i = 0; i < n; i++) {
            assert_true(used[i].cookie < next && out[used[i].cookie]);
            assert_true(used[i].len <= 24 && used[i].len % 8 == 0);
            out[used[i].cookie] = false;
            done++;
        }
    }
    assert_int_equal(gw_driver_check(t.d), 0);
    assert_int_equal(gw_driver_in_flight(t.d), 0);
    /* All descriptors are free again. */
    for (unsigned i = 0; i < size; i++)
        assert_int_equal(packed_ring_add(&t, i), 0);
    assert_int_equal(packed_ring_add(&t, 0), -ENOSPC);
    packed_ring_finish(&t);
    free(chains);
    free(out);
}

static void test_driver_packed_random_chains_all_come_back(void **state)
{
    srand(1);
    run_model(1, 50000);
    run_model(2, 50000);
    run_model(3, 50000);
    run_model(16, 200000);
    run_model(100, 200000);
    run_model(32768, 100000);
}

static void expect_broken(struct packed_ring *t, const char *text)
{
    struct gw_driver_used used[8];

    gw_driver_take(t->d, used, 8);
    assert_int_equal(gw_driver_check(t->d), -EPROTO);
    if (!strstr(gw_frontend_last_error(), text))
        fail_msg("\"%s\" is not about \"%s\"", gw_frontend_last_error(), text);
    assert_int_equal(gw_driver_take(t->d, used, 8), 0);
    assert_int_equal(gw_driver_wait(t->d, 1000), -EPROTO);
    gw_driver_reset(t->d, 0);
    assert_int_equal(gw_driver_check(t->d), 0);
    packed_device_init(&t->dev, t->mem, &t->cfg, 0);
}

static void test_driver_packed_broken_device_is_told(void **state)
{
    const struct gw_driver_buf bufs[2] = {{.len = 8}, {.len = 8}};
    struct gw_driver_used used;
    struct packed_ring t;

    packed_ring_begin(&t, 8, 0, 0, false);
    packed_ring_add(&t, 1);
    gw_driver_publish(t.d);
    packed_device_push(&t.dev, 8, 1, 0);
    expect_broken(&t, "beyond the ring");

    packed_ring_add(&t, 1);
    packed_ring_add(&t, 2);
    gw_driver_publish(t.d);
    packed_device_push(&t.dev, 0, 1, 0);
    packed_device_push(&t.dev, 0, 1, 0); /* used twice */
    expect_broken(&t, "not in flight");

    /* The second descriptor of a chain has no valid id. */
    gw_driver_add(t.d, bufs, 1, 1, 0, 0);
    gw_driver_publish(t.d);
    packed_device_push(&t.dev, 1, 2, 0);
    expect_broken(&t, "not in flight");

    packed_ring_add(&t, 1);
    gw_driver_publish(t.d);
    t.dev.used.wrap = false;
    packed_device_push(&t.dev, 0, 1, 0);
    expect_broken(&t, "wrong wrap counter");

    packed_device_push(&t.dev, 0, 1, 0);
    expect_broken(&t, "where none was available");

    /* Added, but not published: the device cannot know it. */
    packed_ring_add(&t, 1);
    packed_device_push(&t.dev, 0, 1, 0);
    expect_broken(&t, "where none was available");

    packed_ring_add(&t, 1);
    gw_driver_publish(t.d);
    packed_device_push(&t.dev, 0, 1, 65);
    expect_broken(&t, "length");

    /* Without WRITE the length is meaningless. */
    packed_ring_add(&t, 7);
    gw_driver_publish(t.d);
    packed_device_push(&t.dev, 0, 1, 65);
    t.dev.ring[0].flags &= (uint16_t)~VRING_DESC_F_WRITE;
    assert_int_equal(gw_driver_take(t.d, &used, 1), 1);
    assert_true(used.cookie == 7 && used.len == 0);
    packed_ring_finish(&t);
}

static void test_driver_packed_broken_event_area_is_told(void **state)
{
    const struct {
        unsigned flags, offset;
        bool event;
    } cases[] = {{3, 0, true}, {2, 0, false}, {2, 8, true}};

    for (unsigned i = 0; i < 3; i++) {
        struct packed_ring t;

        packed_ring_begin(&t, 8, 0, 0, cases[i].event);
        packed_ring_add(&t, 1);
        packed_device_set_event(&t.dev, cases[i].flags,
                                (struct packed_place){.offset = cases[i].offset, .wrap = true});
        assert_true(gw_driver_kick(t.d));
        expect_broken(&t, "device event");
        packed_ring_finish(&t);
    }
}

static void test_driver_packed_goes_on_in_a_clone(void **state)
{
    struct gw_driver_used used;
    struct gw_guest_mem *clone;
    struct packed_place avail;
    struct packed_ring t;

    packed_ring_begin(&t, 3, 4, 4, true);
    for (unsigned i = 1; i <= 3; i++)
        packed_ring_add(&t, i);
    gw_driver_publish(t.d);
    packed_ring_serve(&t, 0);
    assert_int_equal(gw_guest_mem_clone(&clone, t.mem, GW_GUEST_UVA_HOST), 0);
    memcpy(gw_guest_mem_at(clone, PACKED_MEM_GPA, PACKED_MEM_LEN),
           gw_guest_mem_at(t.mem, PACKED_MEM_GPA, PACKED_MEM_LEN), PACKED_MEM_LEN);
    assert_int_equal(gw_driver_set_mem(t.d, clone), 0);
    gw_guest_mem_free(t.mem);
    t.mem = clone;
    avail = t.dev.avail;
    packed_device_init(&t.dev, clone, &t.cfg, 0);
    t.dev.avail = t.dev.used = avail;
    for (unsigned i = 1; i <= 3; i++) {
        assert_int_equal(gw_driver_take(t.d, &used, 1), 1);
        assert_int_equal(used.cookie, i);
        if (i < 3)
            packed_ring_serve(&t, 0);
    }
    assert_int_equal(gw_driver_used_idx(t.d), 1); /* chains of 4 and 3 descriptors, ring size 6 */
    packed_ring_finish(&t);
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
    struct packed_ring t;
    unsigned taken;

    for (unsigned i = 0; i < 5; i++) {
        packed_ring_begin(&t, 7, 0, cases[i].index, false);
        assert_int_equal(gw_driver_base(t.d), cases[i].base);
        packed_ring_finish(&t);
    }
    packed_ring_begin(&t, 7, 0, 5, false);
    for (unsigned i = 0; i < 4; i++)
        packed_ring_add(&t, i);
    gw_driver_publish(t.d);
    packed_ring_serve(&t, 0);
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
    packed_ring_finish(&t);
}

static void test_driver_packed_raw_access_writes_what_it_is_told(void **state)
{
    const struct gw_driver_packed_desc desc = {
        .addr = 0xdeadbeef, .len = 7, .id = 99, .flags = 0xffff};
    struct gw_driver_packed_desc got;
    uint16_t event, flags;
    uint32_t id = 1, len = 2;
    struct packed_ring t;

    packed_ring_begin(&t, 5, 0, 0, false);
    gw_driver_write_packed_desc(t.d, 6, &desc);
    assert_true(t.dev.ring[1].addr == 0xdeadbeef && t.dev.ring[1].len == 7);
    assert_true(t.dev.ring[1].flags == 0xffff && t.dev.ring[1].id == 99);
    gw_driver_read_packed_desc(t.d, 11, &got);
    assert_memory_equal(&got, &desc, sizeof(got));
    gw_driver_write_driver_event(t.d, 0x8004, 2);
    assert_true(t.dev.driver_event->off_wrap == 0x8004 && t.dev.driver_event->flags == 2);
    packed_device_set_event(&t.dev, 3, packed_place_at(5, 2));
    gw_driver_read_device_event(t.d, &event, &flags);
    assert_true(event == 0x8002 && flags == 3);
    /* Functions of the split layout have no effect: their memory does not exist. */
    gw_driver_write_desc(t.d, 0, 1, 2, 3, 4);
    gw_driver_write_avail(t.d, 0, 1);
    gw_driver_write_avail_idx(t.d, 1);
    gw_driver_write_avail_flags(t.d, 1);
    gw_driver_read_used(t.d, 0, &id, &len);
    assert_true(t.dev.ring[0].addr == 0 && t.dev.driver_event->off_wrap == 0x8004);
    assert_true(id == 1 && len == 2);
    packed_ring_finish(&t);
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
        struct packed_ring t;

        packed_ring_begin(&t, 11, 4, index, false);
        for (unsigned i = 0; i < 4; i++)
            assert_int_equal(gw_driver_add(t.d, bufs, 1, i % 3, i, 0), 0);
        assert_int_equal(gw_driver_add(t.d, bufs, 1, 2, 4, GW_DRIVER_INDIRECT), 0);
        gw_driver_kick(t.d);
        for (unsigned i = 0; i < 5; i++)
            assert_true(packed_device_pop(&t.dev, &chains[i]));
        packed_device_push(&t.dev, chains[4].id, chains[4].n_desc, 16);
        assert_int_equal(gw_driver_take(t.d, used, 8), 1);
        packed_device_push(&t.dev, chains[2].id, chains[2].n_desc, 16); /* not taken yet */
        /* A half-written element of the crashed device does not count, and does no harm. */
        t.dev.ring[t.dev.used.offset].id = chains[0].id;
        t.dev.ring[t.dev.used.offset].len = 77;
        assert_int_equal(gw_driver_n_used(t.d), 1);
        gw_driver_requeue(t.d);
        assert_int_equal(gw_driver_n_used(t.d), 1);
        assert_int_equal(gw_driver_check_base(t.d, &taken), 0);
        assert_int_equal(taken, 0);
        packed_device_init(&t.dev, t.mem, &t.cfg, gw_driver_used_idx(t.d));
        while (packed_device_pop(&t.dev, &c)) {
            unsigned i = 0;

            while (chains[i].id != c.id)
                i++;
            assert_true(c.n_desc == chains[i].n_desc && c.n_writable == chains[i].n_writable);
            assert_memory_equal(c.bufs, chains[i].bufs,
                                sizeof(c.bufs[0]) * (c.n_readable + c.n_writable));
            seen |= 1u << i;
            packed_device_push(&t.dev, c.id, c.n_desc, 0);
        }
        assert_int_equal(seen, 1u << 0 | 1u << 1 | 1u << 3);
        assert_int_equal(gw_driver_take(t.d, used, 8), 4);
        assert_int_equal(used[0].cookie, 2);
        assert_int_equal(gw_driver_check(t.d), 0);
        assert_int_equal(gw_driver_in_flight(t.d), 0);
        for (unsigned i = 0; i < 50; i++) {
            assert_int_equal(gw_driver_add(t.d, bufs, 1, 2, i, 0), 0);
            gw_driver_kick(t.d);
            packed_ring_serve(&t, 16);
            assert_int_equal(gw_driver_take(t.d, used, 8), 1);
        }
        packed_ring_finish(&t);
    }
}

/* Copies what the driver wrote, without the device's writes. */
struct copy {
    struct packed_ring *t;
    uint8_t *to;
};

static void copy_written(void *arg, gw_gpa_t gpa, uint64_t len)
{
    struct copy *c = arg;
    uint8_t *to = c->to + (gpa - PACKED_MEM_GPA);

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
    struct packed_ring t;
    const struct vring_packed_desc *ring;
    uint64_t at;

    packed_ring_begin(&t, 5, 4, 3, true);
    copy = (struct copy){.t = &t, .to = calloc(1, PACKED_MEM_LEN)};
    assert_int_equal(gw_guest_track_new(&track), 0);
    assert_int_equal(gw_guest_track_add(track, PACKED_MEM_GPA, PACKED_MEM_LEN), 0);
    gw_driver_set_track(t.d, track);
    gw_driver_reset(t.d, 3);
    at = t.cfg.desc - PACKED_MEM_GPA;
    ring = (const void *)(copy.to + at);
    for (unsigned i = 0; i < 100; i++) {
        unsigned slot = t.dev.used.offset;
        uint16_t lap_before = i < 5             ? t.dev.used.wrap ? 0 : PACKED_AVAIL | PACKED_USED
                              : t.dev.used.wrap ? PACKED_USED
                                                : PACKED_AVAIL;

        packed_ring_add(&t, 1);
        gw_driver_want_calls(t.d);
        /* Not published: the flags are those of the driver's previous lap. */
        gw_guest_track_take(track, copy_written, &copy);
        assert_int_equal(ring[slot].flags & (PACKED_AVAIL | PACKED_USED), lap_before);
        gw_driver_publish(t.d);
        packed_ring_serve(&t, 64);
        assert_int_equal(gw_driver_take(t.d, used, 8), 1);
        gw_guest_track_take(track, copy_written, &copy);
        assert_int_equal(ring[slot].flags & (PACKED_AVAIL | PACKED_USED),
                         t.dev.ring[slot].flags & PACKED_AVAIL ? PACKED_AVAIL : PACKED_USED);
        assert_int_equal(ring[slot].len, 64);
        assert_int_equal(ring[slot].addr, PACKED_MEM_GPA + 64);
        assert_memory_equal(copy.to + (t.cfg.avail - PACKED_MEM_GPA), t.dev.driver_event, 4);
        /* A copy without the overlay would have the device's flags. */
        assert_int_not_equal(ring[slot].flags, t.dev.ring[slot].flags);
    }
    gw_driver_set_track(t.d, NULL);
    gw_guest_track_free(track);
    free(copy.to);
    packed_ring_finish(&t);
}

static void test_driver_packed_places_have_names(void **state)
{
    struct packed_ring t;
    unsigned i;

    packed_ring_begin(&t, 8, 2, 0, false);
    assert_int_equal(gw_driver_find(t.d, t.cfg.desc + 16 * 7 + 15, &i),
                     GW_DRIVER_PLACE_PACKED_DESC);
    assert_int_equal(i, 7);
    assert_int_equal(gw_driver_find(t.d, t.cfg.avail + 3, &i), GW_DRIVER_PLACE_DRIVER_EVENT);
    assert_int_equal(gw_driver_find(t.d, t.cfg.used, &i), GW_DRIVER_PLACE_DEVICE_EVENT);
    assert_int_equal(gw_driver_find(t.d, t.cfg.used + 4, NULL), GW_DRIVER_PLACE_NONE);
    packed_ring_finish(&t);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        FDCHECK_TEST(test_driver_packed_bad_config_is_refused),
        FDCHECK_TEST(test_driver_packed_allocated_rings_are_released),
        FDCHECK_TEST(test_driver_packed_chains_are_laid_out_both_ways),
        FDCHECK_TEST(test_driver_packed_nothing_is_seen_before_it_is_published),
        FDCHECK_TEST(test_driver_packed_full_ring_and_bad_chains_are_refused),
        FDCHECK_TEST(test_driver_packed_random_chains_all_come_back),
        FDCHECK_TEST(test_driver_packed_broken_device_is_told),
        FDCHECK_TEST(test_driver_packed_broken_event_area_is_told),
        FDCHECK_TEST(test_driver_packed_goes_on_in_a_clone),
        FDCHECK_TEST(test_driver_packed_base_has_both_places),
        FDCHECK_TEST(test_driver_packed_raw_access_writes_what_it_is_told),
        FDCHECK_TEST(test_driver_packed_requeue_offers_what_is_not_done),
        FDCHECK_TEST(test_driver_packed_overlay_has_nothing_of_the_device),
        FDCHECK_TEST(test_driver_packed_places_have_names),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
