/* SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause */
/* Marking page ranges, against a model that sets the bits one by one; and with many threads. */
#include "base/barrier.h"
#include "base/checked.h"
#include "log/dirty_bitmap.h"

#include "fdcheck.h"
#include "requires.h"

#include <pthread.h>
#include <sched.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

enum {
    BYTES = 96,
    MARGIN = 32, /* on each side, to detect writes out of bounds */
    N_RANDOM = 200000,
};

static unsigned long long seed = 1;

static uint64_t rnd(void)
{
    seed ^= seed << 13;
    seed ^= seed >> 7;
    seed ^= seed << 17;
    return seed;
}

static void model_mark(uint8_t *bitmap, uint64_t first, uint64_t last)
{
    for (uint64_t page = first; page <= last; page++)
        bitmap[page / 8] |= (uint8_t)(1u << page % 8);
}

/* Real bitmap and model start at `align` within an aligned word, with the same bits set. */
static void compare(unsigned align, uint64_t first, uint64_t last, int fill)
{
    _Alignas(8) uint8_t real[MARGIN + 8 + BYTES + MARGIN], model[sizeof(real)];

    for (size_t i = 0; i < sizeof(real); i++)
        real[i] = fill < 0 ? (uint8_t)(rnd() >> 24) : (uint8_t)fill;
    memcpy(model, real, sizeof(real));
    gw_dirty_bitmap_mark(real + MARGIN + align, first, last);
    model_mark(model + MARGIN + align, first, last);
    if (memcmp(real, model, sizeof(real)) != 0)
        fail_msg("pages %llu to %llu, bitmap at %u, filled with %d", (unsigned long long)first,
                 (unsigned long long)last, align, fill);
}

/* Every begin and end within three words, at every alignment of the bitmap. */
static void test_dirty_bitmap_every_short_range_is_as_the_model(void **state)
{
    for (unsigned align = 0; align < 8; align++)
        for (uint64_t first = 0; first < 80; first++)
            for (uint64_t last = first; last < 200; last++)
                compare(align, first, last, 0);
}

static void test_dirty_bitmap_random_ranges_are_as_the_model(void **state)
{
    for (unsigned i = 0; i < N_RANDOM; i++) {
        uint64_t a = rnd() % (8 * BYTES), b = rnd() % (8 * BYTES);

        compare((unsigned)(rnd() % 8), a < b ? a : b, a < b ? b : a, i % 3 == 0 ? 0xff : -1);
    }
}

static void test_dirty_bitmap_first_and_last_page(void **state)
{
    for (unsigned align = 0; align < 8; align++) {
        compare(align, 0, 0, 0);
        compare(align, 8 * BYTES - 1, 8 * BYTES - 1, 0);
        compare(align, 0, 8 * BYTES - 1, 0);
    }
}

/* A partial page counts as a page. */
static void test_dirty_bitmap_size_counts_partial_pages(void **state)
{
    assert_int_equal(gw_dirty_bitmap_size(0), 1);
    assert_int_equal(gw_dirty_bitmap_size(8 * 4096 - 1), 1);
    assert_int_equal(gw_dirty_bitmap_size(8 * 4096), 2);
    assert_int_equal(gw_dirty_bitmap_size(8 * 4096 + 4095), 2);
    assert_int_equal(gw_dirty_bitmap_size(UINT64_C(0x10000000000) - 1), UINT64_C(1) << 25);
    assert_true(gw_dirty_bitmap_size(UINT64_MAX) == UINT64_C(1) << 49);
}

/* ---- many writers, one reader that clears ---- */

enum {
    N_THREADS = 8,
    N_PAGES = 1021, /* prime: threads meet in the same bytes and words */
    N_MARKS = 60000,
};

static _Alignas(8) uint8_t shared[8 + (N_PAGES + 7) / 8];
static uint8_t *const bitmap = shared + 3;
static uint32_t pages[N_PAGES]; /* guest memory: the number of writes to each page */
static unsigned n_ended, n_rounds;

static void *marking(void *arg)
{
    uint64_t x = (uintptr_t)arg * 0x9e3779b97f4a7c15u + 1;

    for (unsigned i = 0; i < N_MARKS; i++) {
        uint64_t first, last;

        /* Wait for the reader halfway, so that it runs concurrently under any scheduling. */
        while (i == N_MARKS / 2 && __atomic_load_n(&n_rounds, __ATOMIC_RELAXED) < 2)
            sched_yield();
        x ^= x << 13;
        x ^= x >> 7;
        x ^= x << 17;
        first = x % N_PAGES;
        last = x % 16 ? first : first + (x >> 32) % 200;
        if (last >= N_PAGES)
            last = N_PAGES - 1;
        for (uint64_t page = first; page <= last; page++)
            __atomic_fetch_add(&pages[page], 1, __ATOMIC_RELAXED);
        gw_full_fence();
        gw_dirty_bitmap_mark(bitmap, first, last);
    }
    __atomic_fetch_add(&n_ended, 1, __ATOMIC_RELEASE);
    return NULL;
}

/* As a front-end does: clear the bits, then copy the pages. Returns: the number of bits found. */
static unsigned read_and_clear(uint32_t *copy)
{
    unsigned n = 0;

    for (unsigned byte = 0; byte < (N_PAGES + 7) / 8; byte++) {
        unsigned bits = __atomic_exchange_n(&bitmap[byte], 0, __ATOMIC_ACQ_REL);

        gw_full_fence();
        for (; bits; bits &= bits - 1, n++) {
            unsigned page = 8 * byte + (unsigned)__builtin_ctz(bits);

            assert_true(page < N_PAGES);
            copy[page] = __atomic_load_n(&pages[page], __ATOMIC_RELAXED);
        }
    }
    return n;
}

/*
 * Eight threads write pages and mark them while another thread clears the marks and copies the
 * pages. At the end the copy must equal the memory: it lacks any write whose mark was lost.
 */
static void test_dirty_bitmap_threads_and_a_clearing_reader_lose_nothing(void **state)
{
    static uint32_t copy[N_PAGES];
    pthread_t threads[N_THREADS];

    if (is_under_valgrind())
        skip();
    for (uintptr_t i = 0; i < N_THREADS; i++)
        assert_int_equal(pthread_create(&threads[i], NULL, marking, (void *)(i + 1)), 0);
    while (__atomic_load_n(&n_ended, __ATOMIC_ACQUIRE) < N_THREADS) {
        (void)read_and_clear(copy);
        __atomic_fetch_add(&n_rounds, 1, __ATOMIC_RELAXED);
    }
    for (unsigned i = 0; i < N_THREADS; i++)
        pthread_join(threads[i], NULL);
    (void)read_and_clear(copy);
    for (unsigned page = 0; page < N_PAGES; page++)
        if (copy[page] != pages[page])
            fail_msg("page %u: %u of %u writes were copied", page, copy[page], pages[page]);
    for (unsigned i = 0; i < sizeof(shared); i++)
        assert_int_equal(shared[i], 0); /* the bytes behind the bitmap are untouched */
}

int main(int argc, char **argv)
{
    const struct CMUnitTest tests[] = {
        FDCHECK_TEST(test_dirty_bitmap_every_short_range_is_as_the_model),
        FDCHECK_TEST(test_dirty_bitmap_random_ranges_are_as_the_model),
        FDCHECK_TEST(test_dirty_bitmap_first_and_last_page),
        FDCHECK_TEST(test_dirty_bitmap_size_counts_partial_pages),
        FDCHECK_TEST(test_dirty_bitmap_threads_and_a_clearing_reader_lose_nothing),
    };

    /* Pass the printed seed to repeat a failure. */
    seed = argc > 1 ? strtoull(argv[1], NULL, 0) : (unsigned long long)(uintptr_t)&argc | 1;
    printf("seed %llu\n", seed);
    return cmocka_run_group_tests(tests, NULL, NULL);
}
