/* SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause */
/*
 * Rate limiting of messages. A peer can provoke most messages as fast as it can write, so each kind
 * is limited to a burst, then one message a second. The limit spans all sessions of a daemon, so
 * reconnecting does not reset it. A kind is a format string; the calls in the program bound their
 * number, so the table is small and has a fixed size.
 *
 * The functions are inline because the back-end programs use them too, and the shared library does
 * not export them.
 */
#pragma once

#include <pthread.h>
#include <stdbool.h>
#include <stdint.h>

enum {
    GW_LOG_KINDS_MAX = 96, /* all further kinds share the last entry */
    GW_LOG_BURST = 32,
};

#define GW_LOG_PERIOD_NS UINT64_C(1000000000)

struct gw_log_kind {
    const char *format;   /* NULL: a free entry */
    uint64_t refilled_ns; /* n_left was last refilled up to this time */
    uint64_t n_held;      /* messages suppressed since the last one that passed */
    unsigned n_left;      /* messages that may pass now */
};

struct gw_log_limiter {
    pthread_mutex_t lock;
    struct gw_log_kind kinds[GW_LOG_KINDS_MAX]; /* [lock] */
};

#define GW_LOG_LIMITER_INIT               \
    {                                     \
        .lock = PTHREAD_MUTEX_INITIALIZER \
    }

static inline struct gw_log_kind *gw_log_find_kind(struct gw_log_limiter *l, const char *format,
                                                   uint64_t now_ns)
{
    struct gw_log_kind *kind = l->kinds;

    while (kind->format != format && kind->format && kind < &l->kinds[GW_LOG_KINDS_MAX - 1])
        kind++;
    if (!kind->format)
        *kind =
            (struct gw_log_kind){.format = format, .refilled_ns = now_ns, .n_left = GW_LOG_BURST};
    return kind;
}

/*
 * May a message of this kind pass? If so, `ret_held` is the number of messages of its kind that
 * were suppressed since the previous one passed; otherwise 0. Context: any thread.
 */
static inline bool gw_log_limiter_pass(struct gw_log_limiter *l, const char *format,
                                       uint64_t now_ns, uint64_t *ret_held)
{
    struct gw_log_kind *kind;
    uint64_t n_periods;
    bool passes;

    (void)pthread_mutex_lock(&l->lock);
    kind = gw_log_find_kind(l, format, now_ns);
    /* Threads read the clock before they take the lock: `now_ns` may be before `refilled_ns`. */
    n_periods = now_ns > kind->refilled_ns ? (now_ns - kind->refilled_ns) / GW_LOG_PERIOD_NS : 0;
    kind->refilled_ns += n_periods * GW_LOG_PERIOD_NS;
    kind->n_left =
        n_periods < GW_LOG_BURST - kind->n_left ? kind->n_left + (unsigned)n_periods : GW_LOG_BURST;
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

/* Returns the number of suppressed messages not reported yet, and counts them as reported. */
static inline uint64_t gw_log_limiter_take_held(struct gw_log_limiter *l)
{
    uint64_t n_held = 0;

    (void)pthread_mutex_lock(&l->lock);
    for (unsigned i = 0; i < GW_LOG_KINDS_MAX; i++) {
        n_held += l->kinds[i].n_held;
        l->kinds[i].n_held = 0;
    }
    (void)pthread_mutex_unlock(&l->lock);
    return n_held;
}
