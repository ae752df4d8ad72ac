/* SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause */
/*
 * Sets bits: whole aligned words where the range covers them, single bytes at its ends. The bitmap
 * may begin at any byte, and an atomic access must not straddle a cache line.
 *
 * A bit that is already set is not written, which spares the cache line when many pages are marked
 * repeatedly. Only the caller's fence makes this correct: it orders the writes to the page before
 * the load of the bit. If the load finds the bit set, the front-end clears the bit later, and then
 * reads the page with our writes in it. Without the fence the load could come first: it finds the
 * bit set, the front-end clears it and copies the old page, and then our write lands, never marked.
 *
 * Setting a bit is sequentially consistent because dirty_log.c loads the log's successor after it.
 */
#include "dirty_bitmap.h"

#include "base/barrier.h"

#include <stddef.h>

static void set_bits8(uint8_t *byte, uint8_t bits)
{
    if ((__atomic_load_n(byte, __ATOMIC_RELAXED) & bits) != bits)
        (void)__atomic_fetch_or(byte, bits, __ATOMIC_SEQ_CST);
}

/* Sets the bits of 64 pages. All bits are set, so the byte order does not matter. */
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
