/* SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause */
/* A log-linear histogram of 64-bit values: 32 steps per power of two, so within about 3 percent. */
#pragma once

#include <stdint.h>

#define GW_GUEST_HISTOGRAM_BUCKETS ((64 - 4) * 32)

struct gw_guest_histogram {
    uint64_t count;
    uint64_t max;
    uint64_t buckets[GW_GUEST_HISTOGRAM_BUCKETS];
};

void gw_guest_histogram_add(struct gw_guest_histogram *h, uint64_t value);
/* The upper end of the bucket that holds this share of all values, at most the maximum; 0: none. */
uint64_t gw_guest_histogram_at(const struct gw_guest_histogram *h, unsigned per_million);
