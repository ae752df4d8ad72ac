/* SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause */
/*
 * IN_ORDER: requests that the device completes out of order wait for their turn. Consecutive
 * answers share one used element only if the driver can infer the lengths of the skipped ones.
 */
#include "../fixtures/fixture.h"
#include "fdcheck.h"

#include <errno.h>

#define SIZE  16u
#define BATCH 6u

static void begin(struct fixture *t, unsigned base)
{
    struct fixture_config cfg = {.size = SIZE, .features = FIXTURE_F_ORDER, .base = (uint16_t)base};

    fixture_begin(t, &cfg);
    fixture_run(t);
    fixture_set_mode(t, FIXTURE_HOLD);
}

static void end(struct fixture *t)
{
    assert_int_equal(gw_driver_check(t->driver), 0);
    fixture_stop(t);
    fixture_end(t);
}

static void give(struct fixture *t, unsigned n)
{
    for (unsigned i = 0; i < n; i++)
        fixture_add(t, i);
    gw_driver_kick(t->driver);
    fixture_wait_held(t, n);
}

struct order {
    struct fixture *t;
    const unsigned *which; /* indices into `held` */
    const uint32_t *lens;
    unsigned n;
};

static int on_complete(void *arg)
{
    const struct order *o = arg;

    for (unsigned i = 0; i < o->n; i++)
        gw_request_complete(o->t->held[o->which[i]], o->lens[i]);
    return 0;
}

/* Complete `n` requests in one turn, in the order of `which`; they stay in `held`. */
static void complete(struct fixture *t, const unsigned *which, const uint32_t *lens, unsigned n)
{
    struct order o = {t, which, lens, n};

    fixture_call(t, on_complete, &o);
    fixture_settle(t);
}

static void complete_one(struct fixture *t, unsigned which)
{
    complete(t, &which, &(const uint32_t){FIXTURE_BUF_LEN}, 1);
}

static int on_drop(void *arg)
{
    __atomic_store_n(&((struct fixture *)arg)->n_held, 0, __ATOMIC_RELEASE);
    return 0;
}

/* Empty `held` after all its requests were completed. */
static void drop_held(struct fixture *t)
{
    fixture_call(t, on_drop, t);
}

static void check_taken(struct fixture *t, uint64_t first, const uint32_t *lens, unsigned n)
{
    struct gw_driver_used used[SIZE];

    assert_int_equal(gw_driver_take(t->driver, used, SIZE), n);
    for (unsigned i = 0; i < n; i++) {
        assert_int_equal(used[i].cookie, first + i);
        assert_int_equal(used[i].len, lens[i]);
    }
    assert_int_equal(gw_driver_check(t->driver), 0);
}

/* Has the device written a used element at `slot`? Only in the first lap: skipped slots stay as
 * they were. */
static bool is_written(struct fixture *t, unsigned slot)
{
    struct gw_driver_packed_desc desc;
    uint32_t id, len;

    if (!gw_driver_is_packed(t->driver)) {
        gw_driver_read_used(t->driver, slot, &id, &len);
        return id != UINT32_MAX;
    }
    gw_driver_read_packed_desc(t->driver, slot, &desc);
    return (desc.flags >> VRING_PACKED_DESC_F_USED & 1) ==
           (desc.flags >> VRING_PACKED_DESC_F_AVAIL & 1);
}

/* Fill the used ring so that is_written recognizes unwritten elements. */
static void spoil_elements(struct fixture *t)
{
    struct vring_used *used;

    if (gw_driver_is_packed(t->driver))
        return;
    used = gw_guest_mem_at(t->mem, t->used, 6 + UINT64_C(8) * SIZE);
    for (unsigned i = 0; i < SIZE; i++)
        used->ring[i].id = UINT32_MAX;
}

/* ---- order ---- */

static void test_in_order_answers_wait_for_their_turn(void **state)
{
    static const uint32_t lens[BATCH] = {FIXTURE_BUF_LEN, FIXTURE_BUF_LEN, FIXTURE_BUF_LEN,
                                         FIXTURE_BUF_LEN, FIXTURE_BUF_LEN, FIXTURE_BUF_LEN};
    struct gw_queue_stats stats;
    struct fixture t;

    begin(&t, 0);
    give(&t, BATCH);
    complete_one(&t, 3);
    complete_one(&t, 1);
    complete_one(&t, 5);
    fixture_stats(&t, &stats);
    assert_int_equal(stats.completed, 3);
    check_taken(&t, 0, NULL, 0);
    complete_one(&t, 0);
    check_taken(&t, 0, lens, 2); /* also request 1, which waited for it */
    complete_one(&t, 4);
    check_taken(&t, 0, NULL, 0);
    complete_one(&t, 2);
    check_taken(&t, 2, lens, 4);
    drop_held(&t);
    assert_int_equal(fixture_stop(&t), BATCH);
    fixture_end(&t);
}

/* Every permutation of four, across laps and the end of the ring, in one turn and one by one. */
static void test_in_order_any_order_of_ends(void **state)
{
    static const uint32_t lens[4] = {FIXTURE_BUF_LEN, FIXTURE_BUF_LEN, FIXTURE_BUF_LEN,
                                     FIXTURE_BUF_LEN};
    struct fixture t;

    begin(&t, 13);
    for (unsigned code = 0; code < 48; code++) {
        unsigned which[4] = {0, 1, 2, 3}, rest = code / 2;

        for (unsigned i = 3; i > 0; i--) { /* Fisher-Yates with digits of `code` */
            unsigned k = rest % (i + 1), swap = which[i];

            rest /= i + 1;
            which[i] = which[k];
            which[k] = swap;
        }
        give(&t, 4);
        if (code % 2)
            complete(&t, which, lens, 4);
        for (unsigned i = 0; i < 4 && code % 2 == 0; i++)
            complete_one(&t, which[i]);
        drop_held(&t);
        check_taken(&t, 0, lens, 4);
    }
    end(&t);
}

static void test_in_order_stop_waits_for_who_is_first(void **state)
{
    struct test_latch latch;
    struct fixture t;

    begin(&t, 0);
    give(&t, 2);
    complete_one(&t, 1);
    test_latch_init(&latch, 1);
    fixture_stop_begin(&t, &latch);
    assert_int_equal(test_latch_wait(&latch, 5000000), -ETIMEDOUT);
    complete_one(&t, 0);
    assert_int_equal(test_latch_wait(&latch, FIXTURE_WAIT_MS * UINT64_C(1000000)), 0);
    test_latch_done(&latch);
    assert_int_equal(t.queue.ring.ops->base(&t.queue.ring), fixture_base(&t, 2));
    assert_int_equal(gw_driver_used_idx(t.driver), 2);
    fixture_end(&t);
}

/* ---- batches ---- */

static void test_in_order_row_of_full_answers_is_one_element(void **state)
{
    static const unsigned which[BATCH] = {0, 1, 2, 3, 4, 5};
    static const uint32_t lens[BATCH] = {FIXTURE_BUF_LEN, FIXTURE_BUF_LEN, FIXTURE_BUF_LEN,
                                         FIXTURE_BUF_LEN, FIXTURE_BUF_LEN, 7};
    struct fixture t;

    begin(&t, 0);
    spoil_elements(&t);
    give(&t, BATCH);
    complete(&t, which, lens, BATCH);
    for (unsigned i = 0; i < BATCH; i++)
        assert_int_equal(is_written(&t, i), i == 0);
    check_taken(&t, 0, lens, BATCH);
    end(&t);
}

/* An answer shorter than its buffers ends a batch: if it were skipped, it would count as full. */
static void test_in_order_short_answer_is_not_skipped(void **state)
{
    static const unsigned which[BATCH] = {0, 1, 2, 3, 4, 5};
    static const uint32_t lens[BATCH] = {FIXTURE_BUF_LEN, 3, FIXTURE_BUF_LEN,
                                         FIXTURE_BUF_LEN, 0, FIXTURE_BUF_LEN};
    static const bool written[BATCH] = {true, false, true, false, false, true};
    struct fixture t;

    begin(&t, 0);
    spoil_elements(&t);
    give(&t, BATCH);
    complete(&t, which, lens, BATCH);
    for (unsigned i = 0; i < BATCH; i++)
        assert_int_equal(is_written(&t, i), written[i]);
    check_taken(&t, 0, lens, BATCH);
    end(&t);
}

/* A request without device-writable buffers has no used length, so it can be skipped. */
static void test_in_order_readable_ones_can_be_skipped(void **state)
{
    static const unsigned which[3] = {0, 1, 2};
    static const uint32_t lens[3] = {0, 0, 0};
    struct fixture t;

    begin(&t, 0);
    spoil_elements(&t);
    for (unsigned i = 0; i < 3; i++) {
        struct gw_driver_buf buf = {t.buf, FIXTURE_BUF_LEN};

        assert_int_equal(gw_driver_add(t.driver, &buf, 1, 0, i, 0), 0);
    }
    gw_driver_kick(t.driver);
    fixture_wait_held(&t, 3);
    complete(&t, which, lens, 3);
    assert_true(is_written(&t, 0));
    assert_false(is_written(&t, 1) || is_written(&t, 2));
    check_taken(&t, 0, lens, 3);
    end(&t);
}

/* A bad chain was not written to, so it cannot be skipped; it waits for its turn, too. */
static void test_in_order_bad_chain_in_between_is_told_of(void **state)
{
    static const unsigned which[2] = {0, 1};
    static const uint32_t lens[3] = {FIXTURE_BUF_LEN, 0, FIXTURE_BUF_LEN};
    struct gw_driver_buf bad = {0, FIXTURE_BUF_LEN};
    struct fixture t;

    begin(&t, 0);
    fixture_add(&t, 0);
    assert_int_equal(gw_driver_add(t.driver, &bad, 0, 1, 1, 0), 0);
    fixture_add(&t, 2);
    gw_driver_kick(t.driver);
    fixture_wait_held(&t, 2);
    fixture_settle(&t);
    check_taken(&t, 0, NULL, 0);
    complete(&t, which, (const uint32_t[]){FIXTURE_BUF_LEN, FIXTURE_BUF_LEN}, 2);
    check_taken(&t, 0, lens, 3);
    assert_int_equal(fixture_look(&t.n_messages), 1);
    end(&t);
}

static void test_in_order_chains_of_several_slots(void **state)
{
    static const unsigned orders[2][3] = {{0, 1, 2}, {2, 1, 0}};
    struct gw_driver_buf bufs[5];
    uint32_t lens[3];
    struct fixture t;

    begin(&t, 10);
    for (unsigned round = 0; round < 20; round++) {
        for (unsigned i = 0; i < 3; i++) {
            unsigned n = 1 + (round + i) % 5;

            for (unsigned k = 0; k < n; k++)
                bufs[k] = (struct gw_driver_buf){t.buf, 10};
            lens[i] = 10 * n;
            assert_int_equal(gw_driver_add(t.driver, bufs, 0, n, i, 0), 0);
        }
        gw_driver_kick(t.driver);
        fixture_wait_held(&t, 3);
        for (unsigned i = 0; i < 3; i++)
            complete(&t, &orders[round % 2][i], &lens[orders[round % 2][i]], 1);
        drop_held(&t);
        check_taken(&t, 0, lens, 3);
    }
    end(&t);
}

/* ---- another thread answers ---- */

static void *complete_backwards(void *arg)
{
    struct fixture *t = arg;

    for (unsigned i = t->n_held; i-- > 0;)
        gw_request_complete(t->held[i], FIXTURE_BUF_LEN);
    return NULL;
}

static void test_in_order_other_thread_answers_backwards(void **state)
{
    struct fixture_config cfg = {.size = SIZE, .features = FIXTURE_F_ORDER, .sync = GW_SYNC_MUTEX};
    pthread_t thread;
    struct fixture t;

    fixture_begin(&t, &cfg);
    fixture_run(&t);
    fixture_set_mode(&t, FIXTURE_HOLD);
    for (unsigned round = 0; round < 50; round++) {
        give(&t, BATCH);
        assert_int_equal(pthread_create(&thread, NULL, complete_backwards, &t), 0);
        pthread_join(thread, NULL);
        drop_held(&t);
        fixture_take(&t, BATCH);
    }
    end(&t);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        FDCHECK_TEST(test_in_order_answers_wait_for_their_turn),
        FDCHECK_TEST(test_in_order_any_order_of_ends),
        FDCHECK_TEST(test_in_order_stop_waits_for_who_is_first),
        FDCHECK_TEST(test_in_order_row_of_full_answers_is_one_element),
        FDCHECK_TEST(test_in_order_short_answer_is_not_skipped),
        FDCHECK_TEST(test_in_order_readable_ones_can_be_skipped),
        FDCHECK_TEST(test_in_order_bad_chain_in_between_is_told_of),
        FDCHECK_TEST(test_in_order_chains_of_several_slots),
        FDCHECK_TEST(test_in_order_other_thread_answers_backwards),
    };

    return FIXTURE_RUN_LAYOUTS(tests);
}
