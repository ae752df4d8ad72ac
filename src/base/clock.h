/* SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause */
/* Monotonic time in nanoseconds; never 0. */
#pragma once

#include <stdint.h>
#include <time.h>

static inline uint64_t gw_clock_read_ns(clockid_t clock)
{
    struct timespec ts;

    (void)clock_gettime(clock, &ts);
    return (uint64_t)ts.tv_sec * UINT64_C(1000000000) + (uint64_t)ts.tv_nsec;
}

static inline uint64_t gw_clock_ns(void)
{
    return gw_clock_read_ns(CLOCK_MONOTONIC);
}

/* Up to a few milliseconds late, but takes only some nanoseconds to read. */
static inline uint64_t gw_clock_coarse_ns(void)
{
    return gw_clock_read_ns(CLOCK_MONOTONIC_COARSE);
}
