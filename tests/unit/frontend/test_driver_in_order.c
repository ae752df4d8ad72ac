/* SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause */
/*
 * IN_ORDER in the driver, in both layouts: one used element completes a batch, skipped buffers
 * count as used completely, the next element follows the batch; and devices that violate that.
 */
#include "../fixtures/packed_device.h"
#include "../fixtures/split_device.h"
#include "fdcheck.h"

#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>

#include <cmocka.h>

#define MEM_GPA UINT64_C(0x100000000)
#define MEM_LEN (UINT64_C(8) << 20)
#define F_EVENT (UINT64_C(1) << 29)
#define F_ORDER (UINT64_C(1) << 35)

/* Popped by the device and not used yet. */
struct taken {
    uint32_t id;
    unsigned n_desc;
    uint32_t writable_len;
};

struct fixture {
    struct gw_guest_mem *mem;
    struct gw_driver *d;
    struct gw_driver_config cfg;
    struct split_device split;
    struct packed_device packed;
    struct taken *taken; /* a circular buffer of the ring's size */
    unsigned first, n_taken;
};

static void begin(struct fixture *t, bool packed, unsigned size, unsigned index)
{
    const struct gw_guest_region region = {.gpa = MEM_GPA, .length = MEM_LEN};

    memset(t, 0, sizeof(*t));
    assert_int_equal(gw_guest_mem_new(&t->mem, 0), 0);
    assert_int_equal(gw_guest_mem_add(t->mem, &region), 0);
    t->cfg = (struct gw_driver_config){.size = sizeof(t->cfg),
                                       .mem = t->mem,
                                       .queue_size = size,
                                       .indirect_max = 4,
                                       .place = true,
                                       .packed = packed};
    assert_int_equal(gw_guest_mem_alloc(t->mem, size * 16, 16, &t->cfg.desc), 0);
    assert_int_equal(gw_guest_mem_alloc(t->mem, size * 2 + 6, 4, &t->cfg.avail), 0);
    assert_int_equal(gw_guest_mem_alloc(t->mem, size * 8 + 6, 4, &t->cfg.used), 0);
    assert_int_equal(gw_driver_new(&t->d, &t->cfg), 0);
    gw_driver_reset(t->d, (uint16_t)index);
    gw_driver_set_features(t->d, F_ORDER | F_EVENT);
    if (packed)
        packed_device_init(&t->packed, t->mem, &t->cfg, index);
    else
        split_device_init(&t->split, t->mem, &t->cfg, (uint16_t)index);
    t->taken = calloc(size, sizeof(*t->taken));
}

static void finish(struct fixture *t)
{
    free(t->taken);
    gw_driver_free(t->d);
    gw_guest_mem_free(t->mem);
}

static uint32_t writable_len(const struct gw_driver_buf *bufs, unsigned n_readable,
                             unsigned n_writable)
{
    uint32_t len = 0;

    for (unsigned i = n_readable; i < n_readable + n_writable; i++)
        len += bufs[i].len;
    return len;
}

/* Pop one chain; in a split ring, descriptors must be in the order of the table (2.7.9). */
static bool device_pop(struct fixture *t)
{
    struct taken *taken = &t->taken[(t->first + t->n_taken) % t->cfg.queue_size];
    struct packed_chain pc;
    struct split_chain sc;

    if (t->cfg.packed) {
        if (!packed_device_pop(&t->packed, &pc))
            return false;
        *taken =
            (struct taken){pc.id, pc.n_desc, writable_len(pc.bufs, pc.n_readable, pc.n_writable)};
    } else {
        unsigned i;

        if (!split_device_pop(&t->split, &sc))
            return false;
        i = sc.head;
        *taken = (struct taken){sc.head, 1, writable_len(sc.bufs, sc.n_readable, sc.n_writable)};
        for (; t->split.desc[i].flags & VRING_DESC_F_NEXT; i = t->split.desc[i].next) {
            assert_int_equal(t->split.desc[i].next, (i + 1) % t->cfg.queue_size);
            taken->n_desc++;
        }
    }
    t->n_taken++;
    return true;
}

/* Use the `n` oldest chains with one element; returns its length. */
static uint32_t device_push(struct fixture *t, unsigned n)
{
    struct taken last = {0};
    unsigned n_desc = 0;
    uint32_t len;

    for (unsigned i = 0; i < n; i++) {
        last = t->taken[t->first];
        n_desc += last.n_desc;
        t->first = (t->first + 1) % t->cfg.queue_size;
    }
    t->n_taken -= n;
    len = last.writable_len / 2;
    if (t->cfg.packed) {
        packed_device_push(&t->packed, (uint16_t)last.id, n_desc, len);
    } else {
        struct vring_used_elem *e =
            &t->split.used->ring[t->split.next_used & (t->cfg.queue_size - 1)];

        e->id = htole32(last.id);
        e->len = htole32(len);
        t->split.next_used = (uint16_t)(t->split.next_used + n);
        __atomic_store_n(&t->split.used->idx, htole16(t->split.next_used), __ATOMIC_RELEASE);
    }
    return len;
}

static int add(struct fixture *t, unsigned n_writable, uint64_t cookie, unsigned flags)
{
    const struct gw_driver_buf bufs[4] = {{.len = 1}, {.len = 10}, {.len = 20}, {.len = 30}};

    return gw_driver_add(t->d, bufs, 1, n_writable, cookie, flags);
}

static void test_driver_in_order_batch_is_one_element(void **state)
{
    for (unsigned packed = 0; packed < 2; packed++) {
        struct gw_driver_used used[8];
        struct fixture t;
        uint32_t len;

        begin(&t, packed, 16, 13);
        for (unsigned i = 0; i < 5; i++)
            assert_int_equal(add(&t, i % 4, i, 0), 0);
        gw_driver_publish(t.d);
        for (unsigned i = 0; i < 5; i++)
            assert_true(device_pop(&t));
        len = device_push(&t, 4);
        /* Also in parts: the driver knows the rest of the batch without the ring. */
        assert_false(gw_driver_want_calls(t.d));
        assert_int_equal(gw_driver_take(t.d, used, 1), 1);
        assert_false(gw_driver_want_calls(t.d));
        assert_int_equal(gw_driver_take(t.d, used + 1, 2), 2);
        assert_false(gw_driver_want_calls(t.d));
        assert_int_equal(gw_driver_wait(t.d, 0), 0);
        assert_int_equal(gw_driver_take(t.d, used + 3, 5), 1);
        assert_true(gw_driver_want_calls(t.d));
        for (unsigned i = 0; i < 4; i++)
            assert_int_equal(used[i].cookie, i);
        assert_true(used[0].len == 0 && used[1].len == 10 && used[2].len == 30);
        assert_int_equal(used[3].len, len);
        device_push(&t, 1);
        assert_int_equal(gw_driver_take(t.d, used, 8), 1);
        assert_int_equal(used[0].cookie, 4);
        assert_int_equal(gw_driver_check(t.d), 0);
        finish(&t);
    }
}

/* Random chains in random batches, until the indices wrap several times. */
static void run_model(bool packed, unsigned size, unsigned rounds)
{
    struct gw_driver_used used[8];
    unsigned next = 0, done = 0, n;
    struct fixture t;

    begin(&t, packed, size, size + size / 2);
    while (done < rounds) {
        if (next < rounds && rand() % 3 &&
            add(&t, (unsigned)rand() % 4, next, rand() % 2 ? GW_DRIVER_INDIRECT : 0) == 0)
            next++;
        if (next == rounds || rand() % 2)
            gw_driver_publish(t.d);
        while (rand() % 4 && device_pop(&t))
            ;
        if (t.n_taken && rand() % 2)
            device_push(&t, 1 + (unsigned)rand() % t.n_taken);
        n = gw_driver_take(t.d, used, (unsigned)rand() % 9);
        for (unsigned i = 0; i < n; i++)
            assert_int_equal(used[i].cookie, done++);
        assert_int_equal(gw_driver_check(t.d), 0);
    }
    assert_int_equal(gw_driver_in_flight(t.d), 0);
    for (unsigned i = 0; i < size; i++)
        assert_int_equal(add(&t, 0, i, 0), 0);
    assert_int_equal(add(&t, 0, 0, 0), -ENOSPC);
    finish(&t);
}

static void test_driver_in_order_random_batches_all_come_back(void **state)
{
    srand(2);
    for (unsigned packed = 0; packed < 2; packed++) {
        run_model(packed, 1, 70000);
        run_model(packed, 4, 100000);
        run_model(packed, 64, 200000);
        run_model(packed, 32768, 100000);
    }
    run_model(true, 5, 100000);
    run_model(true, 100, 100000);
}

/* What the driver refused is not used: `n_used` chains are, as far as the ring alone shows it. */
static void expect_broken(struct fixture *t, const char *text, unsigned n_used)
{
    struct gw_driver_used used[8];

    assert_int_equal(gw_driver_take(t->d, used, 8), 0);
    assert_int_equal(gw_driver_check(t->d), -EPROTO);
    if (!strstr(gw_frontend_last_error(), text))
        fail_msg("\"%s\" is not about \"%s\"", gw_frontend_last_error(), text);
    assert_int_equal(gw_driver_take(t->d, used, 8), 0);
    assert_int_equal(gw_driver_n_used(t->d), n_used);
    finish(t);
}

static void test_driver_in_order_broken_device_is_told(void **state)
{
    struct fixture t;

    /* The index advances by one, the id by two. */
    begin(&t, false, 8, 0);
    assert_int_equal(add(&t, 0, 0, 0) | add(&t, 0, 1, 0), 0);
    gw_driver_publish(t.d);
    split_device_push(&t.split, 1, 0);
    expect_broken(&t, "batch beyond the used index", 1);

    begin(&t, false, 8, 0);
    assert_int_equal(add(&t, 2, 0, 0) | add(&t, 0, 1, 0), 0);
    gw_driver_publish(t.d);
    split_device_push(&t.split, 1, 0); /* not the head of a chain */
    expect_broken(&t, "not in flight", 1);

    /* The second chain was added, but not published. */
    begin(&t, true, 8, 0);
    assert_int_equal(add(&t, 0, 0, 0), 0);
    gw_driver_publish(t.d);
    assert_int_equal(add(&t, 0, 1, 0), 0);
    packed_device_push(&t.packed, 1, 2, 0);
    expect_broken(&t, "not in flight", 0);

    begin(&t, true, 8, 0);
    assert_int_equal(add(&t, 1, 0, 0) | add(&t, 1, 1, 0), 0);
    gw_driver_publish(t.d);
    packed_device_push(&t.packed, 0, 2, 11);
    expect_broken(&t, "length", 1);
}

/*
 * Chains that a crashed device had used are not made available again, even with a batch half taken.
 */
static void test_driver_in_order_requeue_keeps_the_order(void **state)
{
    for (unsigned i = 0; i < 2 * 23; i++) {
        struct gw_driver_used used[8];
        unsigned taken;
        struct fixture t;

        begin(&t, i % 2, 16, i / 2);
        for (uint64_t k = 0; k < 7; k++)
            assert_int_equal(add(&t, k % 3, k, 0), 0);
        gw_driver_kick(t.d);
        while (device_pop(&t))
            ;
        device_push(&t, 3);
        device_push(&t, 1);
        assert_int_equal(gw_driver_take(t.d, used, 2), 2);
        assert_int_equal(gw_driver_n_used(t.d), 2);
        gw_driver_requeue(t.d);
        assert_int_equal(gw_driver_check_base(t.d, &taken), 0);
        assert_int_equal(taken, 0);
        assert_int_equal(gw_driver_in_flight(t.d), 5);
        if (t.cfg.packed)
            packed_device_init(&t.packed, t.mem, &t.cfg, gw_driver_used_idx(t.d));
        else
            split_device_init(&t.split, t.mem, &t.cfg, (uint16_t)gw_driver_base(t.d));
        t.n_taken = 0;
        while (device_pop(&t))
            ;
        assert_int_equal(t.n_taken, 3);
        device_push(&t, 3);
        assert_int_equal(gw_driver_take(t.d, used, 8), 5);
        for (unsigned k = 0; k < 5; k++)
            assert_int_equal(used[k].cookie, k + 2);
        assert_int_equal(gw_driver_check(t.d), 0);
        assert_int_equal(gw_driver_in_flight(t.d), 0);
        finish(&t);
    }
}

/* IN_ORDER can be switched only while nothing is in flight. */
static void test_driver_in_order_changes_when_idle(void **state)
{
    for (unsigned packed = 0; packed < 2; packed++) {
        struct gw_driver_used used[8];
        struct fixture t;

        begin(&t, packed, 8, 0);
        for (unsigned i = 0; i < 40; i++) {
            gw_driver_set_features(t.d, i % 2 ? F_ORDER : 0);
            for (unsigned k = 0; k < 2; k++)
                assert_int_equal(add(&t, 1 + k, k, 0), 0);
            gw_driver_publish(t.d);
            assert_true(device_pop(&t) && device_pop(&t));
            gw_driver_set_features(t.d, i % 2 ? 0 : F_ORDER); /* ignored: chains are in flight */
            if (i % 2) {
                device_push(&t, 2);
            } else {
                /* Use the second before the first, as allowed without IN_ORDER. */
                struct taken one = t.taken[t.first], two = t.taken[(t.first + 1) % 8];

                if (packed) {
                    packed_device_push(&t.packed, (uint16_t)two.id, two.n_desc, 0);
                    packed_device_push(&t.packed, (uint16_t)one.id, one.n_desc, 0);
                } else {
                    split_device_push(&t.split, two.id, 0);
                    split_device_push(&t.split, one.id, 0);
                }
                t.n_taken = 0;
            }
            assert_int_equal(gw_driver_take(t.d, used, 8), 2);
            assert_int_equal(used[0].cookie, i % 2 ? 0 : 1);
            assert_int_equal(gw_driver_check(t.d), 0);
        }
        finish(&t);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        FDCHECK_TEST(test_driver_in_order_batch_is_one_element),
        FDCHECK_TEST(test_driver_in_order_random_batches_all_come_back),
        FDCHECK_TEST(test_driver_in_order_broken_device_is_told),
        FDCHECK_TEST(test_driver_in_order_requeue_keeps_the_order),
        FDCHECK_TEST(test_driver_in_order_changes_when_idle),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
