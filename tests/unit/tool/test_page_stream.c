/* SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause */
/*
 * The order of pages on a link: each page once, requested pages first, by the seed, at the rate,
 * paused.
 */
#include "base/clock.h"
#include "fdcheck.h"
#include "link/page_stream.h"

#include <errno.h>
#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include <cmocka.h>

#define N_PAGES 1000

static struct page_stream *make(bool is_random, uint64_t seed, uint64_t rate)
{
    struct page_stream_config cfg = {
        .n_pages = N_PAGES, .is_random = is_random, .seed = seed, .rate = rate};
    struct page_stream *s = NULL;

    assert_int_equal(page_stream_new(&s, &cfg), 0);
    return s;
}

/* Store the order of all pages; checks that each appears once. Returns: their number. */
static unsigned take_all(struct page_stream *s, uint64_t *order)
{
    bool seen[N_PAGES] = {false};
    struct page_stream_item item;
    uint64_t wait;
    unsigned n = 0;
    int r;

    while ((r = page_stream_next(s, &item, &wait)) == 0) {
        assert_true(item.page < N_PAGES && !seen[item.page]);
        seen[item.page] = true;
        order[n++] = item.page;
    }
    assert_int_equal(r, -ENODATA);
    assert_int_equal(page_stream_left(s), 0);
    return n;
}

static void test_page_stream_sequential_ascends(void **state)
{
    struct page_stream *s = make(false, 0, 0);
    uint64_t order[N_PAGES];

    page_stream_add(s, 10, 20);
    page_stream_add(s, 500, 1);
    page_stream_add(s, 998, 100); /* clipped to the number of pages */
    assert_int_equal(page_stream_left(s), 23);
    assert_int_equal(take_all(s, order), 23);
    for (unsigned i = 1; i < 23; i++)
        assert_true(order[i] > order[i - 1]);
    page_stream_free(s);
}

static void test_page_stream_random_follows_the_seed(void **state)
{
    uint64_t order[3][N_PAGES];
    unsigned n_sorted = 0;

    for (unsigned i = 0; i < 3; i++) {
        struct page_stream *s = make(true, i == 2 ? 8 : 7, 0);

        page_stream_add(s, 0, N_PAGES);
        assert_int_equal(take_all(s, order[i]), N_PAGES);
        page_stream_free(s);
    }
    assert_memory_equal(order[0], order[1], sizeof(order[0]));
    assert_memory_not_equal(order[0], order[2], sizeof(order[0]));
    for (unsigned i = 1; i < N_PAGES; i++)
        n_sorted += order[0][i] == order[0][i - 1] + 1;
    assert_true(n_sorted < N_PAGES * 9 / 10);
}

static void test_page_stream_every_size_is_complete(void **state)
{
    /* Also for numbers of words with few coprime steps. */
    for (uint64_t n = 1; n < 64 * 61; n += 61) {
        struct page_stream_config cfg = {.n_pages = n, .is_random = true, .seed = n};
        struct page_stream_item item;
        struct page_stream *s = NULL;
        uint64_t wait, n_taken = 0;

        assert_int_equal(page_stream_new(&s, &cfg), 0);
        page_stream_add(s, 0, n);
        while (page_stream_next(s, &item, &wait) == 0)
            n_taken++;
        assert_int_equal(n_taken, n);
        page_stream_free(s);
    }
}

static void test_page_stream_requested_goes_first(void **state)
{
    struct page_stream *s = make(true, 3, 0);
    struct page_stream_item item;
    uint64_t wait;

    page_stream_add(s, 0, N_PAGES);
    assert_int_equal(page_stream_request(s, 77), 0);
    assert_int_equal(page_stream_request(s, 5), 0);
    assert_int_equal(page_stream_request(s, 77), 0); /* requested again */
    assert_int_equal(page_stream_n_requested(s), 2);
    assert_int_equal(page_stream_next(s, &item, &wait), 0);
    assert_true(item.page == 77 && item.is_requested && item.asked_ns > 0);
    assert_int_equal(page_stream_next(s, &item, &wait), 0);
    assert_true(item.page == 5 && item.is_requested);
    assert_int_equal(page_stream_next(s, &item, &wait), 0);
    assert_false(item.is_requested);
    assert_int_equal(page_stream_request(s, 77), -EALREADY);
    assert_int_equal(page_stream_request(s, N_PAGES), -ERANGE);
    assert_int_equal(page_stream_left(s), N_PAGES - 3);
    page_stream_free(s);
}

static void test_page_stream_many_requests_keep_their_order(void **state)
{
    struct page_stream *s = make(false, 0, 0);
    struct page_stream_item item;
    uint64_t wait;

    page_stream_add(s, 0, N_PAGES);
    for (unsigned i = 0; i < N_PAGES; i++) {
        assert_int_equal(page_stream_request(s, i * 7 % N_PAGES), 0);
        if (i % 3)
            continue;
        assert_int_equal(page_stream_next(s, &item, &wait), 0); /* the queue wraps around */
        assert_int_equal(item.page, i / 3 * 7 % N_PAGES);
    }
    page_stream_free(s);
}

static void test_page_stream_added_behind_the_background_comes_all_the_same(void **state)
{
    struct page_stream *s = make(false, 0, 0);
    struct page_stream_item item;
    uint64_t order[N_PAGES], wait;

    page_stream_add(s, 900, 100);
    assert_int_equal(page_stream_next(s, &item, &wait), 0);
    page_stream_add(s, 0, 10); /* as after a lost link */
    assert_int_equal(take_all(s, order), 109);
    page_stream_free(s);
}

static void test_page_stream_keeps_to_the_rate(void **state)
{
    struct page_stream *s = make(false, 0, 4096 * 1000); /* one page per millisecond */
    struct page_stream_item item;
    uint64_t begin = gw_clock_ns(), wait = 0;

    page_stream_add(s, 0, N_PAGES);
    assert_int_equal(page_stream_next(s, &item, &wait), 0);
    page_stream_sent(s, 4096 * 1000); /* bytes of one second */
    assert_int_equal(page_stream_next(s, &item, &wait), -EAGAIN);
    assert_true(wait > 0 && wait <= 1000000000u);
    page_stream_free(s);
    s = make(false, 0, 4096 * 1000);
    page_stream_add(s, 0, N_PAGES);
    begin = gw_clock_ns();
    for (unsigned i = 0; i < 20; i++) {
        assert_int_equal(page_stream_await(s, &item), 0);
        page_stream_sent(s, 4096);
    }
    assert_true(gw_clock_ns() - begin >= 18 * 1000000u); /* may run slightly ahead */
    page_stream_free(s);
}

struct waiter {
    struct page_stream *stream;
    struct page_stream_item item;
    int r;
};

static void *wait_for_page(void *arg)
{
    struct waiter *w = arg;

    w->r = page_stream_await(w->stream, &w->item);
    return NULL;
}

static void test_page_stream_paused_waits(void **state)
{
    struct page_stream *s = make(false, 0, 0);
    struct waiter w = {.stream = s, .r = 1};
    struct page_stream_item item;
    pthread_t thread;
    uint64_t wait;

    page_stream_add(s, 4, 1);
    page_stream_pause(s, true);
    assert_int_equal(page_stream_next(s, &item, &wait), -EAGAIN);
    assert_true(wait == UINT64_MAX);
    assert_int_equal(pthread_create(&thread, NULL, wait_for_page, &w), 0);
    usleep(20000);
    assert_int_equal(page_stream_request(s, 4), 0); /* a request does not resume it */
    usleep(20000);
    assert_int_equal(page_stream_left(s), 1);
    page_stream_pause(s, false);
    pthread_join(thread, NULL);
    assert_int_equal(w.r, 0);
    assert_true(w.item.page == 4 && w.item.is_requested && w.item.asked_ns <= gw_clock_ns());
    page_stream_free(s);
}

static void test_page_stream_stopped_lets_go(void **state)
{
    struct page_stream *s = make(false, 0, 0);
    struct waiter w = {.stream = s};
    struct page_stream_item item;
    pthread_t thread;

    page_stream_add(s, 0, 1);
    page_stream_pause(s, true);
    assert_int_equal(pthread_create(&thread, NULL, wait_for_page, &w), 0);
    usleep(10000);
    page_stream_stop(s);
    pthread_join(thread, NULL);
    assert_int_equal(w.r, -ECANCELED);
    assert_int_equal(page_stream_await(s, &item), -ECANCELED);
    page_stream_free(s);
}

static void test_page_stream_numbers_that_cannot_be(void **state)
{
    struct page_stream_config none = {0}, many = {.n_pages = UINT64_MAX};
    struct page_stream *s = NULL;

    assert_int_equal(page_stream_new(&s, &none), -EINVAL);
    assert_int_equal(page_stream_new(&s, &many), -EINVAL);
    page_stream_free(NULL);
    s = make(false, 0, 0);
    page_stream_add(s, UINT64_MAX, UINT64_MAX);
    assert_int_equal(page_stream_left(s), 0);
    page_stream_free(s);
}

static void test_page_stream_requests_take_their_time(void **state)
{
    struct page_stream_config cfg = {.n_pages = N_PAGES, .delay_ns = 200000000};
    uint64_t order[N_PAGES], wait, begin = gw_clock_ns();
    struct page_stream_item item;
    struct page_stream *s = NULL;

    assert_int_equal(page_stream_new(&s, &cfg), 0);
    page_stream_add(s, 0, N_PAGES);
    assert_int_equal(page_stream_request(s, 1), 0);
    assert_int_equal(page_stream_request(s, 500), 0);
    /* The background continues during the delay, and sends one of the requested pages first. */
    for (unsigned i = 0; i < 3; i++) {
        assert_int_equal(page_stream_next(s, &item, &wait), 0);
        assert_false(item.is_requested);
        assert_int_equal(item.page, i);
    }
    usleep(201000);
    assert_int_equal(page_stream_next(s, &item, &wait), 0);
    assert_true(item.is_requested && item.asked_ns >= begin);
    assert_int_equal(item.page, 500);
    assert_int_equal(page_stream_n_requested(s), 0);
    assert_int_equal(take_all(s, order), N_PAGES - 4);
    page_stream_free(s);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        FDCHECK_TEST(test_page_stream_sequential_ascends),
        FDCHECK_TEST(test_page_stream_random_follows_the_seed),
        FDCHECK_TEST(test_page_stream_every_size_is_complete),
        FDCHECK_TEST(test_page_stream_requested_goes_first),
        FDCHECK_TEST(test_page_stream_many_requests_keep_their_order),
        FDCHECK_TEST(test_page_stream_added_behind_the_background_comes_all_the_same),
        FDCHECK_TEST(test_page_stream_keeps_to_the_rate),
        FDCHECK_TEST(test_page_stream_paused_waits),
        FDCHECK_TEST(test_page_stream_stopped_lets_go),
        FDCHECK_TEST(test_page_stream_numbers_that_cannot_be),
        FDCHECK_TEST(test_page_stream_requests_take_their_time),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
