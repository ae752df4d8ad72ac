/* SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause */
/*
 * A driver saved and restored, as between two hosts: it continues in a copy of its memory with all
 * requests in flight, in both layouts, in order or not, at any moment. A corrupted state is
 * refused, or is valid for the driver.
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
#define MEM_LEN (UINT64_C(1) << 16)
#define BUFS    (MEM_GPA + MEM_LEN / 2)
#define F_EVENT (UINT64_C(1) << 29)
#define F_ORDER (UINT64_C(1) << 35)
#define SIZE    16
#define IN_LEN  64u

/* Popped by the device and not used yet. */
struct taken {
    unsigned id, n_desc;
};

struct fixture {
    struct gw_guest_mem *mem;
    struct gw_driver *d;
    struct gw_driver_config cfg;
    uint64_t features;
    struct split_device split;
    struct packed_device packed;
    struct taken taken[SIZE];
    unsigned n_taken;
    uint64_t n_added, n_done;
    bool is_done[100000];
    uint64_t random;
};

static unsigned roll(struct fixture *t, unsigned n)
{
    t->random = t->random * UINT64_C(6364136223846793005) + UINT64_C(1442695040888963407);
    return (unsigned)(t->random >> 33) % n;
}

static void begin(struct fixture *t, bool packed, uint64_t features, unsigned index)
{
    const struct gw_guest_region region = {.gpa = MEM_GPA, .length = MEM_LEN};

    memset(t, 0, sizeof(*t));
    t->random = index;
    t->features = features;
    assert_int_equal(gw_guest_mem_new(&t->mem, 0), 0);
    assert_int_equal(gw_guest_mem_add(t->mem, &region), 0);
    t->cfg = (struct gw_driver_config){.size = sizeof(t->cfg),
                                       .mem = t->mem,
                                       .queue_size = SIZE,
                                       .place = true,
                                       .packed = packed,
                                       .desc = MEM_GPA,
                                       .avail = MEM_GPA + 0x1000,
                                       .used = MEM_GPA + 0x2000};
    assert_int_equal(gw_driver_new(&t->d, &t->cfg), 0);
    gw_driver_set_features(t->d, features);
    gw_driver_reset(t->d, (uint16_t)index);
    if (packed)
        packed_device_init(&t->packed, t->mem, &t->cfg, index);
    else
        split_device_init(&t->split, t->mem, &t->cfg, (uint16_t)index);
}

static void finish(struct fixture *t)
{
    gw_driver_free(t->d);
    gw_guest_mem_free(t->mem);
}

static void add_some(struct fixture *t)
{
    struct gw_driver_buf bufs[3];
    unsigned n = 1 + roll(t, 3);

    for (unsigned i = 0; i < n; i++)
        bufs[i] = (struct gw_driver_buf){.addr = BUFS + 64 * i, .len = IN_LEN};
    if (gw_driver_add(t->d, bufs, n - 1, 1, t->n_added, 0) == 0)
        t->n_added++;
    if (roll(t, 3))
        gw_driver_publish(t->d);
}

static void pop_some(struct fixture *t)
{
    struct packed_chain p = {0};
    struct split_chain s = {0};

    if (t->n_taken == SIZE ||
        !(t->cfg.packed ? packed_device_pop(&t->packed, &p) : split_device_pop(&t->split, &s)))
        return;
    t->taken[t->n_taken++] =
        (struct taken){.id = t->cfg.packed ? p.id : s.head, .n_desc = t->cfg.packed ? p.n_desc : 1};
}

/* Use any chain; or with IN_ORDER the first ones, with one element. */
static void push_some(struct fixture *t)
{
    bool in_order = t->features & F_ORDER;
    unsigned first, n, n_desc = 0;
    uint32_t id;

    if (t->n_taken == 0)
        return;
    first = in_order ? 0 : roll(t, t->n_taken);
    n = in_order ? 1 + roll(t, t->n_taken) : 1;
    id = t->taken[first + n - 1].id;
    for (unsigned i = first; i < first + n; i++)
        n_desc += t->taken[i].n_desc;
    if (t->cfg.packed) {
        packed_device_push(&t->packed, (uint16_t)id, n_desc, IN_LEN);
    } else {
        t->split.used->ring[t->split.next_used % SIZE].id = htole32(id);
        t->split.used->ring[t->split.next_used % SIZE].len = htole32(IN_LEN);
        t->split.next_used = (uint16_t)(t->split.next_used + n);
        __atomic_store_n(&t->split.used->idx, htole16(t->split.next_used), __ATOMIC_RELEASE);
    }
    t->n_taken -= n;
    memmove(&t->taken[first], &t->taken[first + n], (t->n_taken - first) * sizeof(t->taken[0]));
}

static void take_some(struct fixture *t, unsigned n)
{
    struct gw_driver_used used[SIZE];

    n = gw_driver_take(t->d, used, n);
    if (gw_driver_check(t->d) < 0)
        fail_msg("%s", gw_frontend_last_error());
    for (unsigned i = 0; i < n; i++) {
        assert_true(used[i].cookie < t->n_added && used[i].len == IN_LEN);
        assert_false(t->is_done[used[i].cookie]);
        t->is_done[used[i].cookie] = true;
        t->n_done++;
    }
}

/* Migrate to another driver in another memory, which gets the memory's contents after the state. */
static void migrate(struct fixture *t)
{
    struct gw_guest_mem *mem, *old = t->mem;
    struct packed_device packed = t->packed;
    struct split_device split = t->split;
    struct gw_driver *d;
    size_t len;
    void *state;

    assert_int_equal(gw_driver_save(t->d, &state, &len), 0);
    assert_int_equal(gw_guest_mem_clone(&mem, old, 0), 0);
    t->cfg.mem = mem;
    assert_int_equal(gw_driver_new(&d, &t->cfg), 0);
    memcpy(gw_guest_mem_at(mem, MEM_GPA, MEM_LEN), gw_guest_mem_at(old, MEM_GPA, MEM_LEN), MEM_LEN);
    assert_int_equal(gw_driver_restore(d, state, len), 0);
    assert_int_equal(memcmp(gw_guest_mem_at(mem, MEM_GPA, MEM_LEN),
                            gw_guest_mem_at(old, MEM_GPA, MEM_LEN), MEM_LEN),
                     0);
    assert_int_equal(gw_driver_in_flight(d), gw_driver_in_flight(t->d));
    assert_int_equal(gw_driver_base(d), gw_driver_base(t->d));
    assert_int_equal(gw_driver_added(d), t->n_added);
    memset(gw_guest_mem_at(old, MEM_GPA, MEM_LEN), 0xaa, MEM_LEN);
    gw_driver_free(t->d);
    gw_guest_mem_free(old);
    free(state);
    t->d = d;
    t->mem = mem;
    packed_device_init(&t->packed, mem, &t->cfg, 0);
    t->packed.avail = packed.avail;
    t->packed.used = packed.used;
    split_device_init(&t->split, mem, &t->cfg, split.next_avail);
    t->split.next_used = split.next_used;
}

static void work(struct fixture *t, unsigned n_steps)
{
    for (unsigned i = 0; i < n_steps; i++) {
        switch (roll(t, 5)) {
        case 0:
        case 1:
            add_some(t);
            break;
        case 2:
            pop_some(t);
            break;
        case 3:
            push_some(t);
            break;
        default:
            take_some(t, roll(t, SIZE));
            break;
        }
    }
}

static void drain(struct fixture *t)
{
    gw_driver_publish(t->d);
    for (unsigned i = 0; i < 4 * SIZE; i++) {
        pop_some(t);
        push_some(t);
        take_some(t, SIZE);
    }
    assert_int_equal(t->n_done, t->n_added);
    assert_int_equal(gw_driver_in_flight(t->d), 0);
}

static void test_driver_state_goes_on_elsewhere(void **state)
{
    static const uint64_t features[] = {0, F_EVENT, F_ORDER, F_ORDER | F_EVENT};
    static struct fixture t;

    for (unsigned i = 0; i < 16; i++) {
        begin(&t, i & 1, features[i / 2 % 4], i < 8 ? 0 : 65530 % (i & 1 ? 2 * SIZE : 65536));
        for (unsigned n = 0; n < 200; n++) {
            work(&t, 1 + roll(&t, 40));
            migrate(&t);
        }
        drain(&t);
        assert_true(t.n_added > 500);
        finish(&t);
    }
}

/* Any accepted state must work: fill the ring, use everything, and repeat. */
static void use_up(struct gw_driver *d)
{
    const struct gw_driver_buf buf = {.addr = BUFS, .len = IN_LEN};
    struct gw_driver_used used[SIZE];

    for (unsigned i = 0; i <= SIZE; i++) {
        int r = gw_driver_add(d, &buf, 0, 1, 0, 0);

        assert_true(r == 0 || r == -ENOSPC);
    }
    gw_driver_publish(d);
    gw_driver_take(d, used, SIZE);
    gw_driver_n_used(d);
    gw_driver_requeue(d);
    gw_driver_take(d, used, SIZE);
}

static void test_driver_state_changed_is_refused_or_good(void **state)
{
    static const uint8_t values[] = {0, 1, 15, 16, 0x7f, 0xff};
    static struct fixture t;
    unsigned n_refused = 0;

    for (unsigned i = 0; i < 4; i++) {
        uint8_t *bytes;
        void *saved;
        size_t len;

        begin(&t, i & 1, i & 2 ? F_ORDER : 0, 3);
        work(&t, 200);
        assert_int_equal(gw_driver_save(t.d, &saved, &len), 0);
        bytes = saved;
        for (size_t at = 0; at < len; at++) {
            uint8_t byte = bytes[at];

            for (unsigned k = 0; k < sizeof(values); k++) {
                bytes[at] = values[k];
                if (gw_driver_restore(t.d, saved, len) == 0)
                    use_up(t.d);
                else
                    n_refused++;
                bytes[at] = byte;
                assert_int_equal(gw_driver_restore(t.d, saved, len), 0);
            }
        }
        free(saved);
        finish(&t);
    }
    assert_true(n_refused > 1000);
}

static void test_driver_state_of_another_shape_is_refused(void **state)
{
    static struct fixture t, other;
    void *saved;
    size_t len;

    begin(&t, false, 0, 0);
    work(&t, 100);
    assert_int_equal(gw_driver_save(t.d, &saved, &len), 0);
    for (size_t cut = 0; cut < len; cut++)
        assert_int_equal(gw_driver_restore(t.d, saved, cut), -EINVAL);
    assert_int_equal(gw_driver_restore(t.d, saved, len), 0);
    begin(&other, true, 0, 0);
    assert_int_equal(gw_driver_restore(other.d, saved, len), -EINVAL);
    gw_driver_free(other.d);
    other.cfg.packed = false;
    other.cfg.queue_size = 2 * SIZE;
    assert_int_equal(gw_driver_new(&other.d, &other.cfg), 0);
    assert_int_equal(gw_driver_restore(other.d, saved, len), -EINVAL);
    gw_driver_free(other.d);
    other.cfg.queue_size = SIZE;
    other.cfg.used += 4;
    assert_int_equal(gw_driver_new(&other.d, &other.cfg), 0);
    assert_int_equal(gw_driver_restore(other.d, saved, len), -EINVAL);
    free(saved);
    finish(&other);
    finish(&t);
}

static void test_driver_state_of_a_broken_ring_is_not_saved(void **state)
{
    static struct fixture t;
    void *saved = NULL;
    size_t len;

    begin(&t, false, 0, 0);
    split_device_push(&t.split, SIZE + 1, 0);
    work(&t, 1);
    gw_driver_take(t.d, &(struct gw_driver_used){0}, 1);
    assert_int_equal(gw_driver_save(t.d, &saved, &len), -EPROTO);
    assert_null(saved);
    finish(&t);
}

static void test_driver_state_needs_a_possible_ring(void **state)
{
    static const struct {
        unsigned size, index, indirect;
        bool packed, has_no_memory;
        int result;
    } cases[] = {
        {.size = 0},
        {.size = 1},
        {.size = 32768},
        {.size = 32768, .packed = true},
        {.size = 32769, .packed = true, .result = -EINVAL},
        {.size = 65536, .result = -EINVAL},
        {.size = 100, .result = -EINVAL},
        {.size = 100, .packed = true},
        {.size = 16, .index = 255},
        {.size = 16, .index = 256, .result = -EINVAL},
        {.size = 1, .indirect = 32768},
        {.size = 1, .indirect = 32769, .result = -EINVAL},
        {.size = 16, .has_no_memory = true, .result = -EINVAL},
    };
    const struct gw_guest_region region = {.gpa = 0x100000, .length = 4 << 20};
    struct gw_guest_mem *mem;

    assert_int_equal(gw_guest_mem_new(&mem, 0), 0);
    assert_int_equal(gw_guest_mem_add(mem, &region), 0);
    for (unsigned i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        const struct gw_driver_config cfg = {
            .size = sizeof(cfg),
            .mem = cases[i].has_no_memory ? NULL : mem,
            .queue_size = cases[i].size,
            .index = cases[i].index,
            .indirect_max = cases[i].indirect,
            .packed = cases[i].packed,
        };
        struct gw_driver *d = NULL;
        int r = gw_driver_new(&d, &cfg);

        if (r != cases[i].result)
            fail_msg("case %u: %d, %s", i, r, gw_frontend_last_error());
        if (d) {
            assert_int_equal(gw_driver_base(d), cases[i].packed ? 0x80008000 : 0);
            assert_true(gw_driver_call_fd(d) >= 0 && gw_driver_kick_fd(d) >= 0);
            assert_int_equal(gw_driver_in_flight(d), 0);
        }
        gw_driver_free(d);
    }
    gw_guest_mem_free(mem);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        FDCHECK_TEST(test_driver_state_goes_on_elsewhere),
        FDCHECK_TEST(test_driver_state_changed_is_refused_or_good),
        FDCHECK_TEST(test_driver_state_of_another_shape_is_refused),
        FDCHECK_TEST(test_driver_state_needs_a_possible_ring),
        FDCHECK_TEST(test_driver_state_of_a_broken_ring_is_not_saved),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
