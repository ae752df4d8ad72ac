/* SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause */
/* The library allocates and frees nothing per request: the linker redirects the calls to count. */
#include "../fixtures/fixture.h"

#include <stdlib.h>

#define N_WARM_UP  5000u
#define N_REQUESTS 100000u
#define DEPTH      32u

void *__real_malloc(size_t size);
void *__real_calloc(size_t n, size_t size);
void *__real_realloc(void *p, size_t size);
void *__real_aligned_alloc(size_t align, size_t size);
void __real_free(void *p);
void *__wrap_malloc(size_t size);
void *__wrap_calloc(size_t n, size_t size);
void *__wrap_realloc(void *p, size_t size);
void *__wrap_aligned_alloc(size_t align, size_t size);
void __wrap_free(void *p);

static unsigned n_calls; /* atomic */

static void counted(void)
{
    __atomic_add_fetch(&n_calls, 1, __ATOMIC_RELAXED);
}

/* Atomic because the compiler assumes that allocation changes no variable. */
static void begin_count(void)
{
    __atomic_store_n(&n_calls, 0, __ATOMIC_SEQ_CST);
}

static unsigned end_count(void)
{
    return __atomic_load_n(&n_calls, __ATOMIC_SEQ_CST);
}

void *__wrap_malloc(size_t size)
{
    counted();
    return __real_malloc(size);
}

void *__wrap_calloc(size_t n, size_t size)
{
    counted();
    return __real_calloc(n, size);
}

void *__wrap_realloc(void *p, size_t size)
{
    counted();
    return __real_realloc(p, size);
}

void *__wrap_aligned_alloc(size_t align, size_t size)
{
    counted();
    return __real_aligned_alloc(align, size);
}

void __wrap_free(void *p)
{
    counted();
    __real_free(p);
}

/* `n` requests of `n_bufs` buffers, DEPTH at a time, or one by one so that the worker sleeps. */
static void exchange(struct fixture *t, unsigned n, unsigned n_bufs, unsigned flags)
{
    struct gw_driver_buf bufs[40];
    struct gw_driver_used used[DEPTH];

    for (unsigned i = 0; i < n_bufs; i++)
        bufs[i] = (struct gw_driver_buf){.addr = t->buf, .len = 1 + i % 3};
    for (unsigned added = 0, taken = 0; taken < n;) {
        for (; added < n && added - taken < DEPTH; added++)
            if (gw_driver_add(t->driver, bufs, 1, n_bufs - 1, added, flags) < 0)
                abort();
        gw_driver_kick(t->driver);
        if (gw_driver_wait(t->driver, FIXTURE_WAIT_MS) < 0)
            abort();
        taken += gw_driver_take(t->driver, used, DEPTH);
    }
}

static unsigned run(enum gw_queue_sync sync, unsigned n_bufs, unsigned flags, unsigned poll_us)
{
    struct fixture_config cfg = {
        .sync = sync,
        .size = 4096,
        .indirect_max = n_bufs,
        .features = FIXTURE_F_EVENT | FIXTURE_F_INDIR,
        .request_size = 48,
        .poll_us = poll_us,
        .mem_len = UINT64_C(64) << 20,
    };
    unsigned n;
    struct fixture t;

    fixture_begin(&t, &cfg);
    fixture_run(&t);
    exchange(&t, N_WARM_UP, n_bufs, flags);
    begin_count();
    exchange(&t, N_REQUESTS, n_bufs, flags);
    n = end_count();
    fixture_stop(&t);
    fixture_end(&t);
    return n;
}

static void test_no_malloc_counter_counts(void **state)
{
    struct gw_map *map;
    void *volatile p;

    begin_count();
    p = malloc(10);
    p = realloc(p, 20);
    free(p);
    p = calloc(1, 10);
    free(p);
    assert_int_equal(end_count(), 5);
    /* The counter also counts the library's calls. */
    begin_count();
    assert_int_equal(gw_map_new(&map, NULL, 0), 0);
    gw_map_free(map);
    assert_int_equal(end_count(), 2);
}

static void test_no_malloc_for_small_requests(void **state)
{
    assert_int_equal(run(GW_SYNC_NONE, 3, 0, 0), 0);
}

static void test_no_malloc_for_indirect_requests(void **state)
{
    assert_int_equal(run(GW_SYNC_MUTEX, 3, GW_DRIVER_INDIRECT, 0), 0);
}

/* Long requests borrow blocks that were allocated during the warm-up. */
static void test_no_malloc_for_long_requests(void **state)
{
    assert_int_equal(run(GW_SYNC_NONE, 40, GW_DRIVER_INDIRECT, 50), 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_no_malloc_counter_counts),
        cmocka_unit_test(test_no_malloc_for_small_requests),
        cmocka_unit_test(test_no_malloc_for_indirect_requests),
        cmocka_unit_test(test_no_malloc_for_long_requests),
    };

    return FIXTURE_RUN_BOTH_LOOPS(tests);
}
