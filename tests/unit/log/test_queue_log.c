/* SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause */
/*
 * A queue marks every write in the dirty log, and nothing else. The used ring is logged at an
 * address far from all memory (log_guest_addr), so that its marks differ from those of buffers, and
 * so that pages end between its parts.
 */
#include "../fixtures/log_fixture.h"
#include "fdcheck.h"

#include <string.h>
#include <sys/eventfd.h>
#include <unistd.h>

/* One request with these buffers, answered with `len`. */
static void run_one(struct log_fixture *t, const struct gw_driver_buf *bufs, unsigned n_readable,
                    unsigned n_writable, unsigned flags, uint32_t len)
{
    assert_int_equal(gw_driver_add(t->fixture.driver, bufs, n_readable, n_writable, 1, flags), 0);
    gw_driver_kick(t->fixture.driver);
    fixture_wait_held(&t->fixture, 1);
    log_fixture_release(t, 1, len);
    log_fixture_take(t, 1);
}

/* ---- buffers ---- */

static void test_queue_log_marks_the_pages_of_a_buffer(void **state)
{
    static const struct {
        uint32_t offset, len;
    } cases[] = {
        {0, 1},       {4095, 1},   {0, 4096},    {4095, 2},      {1, 4096},     {4096, 4096},
        {100, 65536}, {0, 131072}, {123, 99999}, {4096, 262144}, {8191, 20000}, {512, 512},
    };
    struct log_fixture t;

    log_fixture_begin(&t, NULL);
    for (unsigned i = 0; i < GW_ARRAY_SIZE(cases); i++) {
        struct gw_driver_buf buf = {t.data + cases[i].offset, cases[i].len};

        run_one(&t, &buf, 0, 1, 0, cases[i].len);
        log_fixture_expect(&t, buf.addr, buf.len);
        log_fixture_check(&t);
    }
    log_fixture_end(&t);
}

/* The device may have written more than its used length. */
static void test_queue_log_marks_buffers_beyond_the_used_length(void **state)
{
    struct log_fixture t;

    log_fixture_begin(&t, NULL);
    for (uint32_t len = 0; len < 3; len++) {
        struct gw_driver_buf bufs[] = {{t.data, 5000}, {t.data + 0x10000, 3}};

        run_one(&t, bufs, 0, 2, 0, len);
        log_fixture_expect(&t, t.data, 5000);
        log_fixture_expect(&t, t.data + 0x10000, 3);
        log_fixture_check(&t);
    }
    log_fixture_end(&t);
}

static void test_queue_log_does_not_mark_what_is_only_read(void **state)
{
    struct log_fixture t;
    struct gw_driver_buf bufs[3];

    log_fixture_begin(&t, NULL);
    bufs[0] = (struct gw_driver_buf){t.data, 4096};
    bufs[1] = (struct gw_driver_buf){t.data + 0x8000, 16};
    bufs[2] = (struct gw_driver_buf){t.data + 0x20000, 1};
    run_one(&t, bufs, 2, 1, 0, 1);
    log_fixture_expect(&t, bufs[2].addr, 1);
    log_fixture_check(&t);
    run_one(&t, bufs, 3, 0, 0, 0);
    log_fixture_check(&t);
    log_fixture_end(&t);
}

/* Chains longer than a request's own segment array (16), direct and indirect. */
static void chain_of(unsigned n_readable, unsigned n_writable, unsigned flags)
{
    struct fixture_config cfg = {.features = FIXTURE_F_INDIR, .indirect_max = 256};
    struct gw_driver_buf bufs[256];
    struct log_fixture t;

    log_fixture_begin(&t, &cfg);
    for (unsigned i = 0; i < n_readable + n_writable; i++)
        bufs[i] = (struct gw_driver_buf){t.data + 2 * 4096 * i + 8 * i, 1 + i % 64};
    run_one(&t, bufs, n_readable, n_writable, flags, 1);
    for (unsigned i = n_readable; i < n_readable + n_writable; i++)
        log_fixture_expect(&t, bufs[i].addr, bufs[i].len);
    log_fixture_check(&t);
    log_fixture_end(&t);
}

static void test_queue_log_marks_chains_of_any_length(void **state)
{
    static const unsigned n_writable[] = {1, 2, 15, 16, 17, 40, 200};

    for (unsigned i = 0; i < GW_ARRAY_SIZE(n_writable); i++) {
        chain_of(1, n_writable[i], 0);
        chain_of(0, n_writable[i], 0);
        chain_of(20, n_writable[i], 0);
        chain_of(1, n_writable[i], GW_DRIVER_INDIRECT);
        chain_of(20, n_writable[i], GW_DRIVER_INDIRECT);
    }
}

/* One buffer in two adjacent regions, which also makes 17 pieces of 16 buffers. */
static void test_queue_log_marks_buffers_that_span_regions(void **state)
{
    struct fixture_config cfg = {.mem_len = UINT64_C(4) << 20};
    struct gw_guest_region second = {
        .gpa = FIXTURE_GPA + cfg.mem_len, .length = 1 << 20, .no_alloc = true};
    struct gw_driver_buf bufs[16];
    struct log_fixture t;

    log_fixture_prepare(&t, &cfg);
    log_fixture_add_region(&t, &second);
    log_fixture_start(&t);
    bufs[0] = (struct gw_driver_buf){second.gpa - 5000, 10001};
    run_one(&t, bufs, 0, 1, 0, 10001);
    log_fixture_expect(&t, bufs[0].addr, bufs[0].len);
    log_fixture_check(&t);
    for (unsigned i = 0; i < 15; i++)
        bufs[i] = (struct gw_driver_buf){t.data + 8192 * i, 5};
    bufs[15] = (struct gw_driver_buf){second.gpa - 1, 2};
    run_one(&t, bufs, 0, 16, 0, 1);
    for (unsigned i = 0; i < 16; i++)
        log_fixture_expect(&t, bufs[i].addr, bufs[i].len);
    log_fixture_check(&t);
    log_fixture_end(&t);
}

/* A region is added while the log is on and the queue runs. */
static void test_queue_log_marks_a_region_added_later(void **state)
{
    struct gw_guest_region late = {
        .gpa = FIXTURE_GPA + (UINT64_C(64) << 20), .length = 1 << 20, .no_alloc = true};
    struct gw_driver_buf buf = {late.gpa + late.length - 4097, 4097};
    struct log_fixture t;

    log_fixture_begin(&t, NULL);
    log_fixture_set(&t, t.logs[0].log, true);
    log_fixture_add_region(&t, &late);
    run_one(&t, &buf, 0, 1, 0, 1);
    log_fixture_expect(&t, buf.addr, buf.len);
    log_fixture_check(&t);
    log_fixture_end(&t);
}

/* ---- when ---- */

/* Asynchronous I/O: a request is marked when it completes and not before, in any order. */
static void test_queue_log_marks_at_completion(void **state)
{
    struct gw_driver_buf bufs[8];
    struct log_fixture t;

    log_fixture_begin(&t, NULL);
    for (unsigned i = 0; i < 8; i++) {
        bufs[i] = (struct gw_driver_buf){t.data + 0x10000 * i + 77, 9000};
        assert_int_equal(gw_driver_add(t.fixture.driver, &bufs[i], 0, 1, i, 0), 0);
    }
    gw_driver_kick(t.fixture.driver);
    fixture_wait_held(&t.fixture, 8);
    log_fixture_check(&t);
    for (unsigned i = 0; i < 8; i++) {
        log_fixture_release(&t, 1, 9000);
        fixture_settle(&t.fixture);
        log_fixture_expect(&t, bufs[i].addr, bufs[i].len);
        log_fixture_check(&t);
    }
    log_fixture_take(&t, 8);
    log_fixture_end(&t);
}

/* The driver must not see an answer before its data is marked. */
static void test_queue_log_marks_before_it_publishes(void **state)
{
    struct log_fixture t;

    log_fixture_begin(&t, NULL);
    for (unsigned i = 0; i < 2000; i++) {
        struct gw_driver_buf buf = {t.data + 4096 * (i % 64), 1};
        struct gw_driver_used used;

        assert_int_equal(gw_driver_add(t.fixture.driver, &buf, 0, 1, 1, 0), 0);
        gw_driver_kick(t.fixture.driver);
        fixture_wait_held(&t.fixture, 1);
        log_fixture_release(&t, 1, 1);
        while (gw_driver_take(t.fixture.driver, &used, 1) == 0)
            ;
        assert_true(log_fixture_test_and_clear(t.logs[t.current].bits, buf.addr));
    }
    log_fixture_end(&t);
}

/* Requests in flight at LOG_ALL may still write, so they are marked when they complete. */
static void test_queue_log_marks_requests_older_than_the_log(void **state)
{
    struct gw_driver_buf buf;
    struct log_fixture t;

    log_fixture_prepare(&t, NULL);
    log_fixture_start_unlogged(&t);
    buf = (struct gw_driver_buf){t.data + 12, 8192};
    assert_int_equal(gw_driver_add(t.fixture.driver, &buf, 0, 1, 1, 0), 0);
    gw_driver_kick(t.fixture.driver);
    fixture_wait_held(&t.fixture, 1);
    log_fixture_set(&t, t.logs[0].log, true);
    log_fixture_release(&t, 1, 1);
    log_fixture_take(&t, 1);
    log_fixture_expect(&t, buf.addr, buf.len);
    log_fixture_check(&t);
    log_fixture_end(&t);
}

static void test_queue_log_is_complete_when_a_stop_is_answered(void **state)
{
    struct gw_driver_buf buf;
    struct test_latch latch;
    struct log_fixture t;

    log_fixture_begin(&t, NULL);
    log_fixture_log_ring(&t, LOG_FIXTURE_USED);
    log_fixture_clear(&t);
    buf = (struct gw_driver_buf){t.data + 4000, 200};
    assert_int_equal(gw_driver_add(t.fixture.driver, &buf, 0, 1, 1, 0), 0);
    gw_driver_kick(t.fixture.driver);
    fixture_wait_held(&t.fixture, 1);
    test_latch_init(&latch, 1);
    fixture_stop_begin(&t.fixture, &latch);
    log_fixture_release(&t, 1, 1);
    assert_int_equal(test_latch_wait(&latch, FIXTURE_WAIT_MS * UINT64_C(1000000)), 0);
    test_latch_done(&latch);
    log_fixture_expect(&t, buf.addr, buf.len);
    log_fixture_expect_ring(&t, 0, 1);
    log_fixture_check(&t);
    log_fixture_end(&t);
}

/* ---- gates ---- */

static void test_queue_log_off_marks_nothing(void **state)
{
    struct gw_driver_buf buf;
    struct log_fixture t;

    log_fixture_begin(&t, NULL);
    buf = (struct gw_driver_buf){t.data, 1 << 20};
    log_fixture_log_ring(&t, LOG_FIXTURE_USED);
    log_fixture_set(&t, NULL, false);
    log_fixture_clear(&t);
    run_one(&t, &buf, 0, 1, 0, 1);
    log_fixture_check(&t);
    /* Turn logging on again. */
    log_fixture_set(&t, t.logs[0].log, true);
    run_one(&t, &buf, 0, 1, 0, 1);
    log_fixture_expect(&t, buf.addr, buf.len);
    log_fixture_expect_ring(&t, 1, 1);
    log_fixture_check(&t);
    log_fixture_end(&t);
}

/* LOG_ALL controls buffers, VHOST_VRING_F_LOG the ring; each works without the other. */
static void test_queue_log_gates_are_independent(void **state)
{
    struct gw_driver_buf buf;
    struct log_fixture t;

    log_fixture_begin(&t, NULL);
    buf = (struct gw_driver_buf){t.data, 1};
    log_fixture_log_ring(&t, LOG_FIXTURE_USED);
    log_fixture_set(&t, t.logs[0].log, false);
    log_fixture_clear(&t);
    run_one(&t, &buf, 0, 1, 0, 1);
    log_fixture_expect_ring(&t, 0, 1);
    log_fixture_check(&t);
    log_fixture_set(&t, t.logs[0].log, true);
    log_fixture_log_ring(&t, 0);
    log_fixture_clear(&t);
    run_one(&t, &buf, 0, 1, 0, 1);
    log_fixture_expect(&t, buf.addr, 1);
    log_fixture_check(&t);
    log_fixture_end(&t);
}

/* After LOG_ALL and before SET_LOG_BASE, the queue pops nothing and writes nothing to the ring. */
static void test_queue_log_without_base_fetches_nothing(void **state)
{
    struct log_fixture t;
    uint32_t *flags; /* and index, or event */

    log_fixture_prepare(&t, NULL);
    log_fixture_log_ring(&t, LOG_FIXTURE_USED);
    log_fixture_set(&t, NULL, true);
    fixture_run(&t.fixture);
    fixture_add(&t.fixture, 1);
    gw_driver_kick_always(t.fixture.driver);
    fixture_settle(&t.fixture);
    usleep(20000);
    assert_int_equal(t.fixture.n_ready, 0);
    flags = gw_guest_mem_at(t.fixture.mem, t.fixture.used, 4);
    assert_int_equal(*flags, 0);
    log_fixture_set(&t, t.logs[0].log, true);
    fixture_wait_held(&t.fixture, 1);
    log_fixture_release(&t, 1, FIXTURE_BUF_LEN);
    fixture_take(&t.fixture, 1);
    log_fixture_expect(&t, t.fixture.buf, FIXTURE_BUF_LEN);
    log_fixture_expect_ring(&t, 0, 1);
    fixture_settle(&t.fixture);
    log_fixture_check(&t);
    log_fixture_end(&t);
}

/* Requests completed between LOG_ALL and SET_LOG_BASE leave no record, so everything is marked. */
static void test_queue_log_without_base_marks_everything_when_it_comes(void **state)
{
    struct log_fixture t;

    log_fixture_prepare(&t, NULL);
    log_fixture_start_unlogged(&t);
    fixture_add(&t.fixture, 1);
    gw_driver_kick(t.fixture.driver);
    fixture_wait_held(&t.fixture, 1);
    log_fixture_log_ring(&t, LOG_FIXTURE_USED);
    log_fixture_set(&t, NULL, true);
    log_fixture_release(&t, 1, FIXTURE_BUF_LEN);
    fixture_take(&t.fixture, 1);
    fixture_settle(&t.fixture);
    log_fixture_set(&t, t.logs[0].log, true);
    log_fixture_expect(&t, FIXTURE_GPA, t.fixture.cfg.mem_len);
    log_fixture_expect_ring(&t, 0, t.fixture.cfg.size);
    log_fixture_check(&t);
    /* Only once. */
    log_fixture_clear(&t);
    log_fixture_set(&t, t.logs[0].log, true);
    log_fixture_check(&t);
    log_fixture_end(&t);
}

/* ---- errors ---- */

static void test_queue_log_too_small_is_told_and_counted(void **state)
{
    struct gw_queue_stats stats;
    struct gw_driver_buf buf;
    struct log_fixture t;

    log_fixture_begin(&t, NULL);
    log_fixture_map_short(&t, t.data + 0x8000);
    log_fixture_set(&t, t.logs[t.current].log, true);
    buf = (struct gw_driver_buf){t.data + 0x7fff, 0x10000};
    run_one(&t, &buf, 0, 1, 0, 1);
    fixture_settle(&t.fixture);
    fixture_stats(&t.fixture, &stats);
    assert_int_equal(stats.errors, 1);
    assert_non_null(strstr(t.fixture.message, "outside the dirty log"));
    assert_true(log_fixture_test_and_clear(t.logs[t.current].bits, buf.addr));
    buf.len = 1;
    run_one(&t, &buf, 0, 1, 0, 1);
    fixture_settle(&t.fixture);
    fixture_stats(&t.fixture, &stats);
    assert_int_equal(stats.errors, 1); /* marks inside the log do not count */
    log_fixture_end(&t);
}

static void expect_errors(struct log_fixture *t, uint64_t n)
{
    struct gw_queue_stats stats;

    fixture_settle(&t->fixture);
    fixture_stats(&t->fixture, &stats);
    assert_int_equal(stats.errors, n);
}

/* Marks lost in one log do not count for the next log, nor hide its losses. */
static void test_queue_log_counts_losses_of_each_log(void **state)
{
    struct gw_driver_buf beyond, inside;
    struct log_fixture t;

    log_fixture_begin(&t, NULL);
    beyond = (struct gw_driver_buf){t.data + 0x10000, 1};
    inside = (struct gw_driver_buf){t.data, 1};
    log_fixture_map_short(&t, t.data + 0x8000);
    log_fixture_set(&t, t.logs[t.current].log, true);
    run_one(&t, &beyond, 0, 1, 0, 1);
    expect_errors(&t, 1);
    log_fixture_set(&t, t.logs[0].log, true);
    run_one(&t, &beyond, 0, 1, 0, 1);
    expect_errors(&t, 1);
    log_fixture_map_short(&t, t.data + 0x8000);
    log_fixture_set(&t, t.logs[t.current].log, true);
    run_one(&t, &inside, 0, 1, 0, 1);
    expect_errors(&t, 1);
    run_one(&t, &beyond, 0, 1, 0, 1);
    expect_errors(&t, 2);
    log_fixture_map_short(&t, t.data + 0x8000);
    log_fixture_set(&t, t.logs[t.current].log, true);
    run_one(&t, &beyond, 0, 1, 0, 1);
    expect_errors(&t, 3);
    log_fixture_end(&t);
}

/* A bad chain never reaches the device, but its answer is a write to the ring. */
static void test_queue_log_marks_the_answer_to_a_bad_chain(void **state)
{
    struct gw_driver_buf bad = {FIXTURE_GPA - 4096, 16};
    struct log_fixture t;

    log_fixture_begin(&t, NULL);
    log_fixture_log_ring(&t, LOG_FIXTURE_USED);
    log_fixture_clear(&t);
    assert_int_equal(gw_driver_add(t.fixture.driver, &bad, 0, 1, 1, 0), 0);
    gw_driver_kick(t.fixture.driver);
    log_fixture_take(&t, 1);
    fixture_settle(&t.fixture);
    log_fixture_expect_ring(&t, 0, 1);
    log_fixture_check(&t);
    log_fixture_end(&t);
}

static void test_queue_log_signals_its_eventfd_after_marks(void **state)
{
    int fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    struct gw_driver_buf buf;
    struct log_fixture t;
    eventfd_t n = 0;

    assert_true(fd >= 0);
    log_fixture_begin(&t, NULL);
    t.event_fd = fd;
    log_fixture_set(&t, t.logs[0].log, true);
    assert_int_equal(eventfd_read(fd, &n), -1);
    buf = (struct gw_driver_buf){t.data, 1};
    run_one(&t, &buf, 0, 1, 0, 1);
    fixture_settle(&t.fixture);
    assert_int_equal(eventfd_read(fd, &n), 0);
    assert_true(n >= 1);
    log_fixture_set(&t, NULL, false);
    run_one(&t, &buf, 0, 1, 0, 1);
    fixture_settle(&t.fixture);
    assert_int_equal(eventfd_read(fd, &n), -1);
    log_fixture_end(&t);
    close(fd);
}

/* Requests that complete after the end of their session are not marked. */
static void test_queue_log_marks_nothing_after_a_reset(void **state)
{
    struct test_latch latch;
    struct log_fixture t;

    log_fixture_begin(&t, NULL);
    log_fixture_log_ring(&t, LOG_FIXTURE_USED);
    fixture_add(&t.fixture, 1);
    gw_driver_kick(t.fixture.driver);
    fixture_wait_held(&t.fixture, 1);
    test_latch_init(&latch, 1);
    fixture_stop_begin(&t.fixture, &latch);
    fixture_reset(&t.fixture);
    log_fixture_clear(&t);
    log_fixture_release(&t, 1, FIXTURE_BUF_LEN);
    fixture_settle(&t.fixture);
    log_fixture_check(&t);
    log_fixture_end(&t);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        FDCHECK_TEST(test_queue_log_marks_the_pages_of_a_buffer),
        FDCHECK_TEST(test_queue_log_marks_buffers_beyond_the_used_length),
        FDCHECK_TEST(test_queue_log_does_not_mark_what_is_only_read),
        FDCHECK_TEST(test_queue_log_marks_chains_of_any_length),
        FDCHECK_TEST(test_queue_log_marks_buffers_that_span_regions),
        FDCHECK_TEST(test_queue_log_marks_a_region_added_later),
        FDCHECK_TEST(test_queue_log_marks_at_completion),
        FDCHECK_TEST(test_queue_log_marks_before_it_publishes),
        FDCHECK_TEST(test_queue_log_marks_requests_older_than_the_log),
        FDCHECK_TEST(test_queue_log_is_complete_when_a_stop_is_answered),
        FDCHECK_TEST(test_queue_log_off_marks_nothing),
        FDCHECK_TEST(test_queue_log_gates_are_independent),
        FDCHECK_TEST(test_queue_log_without_base_fetches_nothing),
        FDCHECK_TEST(test_queue_log_without_base_marks_everything_when_it_comes),
        FDCHECK_TEST(test_queue_log_too_small_is_told_and_counted),
        FDCHECK_TEST(test_queue_log_counts_losses_of_each_log),
        FDCHECK_TEST(test_queue_log_marks_the_answer_to_a_bad_chain),
        FDCHECK_TEST(test_queue_log_signals_its_eventfd_after_marks),
        FDCHECK_TEST(test_queue_log_marks_nothing_after_a_reset),
    };

    return FIXTURE_RUN_ALL(tests);
}
