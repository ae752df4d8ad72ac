/* SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause */
/*
 * Byte limits: per turn of a queue, for all requests in flight, and per request. Requests that are
 * put back on the ring leave the ring and the inflight region unchanged.
 */
#include "../fixtures/resume_fixture.h"
#include "fdcheck.h"

#define MIB UINT64_C(0x100000)

struct limit {
    struct fixture *fixture;
    int64_t in_flight; /* 0: unchanged */
    uint32_t request;  /* 0: unchanged */
};

static int set_limit(void *arg)
{
    const struct limit *l = arg;

    if (l->in_flight)
        l->fixture->queue.limits.bytes_in_flight = l->in_flight;
    if (l->request)
        l->fixture->queue.limits.request_bytes = l->request;
    return 0;
}

/* Set the limits on the worker, which reads them. */
static void limit(struct fixture *fixture, int64_t in_flight, uint32_t request)
{
    struct limit l = {fixture, in_flight, request};

    assert_int_equal(worker_call(&fixture->worker, set_limit, &l), 0);
}

/* ---- a turn ---- */

enum {
    LARGE = 64, /* requests of 1 MiB, all with the same buffer */
};

struct turns {
    struct fixture fixture;
    unsigned n_popped;    /* atomic: total */
    uint64_t bytes;       /* popped in this turn */
    uint64_t bytes_most;  /* maximum of all turns */
    uint64_t request_len; /* of each request */
};

/* A device that pops until the queue returns no more requests. */
static int pop_all(void *dev, struct gw_queue *q)
{
    struct turns *t = (struct turns *)dev;
    struct gw_request *reqs[GW_POP_BATCH];
    unsigned n;

    t->bytes = 0;
    while ((n = gw_queue_pop(q, reqs, GW_POP_BATCH)) > 0)
        for (unsigned i = 0; i < n; i++) {
            assert_int_equal(reqs[i]->writable_len, t->request_len);
            t->bytes += reqs[i]->writable_len;
            gw_request_complete(reqs[i], FIXTURE_BUF_LEN);
            __atomic_fetch_add(&t->n_popped, 1, __ATOMIC_RELEASE);
        }
    if (t->bytes > t->bytes_most)
        t->bytes_most = t->bytes;
    return 0;
}

static void run_turns(uint64_t request_len, bool inflight)
{
    struct fixture_config cfg = {
        .queue_ready = pop_all, .mem_len = 64 * MIB, .inflight = inflight, .base = 250};
    struct turns t = {.request_len = request_len};
    gw_gpa_t data;

    fixture_begin(&t.fixture, &cfg);
    assert_int_equal(gw_guest_mem_alloc(t.fixture.mem, request_len, 64, &data), 0);
    fixture_run(&t.fixture);
    for (unsigned i = 0; i < LARGE; i++) {
        struct gw_driver_buf buf = {data, (uint32_t)request_len};

        assert_int_equal(gw_driver_add(t.fixture.driver, &buf, 0, 1, i, 0), 0);
    }
    gw_driver_kick(t.fixture.driver);
    fixture_wait_for(&t.n_popped, LARGE);
    fixture_take(&t.fixture, LARGE);
    assert_int_equal(fixture_stop(&t.fixture), fixture_index(&t.fixture, 250 + LARGE));
    assert_in_range(t.bytes_most, request_len, GW_TURN_BYTES + request_len - 1);
    fixture_end(&t.fixture);
}

static void test_bounds_turn_ends_after_its_bytes(void **state)
{
    run_turns(MIB, false);
    run_turns(MIB, true);
    run_turns(3 * MIB + 1, true);
    run_turns(20 * MIB, true); /* more than the limit of a turn */
}

/* ---- in flight ---- */

static void test_bounds_bytes_in_flight(void **state)
{
    static const unsigned numbers[] = {0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11};
    struct resume_fixture b;

    begin(&b, true);
    limit(&b.fixture, 5 * FIXTURE_BUF_LEN - 1,
          0); /* four requests are below it, so a fifth may start */
    add(&b, 12);
    for (unsigned i = 0; i < 12; i++) {
        check_held(&b, numbers + i, i < 7 ? 5 : 12 - i);
        answer(&b, 0);
        take(&b, 1);
    }
    assert_int_equal(b.fixture.queue.in_flight.bytes, 0);
    end(&b);
}

/* Requests beyond the limit are neither in flight for the next back-end nor lost. */
static void test_bounds_in_flight_across_a_crash(void **state)
{
    static const unsigned numbers[] = {0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11};
    struct resume_fixture b;

    begin(&b, true);
    limit(&b.fixture, 5 * FIXTURE_BUF_LEN, 0);
    add(&b, 12);
    check_held(&b, numbers, 5);
    fixture_lose(&b.fixture);
    let_go(&b);
    limit(&b.fixture, 3 * FIXTURE_BUF_LEN, 0);
    run(&b, ANYWHERE);
    assert_int_equal(b.fixture.queue.resume.n_resubmit, 5);
    for (unsigned i = 0; i < 12; i++) {
        check_held(&b, numbers + i, i < 9 ? 3 : 12 - i);
        answer(&b, 0);
        take(&b, 1);
    }
    end(&b);
}

/* Chains of one-byte buffers: the segment blocks that they borrow count towards the limit. */
static void test_bounds_long_chains_in_flight(void **state)
{
    enum {
        CHAINS = 10,
        LONG = GW_CHAIN_INLINE + 1,
    };
    struct fixture_config cfg = {.indirect_max = LONG, .features = FIXTURE_F_INDIR};
    struct gw_driver_buf bufs[LONG];
    struct fixture t;

    fixture_begin(&t, &cfg);
    limit(&t, 3 * GW_LONG_CHAIN_BYTES, 0);
    fixture_set_mode(&t, FIXTURE_HOLD);
    fixture_run(&t);
    for (unsigned i = 0; i < LONG; i++)
        bufs[i] = (struct gw_driver_buf){t.buf, 1};
    for (unsigned i = 0; i < CHAINS; i++)
        assert_int_equal(gw_driver_add(t.driver, bufs, 0, LONG, i, GW_DRIVER_INDIRECT), 0);
    gw_driver_kick(t.driver);
    for (unsigned left = CHAINS; left > 0; left--) {
        fixture_wait_held(&t, left < 3 ? left : 3);
        fixture_settle(&t);
        assert_int_equal(fixture_look(&t.n_held), left < 3 ? left : 3);
        fixture_release(&t, 1);
    }
    assert_int_equal(fixture_stop(&t), fixture_index(&t, CHAINS));
    fixture_end(&t);
}

/* Each bad chain is answered, and still counts towards the limit of the turn. */
static void test_bounds_bad_chains_end_a_turn(void **state)
{
    enum {
        CHAINS = 256, /* twice the limit of a turn */
    };
    struct gw_driver_buf bad = {0, 1}; /* not in guest memory */
    struct gw_queue_stats stats = {0};
    unsigned before;
    struct fixture t;

    fixture_begin(&t, NULL);
    fixture_run(&t);
    fixture_settle(&t);
    before = fixture_look(&t.n_ready);
    for (unsigned i = 0; i < CHAINS; i++)
        assert_int_equal(gw_driver_add(t.driver, &bad, 0, 1, i, 0), 0);
    gw_driver_kick(t.driver);
    while (stats.errors < CHAINS)
        fixture_stats(&t, &stats);
    assert_true(fixture_look(&t.n_ready) - before >= 2);
    assert_int_equal(fixture_stop(&t), fixture_index(&t, CHAINS));
    fixture_end(&t);
}

/* A stop answers all resumed requests, regardless of the limit in flight. */
static void test_bounds_stop_drains_what_is_resumed(void **state)
{
    struct resume_fixture b;

    begin(&b, true);
    give(&b, 8);
    fixture_lose(&b.fixture);
    let_go(&b);
    limit(&b.fixture, 1, 0);
    fixture_set_mode(&b.fixture, FIXTURE_COMPLETE);
    run(&b, ANYWHERE);
    assert_int_equal(fixture_stop(&b.fixture), fixture_index(&b.fixture, 13 + 8));
    take(&b, 8);
    fixture_end(&b.fixture);
}

/* ---- one request ---- */

static void test_bounds_request_longer_than_the_limit_is_bad(void **state)
{
    struct gw_driver_buf buf;
    struct gw_queue_stats stats;
    struct resume_fixture b;

    begin(&b, false);
    limit(&b.fixture, 0, 2 * FIXTURE_BUF_LEN);
    for (uint32_t len = 2 * FIXTURE_BUF_LEN; len <= 2 * FIXTURE_BUF_LEN + 1; len++) {
        buf = (struct gw_driver_buf){b.data, len};
        assert_int_equal(gw_driver_add(b.fixture.driver, &buf, 0, 1, b.n_added++, 0), 0);
    }
    gw_driver_kick_always(b.fixture.driver);
    fixture_wait_held(&b.fixture, 1);
    fixture_settle(&b.fixture);
    fixture_stats(&b.fixture, &stats);
    assert_int_equal(stats.errors, 1);
    assert_int_equal(stats.in_flight, 1);
    finish(&b);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        FDCHECK_TEST(test_bounds_turn_ends_after_its_bytes),
        FDCHECK_TEST(test_bounds_bytes_in_flight),
        FDCHECK_TEST(test_bounds_in_flight_across_a_crash),
        FDCHECK_TEST(test_bounds_long_chains_in_flight),
        FDCHECK_TEST(test_bounds_bad_chains_end_a_turn),
        FDCHECK_TEST(test_bounds_stop_drains_what_is_resumed),
        FDCHECK_TEST(test_bounds_request_longer_than_the_limit_is_bad),
    };

    return FIXTURE_RUN_ALL(tests);
}
