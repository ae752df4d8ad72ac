/* SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause */
/* Monotonic time in nanoseconds; never 0. */
#pragma once

#include <stdint.h>
#include <time.h>

#define GW_NS_PER_S  UINT64_C(1000000000)
#define GW_NS_PER_MS UINT64_C(1000000)

static inline uint64_t gw_clock_read_ns(clockid_t clock)
{
    struct timespec ts;

    (void)clock_gettime(clock, &ts);
    return (uint64_t)ts.tv_sec * GW_NS_PER_S + (uint64_t)ts.tv_nsec;
}

static inline uint64_t gw_clock_ns(void)
{
    return gw_clock_read_ns(CLOCK_MONOTONIC);
}

static inline uint64_t gw_clock_ms(void)
{
    return gw_clock_ns() / GW_NS_PER_MS;
}

/* Up to a few milliseconds late, but takes only some nanoseconds to read. */
static inline uint64_t gw_clock_coarse_ns(void)
{
    return gw_clock_read_ns(CLOCK_MONOTONIC_COARSE);
}

/* A time or duration for the functions of the C library. */
static inline struct timespec gw_clock_timespec(uint64_t ns)
{
    return (struct timespec){
        .tv_sec = (time_t)(ns / GW_NS_PER_S),
        .tv_nsec = (long)(ns % GW_NS_PER_S),
    };
}
