/* SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause */
/* Internal state of one run. All of it belongs to the thread of crash_run. */
#pragma once

#include "base/histogram.h"
#include "crash.h"
#include "guest/disk_config.h"

#include "load/load.h"

struct crash_killer;

struct crash {
    struct crash_options o; /* defaults filled in */
    struct crash_result *ret;
    struct target *target;
    struct crash_killer *killer;
    uint64_t start_ns, deadline_ns; /* CLOCK_MONOTONIC */
    uint64_t random;

    /* the guest, which outlives all back-ends */
    struct gw_guest_mem *mem;
    struct gw_driver **drivers;
    const uint16_t **rings; /* as in struct crash_watch */
    unsigned n_drivers;
    struct disk_config config;
    struct gw_guest_disk *disk;
    struct gw_guest_load *load;
    uint64_t n_blocks;
    uint64_t features;          /* negotiated virtio features, the same in every life */
    uint64_t protocol_features; /* offered */
    struct gw_frontend_inflight inflight;

    /* the current back-end */
    struct gw_frontend *fe;
    struct evidence evidence; /* includes the messages of the previous `fe` */
    enum crash_moment moment; /* of the last kill */
    uint64_t connected_ns;
    bool *is_stopped;                  /* per queue: stopped, its base is known */
    bool is_drained;                   /* the stop waited for requests in flight */
    uint64_t span_ns[CRASH_N_MOMENTS]; /* duration of each step without a kill */
    struct gw_histogram recovery;
};

/* ---- crash.c ---- */

/* A random number below `n`, determined by the seed. */
uint64_t crash_random(struct crash *c, uint64_t n);
/* Record a fault of the back-end, or that the test cannot continue. Only the first is kept. */
int crash_blame(struct crash *c, enum crash_check check, int r, const char *format, ...)
    __attribute__((format(printf, 4, 5)));
/* Free the front-end, but keep its last messages as evidence. */
void crash_free_frontend(struct crash *c);
int crash_cannot(struct crash *c, int r, const char *format, ...)
    __attribute__((format(printf, 3, 4)));

/* ---- crash_guest.c: state that outlives the back-ends ---- */

/* Create memory, rings, expected disk contents and load for the back-end's disk. */
int crash_make_guest(struct crash *c);
void crash_free_guest(struct crash *c);
/* Record a failure of the load as a fault. Returns: `r`. */
int crash_load_fault(struct crash *c, int r);
/* Take the completions that an ended back-end left in the rings. */
int crash_collect(struct crash *c);
/* The guest does not notice the crash: submit new requests while no back-end serves them. */
int crash_submit_unserved(struct crash *c);
/* Read some blocks at a random position. Returns: as gw_guest_load_read_back. */
int crash_look_at_disk(struct crash *c);
/* Read all blocks. */
int crash_read_back(struct crash *c);

/* ---- crash_life.c: one back-end from its start to its end ---- */

/* The first life: its back-end's features determine the guest. Ends without a kill. */
int crash_first_life(struct crash *c);
/* A life that ends by a kill or handover. */
int crash_life(struct crash *c);
/* The last life, which ends with a regular stop. */
int crash_last_life(struct crash *c);

/* ---- crash_region.c ---- */

/* Compare the region of each queue with the requests that the driver has in flight. */
int crash_check_region(struct crash *c);

/* Where a completed batch becomes visible: first in the inflight region, then in the ring. */
struct crash_watch {
    int fd;
    uint64_t first, stride; /* offsets of one word per queue that each batch changes */
    unsigned n;
    const uint16_t *const *rings; /* split: the used index; packed: the descriptors */
    bool is_packed;
    unsigned queue_size;
    bool is_shown;     /* continue until the driver can see the batch */
    uint64_t further;  /* instructions to execute afterwards */
    uint64_t limit_ns; /* time limit, below the time limit of requests */
};

struct crash_watch crash_watch_of(const struct crash *c);

/* ---- crash_step.c ---- */

struct crash_stepper;

/*
 * Single-step the target's threads until a watched word changes, then `further` instructions. The
 * threads are then stopped, except those that wait in the kernel. In any case, kill the target and
 * call crash_step_end in the same thread. Returns: whether the place was reached; it is not if
 * tracing is not permitted or takes too long.
 */
bool crash_step_begin(struct crash_stepper **ret, struct target *t,
                      const struct crash_watch *watch);
void crash_step_end(struct crash_stepper *s);

/* ---- crash_killer.c: a thread that kills a target after a delay ---- */

int crash_killer_new(struct crash_killer **ret, struct target *target);
void crash_killer_free(struct crash_killer *k);
/*
 * Kill in `delay_ns`, at the place given by `watch` if not NULL; then interrupt `load` (may be
 * NULL) as gw_guest_load_interrupt does. Only one at a time, until crash_killer_disarm.
 */
void crash_killer_arm(struct crash_killer *k, uint64_t delay_ns, const struct crash_watch *watch,
                      struct gw_guest_load *load);
/* Whether the target is dead or about to be, which explains any failure of it. */
bool crash_killer_has_struck(struct crash_killer *k);
/* Whether the last kill had a watch and reached its place. */
bool crash_killer_was_exact(struct crash_killer *k);
/* Cancel the kill, unless it has happened. */
void crash_killer_disarm(struct crash_killer *k);
