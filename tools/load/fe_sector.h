/* SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause */
/* Sector contents that identify the sector and the write, and show whether they are intact. */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define GW_GUEST_SECTOR_SIZE 512

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
