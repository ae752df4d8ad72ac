/* SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause */
/* A log-linear histogram of 64-bit values: 32 steps per power of two, accurate to about 3 %. */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#define GW_HISTOGRAM_BUCKETS ((64 - 4) * 32)

struct gw_histogram {
    uint64_t count;
    uint64_t max;
    uint64_t buckets[GW_HISTOGRAM_BUCKETS];
};

void gw_histogram_add(struct gw_histogram *h, uint64_t value);
/* As above for concurrent writers. Read it through a merged copy, which may be out of date. */
void gw_histogram_add_shared(struct gw_histogram *h, uint64_t value);
/* Add all values of `from` to `to`. Other threads may add to `from` concurrently, not to `to`. */
void gw_histogram_merge(struct gw_histogram *to, const struct gw_histogram *from);
/* The upper end of the bucket at this quantile, at most the maximum; 0 for an empty histogram. */
uint64_t gw_histogram_at(const struct gw_histogram *h, unsigned per_million);
