/* SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause */
/*
 * A hash of each page when it was copied or sent. In postcopy the destination's guest writes to its
 * memory before the tool could compare it with the source's. So the tool hashes pages while it
 * copies them, and compares the hashes with the stopped source later.
 */
#pragma once

#include <godwit/memory.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct migration;
struct migration_pair;

/* State of a page with its sum. */
enum migration_sum_kind {
    MIGRATION_SUM_NONE = 0, /* never copied: the destination has zeroes */
    MIGRATION_SUM_STALE,    /* to be hashed, or still to be sent */
    MIGRATION_SUM_COPIED,
    MIGRATION_SUM_SENT, /* after the switch */
};

/* Hash `len` bytes of one page; the kind is part of the value. */
uint64_t migration_sum(const uint8_t *page, size_t len, enum migration_sum_kind kind);
enum migration_sum_kind migration_sum_kind(uint64_t sum);

/*
 * Allocate sums for the pages of all pairs that have none. Returns: 0; a negative errno, already
 * reported.
 */
int migration_sums_pair_up(struct migration *m);
void migration_sums_drop(struct migration *m);

/* Bytes [from, from + len) of the destination's memory were copied; settle hashes their pages. */
void migration_sums_note(struct migration *m, struct migration_pair *p, uint64_t from,
                         uint64_t len);
void migration_sums_settle(struct migration *m);
/* Note the pages of the stopped source that changed since they were copied. */
void migration_sums_check(struct migration *m);
