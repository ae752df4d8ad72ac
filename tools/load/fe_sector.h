/* SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause */
/* Sector contents that identify the sector and the write, and show whether they are intact. */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define GW_GUEST_SECTOR_SIZE 512

/* One step of splitmix64: the mixing function for contents and random orders. */
static inline uint64_t gw_guest_mix(uint64_t x)
{
    x += UINT64_C(0x9e3779b97f4a7c15);
    x = (x ^ (x >> 30)) * UINT64_C(0xbf58476d1ce4e5b9);
    x = (x ^ (x >> 27)) * UINT64_C(0x94d049bb133111eb);
    return x ^ (x >> 31);
}

void gw_guest_sector_fill(void *sector, uint64_t number, uint32_t generation, uint64_t seed);

/* Whether the sector is exactly what gw_guest_sector_fill writes. */
bool gw_guest_sector_is(const void *sector, uint64_t number, uint32_t generation, uint64_t seed);

/*
 * Whether the sector is intact, of this seed and of this number. If so, `ret_generation` is its
 * write; otherwise `why` says what was found.
 */
bool gw_guest_sector_read(const void *sector, uint64_t number, uint64_t seed,
                          uint32_t *ret_generation, char *why, size_t why_len);

bool gw_guest_sector_is_blank(const void *sector);
