/* SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause */
/*
 * The result of a migration: everything that a report needs. Times are nanoseconds since
 * migration_run began unless a comment says otherwise; see migrate.h.
 */
#pragma once

#include "migrate_kinds.h"
#include "report/backend_record.h"
#include "report/evidence.h"

#include <godwit/memory.h>
#include <stdbool.h>
#include <stdint.h>

/* All times are nanoseconds since migration_run began. */
struct migration_event {
    uint64_t at_ns;
    uint64_t duration_ns; /* until the answer; 0: no answer expected */
    unsigned hop;         /* from 0 */
    enum migration_event_kind kind;
    enum migration_phase phase; /* in which it happened */
    char text[96];
};

struct migration_round {
    uint64_t at_ns;
    uint64_t duration_ns;
    uint64_t copy_ns;         /* processor time of copying */
    uint64_t scan_ns;         /* processor time of scanning the log */
    uint64_t pages;           /* of 4 KiB, named by the log; in the first round all with data */
    uint64_t pages_unchanged; /* of these, those that were equal already */
    uint64_t pages_outside;   /* named, but in no region (not counted in pages) */
    uint64_t bytes;           /* copied because of the log */
    uint64_t bytes_driver;    /* copied because the tool's own driver wrote them */
    unsigned hop;
    unsigned number;   /* from 0, which copies everything */
    bool is_final;     /* after the source stopped */
    bool is_cancelled; /* of a migration that was cancelled */
};

/* The load, in one interval of 10 ms. */
struct migration_sample {
    uint64_t at_ns;
    uint64_t requests;   /* completed in these 10 ms */
    uint64_t bytes;      /* moved in these 10 ms */
    uint64_t stall_ns;   /* longest time without a completion that ended in the interval or lasts */
    uint64_t latency_ns; /* of the slowest request that was completed in it */
};

/* A page that differed when the source had stopped. */
struct migration_lost {
    gw_gpa_t page;    /* its address */
    gw_gpa_t first;   /* the first byte that differs */
    unsigned n_bytes; /* how many of the page differ */
    unsigned hop;
    unsigned uses;          /* bit set of enum migration_use of the bytes that differ */
    enum migration_use use; /* of the first byte */
    bool is_late;           /* marked, but only after the answer to the stop */
    char text[192];         /* describes the first byte and its request */
};

struct migration_fault {
    uint64_t at_ns;
    unsigned hop;
    enum migration_side side;
    enum migration_phase phase;
    int error;      /* negative errno */
    bool is_blame;  /* a back-end is at fault; otherwise the test could not be run */
    char who[64];   /* the target's name */
    char text[320]; /* what happened, a sentence without the name, side and phase */
    unsigned first_evidence, n_evidence; /* indices into those of the result */
};

/* Postcopy: pages that arrived after the switch. */
struct migration_arrival {
    uint64_t discard_ns;  /* part of the downtime: taking the last marks, dropping the pages that
                             they name */
    uint64_t begin_ns;    /* the guest continued at the destination */
    uint64_t end_ns;      /* the last page arrived; 0: not reached */
    uint64_t pages_stale; /* of 4 KiB: copied before the switch and written since */
    uint64_t pages_sent, bytes_sent;
    uint64_t faults;         /* page faults that had to wait for a page */
    uint64_t pages_asked;    /* sent because of a fault */
    uint64_t pages_early;    /* present before they were sent */
    uint64_t pages_compared; /* at the end, with the source */
    uint64_t pages_stray;    /* of these: differ in memory that nothing uses */
    uint64_t latency_p50, latency_p90, latency_p99, latency_max; /* of the faults */
    uint64_t stall_ns; /* longest time without a completion, from the first one on */
    unsigned cuts;     /* of the link */
    uint64_t cut_ns;   /* total time without a link */
};

/* A thread that waited for a page. */
struct migration_page_fault {
    uint64_t at_ns;      /* end of the wait */
    uint64_t latency_ns; /* length of the wait */
};

struct migration_hop {
    uint64_t begin_ns;        /* log on */
    uint64_t stop_ns;         /* the load was stopped */
    uint64_t end_ns;          /* first completion at the destination */
    uint64_t downtime_ns;     /* from stop to end without the time of the comparison */
    uint64_t device_stop_ns;  /* from the first message of the stop to its last answer */
    uint64_t device_start_ns; /* of the destination */
    uint64_t compare_ns, compare_bytes;
    uint64_t device_state_bytes;  /* of all devices (DEVICE_STATE) */
    uint64_t copy_ns, copy_bytes; /* of all rounds */
    unsigned rounds, logs_replaced, regions_added, regions_removed, call_fds_swapped;
    unsigned in_flight;         /* in flight at the stop of the load */
    unsigned in_flight_stopped; /* popped and not completed at the answer to the stop; must be 0 */
    uint64_t requests_logged;   /* completed by the source from the log's start to the stop */
    uint64_t requests_after;    /* completed by the destination */
    uint64_t pages_watched;     /* of the stopped source, which must not change */
    uint64_t pages_marked;      /* by the log, without the first round */
    uint64_t pages_unchanged;   /* of these, unchanged: marked needlessly */
    uint64_t pages_lost;        /* not marked */
    uint64_t pages_hint;        /* of these, used for nothing but MIGRATION_USES_HINT */
    uint64_t pages_late;        /* written after the answer to the stop */
    uint64_t pages_old_log;     /* marked in a replaced log after the answer to its replacement */
    unsigned reconnects;        /* of the link between two processes */
    struct migration_arrival arrival; /* postcopy */
    enum migration_order order;
    char source[64], destination[64]; /* names of the targets */
};

#define MIGRATION_FAULTS_MAX      16
#define MIGRATION_PAGE_FAULTS_MAX 65536
#define MIGRATION_ROUNDS_MAX      8192
#define MIGRATION_EVENTS_MAX      8192
#define MIGRATION_LOST_MAX        256 /* pages listed, of all hops; the counts are complete */

/* Free with migration_result_done, also after a failure. */
struct migration_result {
    enum migration_verdict verdict;
    enum migration_phase phase;                          /* in which the run ended */
    struct migration_fault faults[MIGRATION_FAULTS_MAX]; /* [0] is the first */
    unsigned n_faults;
    struct evidence *evidence; /* state of the back-ends that faults are about */
    unsigned n_evidence;
    struct backend_record *backends; /* that were connected: sources before destinations */
    unsigned n_backends;
    uint64_t seed;
    enum migration_device device;
    unsigned kills;                  /* back-ends killed on purpose */
    uint64_t in_flight_killed;       /* requests in flight at these kills */
    enum migration_other other_half; /* what the other process found, if there is one */
    uint64_t memory_bytes;           /* of all regions */
    uint64_t log_bytes;              /* of the dirty log */
    uint64_t duration_ns;
    struct migration_hop *hops;
    unsigned n_hops; /* that have begun */
    struct migration_round *rounds;
    unsigned n_rounds;
    struct migration_sample *samples;
    unsigned n_samples;
    struct migration_event *events;
    unsigned n_events;
    struct migration_page_fault *page_faults; /* of all hops, up to MIGRATION_PAGE_FAULTS_MAX */
    unsigned n_page_faults;
    struct migration_lost *lost;
    unsigned n_lost;
    uint64_t lost_by_use[MIGRATION_N_USES]; /* pages with lost bytes of each use; a page may count
                                               for several */
    /* of the load, all hops */
    uint64_t requests, reads, writes, flushes, bytes;
    uint64_t verified;    /* blocks read and found correct */
    uint64_t held;        /* reads whose buffers were checked only after the switch */
    uint64_t disk_blocks; /* read back at the end */
    uint64_t latency_p50, latency_p99, latency_max; /* of several devices: of the slowest */
    uint64_t stall_before_ns;                       /* worst while the log was off, at the source */
    uint64_t stall_copy_ns;                    /* worst while the log was on, before the stop */
    uint64_t stall_ns;                         /* worst without the switch itself */
    double rate_before, rate_copy, rate_after; /* requests per second: log off, on, destination */
    double copy_rate; /* bytes per second of processor time, of pages that the log named */
};
