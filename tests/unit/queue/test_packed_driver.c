/* SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause */
/*
 * Packed rings that the library's driver never writes: wrong bits, arbitrary ids, endless chains,
 * and indirect tables.
 */
#include "../fixtures/packed_slots.h"
#include "fdcheck.h"

/* A descriptor is available only if both bits match this lap exactly. */
static void test_packed_driver_wrong_wrap_bits_are_not_available(void **state)
{
    static const unsigned flags[2][3] = {{AVAIL | USED, USED, 0}, {0, AVAIL, AVAIL | USED}};

    for (unsigned lap = 0; lap < 2; lap++) {
        struct fixture_config cfg = {
            .size = 5, .features = FIXTURE_F_PACKED, .base = (uint16_t)(5 * lap)};
        struct fixture t;

        begin_and_run(&t, &cfg);
        fixture_set_mode(&t, FIXTURE_HOLD);
        for (unsigned i = 0; i < 3; i++) {
            write_desc(&t, 0, 0, flags[lap][i] | WRITE);
            kick(&t);
            fixture_settle(&t);
            usleep(1000);
            assert_int_equal(fixture_look(&t.n_ready), 0);
        }
        write_desc(&t, 0, 0, (lap ? USED : AVAIL) | WRITE);
        kick(&t);
        fixture_wait_held(&t, 1);
        fixture_release(&t, 1);
        fixture_settle(&t);
        check_used(&t, 0, 0, FIXTURE_BUF_LEN, lap == 0);
        assert_int_equal(fixture_look(&t.n_messages), 0);
        end(&t);
    }
}

/* The driver may choose any id, even the same one for two chains. */
static void test_packed_driver_id_may_be_any(void **state)
{
    static const uint16_t ids[] = {5, 0, 32768, 65535, 5};
    struct fixture_config cfg = {.size = 5, .features = FIXTURE_F_PACKED};
    struct fixture t;

    begin_and_run(&t, &cfg);
    fixture_set_mode(&t, FIXTURE_HOLD);
    for (unsigned i = 5; i-- > 0;)
        write_desc(&t, i, ids[i], AVAIL | WRITE);
    kick(&t);
    fixture_wait_held(&t, 5);
    fixture_release(&t, 5);
    fixture_settle(&t);
    for (unsigned i = 0; i < 5; i++)
        check_used(&t, i, ids[i], FIXTURE_BUF_LEN, true);
    assert_int_equal(fixture_look(&t.n_messages), 0);
    end(&t);
}

/* A chain has the id of its last descriptor. */
static void test_packed_driver_id_of_a_chain_is_its_last(void **state)
{
    struct fixture_config cfg = {.size = 5, .features = FIXTURE_F_PACKED, .base = 4};
    struct fixture t;

    begin_and_run(&t, &cfg);
    fixture_set_mode(&t, FIXTURE_HOLD);
    write_desc(&t, 1, 777, USED | WRITE);
    write_desc(&t, 0, 2, USED | WRITE | NEXT);
    write_desc(&t, 4, 1, AVAIL | WRITE | NEXT);
    kick(&t);
    fixture_wait_held(&t, 1);
    assert_int_equal(t.held[0]->writable_len, 3 * FIXTURE_BUF_LEN);
    fixture_release(&t, 1);
    fixture_settle(&t);
    check_used(&t, 4, 777, 3 * FIXTURE_BUF_LEN, true);
    end(&t);
}

static void check_broken(struct fixture *t, unsigned n_held)
{
    int err = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);

    assert_true(err >= 0);
    fixture_wait_for(&t->n_messages, 1);
    assert_non_null(strstr(t->message, "broken until it is stopped"));
    assert_non_null(strstr(t->message, "longer than the free part"));
    fixture_set_err(t, err);
    assert_int_equal(counter(err), 1);
    assert_int_equal(fixture_look(&t->n_held), n_held);
    fixture_release(t, n_held);
    end(t);
}

static void test_packed_driver_chain_without_end_breaks_it(void **state)
{
    struct fixture_config cfg = {.size = 5, .features = FIXTURE_F_PACKED, .base = 2};
    struct fixture t;

    begin_and_run(&t, &cfg);
    for (unsigned i = 5; i-- > 0;)
        write_desc(&t, i, 0, (i < 2 ? USED : AVAIL) | WRITE | NEXT);
    kick(&t);
    check_broken(&t, 0);
}

/* Earlier requests are served, and their slots do not count as slots of the chain. */
static void test_packed_driver_chain_longer_than_what_is_left_breaks_it(void **state)
{
    struct fixture_config cfg = {.size = 5, .features = FIXTURE_F_PACKED};
    struct fixture t;

    begin_and_run(&t, &cfg);
    fixture_set_mode(&t, FIXTURE_HOLD);
    for (unsigned i = 5; i-- > 0;)
        write_desc(&t, i, (uint16_t)i, AVAIL | WRITE | (i > 2 ? NEXT : 0));
    kick(&t);
    fixture_wait_for(&t.n_held, 3);
    check_broken(&t, 3);
}

/* A ring never has more chains in flight than slots. */
static void test_packed_driver_full_ring_takes_no_more(void **state)
{
    struct fixture_config cfg = {.size = 5, .features = FIXTURE_F_PACKED};
    struct fixture t;

    begin_and_run(&t, &cfg);
    fixture_set_mode(&t, FIXTURE_HOLD);
    for (unsigned i = 0; i < 5; i++)
        fixture_add(&t, i);
    gw_driver_kick(t.driver);
    fixture_wait_held(&t, 5);
    for (unsigned i = 5; i-- > 0;) /* the next lap overwrites slots in flight */
        write_desc(&t, i, (uint16_t)i, USED | WRITE);
    kick(&t);
    fixture_settle(&t);
    usleep(5000);
    assert_int_equal(fixture_look(&t.n_held), 5);
    assert_int_equal(fixture_look(&t.n_messages), 0);
    while (fixture_look(&t.n_held) > 0) {
        fixture_set_mode(&t, FIXTURE_IGNORE);
        fixture_release(&t, fixture_look(&t.n_held));
        fixture_settle(&t);
    }
    end(&t);
}

/* ---- indirect tables ---- */

/* Make a table of `n` entries available in the first slot. */
static void offer_table(struct fixture *t, const struct gw_driver_packed_desc *entries, unsigned n,
                        unsigned flags)
{
    gw_gpa_t gpa;
    struct vring_packed_desc *table;
    struct gw_driver_packed_desc desc = {
        .len = n * 16, .id = 9, .flags = (uint16_t)(AVAIL | VRING_DESC_F_INDIRECT | flags)};

    assert_int_equal(gw_guest_mem_alloc(t->mem, n * 16, 16, &gpa), 0);
    table = gw_guest_mem_at(t->mem, gpa, n * 16);
    for (unsigned i = 0; i < n; i++)
        table[i] = (struct vring_packed_desc){.addr = entries[i].addr,
                                              .len = entries[i].len,
                                              .id = entries[i].id,
                                              .flags = entries[i].flags};
    desc.addr = gpa;
    gw_driver_write_packed_desc(t->driver, 0, &desc);
    kick(t);
}

/* A table is used completely and in order, regardless of the ids and other flags in it. */
static void test_packed_driver_table_goes_to_its_end(void **state)
{
    struct fixture_config cfg = {.size = 5, .features = FIXTURE_F_PACKED | FIXTURE_F_INDIR};
    struct gw_driver_packed_desc entries[40] = {{0}};
    struct fixture t;

    begin_and_run(&t, &cfg);
    fixture_set_mode(&t, FIXTURE_HOLD);
    for (unsigned i = 0; i < 40; i++)
        entries[i] = (struct gw_driver_packed_desc){
            .addr = t.buf,
            .len = i + 1,
            .id = (uint16_t)(i * 1000),
            .flags = (uint16_t)((i < 10 ? 0 : WRITE) | (i % 3 ? NEXT : 0) | (i % 2 ? AVAIL : USED)),
        };
    offer_table(&t, entries, 40, 0);
    fixture_wait_held(&t, 1);
    assert_int_equal(t.held[0]->n_readable, 10);
    assert_int_equal(t.held[0]->n_writable, 30);
    assert_int_equal(t.held[0]->readable_len, 55);
    for (unsigned i = 0; i < 30; i++)
        assert_int_equal(t.held[0]->writable[i].iov_len, 11 + i);
    fixture_release(&t, 1);
    fixture_settle(&t);
    check_used(&t, 0, 9, 820 - 55, true);
    end(&t);
}

static void test_packed_driver_table_in_a_table_is_bad(void **state)
{
    struct fixture_config cfg = {.size = 5, .features = FIXTURE_F_PACKED | FIXTURE_F_INDIR};
    struct gw_driver_packed_desc entries[2];
    struct fixture t;

    begin_and_run(&t, &cfg);
    entries[0] = (struct gw_driver_packed_desc){.addr = t.buf, .len = 16};
    entries[1] =
        (struct gw_driver_packed_desc){.addr = t.buf, .len = 16, .flags = VRING_DESC_F_INDIRECT};
    offer_table(&t, entries, 2, 0);
    fixture_wait_for(&t.n_messages, 1);
    assert_non_null(strstr(t.message, "inside an indirect table"));
    fixture_settle(&t);
    check_used(&t, 0, 9, 0, true);
    end(&t);
}

static void test_packed_driver_table_that_goes_on_is_bad(void **state)
{
    struct fixture_config cfg = {.size = 5, .features = FIXTURE_F_PACKED | FIXTURE_F_INDIR};
    struct gw_driver_packed_desc entry;
    struct fixture t;

    begin_and_run(&t, &cfg);
    entry = (struct gw_driver_packed_desc){.addr = t.buf, .len = 16};
    write_desc(&t, 1, 7, AVAIL | WRITE);
    offer_table(&t, &entry, 1, NEXT);
    fixture_wait_for(&t.n_messages, 1);
    assert_non_null(strstr(t.message, "not the last descriptor"));
    fixture_settle(&t);
    check_used(&t, 0, 7, 0, true);
    assert_int_equal(fixture_stop(&t), 2);
    fixture_end(&t);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        FDCHECK_TEST(test_packed_driver_wrong_wrap_bits_are_not_available),
        FDCHECK_TEST(test_packed_driver_id_may_be_any),
        FDCHECK_TEST(test_packed_driver_id_of_a_chain_is_its_last),
        FDCHECK_TEST(test_packed_driver_chain_without_end_breaks_it),
        FDCHECK_TEST(test_packed_driver_chain_longer_than_what_is_left_breaks_it),
        FDCHECK_TEST(test_packed_driver_full_ring_takes_no_more),
        FDCHECK_TEST(test_packed_driver_table_goes_to_its_end),
        FDCHECK_TEST(test_packed_driver_table_in_a_table_is_bad),
        FDCHECK_TEST(test_packed_driver_table_that_goes_on_is_bad),
    };

    return FIXTURE_RUN_BOTH_LOOPS(tests);
}
