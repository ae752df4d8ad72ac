/* SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause */
/* Requests held by the device: starved queues, unpopping, bad chains, cursors. */
#include "../fixtures/fixture.h"
#include "fdcheck.h"

#include <errno.h>
#include <string.h>
#include <sys/eventfd.h>
#include <unistd.h>

static void begin_and_run(struct fixture *t, const struct fixture_config *cfg)
{
    fixture_begin(t, cfg);
    fixture_run(t);
}

static void end(struct fixture *t)
{
    fixture_stop(t);
    fixture_end(t);
}

/* Add a chain outside guest memory. */
static void add_bad(struct fixture *t)
{
    struct gw_driver_buf buf = {.addr = 0, .len = FIXTURE_BUF_LEN};

    assert_int_equal(gw_driver_add(t->driver, &buf, 0, 1, 0, 0), 0);
}

static void add(struct fixture *t, const struct gw_driver_buf *bufs, unsigned n_readable,
                unsigned n_writable)
{
    assert_int_equal(gw_driver_add(t->driver, bufs, n_readable, n_writable, 0, 0), 0);
}

/* ---- starved ---- */

static void test_request_left_on_ring_is_offered_after_a_completion(void **state)
{
    struct fixture t;

    begin_and_run(&t, NULL);
    fixture_set_mode(&t, FIXTURE_HOLD);
    __atomic_store_n(&t.batch, 1, __ATOMIC_RELEASE);
    fixture_add(&t, 1);
    gw_driver_kick(t.driver);
    fixture_wait_held(&t, 1);
    fixture_settle(&t);
    fixture_set_mode(&t, FIXTURE_IGNORE);
    __atomic_store_n(&t.n_ready, 0, __ATOMIC_RELEASE);
    fixture_add(&t, 2);
    gw_driver_kick_always(t.driver);
    fixture_wait_for(&t.n_ready, 1);
    usleep(10000);
    assert_int_equal(fixture_look(&t.n_ready), 1); /* it does not spin */
    fixture_set_mode(&t, FIXTURE_COMPLETE);
    fixture_release(&t, 1);
    fixture_take(&t, 2);
    end(&t);
}

static void test_request_left_on_ring_is_offered_after_wake(void **state)
{
    struct fixture t;

    begin_and_run(&t, NULL);
    fixture_set_mode(&t, FIXTURE_IGNORE);
    fixture_add(&t, 1);
    gw_driver_kick(t.driver);
    fixture_wait_for(&t.n_ready, 1);
    fixture_settle(&t);
    for (unsigned i = 2; i < 50; i++) {
        gw_queue_wake(&t.queue);
        fixture_wait_for(&t.n_ready, i);
    }
    fixture_set_mode(&t, FIXTURE_COMPLETE);
    gw_queue_wake(&t.queue);
    fixture_take(&t, 1);
    gw_queue_wake(&t.queue); /* the queue is empty */
    fixture_settle(&t);
    end(&t);
    assert_int_equal(fixture_look(&t.n_ready), 50);
}

static struct gw_request *lent;

static void *complete_lent(void *arg)
{
    gw_request_complete(lent, FIXTURE_BUF_LEN);
    return NULL;
}

/* A device with room for one request: while it leaves the next on the ring, the first completes. */
static int room_for_one(void *dev, struct gw_queue *q)
{
    struct fixture *t = dev;
    struct gw_request *r;
    pthread_t thread;

    __atomic_add_fetch(&t->n_ready, 1, __ATOMIC_RELEASE);
    if (!lent) {
        if (gw_queue_pop(q, &r, 1) == 1)
            lent = r;
        return 0;
    }
    assert_int_equal(pthread_create(&thread, NULL, complete_lent, NULL), 0);
    assert_int_equal(pthread_join(thread, NULL), 0);
    lent = NULL;
    return 0;
}

static void finish_lent(struct fixture *t)
{
    fixture_settle(t);
    if (lent)
        gw_request_complete(lent, FIXTURE_BUF_LEN);
    lent = NULL;
}

static void test_request_completed_elsewhere_in_the_same_turn_does_not_park(void **state)
{
    struct fixture_config cfg = {.sync = GW_SYNC_MUTEX, .queue_ready = room_for_one};
    struct fixture t;

    begin_and_run(&t, &cfg);
    fixture_add(&t, 1);
    fixture_add(&t, 2);
    gw_driver_kick(t.driver);
    /* Turn 1 pops request 1. Turn 2 leaves request 2 on the ring while 1 completes. Turn 3 pops 2,
     * and only the queue itself can trigger it. */
    fixture_wait_for(&t.n_ready, 3);
    finish_lent(&t);
    fixture_take(&t, 2);
    end(&t);
}

static void test_request_popped_by_other_thread_from_starved_queue_resumes(void **state)
{
    struct fixture_config cfg = {.sync = GW_SYNC_RWLOCK};
    struct gw_request *reqs[8];
    struct fixture t;

    begin_and_run(&t, &cfg);
    fixture_set_mode(&t, FIXTURE_IGNORE);
    for (unsigned round = 0; round < 100; round++) {
        fixture_add(&t, 1);
        gw_driver_kick(t.driver);
        fixture_wait_for(&t.n_ready, round + 1);
        fixture_settle(&t);
        /* The queue asks for kicks again, whether or not the pop reaches the end of the ring. */
        assert_int_equal(gw_queue_pop(&t.queue, reqs, round % 2 ? 1 : 8), 1);
        gw_request_complete(reqs[0], FIXTURE_BUF_LEN);
        fixture_settle(&t);
        fixture_take(&t, 1);
    }
    end(&t);
}

/* ---- unpopping ---- */

static int unpop_last(void *arg)
{
    struct fixture *t = arg;
    int r = gw_request_unpop(t->held[t->n_held - 1]);

    if (r == 0)
        t->n_held--;
    return r;
}

static int unpop_first(void *arg)
{
    struct fixture *t = arg;

    return gw_request_unpop(t->held[0]);
}

static void test_request_handed_back_is_popped_again(void **state)
{
    struct gw_queue_stats stats;
    struct fixture t;

    begin_and_run(&t, NULL);
    fixture_set_mode(&t, FIXTURE_HOLD);
    for (unsigned i = 0; i < 3; i++)
        fixture_add(&t, i);
    gw_driver_kick(t.driver);
    fixture_wait_held(&t, 3);
    fixture_settle(&t);
    assert_int_equal(fixture_call(&t, unpop_first, &t), -EINVAL);
    assert_int_equal(fixture_call(&t, unpop_last, &t), 0);
    assert_int_equal(fixture_call(&t, unpop_last, &t), 0);
    fixture_stats(&t, &stats);
    assert_int_equal(stats.requests, 1);
    assert_int_equal(stats.in_flight, 1);
    gw_queue_wake(&t.queue);
    fixture_wait_held(&t, 3);
    fixture_release(&t, 3);
    fixture_take(&t, 3);
    end(&t);
}

/* The device had no room for it, and has some once another request completes. */
static void test_request_handed_back_is_offered_after_a_completion(void **state)
{
    struct fixture t;

    begin_and_run(&t, NULL);
    fixture_set_mode(&t, FIXTURE_HOLD);
    fixture_add(&t, 1);
    fixture_add(&t, 2);
    gw_driver_kick(t.driver);
    fixture_wait_held(&t, 2);
    fixture_settle(&t);
    assert_int_equal(fixture_call(&t, unpop_last, &t), 0);
    __atomic_store_n(&t.n_ready, 0, __ATOMIC_RELEASE);
    fixture_settle(&t);
    assert_int_equal(fixture_look(&t.n_ready), 0); /* not before */
    fixture_set_mode(&t, FIXTURE_COMPLETE);
    fixture_release(&t, 1);
    fixture_take(&t, 2);
    end(&t);
}

static void hand_back_all(void *dev, struct gw_queue *q)
{
    struct fixture *t = dev;

    while (t->n_held > 0)
        assert_int_equal(gw_request_unpop(t->held[--t->n_held]), 0);
}

static void test_request_handed_back_at_stop_is_in_the_base(void **state)
{
    struct fixture_config cfg = {.queue_stop = hand_back_all, .base = 65534};
    struct fixture t;

    begin_and_run(&t, &cfg);
    fixture_set_mode(&t, FIXTURE_HOLD);
    for (unsigned i = 0; i < 5; i++)
        fixture_add(&t, i);
    gw_driver_kick(t.driver);
    fixture_wait_held(&t, 5);
    fixture_release(&t, 2);
    assert_int_equal(fixture_stop(&t), 0); /* 65534 + 2 */
    assert_int_equal(gw_driver_used_idx(t.driver), 0);
    fixture_set_mode(&t, FIXTURE_COMPLETE);
    assert_int_equal(fixture_start(&t, FIXTURE_DRIVER_FD, 0), 0);
    fixture_set_call(&t, FIXTURE_DRIVER_FD);
    fixture_take(&t, 5);
    end(&t);
}

static void test_request_with_a_bad_chain_behind_it_cannot_be_handed_back(void **state)
{
    struct fixture t;

    begin_and_run(&t, NULL);
    fixture_set_mode(&t, FIXTURE_HOLD);
    fixture_add(&t, 0);
    add_bad(&t);
    gw_driver_kick(t.driver);
    fixture_wait_held(&t, 1);
    fixture_settle(&t);
    assert_int_equal(fixture_call(&t, unpop_last, &t), -EINVAL);
    fixture_release(&t, 1);
    end(&t);
}

/* ---- bad chains ---- */

static void test_request_bad_chain_is_answered_with_zero(void **state)
{
    struct gw_queue_stats stats;
    struct gw_driver_used used;
    struct fixture t;

    begin_and_run(&t, NULL);
    add_bad(&t);
    fixture_add(&t, 1);
    gw_driver_kick(t.driver);
    assert_int_equal(gw_driver_wait(t.driver, FIXTURE_WAIT_MS), 0);
    assert_int_equal(gw_driver_take(t.driver, &used, 1), 1);
    assert_int_equal(used.id, 0);
    assert_int_equal(used.len, 0);
    fixture_take(&t, 1);
    fixture_settle(&t);
    fixture_stats(&t, &stats);
    assert_int_equal(stats.requests, 1);
    assert_int_equal(stats.errors, 1);
    assert_int_equal(stats.in_flight, 0);
    assert_non_null(strstr(t.message, "bad descriptor chain at head 0: buffer outside"));
    end(&t);
}

static void test_request_head_beyond_ring_is_skipped(void **state)
{
    struct gw_queue_stats stats;
    struct fixture t;

    begin_and_run(&t, NULL);
    fixture_add(&t, 0);
    fixture_add(&t, 1);
    gw_driver_write_avail(t.driver, 0, 256);
    gw_driver_kick(t.driver);
    fixture_take(&t, 1);
    fixture_settle(&t);
    fixture_stats(&t, &stats);
    assert_int_equal(stats.errors, 1);
    assert_int_equal(fixture_stop(&t), 2);
    assert_int_equal(gw_driver_used_idx(t.driver), 1);
    fixture_end(&t);
}

/*
 * Keep the ring full of bad chains while the test runs. The length in every 64th used element shows
 * the device's progress even before it publishes.
 */
static void *feed_bad_chains(void *arg)
{
    struct fixture *t = arg;
    uint16_t done = 0, mask = (uint16_t)(t->cfg.size - 1), size = (uint16_t)t->cfg.size;
    struct vring_used *used = gw_guest_mem_at(t->mem, t->used, 6 + UINT64_C(8) * t->cfg.size);
    unsigned n_waits = 0;

    for (unsigned i = 63; i < t->cfg.size; i += 64)
        used->ring[i].len = UINT32_MAX;
    gw_driver_write_avail_idx(t->driver, size);
    while (__atomic_load_n(&t->mode, __ATOMIC_ACQUIRE) == FIXTURE_COMPLETE) {
        uint32_t *len = &used->ring[(done + 63) & mask].len;

        if (__atomic_load_n(len, __ATOMIC_ACQUIRE) != UINT32_MAX) {
            __atomic_store_n(len, UINT32_MAX, __ATOMIC_RELAXED);
            done = (uint16_t)(done + 64);
            gw_driver_write_avail_idx(t->driver, (uint16_t)(done + size));
        } else if (++n_waits % 1024 == 0) { /* the device may have caught up and gone to sleep */
            (void)eventfd_write(gw_driver_kick_fd(t->driver), 1);
        }
    }
    return NULL;
}

static uint64_t longest_pop, n_bad;

static int measure_pop(void *dev, struct gw_queue *q)
{
    struct fixture *t = dev;
    struct gw_queue_stats before, after;
    struct gw_request *reqs[8];

    gw_queue_stats(q, &before);
    assert_int_equal(gw_queue_pop(q, reqs, 8), 0);
    gw_queue_stats(q, &after);
    if (after.errors - before.errors > longest_pop)
        longest_pop = after.errors - before.errors;
    __atomic_store_n(&n_bad, after.errors, __ATOMIC_RELEASE);
    __atomic_add_fetch(&t->n_ready, 1, __ATOMIC_RELEASE);
    return 0;
}

static void test_request_bad_chains_without_end_are_left_for_the_next_turn(void **state)
{
    struct fixture_config cfg = {.size = 1024, .queue_ready = measure_pop};
    uint64_t deadline = gw_clock_ns() + UINT64_C(2000000000);
    pthread_t thread;
    struct fixture t;

    longest_pop = n_bad = 0;
    begin_and_run(&t, &cfg);
    gw_driver_write_desc(t.driver, 0, 0, 0, 0, 0);
    for (unsigned i = 0; i < cfg.size; i++)
        gw_driver_write_avail(t.driver, i, 0);
    assert_int_equal(pthread_create(&thread, NULL, feed_bad_chains, &t), 0);
    while (__atomic_load_n(&n_bad, __ATOMIC_ACQUIRE) < 1000000 && gw_clock_ns() < deadline)
        usleep(1000);
    fixture_set_mode(&t, FIXTURE_IGNORE);
    pthread_join(thread, NULL);
    end(&t);
    assert_true(n_bad > 1024);
    assert_true(longest_pop <= 1024);
}

/* The ring size limits the requests in flight, regardless of what the driver makes available. */
static void test_request_pool_is_as_large_as_the_ring(void **state)
{
    struct fixture_config cfg = {.size = 4, .queue_stop = NULL};
    struct fixture t;

    begin_and_run(&t, &cfg);
    fixture_set_mode(&t, FIXTURE_HOLD);
    for (unsigned i = 0; i < 4; i++)
        fixture_add(&t, i);
    gw_driver_kick(t.driver);
    fixture_wait_held(&t, 4);
    for (unsigned i = 0; i < 4; i++)
        gw_driver_write_avail(t.driver, i, 0); /* the same head again and again */
    gw_driver_write_avail_idx(t.driver, 8);
    eventfd_write(gw_driver_kick_fd(t.driver), 1);
    usleep(10000);
    fixture_settle(&t);
    assert_int_equal(fixture_look(&t.n_held), 4);
    fixture_release(&t, 1);
    fixture_wait_for(&t.n_held, 4);
    fixture_settle(&t);
    assert_int_equal(fixture_look(&t.n_held), 4);
    while (fixture_look(&t.n_held) > 0) {
        fixture_release(&t, fixture_look(&t.n_held));
        fixture_settle(&t);
    }
    end(&t);
}

/* ---- cursors ---- */

static int walk_cursors(void *arg)
{
    struct fixture *t = arg;
    struct gw_request *r = t->held[0];
    uint8_t buf[64];

    assert_int_equal(r->n_readable, 2);
    assert_int_equal(r->n_writable, 3);
    assert_int_equal(r->readable_len, 16 + 7);
    assert_int_equal(r->writable_len, 5 + 5 + 1);
    assert_int_equal(gw_request_read(r, buf, 0), 0);
    assert_int_equal(gw_request_read(r, buf, 10), 10);
    assert_memory_equal(buf, "0123456789", 10);
    assert_int_equal(r->readable_len, 13);
    assert_int_equal(gw_request_read(r, buf, 7), 7); /* across two buffers */
    assert_memory_equal(buf, "abcdefA", 7);
    assert_int_equal(r->n_readable, 1);
    assert_int_equal(gw_request_read(r, buf, 64), 6);
    assert_memory_equal(buf, "BCDEFG", 6);
    assert_int_equal(gw_request_read(r, buf, 64), 0);
    assert_int_equal(r->n_readable, 0);
    assert_int_equal(r->readable_len, 0);

    assert_true(gw_request_take_status(r));
    assert_int_equal(r->n_writable, 2);
    assert_int_equal(r->writable_len, 10);
    assert_int_equal(gw_request_write(r, "vwxyzVWXYZ--", 12), 10);
    assert_int_equal(r->writable_len, 0);
    assert_false(gw_request_take_status(r));
    return 0;
}

static void test_request_cursors_step_over_buffers(void **state)
{
    struct gw_driver_buf bufs[5];
    uint8_t *at;
    struct fixture t;
    gw_gpa_t gpa;

    begin_and_run(&t, NULL);
    fixture_set_mode(&t, FIXTURE_HOLD);
    assert_int_equal(gw_guest_mem_alloc(t.mem, 256, 64, &gpa), 0);
    at = gw_guest_mem_at(t.mem, gpa, 256);
    memcpy(at, "0123456789abcdef", 16);
    memcpy(at + 32, "ABCDEFG", 7);
    memset(at + 64, '.', 64);
    bufs[0] = (struct gw_driver_buf){gpa, 16};
    bufs[1] = (struct gw_driver_buf){gpa + 32, 7};
    bufs[2] = (struct gw_driver_buf){gpa + 64, 5};
    bufs[3] = (struct gw_driver_buf){gpa + 80, 5};
    bufs[4] = (struct gw_driver_buf){gpa + 96, 1};
    add(&t, bufs, 2, 3);
    gw_driver_kick(t.driver);
    fixture_wait_held(&t, 1);
    fixture_call(&t, walk_cursors, &t);
    assert_memory_equal(at + 64, "vwxyz...........VWXYZ...............", 36);
    fixture_release(&t, 1);
    end(&t);
}

static int status_of_last_byte(void *arg)
{
    struct fixture *t = arg;
    struct gw_request *r = t->held[0];

    for (unsigned i = 0; i < 3; i++)
        assert_true(gw_request_take_status(r));
    assert_int_equal(r->n_writable, 0);
    assert_int_equal(r->writable_len, 0);
    return 0;
}

static void test_request_status_can_be_all_there_is(void **state)
{
    struct gw_driver_buf bufs[2];
    struct fixture t;

    begin_and_run(&t, NULL);
    fixture_set_mode(&t, FIXTURE_HOLD);
    bufs[0] = (struct gw_driver_buf){t.buf, 2};
    bufs[1] = (struct gw_driver_buf){t.buf + 2, 1};
    add(&t, bufs, 0, 2);
    gw_driver_kick(t.driver);
    fixture_wait_held(&t, 1);
    fixture_call(&t, status_of_last_byte, &t);
    fixture_release(&t, 1);
    end(&t);
}

/* What the device does with the buffers of a request before it completes it with a status. */
enum consumption {
    CONSUME_NOTHING,
    CONSUME_STATUS, /* take the status */
    CONSUME_DATA,   /* take the status, write the data */
    CONSUME_ALL,    /* write everything, the status too */
    CONSUMPTIONS
};

struct answer {
    struct fixture *t;
    enum consumption consumption;
};

static int complete_with_status(void *arg)
{
    static const uint8_t data[64] = {0};
    struct answer *answer = arg;
    struct fixture *t = answer->t;
    struct gw_request *r = t->held[0];
    bool is_taken = answer->consumption == CONSUME_STATUS || answer->consumption == CONSUME_DATA;
    bool has_status = r->n_writable > 0;

    if (is_taken)
        assert_int_equal(gw_request_take_status(r), has_status);
    if (answer->consumption >= CONSUME_DATA) {
        (void)gw_request_write(r, data, sizeof(data));
        assert_int_equal(r->writable_len, 0);
    }
    gw_request_complete_status(r, 0x5a);
    __atomic_store_n(&t->n_held, 0, __ATOMIC_RELEASE);
    return 0;
}

/* Answer one chain with a status. Returns: the used length. */
static uint32_t answer_with_status(struct fixture *t, const struct gw_driver_buf *bufs,
                                   unsigned n_readable, unsigned n_writable,
                                   enum consumption consumption)
{
    struct answer answer = {t, consumption};
    struct gw_driver_used used = {0};

    add(t, bufs, n_readable, n_writable);
    gw_driver_kick(t->driver);
    fixture_wait_held(t, 1);
    fixture_call(t, complete_with_status, &answer);
    assert_int_equal(gw_driver_wait(t->driver, patience_ms()), 0);
    assert_int_equal(gw_driver_take(t->driver, &used, 1), 1);
    return used.len;
}

/* The chains have one buffer for the status, one for data and status, and more than fit inline. */
static void test_request_status_is_in_the_last_byte_and_the_length_counts_all(void **state)
{
    static const uint32_t lengths[][2] = {{5, 1}, {5, 5}, {1, 2}};
    struct gw_driver_buf bufs[1 + 20];
    struct fixture t;
    uint8_t *at;

    begin_and_run(&t, NULL);
    fixture_set_mode(&t, FIXTURE_HOLD);
    at = gw_guest_mem_at(t.mem, t.buf, FIXTURE_BUF_LEN);
    for (unsigned i = 0; i < 3 * CONSUMPTIONS; i++) {
        const uint32_t *length = lengths[i % 3];
        unsigned n = i % 3 == 2 ? 20 : 2;

        memset(at, 0xff, FIXTURE_BUF_LEN);
        bufs[0] = (struct gw_driver_buf){t.buf, 3};
        for (unsigned k = 1; k < n; k++)
            bufs[k] = (struct gw_driver_buf){t.buf + 16, length[0]};
        bufs[n] = (struct gw_driver_buf){t.buf + 32, length[1]};
        assert_int_equal(answer_with_status(&t, bufs, 1, n, (enum consumption)(i / 3)),
                         (n - 1) * length[0] + length[1]);
        assert_int_equal(at[32 + length[1] - 1], 0x5a);
        assert_int_equal(at[32 + length[1]], 0xff);
        if (length[1] > 1)
            assert_int_equal(at[32], i / 3 >= CONSUME_DATA ? 0 : 0xff);
    }
    end(&t);
}

static void test_request_without_a_status_is_completed_with_nothing(void **state)
{
    struct fixture t;

    begin_and_run(&t, NULL);
    fixture_set_mode(&t, FIXTURE_HOLD);
    for (unsigned i = 0; i < CONSUMPTIONS; i++) {
        struct gw_driver_buf buf = {t.buf, 3};
        uint8_t *at = gw_guest_mem_at(t.mem, t.buf, 3);

        memset(at, 0xff, 3);
        assert_int_equal(answer_with_status(&t, &buf, 1, 0, (enum consumption)i), 0);
        assert_memory_equal(at, "\xff\xff\xff", 3);
    }
    end(&t);
}

static int use_private(void *arg)
{
    struct fixture *t = arg;

    for (unsigned i = 0; i < t->n_held; i++) {
        uint8_t *p = gw_request_private(t->held[i]);

        for (unsigned k = 0; k < 100; k++)
            assert_int_equal(p[k], 0);
        memset(p, 0xff, 100);
    }
    return 0;
}

static void test_request_private_is_zero_and_overlaps_nothing(void **state)
{
    struct fixture_config cfg = {.request_size = 100, .size = 16};
    struct fixture t;

    begin_and_run(&t, &cfg);
    fixture_set_mode(&t, FIXTURE_HOLD);
    for (unsigned round = 0; round < 3; round++) { /* fresh memory first, then reused memory */
        for (unsigned i = 0; i < 16; i++)
            fixture_add(&t, i);
        gw_driver_kick(t.driver);
        fixture_wait_held(&t, 16);
        fixture_call(&t, use_private, &t);
        fixture_release(&t, 16);
        fixture_take(&t, 16);
    }
    end(&t);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        FDCHECK_TEST(test_request_left_on_ring_is_offered_after_a_completion),
        FDCHECK_TEST(test_request_left_on_ring_is_offered_after_wake),
        FDCHECK_TEST(test_request_completed_elsewhere_in_the_same_turn_does_not_park),
        FDCHECK_TEST(test_request_popped_by_other_thread_from_starved_queue_resumes),
        FDCHECK_TEST(test_request_handed_back_is_popped_again),
        FDCHECK_TEST(test_request_handed_back_is_offered_after_a_completion),
        FDCHECK_TEST(test_request_handed_back_at_stop_is_in_the_base),
        FDCHECK_TEST(test_request_with_a_bad_chain_behind_it_cannot_be_handed_back),
        FDCHECK_TEST(test_request_bad_chain_is_answered_with_zero),
        FDCHECK_TEST(test_request_cursors_step_over_buffers),
        FDCHECK_TEST(test_request_status_can_be_all_there_is),
        FDCHECK_TEST(test_request_status_is_in_the_last_byte_and_the_length_counts_all),
        FDCHECK_TEST(test_request_without_a_status_is_completed_with_nothing),
        FDCHECK_TEST(test_request_private_is_zero_and_overlaps_nothing),
    };

    /* These tests write the available ring and its index, which only a split ring has. */
    const struct CMUnitTest split_tests[] = {
        FDCHECK_TEST(test_request_head_beyond_ring_is_skipped),
        FDCHECK_TEST(test_request_bad_chains_without_end_are_left_for_the_next_turn),
        FDCHECK_TEST(test_request_pool_is_as_large_as_the_ring),
    };

    return FIXTURE_RUN_ALL(tests) + FIXTURE_RUN_BOTH_LOOPS(split_tests);
}
