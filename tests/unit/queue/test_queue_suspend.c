/* SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause */
/* Requests that a stop suspends for the next start: when this is allowed. */
#include "../fixtures/resume_fixture.h"
#include "fdcheck.h"

static void test_queue_suspend_does_suspended_requests_again(void **state)
{
    static const unsigned again[] = {1, 2, 3, 4};
    uint32_t base;
    struct resume_fixture b;

    begin(&b, true);
    give(&b, 5);
    answer(&b, 0);
    b.suspended = 0xf;
    base = fixture_stop_at(&b.fixture, GW_STOP_SUSPEND);
    assert_true(b.may_suspend);
    assert_int_equal(b.suspend_result, 0);
    __atomic_store_n(&b.fixture.n_held, 0, __ATOMIC_RELEASE);
    assert_int_equal(base & UINT16_MAX, fixture_base(&b.fixture, 13 + 5) & UINT16_MAX);
    assert_int_equal(base >> 16, fixture_base(&b.fixture, 13 + 1) >> 16);
    take(&b, 1);
    run(&b, ANYWHERE);
    check_held(&b, again, 4);
    finish(&b);
}

/* Some held requests are answered; with IN_ORDER, none behind an unanswered request can be. */
static void test_queue_suspend_suspended_in_between(void **state)
{
    static const unsigned again[] = {1, 3, 5}, again_in_order[] = {1, 2, 4, 5};
    struct gw_driver_buf bad = {0, FIXTURE_BUF_LEN};
    struct gw_queue_stats stats;
    struct resume_fixture b;

    begin(&b, true);
    give(&b, 3);
    assert_int_equal(gw_driver_add(b.fixture.driver, &bad, 0, 1, b.n_added++, 0), 0);
    add(&b, 2);
    fixture_wait_held(&b.fixture, 5);
    answer(&b, 3); /* 4 */
    answer(&b, 2); /* 2 */
    answer(&b, 0);
    b.suspended = 3; /* 1 and 5 */
    (void)fixture_stop_at(&b.fixture, GW_STOP_SUSPEND);
    __atomic_store_n(&b.fixture.n_held, 0, __ATOMIC_RELEASE);
    take(&b, in_order(&b) ? 1 : 4);
    fixture_stats(&b.fixture, &stats);
    assert_int_equal(stats.completed, in_order(&b) ? 1 : 3);
    assert_int_equal(stats.requests, stats.completed);
    run(&b, ANYWHERE);
    if (in_order(&b))
        check_held(&b, again_in_order, 4); /* 3 is bad again */
    else
        check_held(&b, (const unsigned[]){again[0], again[2]}, 2);
    finish(&b);
}

static void check_not_suspended(bool inflight, enum gw_queue_stop how)
{
    struct test_latch latch;
    struct resume_fixture b;

    begin(&b, inflight);
    give(&b, 1);
    b.suspended = 1;
    test_latch_init(&latch, 1);
    if (how == GW_STOP_DRAIN) {
        fixture_stop_begin(&b.fixture, &latch);
        assert_int_equal(test_latch_wait(&latch, 1000000), -ETIMEDOUT);
    } else {
        fixture_lose(&b.fixture);
    }
    assert_false(b.may_suspend);
    assert_int_equal(b.suspend_result, -EPERM);
    fixture_release(&b.fixture, 1);
    fixture_settle(&b.fixture);
    test_latch_done(&latch);
    assert_int_equal(b.fixture.queue.state, GW_QUEUE_STOPPED);
    fixture_end(&b.fixture);
}

static void test_queue_suspend_nothing_is_suspended_where_it_would_be_lost(void **state)
{
    check_not_suspended(true, GW_STOP_DRAIN);
    check_not_suspended(false, GW_STOP_DRAIN);
    check_not_suspended(false, GW_STOP_LOST);
}

static int suspend_running(void *arg)
{
    struct fixture *t = arg;

    return gw_request_suspend(t->held[0]);
}

static void test_queue_suspend_nothing_is_suspended_while_it_runs(void **state)
{
    struct resume_fixture b;

    begin(&b, true);
    give(&b, 1);
    assert_int_equal(fixture_call(&b.fixture, suspend_running, &b.fixture), -EPERM);
    finish(&b);
}

/* A lost session may suspend, too, so that it need not wait for slow storage. */
static void test_queue_suspend_lost_session_may_suspend(void **state)
{
    static const unsigned again[] = {0, 1};
    struct resume_fixture b;

    begin(&b, true);
    give(&b, 2);
    b.suspended = 3;
    fixture_lose(&b.fixture);
    assert_true(b.may_suspend);
    assert_int_equal(b.fixture.queue.state, GW_QUEUE_STOPPED);
    __atomic_store_n(&b.fixture.n_held, 0, __ATOMIC_RELEASE);
    run(&b, ANYWHERE);
    check_held(&b, again, 2);
    finish(&b);
}

/* The front-end asked for a drain, then stops waiting and hangs up. */
static void test_queue_suspend_stop_that_takes_too_long_may_suspend_in_the_end(void **state)
{
    static const unsigned again[] = {0, 1};
    struct test_latch latch;
    struct resume_fixture b;

    begin(&b, true);
    give(&b, 2);
    test_latch_init(&latch, 1);
    fixture_stop_begin(&b.fixture, &latch);
    assert_int_equal(test_latch_wait(&latch, 0), -ETIMEDOUT);
    assert_false(b.may_suspend);
    b.suspended = 3;
    fixture_lose(&b.fixture);
    assert_int_equal(test_latch_wait(&latch, 0), -ECANCELED);
    assert_true(b.may_suspend);
    assert_int_equal(b.suspend_result, 0);
    assert_int_equal(b.fixture.queue.state, GW_QUEUE_STOPPED);
    __atomic_store_n(&b.fixture.n_held, 0, __ATOMIC_RELEASE);
    test_latch_done(&latch);
    run(&b, ANYWHERE);
    check_held(&b, again, 2);
    finish(&b);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        FDCHECK_TEST(test_queue_suspend_does_suspended_requests_again),
        FDCHECK_TEST(test_queue_suspend_suspended_in_between),
        FDCHECK_TEST(test_queue_suspend_nothing_is_suspended_where_it_would_be_lost),
        FDCHECK_TEST(test_queue_suspend_nothing_is_suspended_while_it_runs),
        FDCHECK_TEST(test_queue_suspend_lost_session_may_suspend),
        FDCHECK_TEST(test_queue_suspend_stop_that_takes_too_long_may_suspend_in_the_end),
    };

    return FIXTURE_RUN_ALL(tests);
}
