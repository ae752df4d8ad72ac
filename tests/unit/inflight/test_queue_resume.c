/* SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause */
/*
 * A queue that resumes where another back-end stopped: after a session that was lost with requests
 * in flight, or after a stop that suspended some. The driver only sees a delay.
 * (test_inflight_power_cut.c tests death in the middle of an update.)
 */
#include "../fixtures/resume_fixture.h"
#include "fdcheck.h"

/* ---- lost ---- */

static void test_queue_resume_does_lost_requests_again_in_their_order(void **state)
{
    static const unsigned again[] = {1, 3, 4, 6, 7}, again_in_order[] = {1, 2, 3, 4, 5, 6, 7};
    struct resume_fixture b;

    begin(&b, true);
    give(&b, 8);
    answer(&b, 5);
    answer(&b, 2);
    answer(&b, 0);
    take(&b, in_order(&b) ? 1 : 3);
    add(&b, 0);
    fixture_lose(&b.fixture);
    let_go(&b);
    take(&b, 0);
    run(&b, ANYWHERE);
    if (in_order(&b))
        check_held(&b, again_in_order, 7);
    else
        check_held(&b, again, 5);
    finish(&b);
}

/* New requests follow the resubmitted ones, and may be available before the start. */
static void test_queue_resume_goes_on_behind_what_was_taken(void **state)
{
    static const unsigned all[] = {0, 1, 2, 3, 4};
    struct resume_fixture b;

    begin(&b, true);
    give(&b, 3);
    fixture_lose(&b.fixture);
    add(&b, 2);
    let_go(&b);
    run(&b, ANYWHERE);
    check_held(&b, all, 5);
    finish(&b);
}

static void test_queue_resume_again_and_again(void **state)
{
    struct resume_fixture b;
    unsigned first = 0;

    begin(&b, true);
    for (unsigned round = 0; round < 20; round++) {
        unsigned n;

        give(&b, 2);
        answer(&b, 0);
        take(&b, 1);
        first++;
        fixture_lose(&b.fixture);
        let_go(&b);
        run(&b, ANYWHERE);
        n = b.n_added - first;
        fixture_wait_held(&b.fixture, n);
        for (unsigned i = 0; i < n; i++)
            assert_int_equal(number_of(&b, b.fixture.held[i]), first + i);
        while (n > 5) {
            answer(&b, 0);
            first++;
            n--;
            take(&b, 1);
        }
    }
    finish(&b);
}

/* Every slot of the ring is in flight. */
static void test_queue_resume_full_ring(void **state)
{
    unsigned all[SIZE];
    struct resume_fixture b;

    begin(&b, true);
    for (unsigned i = 0; i < SIZE; i++)
        all[i] = i;
    give(&b, SIZE);
    fixture_lose(&b.fixture);
    let_go(&b);
    run(&b, ANYWHERE);
    check_held(&b, all, SIZE);
    finish(&b);
}

/* Late answers must not change the part, which belongs to the next back-end. */
static void test_queue_resume_late_answers_leave_the_region_alone(void **state)
{
    uint8_t before[1024];
    size_t size;
    struct resume_fixture b;

    begin(&b, true);
    give(&b, 4);
    size = gw_inflight_stride(b.fixture.cfg.features & FIXTURE_F_PACKED, SIZE);
    assert_true(size <= sizeof(before));
    fixture_lose(&b.fixture);
    memcpy(before, b.fixture.part, size);
    let_go(&b);
    assert_memory_equal(before, b.fixture.part, size);
    run(&b, ANYWHERE);
    fixture_wait_held(&b.fixture, 4);
    finish(&b);
}

/* The previous back-end may have died before it notified the driver of its last answers. */
static void test_queue_resume_notifies_the_driver(void **state)
{
    struct resume_fixture b;

    begin(&b, true);
    give(&b, 2);
    answer(&b, 0);
    fixture_lose(&b.fixture);
    let_go(&b);
    (void)gw_driver_wait(b.fixture.driver, 0); /* consumes the call */
    run(&b, ANYWHERE);
    fixture_settle(&b.fixture);
    assert_int_equal(gw_driver_wait(b.fixture.driver, FIXTURE_WAIT_MS), 0);
    take(&b, 1);
    fixture_wait_held(&b.fixture, 1);
    finish(&b);
}

static int unpop_last(void *arg)
{
    struct fixture *t = arg;
    int r = gw_request_unpop(t->held[t->n_held - 1]);

    if (r == 0)
        __atomic_store_n(&t->n_held, t->n_held - 1, __ATOMIC_RELEASE);
    return r;
}

static void test_queue_resume_handed_back_comes_again_before_new_ones(void **state)
{
    static const unsigned all[] = {0, 1, 2, 3};
    struct resume_fixture b;

    begin(&b, true);
    give(&b, 3);
    fixture_lose(&b.fixture);
    let_go(&b);
    run(&b, ANYWHERE);
    fixture_wait_held(&b.fixture, 3);
    assert_int_equal(fixture_call(&b.fixture, unpop_last, &b.fixture), 0);
    assert_int_equal(fixture_call(&b.fixture, unpop_last, &b.fixture), 0);
    add(&b, 1);
    gw_queue_wake(&b.fixture.queue);
    check_held(&b, all, 4);
    finish(&b);
}

/* A chain in flight that the driver has made invalid since is answered as a bad chain. */
static void test_queue_resume_bad_chain_is_answered(void **state)
{
    struct gw_driver_used used;
    struct resume_fixture b;

    begin(&b, true);
    give(&b, 1);
    fixture_lose(&b.fixture);
    let_go(&b);
    if (gw_driver_is_packed(b.fixture.driver))
        ((struct gw_inflight_packed *)b.fixture.part)->entries[0].addr = 0;
    else
        gw_driver_write_desc(b.fixture.driver, 0, 0, FIXTURE_BUF_LEN, VRING_DESC_F_WRITE, 0);
    run(&b, ANYWHERE);
    assert_int_equal(gw_driver_wait(b.fixture.driver, FIXTURE_WAIT_MS), 0);
    assert_int_equal(gw_driver_take(b.fixture.driver, &used, 1), 1);
    assert_int_equal(used.len, 0);
    b.answered[0] = true;
    assert_int_equal(fixture_look(&b.fixture.n_held), 0);
    end(&b);
}

/* ---- stopped ---- */

/* GET_VRING_BASE drains: even a disabled ring completes its resubmitted requests first. */
static void test_queue_resume_stop_does_what_is_left_first(void **state)
{
    struct resume_fixture b;

    begin(&b, true);
    give(&b, 3);
    fixture_lose(&b.fixture);
    let_go(&b);
    add(&b, 1); /* the stop leaves this request on the ring */
    __atomic_store_n(&b.fixture.batch, 1, __ATOMIC_RELEASE);
    fixture_set_mode(&b.fixture, FIXTURE_COMPLETE);
    assert_int_equal(fixture_start(&b.fixture, FIXTURE_DRIVER_FD, ANYWHERE), 0);
    fixture_set_call(&b.fixture, FIXTURE_DRIVER_FD);
    fixture_settle(&b.fixture);
    take(&b, 0);
    assert_int_equal(fixture_stop(&b.fixture), 13 + 3);
    take(&b, 3);
    run(&b, 13 + 3);
    assert_int_equal(gw_driver_wait(b.fixture.driver, FIXTURE_WAIT_MS), 0);
    take(&b, 1);
    end(&b);
}

/* A device with room for one request at a time. */
static void test_queue_resume_stop_waits_for_a_device_without_room(void **state)
{
    struct test_latch latch;
    struct resume_fixture b;

    begin(&b, true);
    give(&b, 3);
    fixture_lose(&b.fixture);
    let_go(&b);
    fixture_set_mode(&b.fixture, FIXTURE_IGNORE);
    assert_int_equal(fixture_start(&b.fixture, FIXTURE_DRIVER_FD, ANYWHERE), 0);
    test_latch_init(&latch, 1);
    fixture_stop_begin(&b.fixture, &latch);
    assert_int_equal(test_latch_wait(&latch, 5000000), -ETIMEDOUT);
    fixture_set_mode(&b.fixture, FIXTURE_COMPLETE);
    gw_queue_wake(&b.fixture.queue);
    assert_int_equal(test_latch_wait(&latch, FIXTURE_WAIT_MS * UINT64_C(1000000)), 0);
    test_latch_done(&latch);
    take(&b, 3);
    end(&b);
}

/* A drained part does not determine the next start: the front-end may set another base. */
static void test_queue_resume_after_a_drained_stop_begins_at_the_base(void **state)
{
    struct resume_fixture b;

    begin(&b, true);
    give(&b, 5);
    fixture_release(&b.fixture, 5);
    take(&b, 5);
    assert_int_equal(fixture_stop(&b.fixture), fixture_index(&b.fixture, 13 + 5));
    gw_driver_reset(b.fixture.driver, 3);
    run(&b, 3);
    give(&b, 2);
    fixture_release(&b.fixture, 2);
    take(&b, 2);
    assert_int_equal(fixture_stop(&b.fixture), 5);
    fixture_end(&b.fixture);
}

/* An unused part may contain zeroes from the front-end, or any other bytes. */
static void test_queue_resume_unused_region_says_nothing_of_the_past(void **state)
{
    static const unsigned again[] = {1, 2};
    struct resume_fixture b;

    for (unsigned fill = 0; fill < 512; fill += 0x5a) {
        begin(&b, true);
        fixture_stop(&b.fixture);
        memset(b.fixture.part, (int)fill,
               gw_inflight_stride(gw_driver_is_packed(b.fixture.driver), SIZE));
        ((struct gw_inflight_header *)b.fixture.part)->version = 0;
        run(&b, 13);
        give(&b, 3);
        answer(&b, 0);
        take(&b, 1);
        fixture_lose(&b.fixture);
        let_go(&b);
        run(&b, ANYWHERE);
        check_held(&b, again, 2);
        finish(&b);
    }
}

/* Two requests were taken that an unused part does not list, so the part must not be used. */
static void test_queue_resume_unused_region_of_a_ring_in_use_is_left_alone(void **state)
{
    struct gw_inflight_header *h;
    uint32_t avail, used;
    unsigned n_messages;
    struct resume_fixture b;

    begin(&b, true);
    give(&b, 3);
    answer(&b, 0);
    take(&b, 1);
    fixture_lose(&b.fixture);
    let_go(&b);
    h = b.fixture.part;
    h->version = 0;
    avail = fixture_base(&b.fixture, 13 + 3);
    used = fixture_base(&b.fixture, 13 + 1);
    n_messages = fixture_look(&b.fixture.n_messages);
    assert_int_equal(fixture_start_at(&b.fixture, FIXTURE_DRIVER_FD,
                                      (avail & UINT16_MAX) | (used & ~(uint32_t)UINT16_MAX)),
                     0);
    fixture_enable(&b.fixture, true);
    assert_int_equal(fixture_look(&b.fixture.n_messages), n_messages + 1);
    assert_non_null(strstr(b.fixture.message, "not tracked"));
    give(&b, 1);
    answer(&b, 0);
    assert_int_equal(h->version, 0);
    assert_int_equal(fixture_stop(&b.fixture), fixture_index(&b.fixture, 13 + 4));
    fixture_end(&b.fixture);
}

/* A head beyond the ring size: after it, the part cannot determine the ring's position. */
static void test_queue_resume_head_beyond_a_tracked_ring_breaks_it(void **state)
{
    struct resume_fixture b;

    begin(&b, true);
    if (!gw_driver_is_packed(b.fixture.driver)) {
        gw_driver_write_avail(b.fixture.driver, 13, SIZE);
        gw_driver_write_avail_idx(b.fixture.driver, 14);
        gw_driver_kick_always(b.fixture.driver);
        fixture_wait_for(&b.fixture.n_messages, 1);
        fixture_settle(&b.fixture);
        assert_true(b.fixture.queue.broken);
        assert_non_null(strstr(b.fixture.message, "head 16 is beyond the ring of 16"));
    }
    fixture_stop(&b.fixture);
    fixture_end(&b.fixture);
}

/* ---- refused, and logged ---- */

static void test_queue_resume_foreign_region_is_refused_and_left_alone(void **state)
{
    struct gw_inflight_header *h;
    uint8_t before[1024];
    size_t size;
    struct resume_fixture b;

    begin(&b, true);
    give(&b, 2);
    fixture_lose(&b.fixture);
    let_go(&b);
    size = gw_inflight_stride(b.fixture.cfg.features & FIXTURE_F_PACKED, SIZE);
    h = b.fixture.part;
    for (unsigned i = 0; i < 3; i++) {
        struct gw_inflight_header good = *h;

        h->version += i == 0;
        h->desc_num = (uint16_t)(h->desc_num / (i == 1 ? 2 : 1));
        h->features[0] += i == 2;
        memcpy(before, h, size);
        assert_int_equal(fixture_start(&b.fixture, FIXTURE_DRIVER_FD, ANYWHERE), -EINVAL);
        assert_non_null(strstr(b.fixture.why, "inflight region"));
        assert_memory_equal(before, h, size);
        assert_int_equal(b.fixture.queue.state, GW_QUEUE_STOPPED);
        *h = good;
    }
    run(&b, ANYWHERE);
    fixture_wait_held(&b.fixture, 2);
    finish(&b);
}

/*
 * The previous back-end may have died between a write to the ring and its mark, so the ring is
 * marked. With LOG_ALL every page is marked, because some front-ends drop the marks when their
 * connection breaks.
 */
static void check_marks(bool all)
{
    struct fixture_config cfg = {.size = SIZE, .inflight = true};
    struct log_fixture t;

    log_fixture_begin(&t, &cfg);
    fixture_add(&t.fixture, 1);
    gw_driver_kick(t.fixture.driver);
    fixture_wait_held(&t.fixture, 1);
    fixture_lose(&t.fixture);
    log_fixture_release(&t, 1, FIXTURE_BUF_LEN);
    fixture_settle(&t.fixture);
    log_fixture_set(&t, t.logs[0].log, all);
    log_fixture_log_ring(&t, LOG_FIXTURE_USED);
    log_fixture_clear(&t);
    assert_int_equal(fixture_start(&t.fixture, FIXTURE_DRIVER_FD, ANYWHERE), 0); /* not enabled */
    log_fixture_expect_ring(&t, 0, SIZE);
    if (all)
        log_fixture_expect(&t, FIXTURE_GPA, t.fixture.cfg.mem_len);
    log_fixture_check(&t);
    /* Only once. */
    log_fixture_clear(&t);
    fixture_set_call(&t.fixture, FIXTURE_DRIVER_FD);
    fixture_enable(&t.fixture, true);
    fixture_wait_held(&t.fixture, 1);
    log_fixture_release(&t, 1, FIXTURE_BUF_LEN);
    log_fixture_take(&t, 1);
    if (all)
        log_fixture_expect(&t, t.fixture.buf, FIXTURE_BUF_LEN);
    log_fixture_expect_ring(&t, 0, 1);
    log_fixture_check(&t);
    log_fixture_end(&t);
}

static void test_queue_resume_marks_the_ring(void **state)
{
    check_marks(false);
}

static void test_queue_resume_with_log_all_marks_everything(void **state)
{
    check_marks(true);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        FDCHECK_TEST(test_queue_resume_does_lost_requests_again_in_their_order),
        FDCHECK_TEST(test_queue_resume_goes_on_behind_what_was_taken),
        FDCHECK_TEST(test_queue_resume_again_and_again),
        FDCHECK_TEST(test_queue_resume_full_ring),
        FDCHECK_TEST(test_queue_resume_late_answers_leave_the_region_alone),
        FDCHECK_TEST(test_queue_resume_notifies_the_driver),
        FDCHECK_TEST(test_queue_resume_handed_back_comes_again_before_new_ones),
        FDCHECK_TEST(test_queue_resume_bad_chain_is_answered),
        FDCHECK_TEST(test_queue_resume_stop_does_what_is_left_first),
        FDCHECK_TEST(test_queue_resume_stop_waits_for_a_device_without_room),
        FDCHECK_TEST(test_queue_resume_after_a_drained_stop_begins_at_the_base),
        FDCHECK_TEST(test_queue_resume_unused_region_says_nothing_of_the_past),
        FDCHECK_TEST(test_queue_resume_unused_region_of_a_ring_in_use_is_left_alone),
        FDCHECK_TEST(test_queue_resume_head_beyond_a_tracked_ring_breaks_it),
        FDCHECK_TEST(test_queue_resume_foreign_region_is_refused_and_left_alone),
        FDCHECK_TEST(test_queue_resume_marks_the_ring),
        FDCHECK_TEST(test_queue_resume_with_log_all_marks_everything),
    };

    return FIXTURE_RUN_ALL(tests);
}
