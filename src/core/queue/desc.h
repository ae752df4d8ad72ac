/* SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause */
/*
 * The one copy of a descriptor that is ever read. What is looked at has the form of a split ring's,
 * whichever layout it comes from: where a packed one has its buffer id, `next` has it.
 */
#pragma once

#include "base/barrier.h"

#include <linux/virtio_ring.h>

/* Both are 16 bytes aligned to 16 (virtio 1.x, 2.7.5 and 2.8.13): two loads. */

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

/* A packed one is kept as the words it was loaded by, of which two are also stored faster than four
 * fields. */
struct gw_desc_packed {
    uint64_t addr;
    uint64_t word; /* len, id, flags */
};

/*
 * The word with the flags is loaded first, with acquire: where they say that it is available, the
 * rest is what the driver wrote before it said so.
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
