/* SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause */
/*
 * Postcopy at the destination's half: which pages are to come over the link, and who waits for
 * them. The fault server asks on a thread of its own, the receiver brings pages on another; the
 * thread of the migration does the rest.
 */
#pragma once

#include "link/link_wire.h"
#include "migrate/migrate_remote.h"

struct migration_fetch;

/* ---- The thread of the migration ---- */

/*
 * What the source said of pages before GO: they are to come, and what is here of them is dropped.
 * With the first of them the memory is what precopy left of it. Returns: 0; -ERANGE no such pages;
 * others were told.
 */
int migration_fetch_drop(struct migration *m, const struct link_run *runs, unsigned n_runs);
/* Have the back-ends show their faults, and serve them. `wake_fd` is written for each request. */
int migration_fetch_begin(struct migration *m, int wake_fd);
/* Returns: 1 all has come; 0 not yet; a negative errno that was told. */
int migration_fetch_check(struct migration *m);
/* All has come: tell the back-ends. What it came to is in the result. */
int migration_fetch_end(struct migration *m);
/* Whoever still waits comes back. Fine without any, and twice. */
void migration_fetch_free(struct migration *m);

/* ---- The receiver ---- */

/* A page came, without bytes one of zeros. Returns: false where it cannot be one. */
bool migration_fetch_take(struct migration_fetch *f, gw_gpa_t gpa, const uint8_t *bytes,
                          size_t len);
/* Write what is asked for, and was not written yet. */
void migration_fetch_put_requests(struct migration_fetch *f, struct link_out *out);
/* Nothing will come: whoever waits, or will, gets zeros. */
void migration_fetch_abandon(struct migration_fetch *f);
/* On a new connection: what has not come, and once more what somebody waits for. */
void migration_fetch_put_missing(struct migration_fetch *f, struct link_out *out);
