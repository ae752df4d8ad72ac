/* SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause */
/*
 * A descriptor is copied once, and only the copy is examined. Both layouts are examined in the
 * format of a split ring; for a packed descriptor, `next` holds the buffer id.
 */
#pragma once

#include "base/barrier.h"

#include <linux/virtio_ring.h>

/* Descriptors of both layouts have 16 bytes, aligned to 16 (virtio 1.x, 2.7.5 and 2.8.13). */

static inline struct vring_desc gw_desc_load(const struct vring_desc *desc)
{
    const uint64_t *words = (const uint64_t *)(const void *)desc;
    uint64_t addr = gw_load64(&words[0]), rest = gw_load64(&words[1]);

    return (struct vring_desc){
        .addr = addr,
        .len = (uint32_t)rest,
        .flags = (uint16_t)(rest >> 32),
        .next = (uint16_t)(rest >> 48),
    };
}

/* A packed descriptor is kept as two words, which are faster to load and store than four fields. */
struct gw_desc_packed {
    uint64_t addr;
    uint64_t word; /* len, id, flags */
};

/*
 * Loads the word with the flags first, with acquire: if the flags mark the descriptor as available,
 * the address is the one that the driver wrote before it set the flags.
 */
static inline struct gw_desc_packed gw_desc_copy_packed(const void *desc)
{
    const uint64_t *words = desc;
    uint64_t word = gw_load64_acquire(&words[1]);

    return (struct gw_desc_packed){.addr = gw_load64(&words[0]), .word = word};
}

#define GW_DESC_FLAGS_SHIFT 48

static inline uint16_t gw_desc_flags(struct gw_desc_packed desc)
{
    return (uint16_t)(desc.word >> GW_DESC_FLAGS_SHIFT);
}

static inline uint16_t gw_desc_id(struct gw_desc_packed desc)
{
    return (uint16_t)(desc.word >> 32);
}

static inline struct vring_desc gw_desc_unpack(struct gw_desc_packed desc)
{
    return (struct vring_desc){
        .addr = desc.addr,
        .len = (uint32_t)desc.word,
        .next = gw_desc_id(desc),
        .flags = gw_desc_flags(desc),
    };
}

/* len, id and flags in one word. */
static inline uint64_t gw_desc_packed_word(uint32_t len, uint16_t id, uint16_t flags)
{
    return len | (uint64_t)id << 32 | (uint64_t)flags << GW_DESC_FLAGS_SHIFT;
}
