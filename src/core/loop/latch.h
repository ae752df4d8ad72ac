/* SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause */
/*
 * Latches, with which the control thread waits for workers. A latch opens when it has been counted
 * down to zero, and keeps the first failure passed to a count. It lives on the stack of the waiting
 * thread, or in an object whose owner an eventfd wakes. A thread that counts it down never accesses
 * it afterwards.
 */
#pragma once

#include "base/clock.h"

#include <errno.h>
#include <pthread.h>
#include <sys/eventfd.h>

struct gw_latch {
    pthread_mutex_t lock;
    pthread_cond_t opened;
    unsigned n_left; /* lock */
    int r;           /* lock */
    int wake_fd;     /* an eventfd written to when it opens; -1: none */
};

static inline void gw_latch_init(struct gw_latch *l, unsigned n)
{
    pthread_condattr_t attr;

    pthread_mutex_init(&l->lock, NULL);
    pthread_condattr_init(&attr);
    pthread_condattr_setclock(&attr, CLOCK_MONOTONIC);
    pthread_cond_init(&l->opened, &attr);
    pthread_condattr_destroy(&attr);
    l->n_left = n;
    l->r = 0;
    l->wake_fd = -1;
}

static inline void gw_latch_done(struct gw_latch *l)
{
    pthread_cond_destroy(&l->opened);
    pthread_mutex_destroy(&l->lock);
}

/* Signals under the lock: once the waiter holds the lock, the latch may be freed. */
static inline void gw_latch_count(struct gw_latch *l, int r)
{
    pthread_mutex_lock(&l->lock);
    if (l->r == 0)
        l->r = r;
    if (--l->n_left == 0) {
        pthread_cond_broadcast(&l->opened);
        if (l->wake_fd >= 0)
            (void)eventfd_write(l->wake_fd, 1);
    }
    pthread_mutex_unlock(&l->lock);
}

/* Returns: the first failure counted, or 0; -ETIMEDOUT if it did not open within `ns`. */
static inline int gw_latch_wait(struct gw_latch *l, uint64_t ns)
{
    struct timespec ts = gw_clock_timespec(gw_clock_ns() + ns);
    int r = 0;

    pthread_mutex_lock(&l->lock);
    while (l->n_left > 0 && r == 0)
        r = pthread_cond_timedwait(&l->opened, &l->lock, &ts);
    r = l->n_left > 0 ? -ETIMEDOUT : l->r;
    pthread_mutex_unlock(&l->lock);
    return r;
}
