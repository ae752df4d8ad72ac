/* SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause */
/*
 * In place of src/log/dirty_bitmap.c: a library that forgets every mark. A migration test has to
 * turn red with it, or it tests nothing.
 */
#include "log/dirty_bitmap.h"

void gw_dirty_bitmap_mark(uint8_t *bitmap, uint64_t first, uint64_t last)
{
}
