/* SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause */
/*
 * A log-linear histogram. Values below 32 have one bucket each; above, each power of two is divided
 * into 32 equal buckets. Adding costs one count of leading zeros and one increment.
 */
#include "histogram.h"

#define STEP_BITS 5
#define STEPS     (1u << STEP_BITS)

static unsigned bucket_of(uint64_t value)
{
    unsigned e;

    if (value < STEPS)
        return (unsigned)value;
    e = 63u - (unsigned)__builtin_clzll(value);
    return (e - STEP_BITS + 1) * STEPS + (unsigned)(value >> (e - STEP_BITS) & (STEPS - 1));
}

/* The largest value of a bucket. */
static uint64_t bucket_end(unsigned i)
{
    unsigned shift;

    if (i < STEPS)
        return i;
    shift = i / STEPS - 1;
    return ((uint64_t)(STEPS + i % STEPS) << shift) + ((UINT64_C(1) << shift) - 1);
}

void gw_histogram_add(struct gw_histogram *h, uint64_t value)
{
    h->count++;
    if (value > h->max)
        h->max = value;
    h->buckets[bucket_of(value)]++;
}

void gw_histogram_add_shared(struct gw_histogram *h, uint64_t value)
{
    uint64_t max = __atomic_load_n(&h->max, __ATOMIC_RELAXED);

    while (value > max && !__atomic_compare_exchange_n(&h->max, &max, value, true, __ATOMIC_RELAXED,
                                                       __ATOMIC_RELAXED))
        ;
    __atomic_fetch_add(&h->buckets[bucket_of(value)], 1, __ATOMIC_RELAXED);
}

void gw_histogram_merge(struct gw_histogram *to, const struct gw_histogram *from)
{
    uint64_t max = __atomic_load_n(&from->max, __ATOMIC_RELAXED);

    if (max > to->max)
        to->max = max;
    /* The count follows from the buckets, so that the two always agree. */
    for (unsigned i = 0; i < GW_HISTOGRAM_BUCKETS; i++) {
        uint64_t n = __atomic_load_n(&from->buckets[i], __ATOMIC_RELAXED);

        to->buckets[i] += n;
        to->count += n;
    }
}

uint64_t gw_histogram_at(const struct gw_histogram *h, unsigned per_million)
{
    /* How many values the answer must cover, rounded up, without 64-bit overflow. */
    uint64_t rank =
        h->count / 1000000 * per_million + (h->count % 1000000 * per_million + 999999) / 1000000;
    uint64_t seen = 0, end;

    if (h->count == 0)
        return 0;
    if (rank == 0)
        rank = 1;
    for (unsigned i = 0; i < GW_HISTOGRAM_BUCKETS; i++) {
        seen += h->buckets[i];
        if (seen < rank)
            continue;
        end = bucket_end(i);
        return end < h->max ? end : h->max;
    }
    return h->max;
}
