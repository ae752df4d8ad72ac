/* SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause */
/*
 * The one copy of a descriptor that is ever read, in the form of a split ring's whichever layout it
 * comes from: where a packed one has its buffer id, `next` has it.
 */
#pragma once

#include "barrier.h"

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

/*
 * The word with the flags is loaded first, with acquire: where they say that it is available, the
 * rest is what the driver wrote before it said so.
 */
static inline struct vring_desc gw_desc_load_packed(const void *desc)
{
    const uint64_t *words = desc;
    uint64_t rest = gw_load64_acquire(&words[1]), addr = gw_load64(&words[0]);

    return (struct vring_desc){
        .addr = addr,
        .len = (uint32_t)rest,
        .next = (uint16_t)(rest >> 32),
        .flags = (uint16_t)(rest >> 48),
    };
}

/* len, id and flags of a used descriptor, in one word. */
static inline uint64_t gw_desc_used_word(uint16_t id, uint32_t len, uint16_t flags)
{
    return len | (uint64_t)id << 32 | (uint64_t)flags << 48;
}
