/* SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause */
/*
 * A queue that resumes where another back-end stopped: after a session that was lost with requests
 * in flight, or after a stop that suspended some. The driver only sees a delay.
 * (test_inflight_torn.c tests death in the middle of an update.)
 */
#include "../fixtures/resume_bed.h"
#include "fdcheck.h"

/* ---- lost ---- */

static void test_queue_resume_does_lost_requests_again_in_their_order(void **state)
{
    static const unsigned again[] = {1, 3, 4, 6, 7}, again_in_order[] = {1, 2, 3, 4, 5, 6, 7};
    struct bed b;

    begin(&b, true);
    give(&b, 8);
    answer(&b, 5);
    answer(&b, 2);
    answer(&b, 0);
    take(&b, in_order(&b) ? 1 : 3);
    add(&b, 0);
    rig_lose(&b.rig);
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
    struct bed b;

    begin(&b, true);
    give(&b, 3);
    rig_lose(&b.rig);
    add(&b, 2);
    let_go(&b);
    run(&b, ANYWHERE);
    check_held(&b, all, 5);
    finish(&b);
}

static void test_queue_resume_again_and_again(void **state)
{
    struct bed b;
    unsigned first = 0;

    begin(&b, true);
    for (unsigned round = 0; round < 20; round++) {
        unsigned n;

        give(&b, 2);
        answer(&b, 0);
        take(&b, 1);
        first++;
        rig_lose(&b.rig);
        let_go(&b);
        run(&b, ANYWHERE);
        n = b.n_added - first;
        rig_wait_held(&b.rig, n);
        for (unsigned i = 0; i < n; i++)
            assert_int_equal(number_of(&b, b.rig.held[i]), first + i);
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
    struct bed b;

    begin(&b, true);
    for (unsigned i = 0; i < SIZE; i++)
        all[i] = i;
    give(&b, SIZE);
    rig_lose(&b.rig);
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
    struct bed b;

    begin(&b, true);
    give(&b, 4);
    size = gw_inflight_stride(b.rig.cfg.features & RIG_F_PACKED, SIZE);
    assert_true(size <= sizeof(before));
    rig_lose(&b.rig);
    memcpy(before, b.rig.part, size);
    let_go(&b);
    assert_memory_equal(before, b.rig.part, size);
    run(&b, ANYWHERE);
    rig_wait_held(&b.rig, 4);
    finish(&b);
}

/* The previous back-end may have died before it notified the driver of its last answers. */
static void test_queue_resume_notifies_the_driver(void **state)
{
    struct bed b;

    begin(&b, true);
    give(&b, 2);
    answer(&b, 0);
    rig_lose(&b.rig);
    let_go(&b);
    (void)gw_driver_wait(b.rig.driver, 0); /* consumes the call */
    run(&b, ANYWHERE);
    rig_settle(&b.rig);
    assert_int_equal(gw_driver_wait(b.rig.driver, RIG_WAIT_MS), 0);
    take(&b, 1);
    rig_wait_held(&b.rig, 1);
    finish(&b);
}

static int unpop_last(void *arg)
{
    struct rig *t = arg;
    int r = gw_request_unpop(t->held[t->n_held - 1]);

    if (r == 0)
        __atomic_store_n(&t->n_held, t->n_held - 1, __ATOMIC_RELEASE);
    return r;
}

static void test_queue_resume_handed_back_comes_again_before_new_ones(void **state)
{
    static const unsigned all[] = {0, 1, 2, 3};
    struct bed b;

    begin(&b, true);
    give(&b, 3);
    rig_lose(&b.rig);
    let_go(&b);
    run(&b, ANYWHERE);
    rig_wait_held(&b.rig, 3);
    assert_int_equal(rig_call(&b.rig, unpop_last, &b.rig), 0);
    assert_int_equal(rig_call(&b.rig, unpop_last, &b.rig), 0);
    add(&b, 1);
    gw_queue_wake(&b.rig.queue);
    check_held(&b, all, 4);
    finish(&b);
}

/* A chain in flight that the driver has made invalid since is answered as a bad chain. */
static void test_queue_resume_bad_chain_is_answered(void **state)
{
    struct gw_driver_used used;
    struct bed b;

    begin(&b, true);
    give(&b, 1);
    rig_lose(&b.rig);
    let_go(&b);
    if (gw_driver_is_packed(b.rig.driver))
        ((struct gw_inflight_packed *)b.rig.part)->entries[0].addr = 0;
    else
        gw_driver_write_desc(b.rig.driver, 0, 0, RIG_BUF_LEN, VRING_DESC_F_WRITE, 0);
    run(&b, ANYWHERE);
    assert_int_equal(gw_driver_wait(b.rig.driver, RIG_WAIT_MS), 0);
    assert_int_equal(gw_driver_take(b.rig.driver, &used, 1), 1);
    assert_int_equal(used.len, 0);
    b.answered[0] = true;
    assert_int_equal(rig_look(&b.rig.n_held), 0);
    end(&b);
}

/* ---- stopped ---- */

/* GET_VRING_BASE drains: even a disabled ring completes its resubmitted requests first. */
static void test_queue_resume_stop_does_what_is_left_first(void **state)
{
    struct bed b;

    begin(&b, true);
    give(&b, 3);
    rig_lose(&b.rig);
    let_go(&b);
    add(&b, 1); /* the stop leaves this request on the ring */
    __atomic_store_n(&b.rig.batch, 1, __ATOMIC_RELEASE);
    rig_set_mode(&b.rig, RIG_COMPLETE);
    assert_int_equal(rig_start(&b.rig, RIG_DRIVER_FD, ANYWHERE), 0);
    rig_set_call(&b.rig, RIG_DRIVER_FD);
    rig_settle(&b.rig);
    take(&b, 0);
    assert_int_equal(rig_stop(&b.rig), 13 + 3);
    take(&b, 3);
    run(&b, 13 + 3);
    assert_int_equal(gw_driver_wait(b.rig.driver, RIG_WAIT_MS), 0);
    take(&b, 1);
    end(&b);
}

/* A device with room for one request at a time. */
static void test_queue_resume_stop_waits_for_a_device_without_room(void **state)
{
    struct gw_latch latch;
    struct bed b;

    begin(&b, true);
    give(&b, 3);
    rig_lose(&b.rig);
    let_go(&b);
    rig_set_mode(&b.rig, RIG_IGNORE);
    assert_int_equal(rig_start(&b.rig, RIG_DRIVER_FD, ANYWHERE), 0);
    gw_latch_init(&latch, 1);
    rig_stop_begin(&b.rig, &latch);
    assert_int_equal(gw_latch_wait(&latch, 5000000), -ETIMEDOUT);
    rig_set_mode(&b.rig, RIG_COMPLETE);
    gw_queue_wake(&b.rig.queue);
    assert_int_equal(gw_latch_wait(&latch, RIG_WAIT_MS * UINT64_C(1000000)), 0);
    gw_latch_done(&latch);
    take(&b, 3);
    end(&b);
}

/* A drained part does not determine the next start: the front-end may set another base. */
static void test_queue_resume_after_a_drained_stop_begins_at_the_base(void **state)
{
    struct bed b;

    begin(&b, true);
    give(&b, 5);
    rig_release(&b.rig, 5);
    take(&b, 5);
    assert_int_equal(rig_stop(&b.rig), rig_index(&b.rig, 13 + 5));
    gw_driver_reset(b.rig.driver, 3);
    run(&b, 3);
    give(&b, 2);
    rig_release(&b.rig, 2);
    take(&b, 2);
    assert_int_equal(rig_stop(&b.rig), 5);
    rig_end(&b.rig);
}

/* An unused part may contain zeroes from the front-end, or any other bytes. */
static void test_queue_resume_unused_region_says_nothing_of_the_past(void **state)
{
    static const unsigned again[] = {1, 2};
    struct bed b;

    for (unsigned fill = 0; fill < 512; fill += 0x5a) {
        begin(&b, true);
        rig_stop(&b.rig);
        memset(b.rig.part, (int)fill, gw_inflight_stride(gw_driver_is_packed(b.rig.driver), SIZE));
        ((struct gw_inflight_header *)b.rig.part)->version = 0;
        run(&b, 13);
        give(&b, 3);
        answer(&b, 0);
        take(&b, 1);
        rig_lose(&b.rig);
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
    struct bed b;

    begin(&b, true);
    give(&b, 3);
    answer(&b, 0);
    take(&b, 1);
    rig_lose(&b.rig);
    let_go(&b);
    h = b.rig.part;
    h->version = 0;
    avail = rig_base(&b.rig, 13 + 3);
    used = rig_base(&b.rig, 13 + 1);
    n_messages = rig_look(&b.rig.n_messages);
    assert_int_equal(
        rig_start_at(&b.rig, RIG_DRIVER_FD, (avail & UINT16_MAX) | (used & ~(uint32_t)UINT16_MAX)),
        0);
    rig_enable(&b.rig, true);
    assert_int_equal(rig_look(&b.rig.n_messages), n_messages + 1);
    assert_non_null(strstr(b.rig.message, "not tracked"));
    give(&b, 1);
    answer(&b, 0);
    assert_int_equal(h->version, 0);
    assert_int_equal(rig_stop(&b.rig), rig_index(&b.rig, 13 + 4));
    rig_end(&b.rig);
}

/* A head beyond the ring size: after it, the part cannot determine the ring's position. */
static void test_queue_resume_head_beyond_a_tracked_ring_breaks_it(void **state)
{
    struct bed b;

    begin(&b, true);
    if (!gw_driver_is_packed(b.rig.driver)) {
        gw_driver_write_avail(b.rig.driver, 13, SIZE);
        gw_driver_write_avail_idx(b.rig.driver, 14);
        gw_driver_kick_always(b.rig.driver);
        rig_wait_for(&b.rig.n_messages, 1);
        rig_settle(&b.rig);
        assert_true(b.rig.queue.broken);
        assert_non_null(strstr(b.rig.message, "head 16 is beyond the ring of 16"));
    }
    rig_stop(&b.rig);
    rig_end(&b.rig);
}

/* ---- refused, and logged ---- */

static void test_queue_resume_foreign_region_is_refused_and_left_alone(void **state)
{
    struct gw_inflight_header *h;
    uint8_t before[1024];
    size_t size;
    struct bed b;

    begin(&b, true);
    give(&b, 2);
    rig_lose(&b.rig);
    let_go(&b);
    size = gw_inflight_stride(b.rig.cfg.features & RIG_F_PACKED, SIZE);
    h = b.rig.part;
    for (unsigned i = 0; i < 3; i++) {
        struct gw_inflight_header good = *h;

        h->version += i == 0;
        h->desc_num = (uint16_t)(h->desc_num / (i == 1 ? 2 : 1));
        h->features[0] += i == 2;
        memcpy(before, h, size);
        assert_int_equal(rig_start(&b.rig, RIG_DRIVER_FD, ANYWHERE), -EINVAL);
        assert_non_null(strstr(b.rig.why, "inflight region"));
        assert_memory_equal(before, h, size);
        assert_int_equal(b.rig.queue.state, GW_QUEUE_STOPPED);
        *h = good;
    }
    run(&b, ANYWHERE);
    rig_wait_held(&b.rig, 2);
    finish(&b);
}

/*
 * The previous back-end may have died between a write to the ring and its mark, so the ring is
 * marked. With LOG_ALL every page is marked, because some front-ends drop the marks when their
 * connection breaks.
 */
static void check_marks(bool all)
{
    struct rig_config cfg = {.size = SIZE, .inflight = true};
    struct log_rig t;

    log_rig_begin(&t, &cfg);
    rig_add(&t.rig, 1);
    gw_driver_kick(t.rig.driver);
    rig_wait_held(&t.rig, 1);
    rig_lose(&t.rig);
    log_rig_release(&t, 1, RIG_BUF_LEN);
    rig_settle(&t.rig);
    log_rig_set(&t, t.logs[0].log, all);
    log_rig_log_ring(&t, LOG_RIG_USED);
    log_rig_clear(&t);
    assert_int_equal(rig_start(&t.rig, RIG_DRIVER_FD, ANYWHERE), 0); /* not enabled */
    log_rig_expect_ring(&t, 0, SIZE);
    if (all)
        log_rig_expect(&t, RIG_GPA, t.rig.cfg.mem_len);
    log_rig_check(&t);
    /* Only once. */
    log_rig_clear(&t);
    rig_set_call(&t.rig, RIG_DRIVER_FD);
    rig_enable(&t.rig, true);
    rig_wait_held(&t.rig, 1);
    log_rig_release(&t, 1, RIG_BUF_LEN);
    log_rig_take(&t, 1);
    if (all)
        log_rig_expect(&t, t.rig.buf, RIG_BUF_LEN);
    log_rig_expect_ring(&t, 0, 1);
    log_rig_check(&t);
    log_rig_end(&t);
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

    return RIG_RUN_ALL(tests);
}
