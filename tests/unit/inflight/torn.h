/* SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause */
/*
 * Death at any instruction. The parent single-steps a child that runs a device on shared memory.
 * After each change of the ring or the inflight part, the parent copies both and lets another
 * device recover on the copy. The parent is the driver and tracks all requests.
 */
#pragma once

#include "core/inflight/inflight.h"
#include "core/queue/ring.h"

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

#define TORN_GPA      UINT64_C(0x40000000)
#define TORN_UVA      UINT64_C(0x7e0000000000)
#define TORN_SIZE_MAX 16u  /* largest ring */
#define TORN_REQS_MAX 500u /* requests per run */
#define TORN_CHAIN    3u   /* most descriptors of a chain */

/* The memory that survives a crash; each change of it is a state to recover from. */
struct torn_state {
    _Alignas(64) uint8_t desc[16 * TORN_SIZE_MAX];
    _Alignas(64) uint8_t avail[64];
    _Alignas(64) uint8_t used[8 + 8 * TORN_SIZE_MAX];
    _Alignas(64) uint8_t part[32 + 32 * TORN_SIZE_MAX];
};

/* Guest memory and the inflight part in one file. */
struct torn_mem {
    struct torn_state state;
    uint32_t turn; /* atomic: written by the device when it wants the driver */
    _Alignas(8) uint64_t buf[TORN_REQS_MAX]; /* [i]: buffer of request i */
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
    uint16_t start;  /* the initial index of both sides */
    unsigned chain;  /* most descriptors of a request */
    unsigned batch;  /* most requests completed at a time */
    unsigned n_reqs; /* total, at most half of TORN_REQS_MAX */
    unsigned life;   /* states until another device takes over; 0: never */
    unsigned seed;
};

/* The same sequence on both sides for the same seed. Returns: 0 to n - 1. */
unsigned torn_random(unsigned *seed, unsigned n);

/* ---- the driver ---- */

/* The driver's private state; a copy of it can continue on a copy of the memory. */
struct torn_driver {
    const struct torn_config *cfg;
    struct torn_state *state;
    unsigned n_made;                    /* requests 0 to n_made - 1 were made available */
    unsigned n_answered;                /* requests that were answered */
    uint8_t answered[TORN_REQS_MAX];    /* number of answers */
    uint16_t req_of[TORN_SIZE_MAX];     /* by id */
    uint16_t n_slots_of[TORN_SIZE_MAX]; /* by id; 0: the id is free */
    uint16_t entries_of[TORN_SIZE_MAX][TORN_CHAIN]; /* split: table entries by id */
    bool busy[TORN_SIZE_MAX];                       /* split: table entry in use */
    unsigned n_free;                                /* free descriptors */
    uint16_t avail, used;                           /* split: free-running; packed: positions */
    bool avail_wrap, used_wrap;
    uint16_t oldest; /* request, for IN_ORDER */
};

void torn_driver_init(struct torn_driver *d, const struct torn_config *cfg,
                      struct torn_state *state);
/* Make a request of `n` descriptors available. Returns: false if the ring is full. */
bool torn_driver_add(struct torn_driver *d, unsigned n);
/* Take all published answers. Returns: NULL or the first error in them. */
const char *torn_driver_take(struct torn_driver *d);
/* The request of a descriptor's address, or UINT32_MAX. */
uint32_t torn_req_at(uint64_t addr);

/* ---- devices, in the child ---- */

/* The ring as SET_VRING_NUM, SET_VRING_ADDR and SET_VRING_BASE would configure it. */
struct gw_ring_config torn_ring_config(const struct torn_config *cfg);

/* The device begins a turn: the driver may act. */
void torn_ask_driver(struct torn_mem *mem);

/* Run a complete queue on a worker until all requests are completed. Ends the process. */
void torn_queue_main(const struct torn_config *cfg, const struct torn_bed *bed);

/* A request as the device holds it. */
struct torn_held {
    struct gw_inflight_entry e;
    uint32_t req;
};

/* Deliberate faults; the test must detect each. */
enum torn_fault {
    TORN_RIGHT = 0,
    TORN_CLEARS_FIRST,   /* clears the entry before it publishes the answer */
    TORN_COMMITS_FIRST,  /* commits before it publishes the answer */
    TORN_LINKS_LAST,     /* links the batch after it publishes the answer */
    TORN_FORGETS_TO_TAKE /* does not track one request */
};

struct torn_device {
    const struct torn_config *cfg;
    enum torn_fault fault;
    struct gw_ring ring;
    struct gw_inflight inflight;
    struct torn_held held[TORN_SIZE_MAX]; /* the oldest first */
    unsigned n_held;
    unsigned n_again; /* number of held requests that were recovered */
};

/* Start and recover the requests in flight. Returns: NULL or the error. */
const char *torn_device_start(struct torn_device *dev, const struct torn_config *cfg,
                              const struct torn_bed *bed);
void torn_device_done(struct torn_device *dev);
/* Take a request off the ring and hold it. Returns: false if the ring is empty. */
bool torn_device_pop(struct torn_device *dev);
/* Put the request that was popped last back on the ring. */
void torn_device_unpop(struct torn_device *dev);
/* Complete the held requests at `which`; with IN_ORDER, one answer covers them all. */
void torn_device_complete(struct torn_device *dev, const unsigned *which, unsigned n);

/* ---- stepping ---- */

/*
 * Run `child(arg)` in a child process and call `step(arg)` after each of its instructions, starting
 * when the child, or one of its threads, calls torn_step_here(). The child exits by itself or is
 * killed when `step` returns false.
 * Returns: the number of instructions, or -1 if the child cannot be traced.
 */
long torn_step(void (*child)(void *arg), bool (*step)(void *arg), void *arg);
void torn_step_here(void);
