/* SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause */
/*
 * Setting bits. Whole aligned words where the range covers them, bytes at its ends: the bitmap may
 * begin at any byte, and an atomic access must not straddle a cache line.
 *
 * A bit that is set already is left alone, which spares the cache line when many pages are marked
 * again. That is only right because of the caller's fence: the writes to the page come before the
 * look at its bit. If the bit is seen set, whoever clears it does so after the look, and so reads
 * the page with our writes in it. Setting one is sequentially consistent because dirty_log.c loads
 * the log's successor behind it. Without the fence the look may be done first: the bit is seen,
 * cleared, the old page is copied, and then our write lands, unmarked for ever.
 */
#include "dirty_bitmap.h"

#include "base/barrier.h"

#include <stddef.h>

static void set_bits8(uint8_t *byte, uint8_t bits)
{
    if ((__atomic_load_n(byte, __ATOMIC_RELAXED) & bits) != bits)
        (void)__atomic_fetch_or(byte, bits, __ATOMIC_SEQ_CST);
}

/* All bits of 64 pages; which byte of the word is which does not matter. */
static void set_word(uint8_t *bytes)
{
    uint64_t *word = (uint64_t *)(void *)bytes;

    if (__atomic_load_n(word, __ATOMIC_RELAXED) != UINT64_MAX)
        (void)__atomic_fetch_or(word, UINT64_MAX, __ATOMIC_SEQ_CST);
}

void gw_dirty_bitmap_mark(uint8_t *bitmap, uint64_t first, uint64_t last)
{
    uint64_t byte = first / 8, last_byte = last / 8;
    uint8_t from = (uint8_t)(0xff << first % 8);
    uint8_t until = (uint8_t)(0xff >> (7 - last % 8));

    if (byte == last_byte) {
        set_bits8(&bitmap[byte], from & until);
        return;
    }
    set_bits8(&bitmap[byte++], from);
    while (byte < last_byte) {
        if ((uintptr_t)&bitmap[byte] % 8 == 0 && last_byte - byte >= 8) {
            set_word(&bitmap[byte]);
            byte += 8;
        } else {
            set_bits8(&bitmap[byte++], 0xff);
        }
    }
    set_bits8(&bitmap[last_byte], until);
}
