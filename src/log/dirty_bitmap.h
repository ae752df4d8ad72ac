/* SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause */
/*
 * From a range of guest memory to bits of a dirty bitmap: nothing but that. The bitmap is shared
 * between processes: bits are set by atomic OR, never cleared, and no byte of it is ever stored.
 *
 * Page p (of 4096 bytes, whatever the host's are) is bit p % 8 of byte p / 8 (vhost-user
 * specification, "Migration").
 */
#pragma once

#include <stdint.h>

#define GW_DIRTY_PAGE_SHIFT 12

/* Bytes of a bitmap that covers guest addresses up to and including `last`. */
static inline uint64_t gw_dirty_bitmap_size(uint64_t last)
{
    return (last >> GW_DIRTY_PAGE_SHIFT) / 8 + 1;
}

/*
 * Set the bits of pages `first` to `last`, inclusive, which the bitmap covers. Between the writes
 * to those pages and this call the caller has a full fence (see dirty_bitmap.c); one does for many
 * calls. Whoever sees a bit set, sees those writes.
 */
void gw_dirty_bitmap_mark(uint8_t *bitmap, uint64_t first, uint64_t last);
