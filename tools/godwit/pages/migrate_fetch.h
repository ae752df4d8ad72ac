/* SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause */
/*
 * Postcopy at the destination's half: which pages are still missing, and which of them a thread
 * waits for. The fault server requests pages on its own thread, the receiver takes them on another;
 * the thread of the migration does the rest.
 */
#pragma once

#include "link/link_wire.h"
#include "migrate/migrate_remote.h"

struct migration_fetch;

/* ---- Called by the thread of the migration ---- */

/*
 * Pages that the source announced before GO: drop them here, they arrive later. The first call
 * fixes the set of pages that precopy brought. Returns: 0; -ERANGE no such pages; another negative
 * errno, already reported.
 */
int migration_fetch_drop(struct migration *m, const struct link_run *runs, unsigned n_runs);
/*
 * Ask the back-ends for their userfaultfds, and serve the faults. Each request is signalled on
 * `wake_fd`.
 */
int migration_fetch_begin(struct migration *m, int wake_fd);
/* Returns: 1 all pages arrived; 0 not yet; a negative errno, already reported. */
int migration_fetch_check(struct migration *m);
/* All pages arrived: end postcopy at the back-ends, and add the counts to the result. */
int migration_fetch_end(struct migration *m);
/*
 * Wakes every thread that still waits for a page. No effect without postcopy, or the second time.
 */
void migration_fetch_free(struct migration *m);

/* ---- Called by the receiver ---- */

/*
 * Place a page that arrived; without bytes it is a page of zeros. Returns: false if it was not
 * missing.
 */
bool migration_fetch_take(struct migration_fetch *f, gw_gpa_t gpa, const uint8_t *bytes,
                          size_t len);
/* Write the requests that were not written yet. */
void migration_fetch_put_requests(struct migration_fetch *f, struct link_out *out);
/* No page will arrive: threads that wait now or later get zeros. */
void migration_fetch_abandon(struct migration_fetch *f);
/* After a reconnection: write the missing pages, and again those that a thread waits for. */
void migration_fetch_put_missing(struct migration_fetch *f, struct link_out *out);
