/* SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause */
/*
 * The frames of the laboratory's network programs: length and contents follow from a seed and a
 * number. Two queues that send concurrently use different seeds.
 */
#pragma once

#include "../pattern.h"

#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#define FRAME_MIN       60u
#define FRAME_MAX       1500u
#define FRAME_ADDRESSES 14u /* the Ethernet header */

/* The i-th random number of a frame. */
static inline uint64_t frame_random(uint64_t seed, uint64_t number, uint64_t i)
{
    return pattern_mix(pattern_mix(pattern_mix(seed) + number) + i);
}

/* Makes a frame of up to FRAME_MAX bytes; returns its length. */
static inline uint16_t frame_make(uint64_t seed, uint64_t number, uint8_t *bytes)
{
    uint64_t state = frame_random(seed, number, 0);
    uint16_t length = FRAME_MIN + pattern_random(&state) % (FRAME_MAX - FRAME_MIN + 1);

    memset(bytes, 0x02, FRAME_ADDRESSES); /* meaningless addresses and type */
    for (size_t i = FRAME_ADDRESSES; i < length; i += sizeof(uint64_t)) {
        uint64_t x = htole64(pattern_random(&state));

        memcpy(bytes + i, &x, length - i < sizeof(x) ? length - i : sizeof(x));
    }
    return length;
}

/* Compares received bytes with a frame; describes a difference in @why. */
static inline bool frame_is(const uint8_t *bytes, size_t length, uint64_t seed, uint64_t number,
                            char *why, size_t n_why)
{
    uint8_t wanted[FRAME_MAX];
    uint16_t n = frame_make(seed, number, wanted), i = 0;

    if (length != n) {
        snprintf(why, n_why, "frame %" PRIu64 " has %zu bytes, not %u", number, length, n);
        return false;
    }
    while (i < n && bytes[i] == wanted[i])
        i++;
    if (i < n)
        snprintf(why, n_why, "frame %" PRIu64 " differs from byte %u of %u on", number, i, n);
    return i == n;
}
