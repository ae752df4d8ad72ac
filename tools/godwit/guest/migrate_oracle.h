/* SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause */
/* What is asked of the oracle: is a byte other than it should be, and what was it? */
#pragma once

#include <godwit/memory.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct migration;
struct migration_pair;

/* Compare the memories, tell what differs, and make it equal so that it can go on. */
int migration_compare(struct migration *m);
/* The same of a region that is no longer in use, before it goes. */
void migration_compare_region(struct migration *m, gw_gpa_t gpa);
/* Has the stopped source written since? */
void migration_watch_source(struct migration *m);
void migration_drop_snapshot(struct migration *m);
/*
 * The parts of it, for who has the other memory page by page. Is the page at `at` of a pair as
 * `to`? Where it is not, it is told. `is_last`: the source has stopped, and not only left off this
 * memory.
 */
bool migration_compare_page(struct migration *m, const struct migration_pair *p, uint64_t at,
                            const uint8_t *to, size_t len, bool is_last);
uint64_t migration_hash_page(const uint8_t *page, size_t len);
void migration_make_snapshot(struct migration *m);
/* Keep what the page was, to see later whether it was written. */
void migration_print_page(struct migration *m, gw_gpa_t gpa, const uint8_t *page, size_t len);
/* Tell what was found since the last time. */
void migration_blame_found(struct migration *m);
/*
 * Postcopy: is the source what it was when it was copied, or sent (`is_late`: when that was asked
 * before)? While the guest runs. At the end, with the load paused: are the memories equal but for
 * what the guest uses?
 */
void migration_compare_sums(struct migration *m, bool is_late);
void migration_compare_rest(struct migration *m);
