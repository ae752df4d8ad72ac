/* SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause */
/* What the parts of disks.c share: disks_report.c prints what disks.c does. */
#pragma once

#include "disk.h"
#include "disks.h"

struct disks {
    struct disks_config cfg;
    struct disk_workers workers;
    int spare_fd; /* closed while the configuration is read, so that it can be read */

    pthread_mutex_t lock; /* everything below; nobody blocks or logs while holding it */
    pthread_cond_t changed;
    struct disk *first;
    struct disk **end;   /* link of the next disk to append */
    unsigned n_disks;    /* so far */
    unsigned n_unwanted; /* of the list */
    unsigned n_removed;  /* so far */
    bool lack_files;     /* at least one disk does */
    bool is_ending;      /* a signal has arrived */
    bool has_failed;     /* the exit status is 1 */
};

/* How many disks are in a state. */
struct disks_summary {
    unsigned n_serving, n_opening, n_stopping, n_failed, n_ended;
    unsigned n_untried;             /* that have not been opened yet */
    unsigned n_draining;            /* also counted as stopping */
    char failed[DISK_NAME_MAX + 1]; /* one that has failed */
};

/* disks_report.c. [lock], except disks_report and disks_find_stuck, which take it. */
void disks_summarize(const struct disks *all, struct disks_summary *ret);
bool disks_have_daemon(const struct disk *disk);
void disks_report(struct disks *all);
void disks_count_requests(struct disks *all, uint64_t *ret_in_flight, uint64_t *ret_answered);
void disks_find_stuck(struct disks *all, char *text, size_t size);
