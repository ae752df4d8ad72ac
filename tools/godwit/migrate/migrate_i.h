/* SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause */
/*
 * One migration run, as the files of it share it. All of it belongs to the thread of migration_run,
 * but for the load and the sampler, which have threads of their own (migrate_load.c).
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

/* What the source's pages were when it had stopped. */
struct migration_print {
    gw_gpa_t page;
    uint64_t length;
    uint64_t hash;
    const uint8_t *copy; /* in the snapshot; NULL: there was no room */
};

/* By one comparison, until it is told. */
struct migration_found {
    uint64_t pages;
    unsigned uses;
};

struct migration_old_log {
    struct gw_guest_log *log;
    uint64_t replaced_ns;
    bool is_told; /* that there are marks in it */
};

/* When it is time for what is done while the load runs. */
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
    unsigned allowed_ms;             /* the timeout of requests at present */
    uint64_t rate_ns, rate_requests; /* as the progress knew them last */
    uint64_t logged_from;            /* requests completed before the log was on */
    uint64_t after_from;             /* and by the source, all together */
    uint64_t random;

    struct migration_unit *units;
    unsigned n_units;
    const struct migration_unit *talking; /* who is spoken to, and blamed; NULL: nobody of them */
    unsigned src, dst;                    /* which of the two ends */
    struct migration_remote *remote;      /* the other end is another process; NULL: it is here */
    enum migration_phase phase;
    struct migration_hop *hop; /* the last of the result */
    unsigned n_hop;            /* its number */
    enum migration_kill kill;  /* that is still to come in this hop */
    bool is_cancelled;

    /* the guest */
    struct gw_guest_mem *mem;   /* of the device that runs, or ran last */
    struct gw_guest_mem *other; /* the destination's; after the switch the stopped source's */
    struct gw_driver **drivers; /* of all devices */
    unsigned n_drivers;
    struct gw_guest_track *track;
    struct xen_guest *xen;       /* whose memory and load it is; NULL: the tool's */
    struct migration_load *load; /* NULL: MIGRATION_DEVICE_GENERIC */
    gw_gpa_t hot_gpa;            /* of the region that comes and goes; 0: it is not there */
    uint64_t hot_len;
    gw_gpa_t top;       /* no region is above */
    gw_gpa_t apart_gpa; /* of a region for nothing but buffers */
    uint64_t apart_len; /* 0: there is none */

    /* the migration */
    struct gw_guest_log *log;
    struct migration_old_log old_logs[MIGRATION_OLD_LOGS_MAX];
    unsigned n_old_logs;
    bool log_is_on;
    struct migration_pair *pairs;
    unsigned n_pairs;
    struct migration_round *round; /* going on, or the last */
    struct migration_run *runs;
    size_t n_runs, n_runs_room;
    unsigned n_taken;             /* so often the marks of a log were taken */
    uint64_t bytes_passed;        /* copied, or found to be equal, by the last copying */
    struct migration_speed speed; /* of what the log named */
    struct migration_plain plain;
    struct migration_schedule schedule;
    struct migration_found found[2]; /* not marked; written after the stop */
    struct migration_print *prints;
    size_t n_prints, n_prints_room;
    unsigned n_found_late;       /* completed by the source, and not found by the driver yet */
    struct migration_link *link; /* postcopy: what brings the pages after the switch; or NULL */
    struct migration_sums *sums; /* postcopy: of all pairs */
    unsigned n_sums;
    gw_gpa_t *noted; /* pages whose sums are to be made */
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
/* One that is told later than it happened, without a text. */
int migration_event_at(struct migration *m, enum migration_event_kind kind, uint64_t at_ns,
                       uint64_t duration_ns);
void migration_set_phase(struct migration *m, enum migration_phase phase);
/*
 * A page fault was served. Context: whoever serves faults, one at a time; nobody else looks at them
 * while pages come.
 */
void migration_note_fault(struct migration *m, uint64_t latency_ns);
/* NULL where there is no room any more: it is counted all the same. */
struct migration_lost *migration_new_lost(struct migration *m);
/* Of several devices, the latencies of the slowest are told. */
void migration_slowest(struct migration_result *ret, uint64_t p50, uint64_t p99, uint64_t max);

/*
 * Tell who did what; returns `r`. A back-end is at fault (blame), or it cannot go on (cannot). What
 * the front-end or the target itself says is told with it where `r` came from there.
 */
int migration_blame(struct migration *m, enum migration_side side, int r, const char *format, ...)
    __attribute__((format(printf, 4, 5)));
int migration_cannot(struct migration *m, enum migration_side side, int r, const char *format, ...)
    __attribute__((format(printf, 4, 5)));

/* ---- migrate.c ---- */

/* A number below `n`, by the seed. */
uint64_t migration_random(struct migration *m, uint64_t n);
/*
 * Look after everything for `ms` at least: is the time over, do both ends live, what do they ask,
 * did the load fail? Returns: 0; a negative errno that was told already.
 */
int migration_tend(struct migration *m, unsigned ms);
/* Milliseconds that one request may take now. */
unsigned migration_request_ms(const struct migration *m);
/*
 * The destination's part: start the devices there, and the load, until more than `before` requests
 * are done; the load there for a time, while what is stopped must stay as it is.
 */
int migration_go_on(struct migration *m, uint64_t before);
int migration_settle(struct migration *m);
/* All that is in flight, the disk read back, and the stop. */
int migration_finish(struct migration *m, unsigned which);

/* ---- migrate_guest.c: memory, rings ---- */

/* What is the matter with memory, and what to do about it. */
const char *migration_memory_error(const struct migration *m, int r);
int migration_make_guest(struct migration *m);
void migration_free_guest(struct migration *m);
int migration_make_rings(struct migration *m);
int migration_make_buffers(struct migration *m);

/* ---- migrate_log.c ---- */

int migration_log_on(struct migration *m);
int migration_log_off(struct migration *m);
int migration_log_replace(struct migration *m, gw_gpa_t more_top); /* covers up to more_top */
/* Look whether a log that was replaced is written to. */
void migration_watch_old_logs(struct migration *m);
void migration_drop_logs(struct migration *m);

/* ---- migrate_events.c ---- */

void migration_schedule_start(struct migration *m);
/* Do what it is time for. */
int migration_do_events(struct migration *m);

/* ---- migrate_kill.c ---- */

/* When in the hop that begins. */
void migration_choose_kill(struct migration *m);
/* Kill a back-end of this end and start it again, if that is to be done here. */
int migration_kill(struct migration *m, enum migration_kill at, unsigned which);
/* The same at some time of migration_tend. */
int migration_tend_kill(struct migration *m, enum migration_kill at, unsigned which, unsigned ms);

/* ---- migrate_name.c ---- */
/* What is at `gpa`; the text is empty where it is nothing. `ret_skip`: so many bytes more of it. */
enum migration_use migration_name(struct migration *m, gw_gpa_t gpa, char *text, size_t size,
                                  uint64_t *ret_skip);
