/* SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause */
/* One run, as the files of it share it. All of it belongs to the thread of crash_run. */
#pragma once

#include "crash.h"
#include "guest/disk_config.h"
#include "report/histogram.h"

#include <godwit/load.h>

struct crash_killer;

struct crash {
    struct crash_options o; /* with defaults */
    struct crash_result *ret;
    struct target *target;
    struct crash_killer *killer;
    uint64_t start_ns, deadline_ns; /* of CLOCK_MONOTONIC */
    uint64_t random;

    /* the guest, which outlives them all */
    struct gw_guest_mem *mem;
    struct gw_driver **drivers;
    const uint16_t **rings; /* see struct crash_watch */
    unsigned n_drivers;
    struct disk_config config;
    struct gw_guest_disk *disk;
    struct gw_guest_load *load;
    uint64_t n_blocks;
    uint64_t features;          /* virtio features, the same in every life */
    uint64_t protocol_features; /* offered */
    struct gw_frontend_inflight inflight;

    /* the life of a back-end */
    struct gw_frontend *fe;
    struct evidence evidence; /* the messages of the last `fe` */
    enum crash_moment moment; /* at which the last one was killed */
    uint64_t connected_ns;
    bool *is_stopped; /* each queue: its base was told, and it is in no life any more */
    bool is_drained;  /* by a stop that waits for what is in flight */
    uint64_t span_ns[CRASH_N_MOMENTS]; /* how long each lasted when nobody was killed */
    struct histogram recovery;
};

/* ---- crash.c ---- */

/* A number below `n`, by the seed. */
uint64_t crash_random(struct crash *c, uint64_t n);
uint64_t crash_now(void);
/* The back-end is at fault, or it cannot go on; the first is told, all return `r`. */
int crash_blame(struct crash *c, enum crash_check check, int r, const char *format, ...)
    __attribute__((format(printf, 4, 5)));
/* Forget the front-end, but for its last messages. */
void crash_free_frontend(struct crash *c);
int crash_cannot(struct crash *c, int r, const char *format, ...)
    __attribute__((format(printf, 3, 4)));

/* ---- crash_guest.c: what outlives the back-ends ---- */

/* Memory, rings, disk and load, for the disk that the back-end has. */
int crash_make_guest(struct crash *c);
void crash_free_guest(struct crash *c);
/* Tell what a load returned. */
int crash_load_fault(struct crash *c, int r);
/* Take the answers that are in the rings of a back-end that has ended. */
int crash_collect(struct crash *c);
/* A guest that knows of nothing goes on: new requests, though nobody serves them. */
int crash_submit_unserved(struct crash *c);
/* Read some blocks in a random place. Returns: as gw_guest_load_read_back. */
int crash_look_at_disk(struct crash *c);
/* Read all blocks. */
int crash_read_back(struct crash *c);

/* ---- crash_life.c: one back-end from its start to its end ---- */

/* The first one of all: what it offers decides about the guest. Ends without a kill. */
int crash_first_life(struct crash *c);
/* One that is killed, or handed over. */
int crash_life(struct crash *c);
/* The last one of all, which may stop in peace. */
int crash_last_life(struct crash *c);

/* ---- crash_region.c ---- */

/* Compare what the region says of each queue with what the driver has in flight. */
int crash_check_region(struct crash *c);

/* Where a back-end completes a batch, as the inflight region and then the ring have it. */
struct crash_watch {
    int fd;
    uint64_t first, stride; /* of a word for each queue that changes as a batch is completed */
    unsigned n;
    const uint16_t *const *rings; /* split: the used index; packed: the descriptors */
    bool is_packed;
    unsigned queue_size;
    bool is_shown;     /* on until the driver can see the batch */
    uint64_t further;  /* instructions to execute after that */
    uint64_t limit_ns; /* of all this, so that delayed requests keep their time limit */
};

struct crash_watch crash_watch_of(const struct crash *c);

/* ---- crash_step.c ---- */

struct crash_stepper;

/*
 * Single-step the target's threads until a watched word changes, and some further. They are stopped
 * then, but for those that wait in the kernel. Kill it, and end that with crash_step_end, in the
 * same thread; in any case. Returns: whether it came so far, as it does not where it cannot be
 * traced or takes too long.
 */
bool crash_step_begin(struct crash_stepper **ret, struct target *t,
                      const struct crash_watch *watch);
void crash_step_end(struct crash_stepper *s);

/* ---- crash_killer.c: a thread that kills a target after a while ---- */

int crash_killer_new(struct crash_killer **ret, struct target *target);
void crash_killer_free(struct crash_killer *k);
/*
 * Kill in `delay_ns`, where `watch` says if it is not NULL; then have `load` (may be NULL) return,
 * as gw_guest_load_interrupt does. One at a time, until crash_killer_disarm.
 */
void crash_killer_arm(struct crash_killer *k, uint64_t delay_ns, const struct crash_watch *watch,
                      struct gw_guest_load *load);
/* Is it dead, or about to be? Whatever fails then fails for that. */
bool crash_killer_has_struck(struct crash_killer *k);
/* Were there such places, and was the last one reached? */
bool crash_killer_was_exact(struct crash_killer *k);
/* It has not struck, and will not. */
void crash_killer_disarm(struct crash_killer *k);
