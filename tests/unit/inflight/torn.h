/* SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause */
/*
 * Death at any instruction. A child runs a device on shared memory, one instruction at a time;
 * whenever the ring or the inflight part has changed, the parent copies both and lets another
 * device recover on the copy. The parent is the driver, and knows of every request it made.
 */
#pragma once

#include "core/inflight/inflight.h"
#include "core/queue/ring.h"

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

#define TORN_GPA      UINT64_C(0x40000000)
#define TORN_UVA      UINT64_C(0x7e0000000000)
#define TORN_SIZE_MAX 16u  /* of a ring */
#define TORN_REQS_MAX 500u /* in one run */
#define TORN_CHAIN    3u   /* descriptors at most */

/* What survives, and what a crash is looked for in. */
struct torn_state {
    _Alignas(64) uint8_t desc[16 * TORN_SIZE_MAX];
    _Alignas(64) uint8_t avail[64];
    _Alignas(64) uint8_t used[8 + 8 * TORN_SIZE_MAX];
    _Alignas(64) uint8_t part[32 + 32 * TORN_SIZE_MAX];
};

/* Guest memory and inflight part, in one file. */
struct torn_mem {
    struct torn_state state;
    uint32_t turn; /* atomic: written by the device when it wants the driver */
    _Alignas(8) uint64_t buf[TORN_REQS_MAX]; /* that of request i */
};

/* Shared memory with a map of it. */
struct torn_bed {
    struct torn_mem *mem;
    struct gw_map *map;
};

void torn_bed_init(struct torn_bed *bed);
void torn_bed_done(struct torn_bed *bed);

struct torn_config {
    const char *name;
    bool packed;
    bool in_order;
    unsigned size;
    uint16_t start;  /* the index both sides begin at */
    unsigned chain;  /* descriptors of a request: 1 to this */
    unsigned batch;  /* completed at a time: 1 to this */
    unsigned n_reqs; /* in all; half of TORN_REQS_MAX at most */
    unsigned life;   /* states that a device sees before another takes over; 0: all */
    unsigned seed;
};

/* The same numbers on both sides. Returns: 0 to n - 1. */
unsigned torn_random(unsigned *seed, unsigned n);

/* ---- the driver ---- */

/* Can be copied, and go on elsewhere: it remembers what is in no memory. */
struct torn_driver {
    const struct torn_config *cfg;
    struct torn_state *state;
    unsigned n_made;                    /* requests 0 to n_made - 1 were made available */
    unsigned n_answered;                /* of them */
    uint8_t answered[TORN_REQS_MAX];    /* how often */
    uint16_t req_of[TORN_SIZE_MAX];     /* by id */
    uint16_t n_slots_of[TORN_SIZE_MAX]; /* by id; 0: the id is free */
    uint16_t entries_of[TORN_SIZE_MAX][TORN_CHAIN]; /* of a split ring's table */
    bool busy[TORN_SIZE_MAX];                       /* of a split ring's table */
    unsigned n_free;                                /* descriptors */
    uint16_t avail, used;                           /* split: running on; packed: places */
    bool avail_wrap, used_wrap;
    uint16_t oldest; /* request, for IN_ORDER */
};

void torn_driver_init(struct torn_driver *d, const struct torn_config *cfg,
                      struct torn_state *state);
/* Make a request of `n` descriptors. Returns: false without room. */
bool torn_driver_add(struct torn_driver *d, unsigned n);
/* Take all answers that can be seen. Returns: NULL, or what is wrong with them. */
const char *torn_driver_take(struct torn_driver *d);
/* The request of a descriptor's address, or UINT32_MAX. */
uint32_t torn_req_at(uint64_t addr);

/* ---- devices, in the child ---- */

/* As SET_VRING_NUM, ADDR and BASE tell it. */
struct gw_ring_config torn_ring_config(const struct torn_config *cfg);

/* The device begins a turn: the driver may act. */
void torn_ask_driver(struct torn_mem *mem);

/* A whole queue on a worker, until all requests are completed, or for ever. Ends the process. */
void torn_queue_main(const struct torn_config *cfg, const struct torn_bed *bed);

/* A request as the device holds it. */
struct torn_held {
    struct gw_inflight_entry e;
    uint32_t req;
};

/* Ways to be wrong: each must be found. */
enum torn_fault {
    TORN_RIGHT = 0,
    TORN_CLEARS_FIRST,   /* before the driver sees the answer */
    TORN_COMMITS_FIRST,  /* likewise */
    TORN_LINKS_LAST,     /* after the driver sees it */
    TORN_FORGETS_TO_TAKE /* one of them */
};

struct torn_device {
    const struct torn_config *cfg;
    enum torn_fault fault;
    struct gw_ring ring;
    struct gw_inflight inflight;
    struct torn_held held[TORN_SIZE_MAX]; /* the oldest first */
    unsigned n_held;
    unsigned n_again; /* of them, how many were recovered */
};

/* Start, and recover what is left. Returns: NULL, or why it cannot. */
const char *torn_device_start(struct torn_device *dev, const struct torn_config *cfg,
                              const struct torn_bed *bed);
void torn_device_done(struct torn_device *dev);
/* Take a request off the ring and hold it. Returns: false when there is none. */
bool torn_device_pop(struct torn_device *dev);
/* Put the one popped last back. */
void torn_device_unpop(struct torn_device *dev);
/* Complete the held requests at `which`, with one answer if they are in order. */
void torn_device_complete(struct torn_device *dev, const unsigned *which, unsigned n);

/* ---- stepping ---- */

/*
 * Run `child(arg)` in a process of its own and call `step(arg)` after each of its instructions,
 * beginning where it, or one thread of it, calls torn_step_here(). It ends by itself, or is killed
 * when `step` returns false.
 * Returns: the number of instructions; -1 when it may not be traced.
 */
long torn_step(void (*child)(void *arg), bool (*step)(void *arg), void *arg);
void torn_step_here(void);
