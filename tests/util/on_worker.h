/* SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause */
/* Calls on a worker, and latches, that the test's thread waits for. The library waits for neither.
 */
#pragma once

#include "base/checked.h"
#include "base/clock.h"
#include "core/loop/latch.h"
#include "core/queue/generation.h"

#include <godwit/worker.h>

#include <errno.h>
#include <pthread.h>
#include <stdbool.h>

struct test_latch {
    struct gw_latch latch;
    struct gw_generation_wait wait; /* for gw_queue_begin_generation */
    pthread_mutex_t lock;
    pthread_cond_t cond;
    bool is_open; /* lock */
};

static inline void test_latch_opened(struct gw_latch *latch)
{
    struct test_latch *l = gw_container_of(latch, struct test_latch, latch);

    pthread_mutex_lock(&l->lock);
    l->is_open = true;
    pthread_cond_broadcast(&l->cond);
    pthread_mutex_unlock(&l->lock);
}

static inline void test_latch_init(struct test_latch *l, unsigned n)
{
    pthread_condattr_t attr;

    gw_latch_init(&l->latch, n, test_latch_opened);
    l->wait = (struct gw_generation_wait){.latch = &l->latch};
    pthread_mutex_init(&l->lock, NULL);
    pthread_condattr_init(&attr);
    pthread_condattr_setclock(&attr, CLOCK_MONOTONIC);
    pthread_cond_init(&l->cond, &attr);
    pthread_condattr_destroy(&attr);
    l->is_open = false;
}

static inline void test_latch_done(struct test_latch *l)
{
    pthread_cond_destroy(&l->cond);
    pthread_mutex_destroy(&l->lock);
}

/* Returns: the first failure counted, or 0; -ETIMEDOUT if it did not open within `ns`. */
static inline int test_latch_wait(struct test_latch *l, uint64_t ns)
{
    struct timespec ts = gw_clock_timespec(gw_clock_ns() + ns);
    int r = 0;

    pthread_mutex_lock(&l->lock);
    while (!l->is_open && r == 0)
        r = pthread_cond_timedwait(&l->cond, &l->lock, &ts);
    r = l->is_open ? l->latch.r : -ETIMEDOUT;
    pthread_mutex_unlock(&l->lock);
    return r;
}

struct worker_call {
    struct gw_post post;
    struct test_latch latch;
    int (*fn)(void *arg);
    void *arg;
    int r;
};

static inline void run_worker_call(struct gw_post *post)
{
    struct worker_call *call = gw_container_of(post, struct worker_call, post);

    call->r = call->fn(call->arg);
    gw_latch_count(&call->latch.latch, 0);
}

/* Run `fn` on the worker and return its result; directly if this is the worker's thread. */
static inline int worker_call(struct gw_worker *w, int (*fn)(void *arg), void *arg)
{
    struct worker_call call = {.post.run = run_worker_call, .fn = fn, .arg = arg};
    int r;

    if (gw_worker_is_current(w))
        return fn(arg);
    test_latch_init(&call.latch, 1);
    r = gw_worker_post(w, &call.post);
    if (r == 0) {
        (void)test_latch_wait(&call.latch, UINT64_MAX / 4);
        r = call.r;
    }
    test_latch_done(&call.latch);
    return r;
}
