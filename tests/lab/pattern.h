/* SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause */
/*
 * What the laboratory's programs write to a disk. Every 512-byte block has its number, a
 * generation, a checksum of both and the seed, and contents that depend on all of them. So the
 * contents identify a block that is lost, stale, torn or misplaced. qemu/pattern.py computes the
 * same blocks on the host.
 */
#pragma once

#include <endian.h>
#include <inttypes.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#define PATTERN_BLOCK   512u
#define PATTERN_MAGIC   UINT64_C(0x31746977646f6721)
#define PATTERN_ZEROED  UINT32_MAX /* the generation of a block that was zeroed */
#define PATTERN_OFFSETS 65536u

struct pattern_head {
    uint64_t magic;
    uint64_t number;
    uint32_t generation;
    uint32_t sum;
};

static uint64_t pattern_seed;
static uint8_t pattern_noise[PATTERN_OFFSETS + PATTERN_BLOCK];

static inline uint64_t pattern_mix(uint64_t z)
{
    z = (z ^ (z >> 30)) * UINT64_C(0xbf58476d1ce4e5b9);
    z = (z ^ (z >> 27)) * UINT64_C(0x94d049bb133111eb);
    return z ^ (z >> 31);
}

/* splitmix64 */
static inline uint64_t pattern_random(uint64_t *state)
{
    *state += UINT64_C(0x9e3779b97f4a7c15);
    return pattern_mix(*state);
}

static inline void pattern_init(uint64_t seed)
{
    uint64_t state = seed;

    pattern_seed = seed;
    for (size_t i = 0; i < sizeof(pattern_noise); i += sizeof(uint64_t)) {
        uint64_t word = htole64(pattern_random(&state));
        memcpy(pattern_noise + i, &word, sizeof(word));
    }
}

/* Writes what block @number of @generation holds into @block. */
static inline void pattern_block(uint8_t *block, uint64_t number, uint32_t generation)
{
    uint64_t sum = pattern_mix(pattern_seed ^ (number << 32) ^ generation);
    struct pattern_head head = {
        .magic = htole64(PATTERN_MAGIC),
        .number = htole64(number),
        .generation = htole32(generation),
        .sum = htole32((uint32_t)sum),
    };

    if (generation == PATTERN_ZEROED) {
        memset(block, 0, PATTERN_BLOCK);
        return;
    }
    memcpy(block, &head, sizeof(head));
    memcpy(block + sizeof(head), pattern_noise + (sum >> 32) % PATTERN_OFFSETS,
           PATTERN_BLOCK - sizeof(head));
}

/* Compares @block with what it must hold; a difference is described in @why. */
static inline bool pattern_is_block(const uint8_t *block, uint64_t number, uint32_t generation,
                                    char *why, size_t n_why)
{
    uint8_t expected[PATTERN_BLOCK];
    struct pattern_head head;
    size_t i = 0;

    pattern_block(expected, number, generation);
    if (memcmp(block, expected, PATTERN_BLOCK) == 0)
        return true;

    while (block[i] == expected[i])
        i++;
    memcpy(&head, block, sizeof(head));
    snprintf(why, n_why,
             "block %" PRIu64 " must hold generation %" PRIu32
             " but differs from byte %zu on; it %s magic, number %" PRIu64 ", generation %" PRIu32,
             number, generation, i, le64toh(head.magic) == PATTERN_MAGIC ? "has the" : "lacks the",
             le64toh(head.number), le32toh(head.generation));
    return false;
}
