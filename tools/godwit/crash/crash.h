/* SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause */
/*
 * A disk back-end killed at random moments under a verified load, and started again with its
 * inflight region, many times; and what that proved.
 *
 * The tool is guest and VMM: the guest's memory and the region outlive each back-end, and the guest
 * is told nothing. So each request it ever made must be answered, once, and each write that was
 * acknowledged must be on the disk, whatever died in between.
 */
#pragma once

#include "report/evidence.h"

#include <stdbool.h>
#include <stdint.h>

/* When a back-end is killed: some time after this begins. */
enum crash_moment {
    CRASH_SPAWN = 0, /* its program begins */
    CRASH_CONNECT,   /* the connection, and what is negotiated */
    CRASH_START,     /* the device is started, with the inflight region */
    CRASH_RECOVER,   /* its rings run, and nothing was completed yet */
    CRASH_LOAD,      /* new requests all the time */
    CRASH_DRAIN,     /* no new requests until all are completed */
    CRASH_STOP,      /* GET_VRING_BASE of each ring */
    CRASH_N_MOMENTS,
};

enum crash_verdict {
    CRASH_PASSED = 0, /* the run came to its end; what it exercised is the report's to judge */
    CRASH_FAILED,     /* the back-end is at fault */
    CRASH_COULD_NOT,  /* could not run */
};

/* What is checked, in the order of reports. */
enum crash_check {
    CRASH_CHECK_RESTARTS = 0, /* each start of it works */
    CRASH_CHECK_REGION,       /* what it says in flight is what was taken and not answered */
    CRASH_CHECK_ORDER,        /* its counters follow the order of the ring */
    CRASH_CHECK_ONCE,         /* no request answered twice, or without being done */
    CRASH_CHECK_ALL,          /* none never answered */
    CRASH_CHECK_WRITES,       /* no acknowledged write lost */
    CRASH_CHECK_TIME,         /* recovered as soon as asked for */
    CRASH_N_CHECKS,
};

/* Zeros mean the defaults, where one is named. */
struct crash_options {
    uint64_t seed;
    unsigned kills; /* default 100 */
    bool is_packed, is_in_order;
    unsigned n_queues;         /* default 1 */
    unsigned queue_size;       /* default: 256, or what the depth needs */
    unsigned depth;            /* requests in flight per queue; default 32 */
    unsigned block_size;       /* default 4096 */
    unsigned write_percent;    /* of the requests */
    unsigned flush_percent;    /* of the requests */
    uint64_t disk_bytes;       /* of the disk that the load uses; default: up to 16 MiB */
    unsigned exact_percent;    /* of the kills under load are not by the clock, see crash_step.c */
    unsigned handover_percent; /* of the lives of a back-end end in being suspended, not killed */
    unsigned timeout_ms;       /* of the whole run; default 10 min */
    unsigned request_ms;       /* of one message or request; default 10 s */
    uint64_t max_recovery_ns;  /* 0: any */
};

struct crash_fault {
    enum crash_check check;   /* what a blame is about; nothing otherwise */
    enum crash_moment moment; /* at which the one before was killed */
    bool is_first;            /* nobody had been killed yet */
    unsigned n_kills;         /* so far */
    int error;                /* negative errno */
    char text[448];           /* a sentence */
    struct evidence evidence; /* what was known of the back-end then */
};

/* Times in nanoseconds. */
struct crash_result {
    enum crash_verdict verdict;
    struct crash_fault fault; /* the only one: afterwards nothing is as it should be */
    bool has_fault;
    unsigned n_kills, n_kills_at[CRASH_N_MOMENTS];
    unsigned n_exact;     /* kills where a batch is completed */
    unsigned n_starts;    /* of the back-end */
    unsigned n_handovers; /* suspended with requests in flight, and handed over */
    unsigned n_drains;    /* all in flight were answered before there was anything new */
    unsigned n_fresh;     /* regions made anew, after a stop */
    uint64_t n_in_flight; /* requests, at all ends together */
    uint64_t n_taken;     /* of these, in flight in the region: to be done again */
    unsigned n_torn;      /* queues that were left in the middle of showing a batch */
    unsigned n_recovered; /* first completions seen */
    uint64_t recovery_p50, recovery_p99, recovery_max; /* from the connection to the first one */
    uint64_t requests, reads, writes, flushes, bytes;
    uint64_t verified;    /* blocks read by the load that were what they should be */
    uint64_t looked_at;   /* more blocks, read after a restart */
    uint64_t disk_blocks; /* blocks read at the end, all of them */
    uint64_t duration_ns;
};

struct crash_progress {
    unsigned n_kills, n_kills_wanted;
    uint64_t elapsed_ns, requests, recovery_p50;
};

/* Context: the thread of crash_run, after each death. */
typedef void crash_progress_cb(const struct crash_progress *p, void *arg);

/*
 * Kill, start again, prove. `progress` may be NULL. The target, a command, stays the caller's.
 * Returns: 0, whatever the verdict; -EINVAL for options that make no sense; -ENOMEM.
 */
int crash_run(const struct crash_options *o, struct target *target, crash_progress_cb *progress,
              void *arg, struct crash_result *ret);

/* Words for people; never NULL. */
const char *crash_moment_name(enum crash_moment moment);
