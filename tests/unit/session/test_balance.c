/* SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause */
/*
 * Which queue the balancer moves, and where to: the test is its timer, and says how many requests
 * each queue has completed.
 */
#include "core/daemon/daemon.h"
#include "core/move/balance.h"

#include "fdcheck.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>

#include <cmocka.h>

enum {
    N_QUEUES = 6,
    N_WORKERS = 3
};

static struct {
    struct gw_daemon *d;
    struct gw_balance *b;
    struct gw_worker workers[N_WORKERS];
    gw_timer_cb *period;
    void *arg;
    struct gw_queue *moved;
    struct gw_worker *to;
} it;

int __wrap_gw_timer_new(struct gw_timer **ret, struct gw_worker *w, gw_timer_cb *cb, void *arg);
void __wrap_gw_timer_start(struct gw_timer *t, uint64_t delay_ns, uint64_t period_ns);
int __wrap_gw_queue_move(struct gw_queue *q, struct gw_worker *to);

int __wrap_gw_timer_new(struct gw_timer **ret, struct gw_worker *w, gw_timer_cb *cb, void *arg)
{
    *ret = NULL;
    it.period = cb;
    it.arg = arg;
    return 0;
}

void __wrap_gw_timer_start(struct gw_timer *t, uint64_t delay_ns, uint64_t period_ns)
{
    assert_int_equal(delay_ns, 7000000);
    assert_int_equal(period_ns, 7000000);
}

int __wrap_gw_queue_move(struct gw_queue *q, struct gw_worker *to)
{
    assert_null(it.moved);
    it.moved = q;
    it.to = to;
    return 0;
}

static int setup(void **state)
{
    it.d = calloc(1, sizeof(*it.d));
    it.d->queues = calloc(N_QUEUES, sizeof(*it.d->queues));
    it.d->num_queues = N_QUEUES;
    it.d->workers = calloc(N_WORKERS, sizeof(*it.d->workers));
    it.d->num_workers = N_WORKERS;
    for (unsigned i = 0; i < N_WORKERS; i++)
        it.d->workers[i] = &it.workers[i];
    for (unsigned i = 0; i < N_QUEUES; i++)
        it.d->queues[i].stats.completed = 1000000; /* before it started */
    assert_int_equal(gw_balance_new(&it.b, it.d, 7), 0);
    gw_balance_start(it.b);
    return 0;
}

static int teardown(void **state)
{
    gw_balance_free(it.b);
    free(it.d->workers);
    free(it.d->queues);
    free(it.d);
    return 0;
}

/* One period, with the worker and the load of each queue. */
static void run(const unsigned *worker_of, const unsigned *load)
{
    it.moved = NULL;
    for (unsigned i = 0; i < N_QUEUES; i++) {
        it.d->queues[i].worker = &it.workers[worker_of[i]];
        it.d->queues[i].stats.completed += load[i];
    }
    it.period(it.arg);
}

static void expect_move(const unsigned *worker_of, const unsigned *load, unsigned queue,
                        unsigned to)
{
    run(worker_of, load);
    assert_ptr_equal(it.moved, &it.d->queues[queue]);
    assert_ptr_equal(it.to, &it.workers[to]);
}

static void expect_rest(const unsigned *worker_of, const unsigned *load)
{
    run(worker_of, load);
    assert_null(it.moved);
}

#define ROW(...) ((const unsigned[N_QUEUES]){__VA_ARGS__})

static void test_balance_moves_what_makes_loads_most_alike(void **state)
{
    /* Neither the first, the last, the largest nor the smallest one. */
    expect_move(ROW(0, 0, 0, 0, 1, 2), ROW(100, 900, 300, 200, 400, 450), 2, 1);
    expect_move(ROW(0, 0, 0, 2, 1, 0), ROW(100, 300, 200, 10, 20, 0), 1, 2);
    /* The first of two that are as good. */
    expect_move(ROW(0, 0, 1, 1, 2, 0), ROW(400, 600, 0, 0, 10, 0), 0, 1);
    /* Queues of other workers would fit better. */
    expect_move(ROW(1, 0, 1, 0, 2, 0), ROW(300, 100, 300, 700, 100, 0), 1, 2);
    /* The busiest worker is the last one, the idlest is the first. */
    expect_move(ROW(2, 2, 1, 1, 1, 0), ROW(150, 150, 30, 30, 30, 0), 0, 0);
}

static void test_balance_rests(void **state)
{
    /* The move would only exchange the roles of two workers. */
    expect_rest(ROW(0, 0, 0, 1, 2, 0), ROW(0, 1000, 0, 0, 0, 0));
    expect_rest(ROW(0, 1, 1, 2, 2, 0), ROW(1000, 10, 10, 10, 10, 0));
    /* No load. */
    expect_rest(ROW(0, 0, 0, 0, 0, 0), ROW(33, 33, 33, 0, 0, 0));
    expect_move(ROW(0, 0, 0, 0, 0, 0), ROW(50, 50, 0, 0, 0, 0), 0, 1);
    expect_rest(ROW(0, 0, 0, 0, 0, 0), ROW(0, 0, 0, 0, 0, 0));
    /* Up to twice as much is alike. */
    expect_rest(ROW(0, 0, 1, 1, 2, 0), ROW(150, 50, 50, 50, 100, 0));
    expect_move(ROW(0, 0, 1, 1, 2, 0), ROW(151, 50, 50, 50, 100, 0), 1, 1);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_balance_moves_what_makes_loads_most_alike, setup,
                                        teardown),
        cmocka_unit_test_setup_teardown(test_balance_rests, setup, teardown),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
