/* SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause */
/*
 * Counted latches. A latch opens when it has been counted down to zero, keeps the first failure
 * passed to a count, and calls `opened` on the thread of the last count. No thread waits for it.
 *
 * Every count has release and acquire semantics: `opened` sees all that each thread wrote before
 * its count. A thread does not access a latch after its own count, so `opened` may free it.
 */
#pragma once

#include <stdbool.h>

struct gw_latch {
    unsigned n_left; /* atomic */
    int r;           /* atomic */
    void (*opened)(struct gw_latch *latch);
};

static inline void gw_latch_init(struct gw_latch *l, unsigned n, void (*opened)(struct gw_latch *))
{
    *l = (struct gw_latch){.n_left = n, .opened = opened};
}

static inline void gw_latch_count(struct gw_latch *l, int r)
{
    int none = 0;

    if (r < 0)
        (void)__atomic_compare_exchange_n(&l->r, &none, r, false, __ATOMIC_RELAXED,
                                          __ATOMIC_RELAXED);
    if (__atomic_sub_fetch(&l->n_left, 1, __ATOMIC_ACQ_REL) == 0)
        l->opened(l);
}
