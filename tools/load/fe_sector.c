/* SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause */
/*
 * Self-describing sectors: magic, sector number, seed, generation, checksum, and a body derived
 * from these. The comparison is exact; the checksum serves to say what is wrong.
 */
#include "fe_sector.h"

#include "base/random.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#define MAGIC UINT64_C(0x21746977646f6721) /* "!godwit!" */
#define BODY  59

struct sector {
    uint64_t magic;
    uint64_t number;
    uint64_t seed;
    uint64_t generation;
    uint64_t check; /* the sum of all other words, mixed */
    uint64_t body[BODY];
};

_Static_assert(sizeof(struct sector) == GW_GUEST_SECTOR_SIZE, "sector");

static uint64_t key_of(uint64_t number, uint32_t generation, uint64_t seed)
{
    return gw_random_mix(seed ^ gw_random_mix(number) ^ ((uint64_t)generation << 32));
}

static uint64_t checksum(const struct sector *s)
{
    uint64_t sum = s->magic + s->number + s->seed + s->generation;

    for (unsigned i = 0; i < BODY; i++)
        sum += s->body[i] ^ i;
    return gw_random_mix(sum);
}

void gw_guest_sector_fill(void *sector, uint64_t number, uint32_t generation, uint64_t seed)
{
    uint64_t key = key_of(number, generation, seed);
    struct sector *s = sector;

    s->magic = MAGIC;
    s->number = number;
    s->seed = seed;
    s->generation = generation;
    for (unsigned i = 0; i < BODY; i++)
        s->body[i] = key + i * GW_RANDOM_STEP;
    s->check = checksum(s);
}

bool gw_guest_sector_is(const void *sector, uint64_t number, uint32_t generation, uint64_t seed)
{
    uint64_t key = key_of(number, generation, seed), diff;
    struct sector s;

    /* Use a copy: the device may still write, and all checks must see the same data. */
    memcpy(&s, sector, sizeof(s));
    diff = (s.magic ^ MAGIC) | (s.number ^ number) | (s.seed ^ seed) | (s.generation ^ generation);
    for (unsigned i = 0; i < BODY; i++)
        diff |= s.body[i] ^ (key + i * GW_RANDOM_STEP);
    return diff == 0 && s.check == checksum(&s);
}

bool gw_guest_sector_is_blank(const void *sector)
{
    static const char zeros[GW_GUEST_SECTOR_SIZE];

    return memcmp(sector, zeros, sizeof(zeros)) == 0;
}

bool gw_guest_sector_read(const void *sector, uint64_t number, uint64_t seed,
                          uint32_t *ret_generation, char *why, size_t why_len)
{
    struct sector s;

    memcpy(&s, sector, sizeof(s));
    if (gw_guest_sector_is_blank(&s)) {
        snprintf(why, why_len, "all zeros");
        return false;
    }
    if (s.magic != MAGIC) {
        snprintf(why, why_len, "not written by this load (begins with 0x%016" PRIx64 ")", s.magic);
        return false;
    }
    if (s.check != checksum(&s)) {
        snprintf(why, why_len, "torn or corrupt (says sector %" PRIu64 ", generation %" PRIu64 ")",
                 s.number, s.generation);
        return false;
    }
    if (s.number != number || s.seed != seed) {
        snprintf(why, why_len,
                 "sector %" PRIu64 " of generation %" PRIu64 " and seed %" PRIu64 " (misplaced)",
                 s.number, s.generation, s.seed);
        return false;
    }
    snprintf(why, why_len, "generation %" PRIu64, s.generation);
    *ret_generation = (uint32_t)s.generation;
    return true;
}
