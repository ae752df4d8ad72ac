/* SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause */
/*
 * The bytes of an inflight region: one part per queue, in native byte order (vhost-user
 * specification, "Queue region"). It outlives this process, and may have been written by another
 * back-end, or by an enemy.
 *
 * Nothing but this process dies in the middle of an update. Memory stays, and a thread that is
 * killed stops between two instructions: the stores of all before are made, and none of those
 * after. (Threads that share a queue come one after the other, by its lock.) So a store that a
 * crash must not tear is a single one, and gw_inflight_order() keeps the compiler, the only one who
 * could, from moving stores past each other. No barrier of the processor is needed.
 */
#pragma once

#include <stddef.h>
#include <stdint.h>

#define GW_INFLIGHT_VERSION 1

/* Both kinds of part begin with it. */
struct gw_inflight_header {
    uint32_t features[2]; /* one u64; none are defined */
    uint16_t version;     /* 0: never used */
    uint16_t desc_num;    /* entries that follow */
};

/* The entry of a request is that of its head. */
struct gw_inflight_split_entry {
    uint8_t inflight;
    uint8_t padding[5];
    uint16_t next; /* of the last batch */
    uint64_t counter;
};

struct gw_inflight_split {
    struct gw_inflight_header header;
    uint16_t last_batch_head;
    uint16_t used_idx; /* of the ring, when the last batch was settled */
    struct gw_inflight_split_entry entries[];
};

/* Of an entry of a packed ring: where its chain is. */
union gw_inflight_chain {
    struct {
        uint8_t inflight;
        uint8_t padding;
        uint16_t next; /* of the chain, or of the free list, where desc_num or more ends it */
        uint16_t last;
        uint16_t num;
    };
    uint64_t word;
};

/* And what is in its descriptor, but for the address. */
union gw_inflight_desc {
    struct {
        uint16_t id;
        uint16_t flags;
        uint32_t len;
    };
    uint64_t word;
};

/* One for each descriptor; inflight, last, num and counter are those of a chain's first. */
struct gw_inflight_packed_entry {
    union gw_inflight_chain chain;
    uint64_t counter;
    union gw_inflight_desc desc;
    uint64_t addr;
};

/* The free list, and what it was when the last batch was settled. */
union gw_inflight_heads {
    struct {
        uint16_t free_head;
        uint16_t old_free_head;
    };
    uint32_t word;
};

/* Where the next used descriptor goes, and where it went when the last batch was settled. */
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

/* Stores before it are made before those after it, as far as a crash can tell. */
static inline void gw_inflight_order(void)
{
    __atomic_signal_fence(__ATOMIC_SEQ_CST);
}

/* One load or store each, of whatever width. */
#define gw_inflight_get(p)    __atomic_load_n((p), __ATOMIC_RELAXED)
#define gw_inflight_set(p, v) __atomic_store_n((p), (v), __ATOMIC_RELAXED)
