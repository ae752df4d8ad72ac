/* SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause */
/*
 * Replaces src/log/dirty_bitmap.c in a library that loses every mark. A migration test must fail
 * with it; otherwise it tests nothing.
 */
#include "log/dirty_bitmap.h"

void gw_dirty_bitmap_mark(uint8_t *bitmap, uint64_t first, uint64_t last)
{
}
