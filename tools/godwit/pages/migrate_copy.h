/* SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause */
/* Copies from one guest memory to the other, and measures the speed. */
#pragma once

#include <godwit/frontend/log.h>
#include <stdbool.h>

#define MIGRATION_PAGE GW_GUEST_LOG_PAGE

struct migration;

/* A piece of guest memory at both ends of a migration. */
struct migration_pair {
    gw_gpa_t gpa;
    uint64_t length;
    uint8_t *from, *to;
    int from_fd, to_fd; /* of the guest memory; -1: no holes */
    gw_off_t offset;    /* of the pair in both files */
    /* a known range of data in the source's file; the rest is unknown */
    uint64_t data_from, data_to;
    uint64_t *sums; /* one for each page copied (migrate_sums.h); NULL: not computed */
};

struct migration_speed {
    uint64_t ns, bytes;
};

/* A range that the log names, to be copied. */
struct migration_run {
    gw_gpa_t gpa;
    uint64_t length;
};

/* memcpy from memory that other threads may write to at the same time. */
void migration_copy_bytes(uint8_t *to, const uint8_t *from, size_t len);
/* Rebuild the pairs after a region was added or removed. */
int migration_pair_up(struct migration *m);
/* The pair that contains `gpa`, or NULL. */
struct migration_pair *migration_pair_of(const struct migration *m, gw_gpa_t gpa);
void migration_prepare(struct migration *m);
/* Copy all data; copy what log and driver name; copy `len` bytes from `gpa`. */
int migration_copy_all(struct migration *m);
int migration_copy_round(struct migration *m, unsigned number, bool is_final);
/* As gw_guest_track_take, also if the driver runs in a Xen domain. */
uint64_t migration_take_written(struct migration *m, gw_guest_dirty_cb *cb, void *arg);
void migration_copy_log(struct migration *m, struct gw_guest_log *log); /* into the last round */
/* Find the next data of a file in [at, end); without a file (-1) everything is data. */
bool migration_next_data(int fd, uint64_t at, uint64_t end, uint64_t *ret_from, uint64_t *ret_to);
