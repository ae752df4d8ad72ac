/* SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause */
/*
 * What each page was when it was copied or sent. In postcopy the destination writes to its memory
 * before anybody could compare it with the source's, and the guest must not wait for that: so sums
 * of the pages are kept while they are copied, and the stopped source is held against them later.
 */
#pragma once

#include <godwit/memory.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct migration;
struct migration_pair;

/* What a sum is of. */
enum migration_sum_kind {
    MIGRATION_SUM_NONE = 0, /* the page was never copied: the destination has zeroes */
    MIGRATION_SUM_STALE,    /* it is to be summed up, or to come */
    MIGRATION_SUM_COPIED,
    MIGRATION_SUM_SENT, /* after the switch */
};

/* The sum of `len` bytes of one page, with its kind. */
uint64_t migration_sum(const uint8_t *page, size_t len, enum migration_sum_kind kind);
enum migration_sum_kind migration_sum_kind(uint64_t sum);

/* All pairs have sums of their pages, from now on or still. Returns: 0; told already. */
int migration_sums_pair_up(struct migration *m);
void migration_sums_drop(struct migration *m);

/* Bytes [from, from + len) of the destination's were written; they are summed up by a settle. */
void migration_sums_note(struct migration *m, struct migration_pair *p, uint64_t from,
                         uint64_t len);
void migration_sums_settle(struct migration *m);
/* Note the pages of the stopped source that are not what they were; nothing else is noted. */
void migration_sums_check(struct migration *m);
