/* SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause */
/*
 * The sync policies: threads of the embedder pop and complete while the worker runs and the queue
 * is stopped, started and moved to other maps. Every request is answered exactly once. Made to be
 * run under ThreadSanitizer, too.
 */
#include "../fixtures/fixture.h"
#include "fdcheck.h"

#include <sched.h>
#include <string.h>
#include <unistd.h>

#define N_THREADS  3
#define N_REQUESTS 6000u
#define SIZE       256u

/* Which threads pop and complete requests. */
enum roles {
    WORKER_ALONE,
    OTHERS_COMPLETE,
    OTHERS_POP_AND_COMPLETE,
};

struct shared {
    struct fixture fixture; /* the first: the device is this */
    enum roles roles;
    pthread_t threads[N_THREADS];
    pthread_mutex_t lock; /* all below */
    pthread_cond_t news;
    struct gw_request *requests[SIZE]; /* popped; to be completed by another thread */
    unsigned n_requests;
    unsigned n_told; /* times the worker said that there is something to pop */
    bool ending;
};

static void *complete_what_comes(void *arg)
{
    struct shared *s = arg;

    pthread_mutex_lock(&s->lock);
    while (!s->ending) {
        struct gw_request *r;

        if (s->n_requests == 0) {
            pthread_cond_wait(&s->news, &s->lock);
            continue;
        }
        r = s->requests[--s->n_requests];
        pthread_mutex_unlock(&s->lock);
        if (gw_queue_size(&s->fixture.queue) % 2) /* never: a look among others */
            sched_yield();
        gw_request_complete(r, (uint32_t)r->writable_len);
        pthread_mutex_lock(&s->lock);
    }
    pthread_mutex_unlock(&s->lock);
    return NULL;
}

static void *pop_what_waits(void *arg)
{
    struct gw_request *reqs[7];
    struct shared *s = arg;
    unsigned seen = 0;

    pthread_mutex_lock(&s->lock);
    while (!s->ending) {
        unsigned n;

        if (seen == s->n_told) {
            pthread_cond_wait(&s->news, &s->lock);
            continue;
        }
        seen = s->n_told;
        pthread_mutex_unlock(&s->lock);
        while ((n = gw_queue_pop(&s->fixture.queue, reqs, 7)) > 0)
            for (unsigned i = 0; i < n; i++)
                gw_request_complete(reqs[i], (uint32_t)reqs[i]->writable_len);
        (void)gw_queue_is_started(&s->fixture.queue);
        (void)gw_queue_is_taken_over(&s->fixture.queue);
        pthread_mutex_lock(&s->lock);
    }
    pthread_mutex_unlock(&s->lock);
    return NULL;
}

static int ready(void *dev, struct gw_queue *q)
{
    struct shared *s = dev;
    struct gw_request *reqs[16];
    unsigned n = 0;

    if (s->roles == WORKER_ALONE)
        return fixture_ready(dev, q);
    if (s->roles == OTHERS_COMPLETE)
        n = gw_queue_pop(q, reqs, 16);
    pthread_mutex_lock(&s->lock);
    for (unsigned i = 0; i < n; i++)
        s->requests[s->n_requests++] = reqs[i];
    s->n_told++;
    pthread_cond_broadcast(&s->news);
    pthread_mutex_unlock(&s->lock);
    return 0;
}

static void begin(struct shared *s, enum gw_queue_sync sync, enum roles roles)
{
    struct fixture_config cfg = {
        .sync = sync, .size = SIZE, .features = FIXTURE_F_EVENT, .queue_ready = ready};

    memset(s, 0, sizeof(*s));
    s->roles = roles;
    pthread_mutex_init(&s->lock, NULL);
    pthread_cond_init(&s->news, NULL);
    fixture_begin(&s->fixture, &cfg);
    for (unsigned i = 0; i < N_THREADS; i++)
        assert_int_equal(
            pthread_create(&s->threads[i], NULL,
                           roles == OTHERS_POP_AND_COMPLETE ? pop_what_waits : complete_what_comes,
                           s),
            0);
}

static void end(struct shared *s)
{
    pthread_mutex_lock(&s->lock);
    s->ending = true;
    pthread_cond_broadcast(&s->news);
    pthread_mutex_unlock(&s->lock);
    for (unsigned i = 0; i < N_THREADS; i++)
        pthread_join(s->threads[i], NULL);
    fixture_end(&s->fixture);
    pthread_cond_destroy(&s->news);
    pthread_mutex_destroy(&s->lock);
}

static void swap_map(struct fixture *t)
{
    struct gw_map *map = fixture_map(t);
    struct test_latch latch;

    test_latch_init(&latch, 1);
    fixture_adopt_begin(t, map, &latch);
    assert_int_equal(test_latch_wait(&latch, FIXTURE_WAIT_MS * UINT64_C(1000000)), 0);
    test_latch_done(&latch);
    gw_map_free(t->map);
    t->map = map;
}

/* What a front-end may do while requests are under way. */
static void disturb(struct fixture *t, unsigned round)
{
    uint32_t base;

    switch (round % 6) {
    case 0:
        base = fixture_stop(t);
        assert_int_equal(gw_driver_used_idx(t->driver), base);
        assert_int_equal(fixture_start(t, FIXTURE_DRIVER_FD, base), 0);
        fixture_set_call(t, FIXTURE_DRIVER_FD);
        break;
    case 1:
    case 3:
        swap_map(t);
        break;
    case 2:
        fixture_enable(t, false);
        fixture_enable(t, true);
        break;
    case 4:
        fixture_set_call(t, FIXTURE_DRIVER_FD);
        break;
    case 5:
        gw_queue_wake(&t->queue);
        break;
    }
}

static void run(enum gw_queue_sync sync, enum roles roles)
{
    static bool answered[N_REQUESTS];
    struct gw_driver_used used[64];
    unsigned next = 0, n_answered = 0, round = 0;
    struct gw_queue_stats stats;
    static struct shared s;

    memset(answered, 0, sizeof(answered));
    begin(&s, sync, roles);
    fixture_run(&s.fixture);
    while (n_answered < N_REQUESTS) {
        unsigned n;

        while (next < N_REQUESTS && gw_driver_in_flight(s.fixture.driver) < SIZE / 2)
            fixture_add(&s.fixture, next++);
        gw_driver_kick(s.fixture.driver);
        disturb(&s.fixture, round++);
        assert_int_equal(gw_driver_wait(s.fixture.driver, FIXTURE_WAIT_MS), 0);
        n = gw_driver_take(s.fixture.driver, used, 64);
        for (unsigned i = 0; i < n; i++) {
            assert_int_equal(used[i].len, FIXTURE_BUF_LEN);
            assert_false(answered[used[i].cookie]);
            answered[used[i].cookie] = true;
        }
        n_answered += n;
        assert_int_equal(gw_driver_check(s.fixture.driver), 0);
    }
    assert_int_equal(fixture_stop(&s.fixture), fixture_index(&s.fixture, N_REQUESTS));
    fixture_stats(&s.fixture, &stats);
    assert_int_equal(stats.requests, N_REQUESTS);
    assert_int_equal(stats.completed, N_REQUESTS);
    assert_int_equal(stats.in_flight, 0);
    assert_int_equal(stats.oldest_ns, 0);
    end(&s);
}

static void test_sync_none_worker_alone_answers_all(void **state)
{
    run(GW_SYNC_NONE, WORKER_ALONE);
}

static void test_sync_mutex_worker_alone_answers_all(void **state)
{
    run(GW_SYNC_MUTEX, WORKER_ALONE);
}

static void test_sync_mutex_others_complete_all(void **state)
{
    run(GW_SYNC_MUTEX, OTHERS_COMPLETE);
}

static void test_sync_mutex_others_pop_and_complete_all(void **state)
{
    run(GW_SYNC_MUTEX, OTHERS_POP_AND_COMPLETE);
}

static void test_sync_rwlock_others_complete_all(void **state)
{
    run(GW_SYNC_RWLOCK, OTHERS_COMPLETE);
}

static void test_sync_rwlock_others_pop_and_complete_all(void **state)
{
    run(GW_SYNC_RWLOCK, OTHERS_POP_AND_COMPLETE);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        FDCHECK_TEST(test_sync_none_worker_alone_answers_all),
        FDCHECK_TEST(test_sync_mutex_worker_alone_answers_all),
        FDCHECK_TEST(test_sync_mutex_others_complete_all),
        FDCHECK_TEST(test_sync_mutex_others_pop_and_complete_all),
        FDCHECK_TEST(test_sync_rwlock_others_complete_all),
        FDCHECK_TEST(test_sync_rwlock_others_pop_and_complete_all),
    };

    return FIXTURE_RUN_LAYOUTS(tests);
}
