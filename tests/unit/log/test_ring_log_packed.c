/* SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause */
/*
 * Marks of a packed ring: used descriptors at their own address, and the device event area at the
 * log address of SET_VRING_ADDR. The ring is longer than a page, the log address far away.
 */
#include "../fixtures/log_fixture.h"
#include "fdcheck.h"

#include <stdlib.h>

#define SIZE 1000u /* four pages */

static void start(struct log_fixture *t, uint64_t features, unsigned base)
{
    struct fixture_config cfg = {
        .size = SIZE, .features = FIXTURE_F_PACKED | features, .base = (uint16_t)base};

    log_fixture_begin(t, &cfg);
    log_fixture_log_ring(t, LOG_FIXTURE_USED);
}

/* Add `n` requests of `n_slots` each; wait until the device holds them and asks for kicks again. */
static void give(struct log_fixture *t, unsigned n, unsigned n_slots)
{
    struct gw_driver_buf bufs[8];

    for (unsigned i = 0; i < n_slots; i++)
        bufs[i] = (struct gw_driver_buf){t->fixture.buf, 1};
    for (unsigned i = 0; i < n; i++)
        assert_int_equal(gw_driver_add(t->fixture.driver, bufs, 0, n_slots, i, 0), 0);
    gw_driver_kick_always(t->fixture.driver);
    fixture_wait_held(&t->fixture, n);
    fixture_settle(&t->fixture);
}

/* Answer the held requests in one batch. */
static void answer(struct log_fixture *t, unsigned n)
{
    log_fixture_release(t, n, 1);
    log_fixture_take(t, n);
}

/* Expect marks for `n` slots from `first` on, wrapping around the ring. */
static void expect_slots(struct log_fixture *t, unsigned first, unsigned n)
{
    for (unsigned i = 0; i < n; i++)
        log_fixture_expect_answers(t, (first + i) % SIZE, 1);
    log_fixture_expect(t, t->fixture.buf, 1);
}

static void test_ring_log_packed_marks_used_descriptors_and_nothing_else(void **state)
{
    static const unsigned firsts[] = {0, 255, 256, 600, 999};

    for (unsigned i = 0; i < GW_ARRAY_SIZE(firsts); i++) {
        struct log_fixture t;

        start(&t, FIXTURE_F_EVENT, firsts[i]);
        give(&t, 1, 1);
        log_fixture_clear(&t);
        answer(&t, 1);
        expect_slots(&t, firsts[i], 1);
        log_fixture_check(&t);
        log_fixture_end(&t);
    }
}

static void check_event_area(uint64_t features)
{
    struct log_fixture t;

    start(&t, features, 0);
    log_fixture_clear(&t);
    give(&t, 3, 1);
    log_fixture_expect_used(&t, 0, 4);
    log_fixture_check(&t);
    answer(&t, 3);
    log_fixture_end(&t);
}

static void test_ring_log_packed_marks_the_event_area(void **state)
{
    check_event_area(0);
    check_event_area(FIXTURE_F_EVENT);
}

/* A batch that wraps around marks the last and the first descriptors, not those between. */
static void test_ring_log_packed_marks_descriptors_around_the_end(void **state)
{
    for (unsigned lap = 0; lap < 2; lap++) {
        struct log_fixture t;

        start(&t, FIXTURE_F_EVENT, lap * SIZE + 998);
        give(&t, 6, 1);
        log_fixture_clear(&t);
        answer(&t, 6);
        expect_slots(&t, 998, 6);
        log_fixture_check(&t);
        log_fixture_end(&t);
    }
}

static void test_ring_log_packed_marks_a_whole_lap(void **state)
{
    struct log_fixture t;

    start(&t, FIXTURE_F_EVENT, 700);
    give(&t, SIZE, 1);
    log_fixture_clear(&t);
    answer(&t, SIZE);
    expect_slots(&t, 700, SIZE);
    log_fixture_check(&t);
    log_fixture_end(&t);
}

/* The distance between used descriptors is the length of the chain. */
static void test_ring_log_packed_random_batches(void **state)
{
    unsigned seed = 4711;

    for (unsigned i = 0; i < 40; i++) {
        unsigned first = (unsigned)rand_r(&seed) % (2 * SIZE);
        unsigned n_slots = 1 + (unsigned)rand_r(&seed) % 8;
        unsigned n = 1 + (unsigned)rand_r(&seed) % (SIZE / n_slots);
        struct log_fixture t;

        start(&t, i % 2 ? FIXTURE_F_EVENT | FIXTURE_F_ORDER : FIXTURE_F_EVENT, first);
        for (unsigned round = 0; round < 3; round++) {
            give(&t, n, n_slots);
            log_fixture_clear(&t);
            answer(&t, n);
            expect_slots(&t, first, n * n_slots);
            log_fixture_check(&t);
            first += n * n_slots;
        }
        log_fixture_end(&t);
    }
}

/*
 * Front-ends written for DPDK send the address of the descriptors as the log address. The event
 * area is then marked at its own address.
 */
static void test_ring_log_packed_address_of_the_descriptors_is_no_event_area(void **state)
{
    struct fixture_config cfg = {.size = SIZE, .features = FIXTURE_F_PACKED, .base = 256 * 2};
    struct log_fixture t;

    log_fixture_begin(&t, &cfg);
    log_fixture_log_ring(&t, t.fixture.desc);
    log_fixture_clear(&t);
    give(&t, 1, 1);
    log_fixture_expect(&t, t.fixture.used, 4);
    log_fixture_check(&t);
    answer(&t, 1);
    log_fixture_end(&t);
}

static void test_ring_log_packed_off_marks_nothing(void **state)
{
    struct log_fixture t;

    start(&t, FIXTURE_F_EVENT, 0);
    log_fixture_log_ring(&t, 0);
    log_fixture_clear(&t);
    give(&t, 1, 1);
    answer(&t, 1);
    log_fixture_expect(&t, t.fixture.buf, 1);
    log_fixture_check(&t);
    log_fixture_end(&t);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        FDCHECK_TEST(test_ring_log_packed_marks_used_descriptors_and_nothing_else),
        FDCHECK_TEST(test_ring_log_packed_marks_the_event_area),
        FDCHECK_TEST(test_ring_log_packed_marks_descriptors_around_the_end),
        FDCHECK_TEST(test_ring_log_packed_marks_a_whole_lap),
        FDCHECK_TEST(test_ring_log_packed_random_batches),
        FDCHECK_TEST(test_ring_log_packed_address_of_the_descriptors_is_no_event_area),
        FDCHECK_TEST(test_ring_log_packed_off_marks_nothing),
    };

    return FIXTURE_RUN_BOTH_LOOPS(tests);
}
