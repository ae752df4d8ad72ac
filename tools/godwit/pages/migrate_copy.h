/* SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause */
/* Copying from one guest memory to the other: what is copied, and how fast that was. */
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
    int from_fd, to_fd; /* of the guest memory; -1: there are no holes in it */
    gw_off_t offset;    /* of the piece in both files */
    /* of the source's file: data, as far as that is known */
    uint64_t data_from, data_to;
    uint64_t *sums; /* of its pages as they were copied (migrate_sums.h); NULL: none are kept */
};

struct migration_speed {
    uint64_t ns, bytes;
};

/* What the copying of pages is compared with. */
struct migration_plain {
    uint8_t *map; /* NULL: it is not */
    uint64_t at;
    bool is_on; /* it is going on */
    struct migration_speed speed;
};

/* What a log names, until it is copied. */
struct migration_run {
    gw_gpa_t gpa;
    uint64_t length;
};

/* As memcpy, from memory that others may write to meanwhile. */
void migration_copy_bytes(uint8_t *to, const uint8_t *from, size_t len);
/* Find the memories of both ends again, after a region came or went. */
int migration_pair_up(struct migration *m);
/* The one with the byte at `gpa`; NULL: none has. */
struct migration_pair *migration_pair_of(const struct migration *m, gw_gpa_t gpa);
void migration_prepare(struct migration *m);
void migration_drop_plain(struct migration *m);
/* Copy all that holds data; what the log and the driver name; copy `len` bytes from `gpa`. */
int migration_copy_all(struct migration *m);
int migration_copy_round(struct migration *m, unsigned number, bool is_final);
/* As gw_guest_track_take, of what the driver wrote, wherever it runs. */
uint64_t migration_take_written(struct migration *m, gw_guest_dirty_cb *cb, void *arg);
void migration_copy_log(struct migration *m, struct gw_guest_log *log); /* into the last round */
/* Data of a file at or after `at`, up to `end`; all of it without one (-1). */
bool migration_next_data(int fd, uint64_t at, uint64_t end, uint64_t *ret_from, uint64_t *ret_to);
