/* SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause */
/*
 * The oracle: finds bytes of guest memory that differ from what they must be, and describes them.
 */
#pragma once

#include <godwit/memory.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct migration;
struct migration_pair;

/* Compare the memories, report differences, and repair them so that the migration can continue. */
int migration_compare(struct migration *m);
/* The same for a region that is about to be removed. */
void migration_compare_region(struct migration *m, gw_gpa_t gpa);
/* Check that the stopped source wrote nothing since. */
void migration_watch_source(struct migration *m);
void migration_drop_snapshot(struct migration *m);
/*
 * The steps of migration_compare, for a memory of which the caller has one page at a time. Compares
 * the page at `at` of a pair with `to`, and reports a difference. `is_last`: the source has
 * stopped, rather than only stopped using this memory.
 */
bool migration_compare_page(struct migration *m, const struct migration_pair *p, uint64_t at,
                            const uint8_t *to, size_t len, bool is_last);
uint64_t migration_hash_page(const uint8_t *page, size_t len);
void migration_make_snapshot(struct migration *m);
/* Keep a hash of the page, to detect later writes. */
void migration_print_page(struct migration *m, gw_gpa_t gpa, const uint8_t *page, size_t len);
/* Report the differences found since the last call. */
void migration_blame_found(struct migration *m);
/*
 * Postcopy. compare_sums: is the source unchanged since its pages were copied, or sent (`is_late`:
 * a check was already made before)? The guest may run. compare_rest: at the end, with the load
 * paused, are the memories equal except where the guest uses them?
 */
void migration_compare_sums(struct migration *m, bool is_late);
void migration_compare_rest(struct migration *m);
