/* SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause */
/* Calls and posts to a worker, with both loops. */
#include "../fixtures/worker_fixture.h"
#include "fdcheck.h"

#include <errno.h>
#include <unistd.h>

static int is_current(void *arg)
{
    struct bench *b = arg;

    /* Within itself: at once, not by the mailbox. */
    return gw_worker_is_current(&b->worker) ? worker_call(&b->worker, nothing, NULL) + 7 : -1;
}

static void test_worker_call_runs_there_and_returns_its_result(void **state)
{
    struct bench b;

    begin(&b);
    for (unsigned i = 0; i < 100; i++)
        assert_int_equal(worker_call(&b.worker, is_current, &b), 7);
    finish(&b);
}

static void test_worker_posts_run_in_order(void **state)
{
    struct numbered posts[64];
    struct bench b;

    begin(&b);
    for (unsigned i = 0; i < 64; i++) {
        posts[i] = (struct numbered){&b, i};
        assert_int_equal(post_call(&b.worker, note_order, &posts[i]), 0);
    }
    fixture_wait_for(&b.n_order, 64);
    for (unsigned i = 0; i < 64; i++)
        assert_int_equal(b.order[i], i);
    finish(&b);
}

static void *post_many(void *arg)
{
    struct bench *b = arg;

    for (unsigned i = 0; i < 5000; i++)
        assert_int_equal(post_call(&b->worker, add_one, b), 0);
    return NULL;
}

static void test_worker_posts_of_many_threads_all_run(void **state)
{
    pthread_t threads[4];
    struct bench b;

    begin(&b);
    for (unsigned i = 0; i < 4; i++)
        assert_int_equal(pthread_create(&threads[i], NULL, post_many, &b), 0);
    for (unsigned i = 0; i < 4; i++)
        pthread_join(threads[i], NULL);
    fixture_wait_for(&b.n, 20000);
    finish(&b);
    assert_int_equal(b.n, 20000);
}

struct repeated {
    struct gw_post post;
    struct bench *b;
    unsigned n_left;
};

static void post_again(struct gw_post *post)
{
    struct repeated *p = gw_container_of(post, struct repeated, post);

    if (--p->n_left > 0)
        assert_int_equal(gw_worker_post(&p->b->worker, post), 0);
    add_one(p->b);
}

static void test_worker_post_may_be_posted_again_when_it_runs(void **state)
{
    struct bench b;
    struct repeated p = {.post.run = post_again, .b = &b, .n_left = 100};

    begin(&b);
    assert_int_equal(gw_worker_post(&b.worker, &p.post), 0);
    fixture_wait_for(&b.n, 100);
    finish(&b);
    assert_int_equal(b.n, 100);
}

static void test_worker_end_runs_pending_posts(void **state)
{
    struct bench b;

    begin(&b);
    assert_int_equal(post_call(&b.worker, sleep_a_little, NULL), 0);
    for (unsigned i = 0; i < 10; i++)
        assert_int_equal(post_call(&b.worker, add_one, &b), 0);
    finish(&b);
    assert_int_equal(b.n, 10);
}

/* Keep the worker busy until the test releases it. */
static void wait_to_go_on(void *arg)
{
    struct bench *b = arg;

    add_one(b);
    fixture_wait_for(&b->n_order, 1);
}

static bool has_mail(struct gw_worker *w)
{
    bool has;

    pthread_mutex_lock(&w->mail_lock);
    has = w->mail_first != NULL;
    pthread_mutex_unlock(&w->mail_lock);
    return has;
}

static void *end_worker(void *arg)
{
    struct bench *b = arg;

    gw_worker_end(&b->worker);
    return NULL;
}

/* What was accepted runs, however late: here in between the order to end and its execution. */
static void test_worker_end_runs_a_post_that_it_overtook(void **state)
{
    pthread_t thread;
    struct bench b;

    begin(&b);
    assert_int_equal(post_call(&b.worker, wait_to_go_on, &b), 0);
    fixture_wait_for(&b.n, 1);
    assert_int_equal(pthread_create(&thread, NULL, end_worker, &b), 0);
    while (!has_mail(&b.worker))
        usleep(100);
    assert_int_equal(post_call(&b.worker, add_one, &b), 0);
    __atomic_store_n(&b.n_order, 1, __ATOMIC_RELEASE);
    pthread_join(thread, NULL);
    assert_int_equal(b.n, 2);
    close(b.fds[0]);
    close(b.fds[1]);
}

static void test_worker_that_ended_takes_no_posts(void **state)
{
    struct bench b;

    begin(&b);
    finish(&b);
    assert_int_equal(post_call(&b.worker, add_one, &b), -ESHUTDOWN);
    assert_int_equal(b.n, 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        FDCHECK_TEST(test_worker_call_runs_there_and_returns_its_result),
        FDCHECK_TEST(test_worker_posts_run_in_order),
        FDCHECK_TEST(test_worker_posts_of_many_threads_all_run),
        FDCHECK_TEST(test_worker_post_may_be_posted_again_when_it_runs),
        FDCHECK_TEST(test_worker_end_runs_pending_posts),
        FDCHECK_TEST(test_worker_end_runs_a_post_that_it_overtook),
        FDCHECK_TEST(test_worker_that_ended_takes_no_posts),
    };

    return FIXTURE_RUN_BOTH_LOOPS(tests);
}
