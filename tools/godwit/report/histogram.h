/* SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause */
/* A histogram of times in nanoseconds with classes of 3 % width, for percentiles. */
#pragma once

#include <stdint.h>

#define HISTOGRAM_SUB     32
#define HISTOGRAM_CLASSES (HISTOGRAM_SUB * 60)

/* Initialize with zeros. */
struct histogram {
    uint64_t counts[HISTOGRAM_CLASSES];
    uint64_t n, max;
};

void histogram_add(struct histogram *h, uint64_t ns);
/* The time that `per_million` of a million values do not exceed; 0 if empty. */
uint64_t histogram_percentile(const struct histogram *h, unsigned per_million);
