/* SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause */
/* Memory map changes while a queue runs: requests keep the old map, rings move to the new one. */
#include "../fixtures/fixture.h"
#include "fdcheck.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define EXTRA_GPA UINT64_C(0x200000000)
#define EXTRA_LEN UINT64_C(0x10000)

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

static void add_extra(struct fixture *t)
{
    const struct gw_guest_region region = {.gpa = EXTRA_GPA, .length = EXTRA_LEN, .no_alloc = true};

    assert_int_equal(gw_guest_mem_add(t->mem, &region), 0);
}

static void add_request_in_extra(struct fixture *t, uint64_t cookie)
{
    struct gw_driver_buf buf = {.addr = EXTRA_GPA, .len = FIXTURE_BUF_LEN};

    assert_int_equal(gw_driver_add(t->driver, &buf, 0, 1, cookie, 0), 0);
    gw_driver_kick(t->driver);
}

/* Adopt `map` and free the previous map when it is no longer in use. */
static void adopt(struct fixture *t, struct gw_map *map)
{
    struct test_latch latch;

    test_latch_init(&latch, 1);
    fixture_adopt_begin(t, map, &latch);
    assert_int_equal(test_latch_wait(&latch, FIXTURE_WAIT_MS * UINT64_C(1000000)), 0);
    test_latch_done(&latch);
    gw_map_free(t->map);
    t->map = map;
}

static void adopt_without_extra(struct fixture *t)
{
    assert_int_equal(gw_guest_mem_remove(t->mem, EXTRA_GPA), 0);
    adopt(t, fixture_map(t));
}

static void test_queue_map_of_requests_in_flight_is_kept(void **state)
{
    struct test_latch latch;
    struct gw_map *map;
    struct fixture t;

    begin_and_run(&t, NULL);
    fixture_set_mode(&t, FIXTURE_HOLD);
    add_extra(&t);
    adopt(&t, fixture_map(&t));
    add_request_in_extra(&t, 1);
    fixture_wait_held(&t, 1);
    assert_int_equal(gw_guest_mem_remove(t.mem, EXTRA_GPA), 0);
    map = fixture_map(&t);
    test_latch_init(&latch, 1);
    fixture_adopt_begin(&t, map, &latch);
    assert_int_equal(test_latch_wait(&latch, 20000000), -ETIMEDOUT);

    /* New requests use the new map: they do not wait, and the swap does not wait for them. */
    fixture_add(&t, 2);
    gw_driver_kick(t.driver);
    fixture_wait_held(&t, 2);
    add_request_in_extra(&t, 3); /* outside guest memory */
    fixture_wait_for(&t.n_messages, 1);
    memset(t.held[0]->writable[0].iov_base, 1, t.held[0]->writable[0].iov_len); /* still mapped */
    fixture_release(&t, 1);
    assert_int_equal(test_latch_wait(&latch, FIXTURE_WAIT_MS * UINT64_C(1000000)), 0);
    test_latch_done(&latch);
    gw_map_free(t.map);
    t.map = map;
    assert_int_equal(fixture_look(&t.n_held), 1);
    fixture_release(&t, 1);
    assert_int_equal(fixture_stop(&t), 3);
    assert_int_equal(gw_driver_used_idx(t.driver), 3);
    fixture_end(&t);
}

static void test_queue_map_of_a_stopped_queue_is_not_waited_for(void **state)
{
    struct fixture t;

    fixture_begin(&t, NULL);
    adopt(&t, fixture_map(&t));
    fixture_run(&t);
    fixture_stop(&t);
    adopt(&t, fixture_map(&t));
    fixture_end(&t);
}

static void test_queue_map_can_change_again_before_old_requests_end(void **state)
{
    struct gw_map *maps[2];
    struct test_latch latches[2];
    struct fixture t;

    begin_and_run(&t, NULL);
    fixture_set_mode(&t, FIXTURE_HOLD);
    for (unsigned i = 0; i < 2; i++) {
        fixture_add(&t, i);
        gw_driver_kick(t.driver);
        fixture_wait_held(&t, i + 1);
        maps[i] = fixture_map(&t);
        test_latch_init(&latches[i], 1);
        fixture_adopt_begin(&t, maps[i], &latches[i]);
        assert_int_equal(test_latch_wait(&latches[i], 1000000), -ETIMEDOUT);
    }
    fixture_release(&t, 1);
    assert_int_equal(test_latch_wait(&latches[1], 1000000), -ETIMEDOUT);
    fixture_release(&t, 1);
    for (unsigned i = 0; i < 2; i++) {
        assert_int_equal(test_latch_wait(&latches[i], FIXTURE_WAIT_MS * UINT64_C(1000000)), 0);
        test_latch_done(&latches[i]);
    }
    gw_map_free(t.map);
    gw_map_free(maps[0]);
    t.map = maps[1];
    fixture_take(&t, 2);
    end(&t);
}

/* The front-end already has its reply, so new requests may use memory that only the new map has. */
static void test_queue_map_on_its_way_is_waited_for(void **state)
{
    struct fixture t;

    begin_and_run(&t, NULL);
    fixture_add(&t, 1);
    gw_driver_kick(t.driver);
    fixture_take(&t, 1);
    __atomic_store_n(&t.queue.generation.posted, t.queue.generation.applied + 1, __ATOMIC_RELEASE);
    add_extra(&t);
    for (unsigned i = 2; i < 5; i++)
        add_request_in_extra(&t, i);
    fixture_settle(&t);
    assert_int_equal(gw_driver_n_used(t.driver), 0);
    assert_int_equal(fixture_look(&t.n_messages), 0);
    adopt(&t, fixture_map(&t));
    fixture_take(&t, 3);
    assert_int_equal(fixture_look(&t.n_messages), 0);
    end(&t);
}

/* The ring's own region disappears: the queue can neither pop nor answer, and must not crash. */
static void test_queue_map_without_the_ring_breaks_it(void **state)
{
    struct test_latch latch;
    struct gw_map *map, *old;
    struct fixture t;

    begin_and_run(&t, NULL);
    add_extra(&t);
    adopt(&t, fixture_map(&t));
    fixture_set_mode(&t, FIXTURE_HOLD);
    fixture_add(&t, 1);
    gw_driver_kick(t.driver);
    fixture_wait_held(&t, 1);
    /* A map of the extra region alone. */
    assert_int_equal(gw_map_new(&map, &t.map->entries[1].region, 1), 0);
    test_latch_init(&latch, 1);
    fixture_adopt_begin(&t, map, &latch);
    fixture_release(&t, 1);
    assert_int_equal(test_latch_wait(&latch, FIXTURE_WAIT_MS * UINT64_C(1000000)), 0);
    test_latch_done(&latch);
    old = t.map;
    t.map = map;
    gw_map_free(old); /* any access to the ring now crashes */
    assert_non_null(strstr(t.message, "descriptor "));
    assert_non_null(strstr(t.message, "is not in guest memory"));
    (void)gw_driver_kick(t.driver);
    gw_driver_kick_always(t.driver);
    gw_queue_wake(&t.queue);
    fixture_enable(&t, false);
    fixture_enable(&t, true);
    fixture_settle(&t);
    assert_int_equal(gw_driver_used_idx(t.driver), 0);
    assert_int_equal(fixture_stop(&t), 1);
    fixture_end(&t);
}

/* Requests completed in the turn of the swap are published before it. */
static int complete_and_adopt(void *arg)
{
    struct fixture *t = arg;
    struct test_latch latch;
    struct gw_map *none;

    gw_request_complete(t->held[0], FIXTURE_BUF_LEN);
    t->n_held = 0;
    assert_int_equal(gw_map_new(&none, NULL, 0), 0);
    test_latch_init(&latch, 1);
    gw_queue_set_map(&t->queue, none, NULL);
    gw_queue_begin_generation(&t->queue, &latch.wait);
    assert_int_equal(test_latch_wait(&latch, 0), 0);
    test_latch_done(&latch);
    gw_map_free(t->map);
    t->map = none;
    return 0;
}

static void test_queue_map_change_loses_no_completion_of_its_turn(void **state)
{
    struct fixture t;

    begin_and_run(&t, NULL);
    fixture_set_mode(&t, FIXTURE_HOLD);
    fixture_add(&t, 1);
    gw_driver_kick(t.driver);
    fixture_wait_held(&t, 1);
    fixture_call(&t, complete_and_adopt, &t);
    assert_int_equal(gw_driver_used_idx(t.driver), 1);
    fixture_take(&t, 1);
    end(&t);
}

/* Maps change under load; buffers in the region that stays are always valid. */
static void test_queue_map_changes_under_load_lose_nothing(void **state)
{
    struct fixture_config cfg = {.features = FIXTURE_F_EVENT};
    unsigned next = 0;
    struct fixture t;

    begin_and_run(&t, &cfg);
    for (unsigned round = 0; round < 200; round++) {
        for (unsigned i = 0; i < 32; i++)
            fixture_add(&t, next++);
        gw_driver_kick(t.driver);
        if (round % 2 == 0)
            add_extra(&t);
        if (round % 2 == 0)
            adopt(&t, fixture_map(&t));
        else
            adopt_without_extra(&t);
        fixture_take(&t, 32);
    }
    assert_int_equal(fixture_stop(&t), fixture_index(&t, next));
    fixture_end(&t);
}

/* The end of a session: the map is freed as soon as the last request has ended. */
static void test_queue_map_taken_away_is_not_used_again(void **state)
{
    struct test_latch stopped, latch;
    struct fixture t;

    begin_and_run(&t, NULL);
    fixture_set_mode(&t, FIXTURE_HOLD);
    fixture_add(&t, 1);
    gw_driver_kick(t.driver);
    fixture_wait_held(&t, 1);
    test_latch_init(&stopped, 1);
    fixture_stop_begin(&t, &stopped);
    test_latch_init(&latch, 1);
    fixture_adopt_begin(&t, NULL, &latch);
    assert_int_equal(test_latch_wait(&latch, 1000000), -ETIMEDOUT);
    assert_null(t.queue.map);
    assert_false(t.queue.ring.attached);
    fixture_release(&t, 1);
    assert_int_equal(test_latch_wait(&latch, FIXTURE_WAIT_MS * UINT64_C(1000000)), 0);
    test_latch_done(&latch);
    gw_map_free(t.map);
    t.map = fixture_map(&t);
    assert_int_equal(test_latch_wait(&stopped, FIXTURE_WAIT_MS * UINT64_C(1000000)), 0);
    test_latch_done(&stopped);
    assert_int_equal(gw_driver_used_idx(t.driver), 0);
    fixture_end(&t);
}

/* A front-end may send SET_VRING_CALL while requests of the previous session are in flight. */
static void test_queue_call_of_the_next_session_outlives_late_requests(void **state)
{
    struct fixture t;

    begin_and_run(&t, NULL);
    fixture_set_mode(&t, FIXTURE_HOLD);
    fixture_add(&t, 1);
    gw_driver_kick(t.driver);
    fixture_wait_held(&t, 1);
    fixture_lose(&t);
    fixture_set_call(&t, FIXTURE_DRIVER_FD);
    fixture_release(&t, 1);
    assert_int_equal(test_latch_wait(&t.lost, FIXTURE_WAIT_MS * UINT64_C(1000000)), 0);
    fixture_set_mode(&t, FIXTURE_COMPLETE);
    assert_int_equal(fixture_start(&t, FIXTURE_DRIVER_FD, 0), 0);
    fixture_enable(&t, true);
    assert_int_equal(gw_driver_wait(t.driver, (int)FIXTURE_WAIT_MS), 0);
    fixture_take(&t, 1);
    end(&t);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        FDCHECK_TEST(test_queue_map_of_requests_in_flight_is_kept),
        FDCHECK_TEST(test_queue_map_of_a_stopped_queue_is_not_waited_for),
        FDCHECK_TEST(test_queue_map_can_change_again_before_old_requests_end),
        FDCHECK_TEST(test_queue_map_on_its_way_is_waited_for),
        FDCHECK_TEST(test_queue_map_without_the_ring_breaks_it),
        FDCHECK_TEST(test_queue_map_change_loses_no_completion_of_its_turn),
        FDCHECK_TEST(test_queue_map_changes_under_load_lose_nothing),
        FDCHECK_TEST(test_queue_map_taken_away_is_not_used_again),
        FDCHECK_TEST(test_queue_call_of_the_next_session_outlives_late_requests),
    };

    return FIXTURE_RUN_ALL(tests);
}
