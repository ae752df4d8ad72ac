/* SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause */
/*
 * Death at any instruction. The parent single-steps a child that runs a device on shared memory.
 * After each change of the ring or the inflight part, the parent copies both and lets another
 * device recover on the copy. The parent is the driver and tracks all requests.
 */
#pragma once

#include "core/inflight/inflight.h"
#include "core/ring/ring.h"

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

#define POWER_CUT_GPA      UINT64_C(0x40000000)
#define POWER_CUT_UVA      UINT64_C(0x7e0000000000)
#define POWER_CUT_SIZE_MAX 16u  /* largest ring */
#define POWER_CUT_REQS_MAX 500u /* requests per run */
#define POWER_CUT_CHAIN    3u   /* most descriptors of a chain */

/* The memory that survives a crash; each change of it is a state to recover from. */
struct power_cut_state {
    _Alignas(64) uint8_t desc[16 * POWER_CUT_SIZE_MAX];
    _Alignas(64) uint8_t avail[64];
    _Alignas(64) uint8_t used[8 + 8 * POWER_CUT_SIZE_MAX];
    _Alignas(64) uint8_t part[32 + 32 * POWER_CUT_SIZE_MAX];
};

/* Guest memory and the inflight part in one file. */
struct power_cut_mem {
    struct power_cut_state state;
    uint32_t turn; /* atomic: written by the device when it wants the driver */
    _Alignas(8) uint64_t buf[POWER_CUT_REQS_MAX]; /* [i]: buffer of request i */
};

/* Shared memory with a map of it. */
struct power_cut_fixture {
    struct power_cut_mem *mem;
    struct gw_map *map;
};

void power_cut_fixture_init(struct power_cut_fixture *fixture);
void power_cut_fixture_done(struct power_cut_fixture *fixture);

struct power_cut_config {
    const char *name;
    bool packed;
    bool in_order;
    unsigned size;
    uint16_t start;  /* the initial index of both sides */
    unsigned chain;  /* most descriptors of a request */
    unsigned batch;  /* most requests completed at a time */
    unsigned n_reqs; /* total, at most half of POWER_CUT_REQS_MAX */
    unsigned life;   /* states until another device takes over; 0: never */
    unsigned seed;
};

/* The same sequence on both sides for the same seed. Returns: 0 to n - 1. */
unsigned power_cut_random(unsigned *seed, unsigned n);

/* ---- the driver ---- */

/* The driver's private state; a copy of it can continue on a copy of the memory. */
struct power_cut_driver {
    const struct power_cut_config *cfg;
    struct power_cut_state *state;
    unsigned n_made;                         /* requests 0 to n_made - 1 were made available */
    unsigned n_answered;                     /* requests that were answered */
    uint8_t answered[POWER_CUT_REQS_MAX];    /* number of answers */
    uint16_t req_of[POWER_CUT_SIZE_MAX];     /* by id */
    uint16_t n_slots_of[POWER_CUT_SIZE_MAX]; /* by id; 0: the id is free */
    uint16_t entries_of[POWER_CUT_SIZE_MAX][POWER_CUT_CHAIN]; /* split: table entries by id */
    bool busy[POWER_CUT_SIZE_MAX];                            /* split: table entry in use */
    unsigned n_free;                                          /* free descriptors */
    uint16_t avail, used; /* split: free-running; packed: positions */
    bool avail_wrap, used_wrap;
    uint16_t oldest; /* request, for IN_ORDER */
};

void power_cut_driver_init(struct power_cut_driver *d, const struct power_cut_config *cfg,
                           struct power_cut_state *state);
/* Make a request of `n` descriptors available. Returns: false if the ring is full. */
bool power_cut_driver_add(struct power_cut_driver *d, unsigned n);
/* Take all published answers. Returns: NULL or the first error in them. */
const char *power_cut_driver_take(struct power_cut_driver *d);
/* The request of a descriptor's address, or UINT32_MAX. */
uint32_t power_cut_req_at(uint64_t addr);

/* ---- devices, in the child ---- */

/* The ring as SET_VRING_NUM, SET_VRING_ADDR and SET_VRING_BASE would configure it. */
struct gw_ring_config power_cut_ring_config(const struct power_cut_config *cfg);

/* The device begins a turn: the driver may act. */
void power_cut_ask_driver(struct power_cut_mem *mem);

/* Run a complete queue on a worker until all requests are completed. Ends the process. */
void power_cut_queue_main(const struct power_cut_config *cfg,
                          const struct power_cut_fixture *fixture);

/* A request as the device holds it. */
struct power_cut_held {
    struct gw_inflight_entry e;
    uint32_t req;
};

/* Deliberate faults; the test must detect each. */
enum power_cut_fault {
    POWER_CUT_RIGHT = 0,
    POWER_CUT_CLEARS_FIRST,   /* clears the entry before it publishes the answer */
    POWER_CUT_COMMITS_FIRST,  /* commits before it publishes the answer */
    POWER_CUT_LINKS_LAST,     /* links the batch after it publishes the answer */
    POWER_CUT_FORGETS_TO_TAKE /* does not track one request */
};

struct power_cut_device {
    const struct power_cut_config *cfg;
    enum power_cut_fault fault;
    struct gw_ring ring;
    struct gw_inflight inflight;
    struct power_cut_held held[POWER_CUT_SIZE_MAX]; /* the oldest first */
    unsigned n_held;
    unsigned n_again; /* number of held requests that were recovered */
};

/* Start and recover the requests in flight. Returns: NULL or the error. */
const char *power_cut_device_start(struct power_cut_device *dev, const struct power_cut_config *cfg,
                                   const struct power_cut_fixture *fixture);
void power_cut_device_done(struct power_cut_device *dev);
/* Take a request off the ring and hold it. Returns: false if the ring is empty. */
bool power_cut_device_pop(struct power_cut_device *dev);
/* Put the request that was popped last back on the ring. */
void power_cut_device_unpop(struct power_cut_device *dev);
/* Complete the held requests at `which`; with IN_ORDER, one answer covers them all. */
void power_cut_device_complete(struct power_cut_device *dev, const unsigned *which, unsigned n);

/* ---- stepping ---- */

/*
 * Run `child(arg)` in a child process and call `step(arg)` after each of its instructions, starting
 * when the child, or one of its threads, calls power_cut_step_here(). The child exits by itself or
 * is killed when `step` returns false. Returns: the number of instructions, or -1 if the child
 * cannot be traced.
 */
long power_cut_step(void (*child)(void *arg), bool (*step)(void *arg), void *arg);
void power_cut_step_here(void);
