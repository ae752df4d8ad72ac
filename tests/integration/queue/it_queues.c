/* SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause */
/*
 * Queues are independent: one is stopped, emptied, moved and started again, as a guest does with
 * RING_RESET, while the other does I/O. With all layouts, and with a legacy guest without
 * VERSION_1.
 */
#include "../fixtures/fixture.h"
#include "fdcheck.h"

#include <pthread.h>

#define ROUNDS      60
#define OTHERS      20 /* minimum number of requests of the other queue in that time */
#define F_TRANSIENT ((UINT64_C(1) << 24) | (UINT64_C(1) << 27)) /* NOTIFY_ON_EMPTY, ANY_LAYOUT */
#define F_VERSION_1 (UINT64_C(1) << 32)
#define F_PACKED    (UINT64_C(1) << 34)
#define F_IN_ORDER  (UINT64_C(1) << 35)

static struct fixture fixture;

struct other {
    struct guest *g;
    pthread_t thread;
    bool stop;  /* atomic */
    unsigned n; /* atomic */
    int r;      /* atomic */
};

/* The other queue, on its own thread as on its own vCPU. */
static void *other_main(void *arg)
{
    struct other *o = arg;

    int r = 0;

    while (r == 0 && !__atomic_load_n(&o->stop, __ATOMIC_RELAXED))
        r = guest_io(o->g, 1, 8, (uint8_t)__atomic_fetch_add(&o->n, 1, __ATOMIC_RELAXED));
    __atomic_store_n(&o->r, r, __ATOMIC_RELAXED);
    return NULL;
}

static void make_packed(struct guest *g)
{
    for (unsigned i = 0; i < FIXTURE_QUEUES; i++) {
        struct gw_driver_config cfg = {
            .size = sizeof(cfg), .mem = g->mem, .index = i, .queue_size = 15, .packed = true};

        gw_driver_free(g->drivers[i]);
        assert_int_equal(gw_driver_new(&g->drivers[i], &cfg), 0);
    }
}

static void start(struct guest *g, uint64_t features, enum gw_loop_kind loop)
{
    fixture_start(&fixture, &(struct fixture_config){.loop = loop});
    guest_init(g, 16);
    if (features & F_PACKED)
        make_packed(g);
    g->opt.features = features;
    assert_int_equal(fixture_connect(&fixture, g->fe), 0);
    assert_int_equal(gw_frontend_start(g->fe, &g->opt), 0);
    assert_int_equal(gw_frontend_features(g->fe), features);
}

static void finish(struct guest *g)
{
    assert_int_equal(gw_frontend_stop(g->fe, g->drivers, FIXTURE_QUEUES), 0);
    guest_done(g);
    assert_true(fixture_check(&fixture, "queues"));
    fixture_stop(&fixture);
}

/* Ensure progress on both queues regardless of thread scheduling. */
static bool is_behind(const struct other *o)
{
    return __atomic_load_n(&o->r, __ATOMIC_RELAXED) == 0 &&
           __atomic_load_n(&o->n, __ATOMIC_RELAXED) < OTHERS;
}

static void run(uint64_t features, enum gw_loop_kind loop)
{
    struct guest g;
    struct other o = {.g = &g};

    start(&g, features, loop);
    /* Allocate the buffers of both queues before the second thread starts. */
    assert_int_equal(guest_io(&g, 0, 0, 1), 0);
    assert_int_equal(guest_io(&g, 1, 8, 1), 0);
    assert_int_equal(pthread_create(&o.thread, NULL, other_main, &o), 0);
    for (unsigned i = 0; i < ROUNDS || is_behind(&o); i++) {
        assert_int_equal(gw_frontend_stop_queue(g.fe, g.drivers[0]), 0);
        if (i % 3)
            gw_driver_reset(g.drivers[0], (uint16_t)(i * 7919));
        assert_int_equal(gw_frontend_start_queue(g.fe, g.drivers[0]), 0);
        assert_int_equal(guest_io(&g, 0, 0, (uint8_t)i), 0);
    }
    __atomic_store_n(&o.stop, true, __ATOMIC_RELAXED);
    pthread_join(o.thread, NULL);
    assert_int_equal(o.r, 0);
    finish(&g);
}

static void test_one_is_reset_while_the_other_runs(void **state)
{
    (void)state;
    run(GUEST_FEATURES, GW_LOOP_EPOLL);
    run(GUEST_FEATURES | GUEST_EVENT_IDX, GW_LOOP_AUTO);
}

static void test_one_is_reset_while_the_other_runs_packed(void **state)
{
    (void)state;
    run(GUEST_FEATURES | F_PACKED, GW_LOOP_EPOLL);
    run(GUEST_FEATURES | F_PACKED | GUEST_EVENT_IDX, GW_LOOP_AUTO);
}

static void test_one_is_reset_while_the_other_runs_in_order(void **state)
{
    (void)state;
    run(GUEST_FEATURES | F_IN_ORDER, GW_LOOP_AUTO);
    run(GUEST_FEATURES | F_IN_ORDER | F_PACKED | GUEST_EVENT_IDX, GW_LOOP_AUTO);
}

static void test_old_guest_without_version_1(void **state)
{
    (void)state;
    run((GUEST_FEATURES & ~F_VERSION_1) | F_TRANSIENT, GW_LOOP_AUTO);
    run((GUEST_FEATURES & ~F_VERSION_1) | F_TRANSIENT | GUEST_EVENT_IDX, GW_LOOP_AUTO);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        FDCHECK_TEST(test_one_is_reset_while_the_other_runs),
        FDCHECK_TEST(test_one_is_reset_while_the_other_runs_packed),
        FDCHECK_TEST(test_one_is_reset_while_the_other_runs_in_order),
        FDCHECK_TEST(test_old_guest_without_version_1),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
