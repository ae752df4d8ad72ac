/* SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause */
/*
 * Marks ranges of pages in a dirty bitmap, and nothing more. The bitmap is shared with another
 * process: bits are set by atomic OR, never cleared, and no byte is ever written by a plain store.
 *
 * Page p (of 4096 bytes, whatever the page size of the host) is bit p % 8 of byte p / 8 (vhost-user
 * specification, "Migration").
 */
#pragma once

#include <stdint.h>

#define GW_DIRTY_PAGE_SHIFT 12

/* Size in bytes of a bitmap that covers guest addresses up to and including `last`. */
static inline uint64_t gw_dirty_bitmap_size(uint64_t last)
{
    return (last >> GW_DIRTY_PAGE_SHIFT) / 8 + 1;
}

/*
 * Set the bits of pages `first` to `last`, inclusive, which the bitmap must cover. The caller must
 * issue a full fence between its writes to those pages and this call (see dirty_bitmap.c); one
 * fence serves many calls. A process that sees a bit set also sees those writes.
 */
void gw_dirty_bitmap_mark(uint8_t *bitmap, uint64_t first, uint64_t last);
