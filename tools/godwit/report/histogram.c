/* SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause */
/* 32 classes of 1 ns for values below 32 ns, then 32 classes for each power of two. */
#include "histogram.h"

static unsigned class_of(uint64_t ns)
{
    unsigned shift, class;

    if (ns < HISTOGRAM_SUB)
        return (unsigned)ns;
    shift = 63 - (unsigned)__builtin_clzll(ns) - 5; /* 32 is 1 << 5 */
    class = (shift + 1) * HISTOGRAM_SUB + (unsigned)(ns >> shift) - HISTOGRAM_SUB;
    return class < HISTOGRAM_CLASSES ? class : HISTOGRAM_CLASSES - 1;
}

/* The largest value of a class. */
static uint64_t end_of(unsigned class)
{
    unsigned shift;

    if (class < HISTOGRAM_SUB)
        return class;
    shift = class / HISTOGRAM_SUB - 1;
    return ((uint64_t)(class % HISTOGRAM_SUB + HISTOGRAM_SUB + 1) << shift) - 1;
}

void histogram_add(struct histogram *h, uint64_t ns)
{
    h->counts[class_of(ns)]++;
    h->n++;
    if (ns > h->max)
        h->max = ns;
}

uint64_t histogram_percentile(const struct histogram *h, unsigned per_million)
{
    uint64_t below = 0, wanted = (uint64_t)((double)h->n * per_million / 1e6 + 0.999999);

    if (h->n == 0)
        return 0;
    for (unsigned i = 0; i < HISTOGRAM_CLASSES; i++) {
        below += h->counts[i];
        if (below >= wanted && below > 0)
            return end_of(i) < h->max ? end_of(i) : h->max;
    }
    return h->max;
}
