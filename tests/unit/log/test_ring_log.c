/* SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause */
/*
 * Marks of the used ring itself: flags, index, elements and the event word, each separately.
 * log_guest_addr is chosen so that a page ends between the written and the unwritten parts.
 */
#include "../fixtures/log_fixture.h"
#include "fdcheck.h"

#include <stdlib.h>

#define PAGE UINT64_C(4096)
/* The log address that puts `offset` of the used ring at the start of a page. */
#define AT(offset) (LOG_FIXTURE_USED + 4 - (offset))

/* Add requests and wait until the device holds them and the empty ring asks for kicks again. */
static void give(struct log_fixture *t, unsigned n)
{
    for (unsigned i = 0; i < n; i++)
        fixture_add(&t->fixture, i);
    gw_driver_kick_always(t->fixture.driver);
    fixture_wait_held(&t->fixture, n);
    fixture_settle(&t->fixture);
}

/* Answer the held requests in one batch. */
static void answer(struct log_fixture *t, unsigned n)
{
    log_fixture_release(t, n, FIXTURE_BUF_LEN);
    log_fixture_take(t, n);
}

static void start(struct log_fixture *t, unsigned size, uint64_t features, uint16_t base)
{
    struct fixture_config cfg = {.size = size, .features = features, .base = base};

    log_fixture_begin(t, &cfg);
}

static void test_ring_log_marks_flags_and_nothing_else(void **state)
{
    struct log_fixture t;

    start(&t, 256, 0, 0);
    give(&t, 1);
    log_fixture_log_ring(&t, AT(2)); /* flags end a page */
    log_fixture_clear(&t);
    answer(&t, 1);
    log_fixture_expect(&t, t.fixture.buf, 1);
    log_fixture_expect_used(&t, 2, 2 + 8);
    log_fixture_check(&t);
    /* Kicks are suppressed, then enabled again. */
    log_fixture_clear(&t);
    give(&t, 1);
    log_fixture_expect_used(&t, 0, 2);
    log_fixture_check(&t);
    answer(&t, 1);
    log_fixture_end(&t);
}

static void test_ring_log_marks_the_index(void **state)
{
    struct log_fixture t;

    start(&t, 256, FIXTURE_F_EVENT, 0);
    log_fixture_log_ring(&t, AT(4)); /* the index ends a page */
    give(&t, 1);
    log_fixture_clear(&t);
    answer(&t, 1);
    log_fixture_expect(&t, t.fixture.buf, 1);
    log_fixture_expect_used(&t, 2, 2);
    log_fixture_expect_used(&t, 4, 8);
    log_fixture_check(&t);
    log_fixture_end(&t);
}

/* 512 elements fill a page, and only the event word follows them. */
static void test_ring_log_marks_the_event_word(void **state)
{
    struct log_fixture t;

    start(&t, 512, FIXTURE_F_EVENT, 0);
    log_fixture_log_ring(&t, AT(4));
    log_fixture_clear(&t);
    give(&t, 3);
    log_fixture_expect_used(&t, 4 + 8 * 512, 2);
    log_fixture_check(&t);
    /* No kicks were requested since, so the event word is not written again. */
    log_fixture_clear(&t);
    answer(&t, 3);
    log_fixture_expect(&t, t.fixture.buf, 1);
    log_fixture_expect_used(&t, 2, 2 + 3 * 8);
    log_fixture_check(&t);
    log_fixture_end(&t);
}

/* A batch that wraps around marks the last and the first elements, not those between. */
static void test_ring_log_marks_elements_around_the_end(void **state)
{
    struct log_fixture t;

    start(&t, 2048, FIXTURE_F_EVENT, 2045);
    log_fixture_log_ring(&t, AT(4));
    give(&t, 6);
    log_fixture_clear(&t);
    answer(&t, 6);
    log_fixture_expect(&t, t.fixture.buf, 1);
    log_fixture_expect_used(&t, 2, 2);
    log_fixture_expect_used(&t, 4 + 8 * 2045, 8 * 3);
    log_fixture_expect_used(&t, 4, 8 * 3);
    log_fixture_check(&t);
    log_fixture_end(&t);
}

static void test_ring_log_marks_a_whole_round_of_elements(void **state)
{
    struct log_fixture t;

    start(&t, 1024, FIXTURE_F_EVENT, 700);
    log_fixture_log_ring(&t, AT(4));
    give(&t, 1024);
    log_fixture_clear(&t);
    answer(&t, 1024);
    log_fixture_expect(&t, t.fixture.buf, 1);
    log_fixture_expect_used(&t, 2, 2 + 8 * 1024);
    log_fixture_check(&t);
    log_fixture_end(&t);
}

/* Any size, position, batch and log address; the 16-bit index wraps around, too. */
static void test_ring_log_random_batches(void **state)
{
    static const unsigned sizes[] = {1, 2, 8, 256, 1024, 4096};
    unsigned seed = 4711;

    for (unsigned i = 0; i < 60; i++) {
        unsigned size = sizes[i % GW_ARRAY_SIZE(sizes)];
        uint16_t base = (uint16_t)(i % 2 ? 65536 - rand_r(&seed) % 40 : rand_r(&seed));
        unsigned n = 1 + (unsigned)rand_r(&seed) % (size < 500 ? size : 500);
        struct log_fixture t;

        start(&t, size, FIXTURE_F_EVENT, base);
        log_fixture_log_ring(&t, LOG_FIXTURE_USED + (gw_gpa_t)(rand_r(&seed) % 20000) * 2);
        for (unsigned round = 0; round < 4; round++) {
            give(&t, n);
            log_fixture_clear(&t);
            answer(&t, n);
            log_fixture_expect(&t, t.fixture.buf, 1);
            log_fixture_expect_used(&t, 2, 2);
            for (unsigned k = 0; k < n; k++)
                log_fixture_expect_used(&t, 4 + 8 * ((base + k) % size), 8);
            log_fixture_check(&t);
            base = (uint16_t)(base + n);
        }
        log_fixture_end(&t);
    }
}

/* SET_VRING_ADDR on a running ring: later marks go to the new address, or stop. */
static void test_ring_log_address_changes_while_it_runs(void **state)
{
    struct log_fixture t;

    start(&t, 256, FIXTURE_F_EVENT, 0);
    log_fixture_log_ring(&t, AT(4));
    give(&t, 8);
    for (unsigned i = 0; i < 4; i++) {
        log_fixture_log_ring(&t, AT(4) + i * 10 * PAGE);
        log_fixture_clear(&t);
        answer(&t, 1);
        log_fixture_expect(&t, t.fixture.buf, 1);
        log_fixture_expect_used(&t, 2, 2);
        log_fixture_expect_used(&t, 4 + 8 * i, 8);
        log_fixture_check(&t);
    }
    log_fixture_log_ring(&t, 0);
    log_fixture_clear(&t);
    answer(&t, 4);
    log_fixture_expect(&t, t.fixture.buf, 1);
    log_fixture_check(&t);
    log_fixture_end(&t);
}

/* A request completed but not yet published when the address changes is marked at the old one. */
struct swap {
    struct log_fixture *t;
    gw_gpa_t addr;
};

static int complete_and_swap(void *arg)
{
    struct swap *s = arg;
    struct fixture *t = &s->t->fixture;

    gw_request_complete(t->held[0], FIXTURE_BUF_LEN);
    __atomic_store_n(&t->n_held, 0, __ATOMIC_RELEASE);
    gw_queue_set_ring_log(&t->queue, true, s->addr);
    return 0;
}

static void test_ring_log_completed_before_a_change_is_marked_before(void **state)
{
    struct swap swap;
    struct log_fixture t;

    start(&t, 256, FIXTURE_F_EVENT, 0);
    log_fixture_log_ring(&t, AT(4));
    give(&t, 1);
    log_fixture_clear(&t);
    swap = (struct swap){&t, AT(4) + 20 * PAGE};
    fixture_call(&t.fixture, complete_and_swap, &swap);
    log_fixture_take(&t, 1);
    log_fixture_expect(&t, t.fixture.buf, 1);
    log_fixture_expect_used(&t, 2, 2 + 8);
    log_fixture_check(&t);
    log_fixture_end(&t);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        FDCHECK_TEST(test_ring_log_marks_flags_and_nothing_else),
        FDCHECK_TEST(test_ring_log_marks_the_index),
        FDCHECK_TEST(test_ring_log_marks_the_event_word),
        FDCHECK_TEST(test_ring_log_marks_elements_around_the_end),
        FDCHECK_TEST(test_ring_log_marks_a_whole_round_of_elements),
        FDCHECK_TEST(test_ring_log_random_batches),
        FDCHECK_TEST(test_ring_log_address_changes_while_it_runs),
        FDCHECK_TEST(test_ring_log_completed_before_a_change_is_marked_before),
    };

    return FIXTURE_RUN_BOTH_LOOPS(tests);
}
