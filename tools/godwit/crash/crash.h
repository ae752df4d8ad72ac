/* SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause */
/*
 * Kills a disk back-end at random moments under a verified load and restarts it with its inflight
 * region, many times; and the results.
 *
 * The tool is both guest and VMM: guest memory and the inflight region outlive each back-end, and
 * the guest does not notice a crash. So every request must be completed exactly once, and every
 * acknowledged write must be on the disk, regardless of the crashes in between.
 */
#pragma once

#include "report/backend_record.h"
#include "report/evidence.h"

#include <stdbool.h>
#include <stdint.h>

/* The moment of a kill: a random delay after this step begins. */
enum crash_moment {
    CRASH_SPAWN = 0, /* the program starts */
    CRASH_CONNECT,   /* connection and negotiation */
    CRASH_START,     /* start of the device, with the inflight region */
    CRASH_RECOVER,   /* rings are running, nothing completed yet */
    CRASH_LOAD,      /* continuous new requests */
    CRASH_DRAIN,     /* no new requests until all have completed */
    CRASH_STOP,      /* GET_VRING_BASE of each ring */
    CRASH_N_MOMENTS,
};

enum crash_verdict {
    CRASH_PASSED = 0, /* the run ended; the report judges what it exercised */
    CRASH_FAILED,     /* the back-end is at fault */
    CRASH_COULD_NOT,  /* the test could not be run */
};

/* The checks, in the order of reports. */
enum crash_check {
    CRASH_CHECK_RESTARTS = 0, /* every start succeeds */
    CRASH_CHECK_REGION,       /* lists exactly the requests taken and not completed */
    CRASH_CHECK_ORDER,        /* counters follow the order of the ring */
    CRASH_CHECK_ONCE,         /* no request completed twice, or without being executed */
    CRASH_CHECK_ALL,          /* every request completed */
    CRASH_CHECK_WRITES,       /* no acknowledged write lost */
    CRASH_CHECK_TIME,         /* recovery within the limit */
    CRASH_N_CHECKS,
};

/* Zero selects the default, where one is given. */
struct crash_options {
    uint64_t seed;
    unsigned kills; /* default 100 */
    bool is_packed, is_in_order;
    unsigned n_queues;         /* default 1 */
    unsigned queue_size;       /* default: 256, or as the depth requires */
    unsigned depth;            /* requests in flight per queue; default 32 */
    unsigned block_size;       /* default 4096 */
    unsigned write_percent;    /* share of writes */
    unsigned flush_percent;    /* share of flushes */
    uint64_t disk_bytes;       /* part of the disk to use; default: up to 16 MiB */
    unsigned exact_percent;    /* share of kills under load placed by crash_step.c */
    unsigned handover_percent; /* share of back-ends that are suspended, not killed */
    unsigned timeout_ms;       /* limit of the whole run; default 10 min */
    unsigned request_ms;       /* limit of one message or request; default 10 s */
    uint64_t max_recovery_ns;  /* 0: no limit */
};

struct crash_fault {
    enum crash_check check;   /* the failed check, if a back-end is blamed */
    enum crash_moment moment; /* of the previous kill */
    bool is_first;            /* before the first kill */
    unsigned n_kills;         /* kills so far */
    int error;                /* negative errno */
    char text[448];           /* description as a sentence */
    struct evidence evidence; /* evidence about the back-end at that time */
};

/* Times in nanoseconds. */
struct crash_result {
    enum crash_verdict verdict;
    struct crash_fault fault; /* the first fault, which ends the run */
    bool has_fault;
    struct backend_record backend; /* as of the first connection; its name is NULL without one */
    unsigned n_kills, n_kills_at[CRASH_N_MOMENTS];
    unsigned n_exact;     /* kills during the completion of a batch */
    unsigned n_starts;    /* starts of the back-end */
    unsigned n_handovers; /* back-ends suspended with requests in flight and handed over */
    unsigned n_drains;    /* times when all requests in flight were drained first */
    unsigned n_fresh;     /* regions created again after a stop */
    uint64_t n_in_flight; /* requests in flight, summed over all kills */
    uint64_t n_taken;     /* of these, taken according to the region: to resubmit */
    unsigned n_torn;      /* queues with a partially published batch */
    unsigned n_recovered; /* measured recoveries */
    uint64_t recovery_p50, recovery_p99, recovery_max; /* from connection to first completion */
    uint64_t requests, reads, writes, flushes, bytes;
    uint64_t verified;    /* blocks read by the load and verified */
    uint64_t looked_at;   /* blocks read and verified after restarts */
    uint64_t disk_blocks; /* all blocks, read and verified at the end */
    uint64_t duration_ns;
};

struct crash_progress {
    unsigned n_kills, n_kills_wanted;
    uint64_t elapsed_ns, requests, recovery_p50;
};

/* Context: the thread of crash_run, after each kill. */
typedef void crash_progress_cb(const struct crash_progress *p, void *arg);

/*
 * Run the test. `progress` may be NULL. The caller keeps the target, which must be a command.
 * Returns: 0, whatever the verdict; -EINVAL: invalid options; -ENOMEM.
 */
int crash_run(const struct crash_options *o, struct target *target, crash_progress_cb *progress,
              void *arg, struct crash_result *ret);

/* The name in reports; never NULL. */
const char *crash_moment_name(enum crash_moment moment);
