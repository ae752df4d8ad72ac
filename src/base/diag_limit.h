/* SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause */
/*
 * The rate limit of messages. A peer can provoke most of them as fast as it can write, so each kind
 * has a burst and then one message a second, over all sessions of a daemon: reconnecting buys none.
 * A kind is a format string; there are as many as the program has calls, so the table is small and
 * never grows.
 *
 * The functions are inline because the back-end programs use them too, and the shared library does
 * not export them.
 */
#pragma once

#include <pthread.h>
#include <stdbool.h>
#include <stdint.h>

enum {
    GW_DIAG_KINDS_MAX = 96, /* kinds beyond it share the last entry */
    GW_DIAG_BURST = 32,
};

#define GW_DIAG_PERIOD_NS UINT64_C(1000000000)

struct gw_diag_kind {
    const char *format;   /* NULL: a free entry */
    uint64_t refilled_ns; /* when n_left last changed by time */
    uint64_t n_held;      /* suppressed since the last one that passed */
    unsigned n_left;      /* how many may pass now */
};

struct gw_diag_limiter {
    pthread_mutex_t lock;
    struct gw_diag_kind kinds[GW_DIAG_KINDS_MAX]; /* [lock] */
};

#define GW_DIAG_LIMITER_INIT              \
    {                                     \
        .lock = PTHREAD_MUTEX_INITIALIZER \
    }

static inline struct gw_diag_kind *gw_diag_find_kind(struct gw_diag_limiter *l, const char *format,
                                                     uint64_t now_ns)
{
    struct gw_diag_kind *kind = l->kinds;

    while (kind->format != format && kind->format && kind < &l->kinds[GW_DIAG_KINDS_MAX - 1])
        kind++;
    if (!kind->format)
        *kind =
            (struct gw_diag_kind){.format = format, .refilled_ns = now_ns, .n_left = GW_DIAG_BURST};
    return kind;
}

/*
 * May a message of this kind pass? `ret_held` is then how many were suppressed since the last one
 * that did. Context: any thread.
 */
static inline bool gw_diag_limiter_pass(struct gw_diag_limiter *l, const char *format,
                                        uint64_t now_ns, uint64_t *ret_held)
{
    struct gw_diag_kind *kind;
    uint64_t n_periods;
    bool passes;

    (void)pthread_mutex_lock(&l->lock);
    kind = gw_diag_find_kind(l, format, now_ns);
    /* Threads read the clock before they take the lock, so it may be earlier than the last time. */
    n_periods = now_ns > kind->refilled_ns ? (now_ns - kind->refilled_ns) / GW_DIAG_PERIOD_NS : 0;
    kind->refilled_ns += n_periods * GW_DIAG_PERIOD_NS;
    kind->n_left = n_periods < GW_DIAG_BURST - kind->n_left ? kind->n_left + (unsigned)n_periods
                                                            : GW_DIAG_BURST;
    passes = kind->n_left > 0;
    *ret_held = 0;
    if (passes) {
        kind->n_left--;
        *ret_held = kind->n_held;
        kind->n_held = 0;
    } else {
        kind->n_held++;
    }
    (void)pthread_mutex_unlock(&l->lock);
    return passes;
}

/* How many messages were suppressed and not yet reported; they count as reported now. */
static inline uint64_t gw_diag_limiter_take_held(struct gw_diag_limiter *l)
{
    uint64_t n_held = 0;

    (void)pthread_mutex_lock(&l->lock);
    for (unsigned i = 0; i < GW_DIAG_KINDS_MAX; i++) {
        n_held += l->kinds[i].n_held;
        l->kinds[i].n_held = 0;
    }
    (void)pthread_mutex_unlock(&l->lock);
    return n_held;
}
