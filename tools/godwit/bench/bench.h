/* SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause */
/* A measured load on a back-end: one run for each pair of block size and depth. */
#pragma once

#include "base/histogram.h"
#include "guest/disk_config.h"
#include "options.h"
#include "report/backend_record.h"
#include "report/report_evidence.h"
#include "report/verdict.h"
#include "text.h"

#include <json-c/json.h>
#include <stdio.h>

enum bench_device {
    BENCH_BLK = 0,
    BENCH_RNG,
};

struct bench_options {
    struct target_options target;
    struct options_xen xen;
    const char *text; /* socket path or command line; NULL: the sockets of `list` */
    const char *list; /* file with socket paths; NULL: one target */
    enum bench_device device;
    struct option_list depths, block_sizes;
    unsigned n_queues, queue_size, write_percent, flush_percent, segments;
    unsigned duration_ms, warm_up_ms, stall_ms;
    uint64_t seed;
    bool is_verified, is_indirect, is_packed, is_in_order, is_sleeping;
    const char *json; /* report file, "-" for stdout; NULL: print a table */
    const char *html; /* the same as a page; NULL: none */
    enum text_color color;
    char *command_line; /* repeats the run; NULL: out of memory */
};

/* Times in nanoseconds. */
struct bench_run {
    unsigned depth, block_size;
    uint64_t requests, reads, writes, flushes, bytes, verified;
    uint64_t run_ns, p50, p90, p99, p999, max, stall;
    uint64_t kicks, sleeps;
    uint64_t cpu_ns; /* CPU time of the back-end */
    bool has_cpu;
    /* Of several targets: the fewest and most requests of one, and the greatest p99 of one. */
    uint64_t fewest, most, worst_p99;
};

/* One device. */
struct bench_session {
    struct target *target;
    struct gw_frontend *fe;
    struct gw_guest_mem *mem;
    struct gw_driver **drivers; /* o->n_queues drivers */
    struct disk_config disk;
    uint64_t disk_bytes;      /* disk size in bytes */
    bool is_first_of_process; /* no earlier session is served by the same process */
};

/* The sockets of a list. */
struct bench_sockets {
    char *text; /* `paths` point into it */
    char **paths;
    unsigned n;
};

#define BENCH_RUNS_MAX (OPTION_LIST_MAX * OPTION_LIST_MAX)

struct bench {
    const struct bench_options *o;
    struct bench_sockets sockets;
    struct bench_session *sessions;
    unsigned n_sessions;
    unsigned n_processes;          /* that serve them; each unknown one counts */
    unsigned failed;               /* index of the session that the last failure concerns */
    struct xen_guest *xen;         /* owner of the memory; NULL: the tool itself */
    struct backend_record backend; /* of the first; its name is NULL until it negotiated */
    enum verdict verdict;
    struct evidence evidence; /* shown unless the verdict is PASSED */
    char error[256];          /* why a run failed */
    struct bench_run runs[BENCH_RUNS_MAX];
    unsigned n_runs;
};

/* bench_list.c: read the sockets. Returns: 0; a negative errno, which has been reported. */
int bench_list_read(const char *path, struct bench_sockets *ret);
void bench_list_free(struct bench_sockets *sockets);

/* bench_session.c: connect and start a device; stop it. Both return an exit status. */
int bench_session_start(struct bench *b, struct bench_session *s);
int bench_session_stop(struct bench *b, struct bench_session *s);
void bench_session_free(struct bench *b, struct bench_session *s);
/* Find out which sessions belong to one process, after all have started. */
void bench_find_processes(struct bench *b);
/* The CPU time of all processes so far. Returns: as target_cpu_ns. */
int bench_cpu_ns(const struct bench *b, uint64_t *ret);

/*
 * Run one load on all started devices; `run` contains depth and block size. Returns: 0; a negative
 * errno with the reason in b->error: if the back-end is at fault, one of gw_guest_load_run.
 */
int bench_blk(struct bench *b, struct bench_run *run);
int bench_rng(struct bench *b, struct bench_run *run);

/*
 * bench_xen.c: memory and rings of a Xen domain, and a run by its agent. All return 0, or a
 * negative errno with the reason in b->error.
 */
int bench_xen_memory(struct bench *b, struct bench_session *s, uint64_t length);
int bench_xen_driver(struct bench *b, const struct gw_driver_config *cfg, struct gw_driver *own);
int bench_xen(struct bench *b, struct bench_run *run);
void bench_xen_free(struct bench *b);

/* bench_show.c */
void bench_text(const struct bench *b, FILE *out);
struct json_object *bench_json(const struct bench *b);
