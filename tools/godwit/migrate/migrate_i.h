/* SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause */
/*
 * State of one migration run, shared by its files. It belongs to the thread of migration_run,
 * except for the load and the sampler, which have threads of their own (migrate_load.c).
 */
#pragma once

#include "guest/migrate_oracle.h"
#include "migrate.h"
#include "migrate_unit.h"
#include "pages/migrate_copy.h"

#include "load/load.h"

struct migration_link;
struct migration_load;
struct migration_remote;
struct migration_sums;

/* Contents of a page of the source when it had stopped. */
struct migration_print {
    gw_gpa_t page;
    uint64_t length;
    uint64_t hash;
    const uint8_t *copy; /* in the snapshot; NULL: out of memory, only the hash is known */
};

/* Differences that one comparison found and that are not reported yet. */
struct migration_found {
    uint64_t pages;
    unsigned uses;
};

struct migration_old_log {
    struct gw_guest_log *log;
    uint64_t replaced_ns;
    bool is_told; /* reported that the source still marks pages in it */
};

/* When the next event of each kind is due. */
struct migration_schedule {
    uint64_t next_log_ns, next_region_ns, next_call_ns;
};
#define MIGRATION_OLD_LOGS_MAX 64

struct migration {
    struct migration_options o; /* with defaults */
    struct migration_result *ret;
    migration_progress_cb *progress;
    void *progress_arg;
    uint64_t start_ns, deadline_ns, told_ns;
    unsigned allowed_ms;             /* timeout of a request at present */
    uint64_t rate_ns, rate_requests; /* at the last call of the progress callback */
    uint64_t logged_from;            /* requests completed before the log was on */
    uint64_t after_from;             /* requests completed by the source in all */
    uint64_t random;

    struct migration_unit *units;
    unsigned n_units;
    const struct migration_unit
        *talking;      /* whose back-end answers next and gets the blame; NULL: none */
    unsigned src, dst; /* indices of the two ends */
    struct migration_remote *remote; /* NULL: both ends are in this process */
    enum migration_phase phase;
    struct migration_hop *hop; /* the last of the result */
    unsigned n_hop;            /* its number */
    enum migration_kill kill;  /* still to be done in this hop */
    bool is_cancelled;

    /* the guest */
    struct gw_guest_mem *mem;   /* of the device that runs, or ran last */
    struct gw_guest_mem *other; /* the destination's; after the switch that of the stopped source */
    struct gw_driver **drivers; /* of all devices */
    unsigned n_drivers;
    struct gw_guest_track *track;
    struct xen_guest *xen;       /* whose memory and load are used; NULL: the tool's own */
    struct migration_load *load; /* NULL: MIGRATION_DEVICE_GENERIC */
    gw_gpa_t hot_gpa;            /* of the region that is hot-plugged; 0: not present */
    uint64_t hot_len;
    gw_gpa_t top;       /* all regions are below */
    gw_gpa_t apart_gpa; /* of the region that only holds buffers */
    uint64_t apart_len; /* 0: no such region */

    /* the migration */
    struct gw_guest_log *log;
    struct migration_old_log old_logs[MIGRATION_OLD_LOGS_MAX];
    unsigned n_old_logs;
    bool log_is_on;
    struct migration_pair *pairs;
    unsigned n_pairs;
    struct migration_round *round; /* the current or the last one */
    struct migration_run *runs;
    size_t n_runs, n_runs_room;
    uint64_t bytes_passed;        /* by the last copying: copied, or found equal */
    struct migration_speed speed; /* of copying what the log named */
    struct migration_schedule schedule;
    struct migration_found found[2]; /* not marked; written after the stop */
    struct migration_print *prints;
    size_t n_prints, n_prints_room;
    unsigned n_found_late;       /* completed by the source, not yet seen by the driver */
    struct migration_link *link; /* postcopy: transfers the pages after the switch; or NULL */
    struct migration_sums *sums; /* postcopy: one for each pair */
    unsigned n_sums;
    gw_gpa_t *noted; /* pages whose sums are still to be computed */
    size_t n_noted, n_noted_room;
    uint8_t *snapshot;
    size_t snapshot_used, snapshot_room;
};

/* ---- migrate_record.c: the result, while it grows ---- */

/* Record a back-end that was connected; a later record of it replaces an earlier one. */
void migration_record_backend(struct migration *m, const struct target *t,
                              const struct gw_frontend *fe);
uint64_t migration_now(const struct migration *m); /* since the run began */
struct migration_hop *migration_begin_hop(struct migration *m);
struct migration_round *migration_begin_round(struct migration *m, unsigned number);
int migration_event(struct migration *m, enum migration_event_kind kind, uint64_t begin_ns,
                    const char *format, ...) __attribute__((format(printf, 4, 5)));
/* Like migration_event, for an event in the past, without a text. */
int migration_event_at(struct migration *m, enum migration_event_kind kind, uint64_t at_ns,
                       uint64_t duration_ns);
void migration_set_phase(struct migration *m, enum migration_phase phase);
/* A page fault was served. Context: any one thread at a time, while pages arrive. */
void migration_note_fault(struct migration *m, uint64_t latency_ns);
/* Returns: NULL if the list is full or memory is short; the page is counted all the same. */
struct migration_lost *migration_new_lost(struct migration *m);
/* Keep the latencies of the slowest device. */
void migration_slowest(struct migration_result *ret, uint64_t p50, uint64_t p99, uint64_t max);

/*
 * Record who is at fault: a back-end (blame), or the test could not be run (cannot). If `r` came
 * from the front-end or the target, its own message is added. Returns: `r`.
 */
int migration_blame(struct migration *m, enum migration_side side, int r, const char *format, ...)
    __attribute__((format(printf, 4, 5)));
int migration_cannot(struct migration *m, enum migration_side side, int r, const char *format, ...)
    __attribute__((format(printf, 4, 5)));

/* ---- migrate.c ---- */

/* A number below `n`, by the seed. */
uint64_t migration_random(struct migration *m, uint64_t n);
/*
 * Do everything that is due, for at least `ms`: check the time limit, both ends and the load, and
 * answer requests of back-ends. Returns: 0; a negative errno, already reported.
 */
int migration_tend(struct migration *m, unsigned ms);
/* Milliseconds that one request may take now. */
unsigned migration_request_ms(const struct migration *m);
/*
 * At the destination: start the devices and the load, and wait until more than `before` requests
 * are done. settle then runs the load for a time and checks that the stopped source writes nothing.
 */
int migration_go_on(struct migration *m, uint64_t before);
int migration_settle(struct migration *m);
/* Drain the load, read the disk back, stop. */
int migration_finish(struct migration *m, unsigned which);

/* ---- migrate_guest.c: memory, rings ---- */

/* The error in words, with what to do about it. */
const char *migration_memory_error(const struct migration *m, int r);
int migration_make_guest(struct migration *m);
void migration_free_guest(struct migration *m);
int migration_make_rings(struct migration *m);
int migration_make_buffers(struct migration *m);

/* ---- migrate_log.c ---- */

int migration_log_on(struct migration *m);
int migration_log_off(struct migration *m);
int migration_log_replace(struct migration *m, gw_gpa_t more_top); /* covers [0, more_top) */
/* Check whether the source still marks pages in a replaced log. */
void migration_watch_old_logs(struct migration *m);
void migration_drop_logs(struct migration *m);

/* ---- migrate_events.c ---- */

void migration_schedule_start(struct migration *m);
/* Do all events that are due. */
int migration_do_events(struct migration *m);

/* ---- migrate_kill.c ---- */

/* At the start of a hop: choose when to kill a back-end. */
void migration_choose_kill(struct migration *m);
/* Kill a back-end of this end and restart it, if this is the chosen time. */
int migration_kill(struct migration *m, enum migration_kill at, unsigned which);
/* The same at a random moment of migration_tend. */
int migration_tend_kill(struct migration *m, enum migration_kill at, unsigned which, unsigned ms);

/* ---- migrate_name.c ---- */
/* Describe the byte at `gpa`; "" if unused. `ret_skip`: following bytes with the same use. */
enum migration_use migration_name(struct migration *m, gw_gpa_t gpa, char *text, size_t size,
                                  uint64_t *ret_skip);
