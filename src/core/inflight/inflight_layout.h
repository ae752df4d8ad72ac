/* SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause */
/*
 * The layout of an inflight region: one part per queue, in native byte order (vhost-user
 * specification, "Queue region"). It outlives this process, and another back-end or an attacker may
 * have written it.
 *
 * The only failure to survive is the death of this process in the middle of an update. The memory
 * stays, and a killed thread stops between two instructions: all stores before that point take
 * effect, and none after it. (The lock of a shared queue serializes its threads.) So an update that
 * a crash must not tear is a single store, and gw_inflight_order() keeps the compiler from
 * reordering stores. No CPU barrier is needed.
 */
#pragma once

#include <stddef.h>
#include <stdint.h>

#define GW_INFLIGHT_VERSION 1

/* The header of a part, in both layouts. */
struct gw_inflight_header {
    uint32_t features[2]; /* one u64; none are defined */
    uint16_t version;     /* 0: never used */
    uint16_t desc_num;    /* entries that follow */
};

/* The head of a request is the index of its entry. */
struct gw_inflight_split_entry {
    uint8_t inflight;
    uint8_t padding[5];
    uint16_t next; /* in the last batch */
    uint64_t counter;
};

struct gw_inflight_split {
    struct gw_inflight_header header;
    uint16_t last_batch_head;
    uint16_t used_idx; /* the ring's used index when the last batch was committed */
    struct gw_inflight_split_entry entries[];
};

/* The links of an entry of a packed ring. */
union gw_inflight_chain {
    struct {
        uint8_t inflight;
        uint8_t padding;
        uint16_t next; /* in the chain or free list; desc_num or above ends the free list */
        uint16_t last;
        uint16_t num;
    };
    uint64_t word;
};

/* The descriptor of an entry, without its address. */
union gw_inflight_desc {
    struct {
        uint16_t id;
        uint16_t flags;
        uint32_t len;
    };
    uint64_t word;
};

/* One per descriptor; inflight, last, num and counter are valid in the first of a chain. */
struct gw_inflight_packed_entry {
    union gw_inflight_chain chain;
    uint64_t counter;
    union gw_inflight_desc desc;
    uint64_t addr;
};

/* The head of the free list, now and when the last batch was committed. */
union gw_inflight_heads {
    struct {
        uint16_t free_head;
        uint16_t old_free_head;
    };
    uint32_t word;
};

/* The position of the next used descriptor, now and when the last batch was committed. */
union gw_inflight_used {
    struct {
        uint16_t idx;
        uint16_t old_idx;
        uint8_t wrap;
        uint8_t old_wrap;
        uint8_t padding[2];
    };
    uint64_t word;
};

struct gw_inflight_packed {
    struct gw_inflight_header header;
    union gw_inflight_heads heads;
    union gw_inflight_used used;
    uint8_t padding[8];
    struct gw_inflight_packed_entry entries[];
};

#define GW_INFLIGHT_IS_AT(type, member, offset) \
    _Static_assert(offsetof(struct gw_inflight_##type, member) == (offset), #type " " #member)
GW_INFLIGHT_IS_AT(header, version, 8);
GW_INFLIGHT_IS_AT(header, desc_num, 10);
GW_INFLIGHT_IS_AT(split, last_batch_head, 12);
GW_INFLIGHT_IS_AT(split, used_idx, 14);
GW_INFLIGHT_IS_AT(split, entries, 16);
GW_INFLIGHT_IS_AT(split_entry, next, 6);
GW_INFLIGHT_IS_AT(split_entry, counter, 8);
GW_INFLIGHT_IS_AT(packed, heads, 12);
GW_INFLIGHT_IS_AT(packed, used.idx, 16);
GW_INFLIGHT_IS_AT(packed, used.old_idx, 18);
GW_INFLIGHT_IS_AT(packed, used.wrap, 20);
GW_INFLIGHT_IS_AT(packed, used.old_wrap, 21);
GW_INFLIGHT_IS_AT(packed, entries, 32);
GW_INFLIGHT_IS_AT(packed_entry, chain.next, 2);
GW_INFLIGHT_IS_AT(packed_entry, chain.last, 4);
GW_INFLIGHT_IS_AT(packed_entry, chain.num, 6);
GW_INFLIGHT_IS_AT(packed_entry, counter, 8);
GW_INFLIGHT_IS_AT(packed_entry, desc.id, 16);
GW_INFLIGHT_IS_AT(packed_entry, desc.flags, 18);
GW_INFLIGHT_IS_AT(packed_entry, desc.len, 20);
GW_INFLIGHT_IS_AT(packed_entry, addr, 24);
_Static_assert(sizeof(struct gw_inflight_split_entry) == 16, "split entry");
_Static_assert(sizeof(struct gw_inflight_packed_entry) == 32, "packed entry");

/* After a crash, no store after this call is visible without all stores before it. */
static inline void gw_inflight_order(void)
{
    __atomic_signal_fence(__ATOMIC_SEQ_CST);
}

/* A single load or store, of any width. */
#define gw_inflight_get(p)    __atomic_load_n((p), __ATOMIC_RELAXED)
#define gw_inflight_set(p, v) __atomic_store_n((p), (v), __ATOMIC_RELAXED)
