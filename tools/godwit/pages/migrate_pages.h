/* SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause */
/*
 * Postcopy at the source's half: the pages sent after the switch, those that a thread at the
 * destination waits for first. Called by the thread of the migration only.
 */
#pragma once

#include "link/link_wire.h"
#include "migrate/migrate_remote.h"

/*
 * Announce to the destination the pages that the log or the driver marked since the last call; they
 * are sent after the switch. prepare runs before the source stops, drop afterwards. Returns: 0; a
 * negative errno, already reported.
 */
int migration_pages_prepare(struct migration *m);
int migration_pages_drop(struct migration *m);
void migration_pages_free(struct migration *m);

/* A thread waits for these pages. Returns: false if they are invalid. */
bool migration_pages_request(struct migration *m, const struct link_run *runs, unsigned n_runs);
/*
 * Write pages to the link, as the rate and the socket allow. Returns: milliseconds until the rate
 * allows more; UINT_MAX if it is not the limit.
 */
unsigned migration_pages_put(struct migration *m);
/*
 * pause: the connection was lost. After the reconnection, again adds pages that the destination
 * misses, and go_on resumes.
 */
void migration_pages_pause(struct migration *m);
bool migration_pages_again(struct migration *m, const struct link_run *runs, unsigned n_runs);
void migration_pages_go_on(struct migration *m);
