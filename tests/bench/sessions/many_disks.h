/* SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause */
/*
 * Many disks, in one godwit-blk or in a process each, and a guest for each of them. Functions end
 * the benchmark on errors, except where they return a result.
 */
#pragma once

#include "load/load_many.h"
#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

enum {
    MANY_MAX = 10000,
    MANY_STALL_MS = 60000,
};

/* The back-ends. */
struct many_disks {
    char dir[64];
    unsigned n;
    bool has_files; /* the disks are sparse files of 16 MiB; otherwise they are in memory */
    pid_t *pids;    /* of one process, or of n */
    unsigned n_pids;
};

/*
 * Start the program for `n` disks: one process with these workers, or (0) a process for each disk.
 * Returns when all sockets accept connections. `key`: more of the first disk, or "".
 */
void many_start(struct many_disks *m, const char *program, unsigned n, unsigned workers,
                bool has_files, const char *key);
void many_stop(struct many_disks *m);

/* Of all processes: CPU time in ns, private memory in bytes, threads. */
uint64_t many_cpu_ns(const struct many_disks *m);
uint64_t many_private(const struct many_disks *m);
unsigned many_threads(const struct many_disks *m);

/* A guest with one queue. Zero it before the first use. */
struct many_guest {
    struct gw_guest_mem *mem;
    struct gw_driver *driver;
    struct gw_frontend *fe;
    struct gw_guest_disk *disk;
    struct gw_guest_load *load;
};

/* Memory and ring, before a session. */
void many_guest_init(struct many_guest *g);
void many_guest_done(struct many_guest *g);
/* A session: from connect(2) until the ring runs. Returns: 0 or a negative errno. */
int many_guest_connect(struct many_guest *g, const struct many_disks *m, unsigned i);
/* Hang up. */
void many_guest_disconnect(struct many_guest *g);
/* A load of reads of 4 KiB on the guest's queue. */
void many_guest_load(struct many_guest *g, unsigned depth);
void many_guest_unload(struct many_guest *g);

/* Print what failed, and end. */
__attribute__((noreturn)) void many_fail(const char *what, int r);
