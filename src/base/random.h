/* SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause */
/*
 * Pseudo-random numbers that repeat for the same seed (splitmix64 by Vigna, in the public domain).
 * The state is one word; every value is a valid seed. Not for secrets.
 */
#pragma once

#include <stdint.h>

#define GW_RANDOM_STEP UINT64_C(0x9e3779b97f4a7c15)

/* The number that follows state `x`; also serves as a hash of `x`. */
static inline uint64_t gw_random_mix(uint64_t x)
{
    x += GW_RANDOM_STEP;
    x = (x ^ (x >> 30)) * UINT64_C(0xbf58476d1ce4e5b9);
    x = (x ^ (x >> 27)) * UINT64_C(0x94d049bb133111eb);
    return x ^ (x >> 31);
}

static inline uint64_t gw_random_next(uint64_t *state)
{
    uint64_t value = gw_random_mix(*state);

    *state += GW_RANDOM_STEP;
    return value;
}

/* Returns: 0 to n - 1; 0 if n is 0. Advances the state in either case. */
static inline uint64_t gw_random_below(uint64_t *state, uint64_t n)
{
    uint64_t value = gw_random_next(state);

    return n ? value % n : 0;
}
