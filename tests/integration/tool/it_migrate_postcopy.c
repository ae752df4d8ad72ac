/* SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause */
/*
 * Postcopy between test back-ends: correct ones pass whatever the link does. A page that the source
 * failed to mark is detected although the destination has already run, and so is a destination
 * whose faults do not reach the front-end.
 */
#include "fdcheck.h"
#include "migrate_bench.h"
#include "requires.h"

#include "base/proto.h"

#include <errno.h>
#include <godwit/frontend/fault.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#define N_SEEDS 12

static struct bench *postcopy_new(uint64_t seed)
{
    struct bench *b = bench_new(seed);

    for (unsigned i = 0; i < BENCH_DEVICES_MAX; i++)
        b->sources[i].backend.has_postcopy = b->destinations[i].backend.has_postcopy = true;
    b->o.postcopy.is_on = true;
    return b;
}

static void expect_arrived(struct bench *b)
{
    bench_expect_passed(b);
    for (unsigned i = 0; i < b->result.n_hops; i++) {
        const struct migration_arrival *a = &b->result.hops[i].arrival;

        assert_true(a->end_ns >= a->begin_ns && a->begin_ns > b->result.hops[i].stop_ns);
        assert_true(a->pages_stale > 0 || b->o.postcopy.has_round);
        assert_true(a->pages_sent > 0 && a->pages_asked <= a->pages_sent);
        assert_true(a->latency_p50 <= a->latency_p90 && a->latency_p90 <= a->latency_p99 &&
                    a->latency_p99 <= a->latency_max);
        assert_int_equal(a->pages_early, 0);
        assert_int_equal(a->pages_stray, 0);
        assert_true(b->result.hops[i].compare_bytes > 0);
    }
}

/* ---- correct back-ends ---- */

static void test_postcopy_honest_passes(void **state)
{
    uint64_t n_cuts = 0, n_faults = 0;

    for (uint64_t seed = 1; seed <= N_SEEDS; seed++) {
        struct bench *b = postcopy_new(seed);

        b->o.n_queues = (unsigned)(1 + seed % 3);
        b->o.depth = 16;
        b->o.postcopy.is_random = seed % 2;
        b->o.postcopy.link_rate = seed % 3 ? 100 << 20 : 0;
        b->o.postcopy.fault_delay_ns = seed % 4 * 100000;
        b->o.postcopy.cut_ms = seed % 2 ? 5 : 0;
        b->o.postcopy.has_round = seed % 3 == 1;
        b->o.postcopy.round = (unsigned)(seed / 3 % 3);
        bench_run(b);
        expect_arrived(b);
        n_cuts += b->result.hops[0].arrival.cuts;
        n_faults += b->result.hops[0].arrival.faults;
        bench_free(b);
    }
    assert_true(n_cuts > 0 && n_faults > N_SEEDS);
}

static void test_postcopy_there_and_back_passes(void **state)
{
    struct bench *b = postcopy_new(7);

    b->o.hops = 4;
    b->o.cancels = 1;
    b->o.order = MIGRATION_ORDER_RANDOM;
    b->o.postcopy.at_ms = 50;
    bench_run(b);
    expect_arrived(b);
    assert_int_equal(b->result.n_hops, 4);
    bench_free(b);
}

static void test_postcopy_several_devices_pass(void **state)
{
    struct bench *b = postcopy_new(5);

    b->o.n_devices = BENCH_DEVICES_MAX;
    b->o.n_queues = 2;
    b->o.depth = 16;
    b->o.memory = 32 << 20;
    b->o.postcopy.is_random = true;
    bench_run(b);
    expect_arrived(b);
    bench_free(b);
}

/* A thread that waits for a page waits for the link. */
static void test_postcopy_waits_are_seen(void **state)
{
    bool is_seen = false;

    /* The load must be waiting for a page; on a busy machine it may be late. */
    for (unsigned i = 0; i < 10 && !is_seen; i++) {
        struct bench *b = postcopy_new(3 + i);

        b->o.postcopy.has_round = true; /* no round: all memory is sent after the switch */
        b->o.postcopy.link_rate = 16 << 20;
        b->o.postcopy.fault_delay_ns = 5000000;
        bench_run(b);
        expect_arrived(b);
        is_seen = b->result.hops[0].arrival.latency_max >= 5000000 &&
                  b->result.hops[0].arrival.stall_ns >= 5000000 && b->result.n_page_faults > 0;
        assert_true(b->result.hops[0].arrival.bytes_sent >= 4 << 20);
        bench_free(b);
    }
    assert_true(is_seen);
}

/* ---- refused, or one fault each ---- */

static bool is_told(const struct migration_result *r, enum migration_side side, const char *words)
{
    for (unsigned i = 0; i < r->n_faults; i++) {
        if (r->faults[i].side == side && strstr(r->faults[i].text, words))
            return true;
    }
    bench_show(r);
    return false;
}

static void test_postcopy_without_pagefault_is_refused(void **state)
{
    struct bench *b = postcopy_new(1);

    b->destinations[0].backend.has_postcopy = false;
    bench_run(b);
    assert_int_equal(b->result.verdict, MIGRATION_COULD_NOT);
    assert_true(is_told(&b->result, MIGRATION_SIDE_DESTINATION, "PAGEFAULT (protocol feature 8)"));
    assert_int_equal(b->result.requests, 0);
    bench_free(b);
}

static void test_postcopy_lost_marks_are_found(void **state)
{
    bool found = false;

    for (uint64_t seed = 1; !found && seed <= 100; seed++) {
        struct bench *b = postcopy_new(seed);

        b->sources[0].backend.fault = FAULTY_EVERY_100TH;
        b->o.postcopy.has_round = true;
        b->o.postcopy.round = 10;
        bench_run(b);
        found = b->result.hops[0].pages_lost > 0;
        assert_true(!found || (is_told(&b->result, MIGRATION_SIDE_SOURCE, "not marked") &&
                               b->result.lost_by_use[MIGRATION_USE_DATA] > 0));
        bench_free(b);
    }
    assert_true(found);
}

/* The destination executes the requests that the source took but did not complete. */
static void test_postcopy_requests_left_at_the_stop_are_done(void **state)
{
    bool found = false;

    for (uint64_t seed = 4; !found && seed <= 100; seed++) {
        struct bench *b = postcopy_new(seed);

        b->sources[0].backend.fault = FAULTY_STOP_IN_FLIGHT;
        bench_run(b);
        found = b->result.hops[0].in_flight_stopped > 0; /* the stop may find nothing in flight */
        if (b->result.verdict != (found ? MIGRATION_FAILED : MIGRATION_PASSED))
            bench_show(&b->result);
        assert_int_equal(b->result.verdict, found ? MIGRATION_FAILED : MIGRATION_PASSED);
        for (unsigned i = 0; i < b->result.n_faults; i++)
            assert_non_null(strstr(b->result.faults[i].text, "taken and not completed"));
        assert_int_equal(b->result.disk_blocks, BENCH_DISK_BYTES / 4096);
        bench_free(b);
    }
    assert_true(found);
}

static void test_postcopy_writes_after_the_stop_are_found(void **state)
{
    bool found = false;

    for (uint64_t seed = 1; !found && seed <= 100; seed++) {
        struct bench *b = postcopy_new(seed);

        b->sources[0].backend.fault = FAULTY_WRITE_AFTER_STOP;
        bench_run(b);
        found = b->result.hops[0].pages_late > 0;
        assert_true(!found || is_told(&b->result, MIGRATION_SIDE_SOURCE, "after the stop"));
        bench_free(b);
    }
    assert_true(found);
}

static void test_postcopy_zeroes_read_too_early_are_found(void **state)
{
    struct bench *b = postcopy_new(1);

    b->destinations[0].backend.fault = FAULTY_NOT_REGISTERED;
    b->o.postcopy.has_round = true;
    b->o.postcopy.link_rate = 1 << 20;
    b->o.request_ms = 5000;
    bench_run(b);
    assert_int_equal(b->result.verdict, MIGRATION_FAILED);
    assert_true(b->result.hops[0].arrival.pages_early > 0);
    assert_true(is_told(&b->result, MIGRATION_SIDE_DESTINATION, "before it"));
    bench_free(b);
}

static void test_postcopy_other_addresses_are_found(void **state)
{
    struct bench *b = postcopy_new(1);

    b->destinations[0].backend.fault = FAULTY_OTHER_ADDRESSES;
    b->o.postcopy.link_rate = 1 << 20;
    b->o.request_ms = 5000;
    bench_run(b);
    assert_int_equal(b->result.verdict, MIGRATION_FAILED);
    assert_true(is_told(&b->result, MIGRATION_SIDE_DESTINATION, "none of"));
    bench_free(b);
}

/*
 * Whichever postcopy message fails, in whichever way: the fault names the destination, and the run
 * ends.
 */
static void test_postcopy_failures_are_told(void **state)
{
    static const struct {
        uint32_t request;
        enum faulty_backend_failure failure;
    } cases[] = {
        {GW_MSG_POSTCOPY_ADVISE, FAULTY_REFUSES}, {GW_MSG_POSTCOPY_ADVISE, FAULTY_HANGS},
        {GW_MSG_POSTCOPY_ADVISE, FAULTY_DIES},    {GW_MSG_POSTCOPY_ADVISE, FAULTY_WRONG_ID},
        {GW_MSG_POSTCOPY_LISTEN, FAULTY_REFUSES}, {GW_MSG_POSTCOPY_LISTEN, FAULTY_HANGS},
        {GW_MSG_POSTCOPY_LISTEN, FAULTY_DIES},    {GW_MSG_ADD_MEM_REG, FAULTY_HANGS},
        {GW_MSG_ADD_MEM_REG, FAULTY_DIES},        {GW_MSG_ADD_MEM_REG, FAULTY_WRONG_ID},
        {GW_MSG_SET_VRING_KICK, FAULTY_HANGS},    {GW_MSG_POSTCOPY_END, FAULTY_HANGS},
        {GW_MSG_POSTCOPY_END, FAULTY_DIES},       {GW_MSG_POSTCOPY_END, FAULTY_WRONG_ID},
    };

    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        struct bench *b = postcopy_new(i);
        const struct migration_fault *f = &b->result.faults[0];

        b->destinations[0].backend.failure = cases[i].failure;
        b->destinations[0].backend.fail_request = cases[i].request;
        b->o.request_ms = 4000; /* a good answer takes less, also on a busy machine */
        b->o.postcopy.has_round = i % 2;
        bench_run(b);
        if (b->result.n_faults == 0 || f->side != MIGRATION_SIDE_DESTINATION) {
            print_message("case %zu\n", i);
            bench_show(&b->result);
        }
        assert_int_equal(b->result.verdict, MIGRATION_FAILED);
        assert_int_equal(f->side, MIGRATION_SIDE_DESTINATION);
        bench_free(b);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        FDCHECK_TEST(test_postcopy_honest_passes),
        FDCHECK_TEST(test_postcopy_there_and_back_passes),
        FDCHECK_TEST(test_postcopy_several_devices_pass),
        FDCHECK_TEST(test_postcopy_waits_are_seen),
        FDCHECK_TEST(test_postcopy_without_pagefault_is_refused),
        FDCHECK_TEST(test_postcopy_lost_marks_are_found),
        FDCHECK_TEST(test_postcopy_requests_left_at_the_stop_are_done),
        FDCHECK_TEST(test_postcopy_writes_after_the_stop_are_found),
        FDCHECK_TEST(test_postcopy_zeroes_read_too_early_are_found),
        FDCHECK_TEST(test_postcopy_other_addresses_are_found),
        FDCHECK_TEST(test_postcopy_failures_are_told),
    };
    struct gw_fault_config cfg = {.size = sizeof(cfg)};
    struct gw_fault_server *server;
    int r = gw_fault_server_new(&server, &cfg);

    if (r < 0)
        skip_test("no postcopy here: %s", gw_frontend_last_error());
    gw_fault_server_free(server);
    return cmocka_run_group_tests(tests, NULL, NULL);
}
