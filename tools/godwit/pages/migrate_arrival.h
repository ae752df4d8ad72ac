/* SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause */
/*
 * Pages on their way from the stopped source to a destination that runs already: which are to come,
 * and a link that brings them, those that somebody waits for first. It has threads of its own, so
 * that pages come whatever the thread of migration_run waits for; that one alone comes here.
 */
#pragma once

#include "migrate/migrate_i.h"

#include <godwit/frontend/fault.h>

/* Can there be one, on this machine, with our privileges? Returns: 0; told already. */
int migration_link_probe(struct migration *m);
/*
 * For the pairs as they are. The destination's memory is registered from now on: only the link may
 * write there. What it has by now stays, nothing is to come yet. Returns: 0; told already.
 */
int migration_link_new(struct migration *m);
/* Who serves the faults of back-ends. */
struct gw_fault_server *migration_link_server(struct migration *m);

/*
 * What is at [gpa, gpa + len) is stale at the destination: it is dropped, with all of a huge page,
 * and is to come. Before the begin. Returns: 0; told already.
 */
int migration_link_add(struct migration *m, gw_gpa_t gpa, uint64_t len);
/* All that holds data at the source is to come; the destination has nothing. */
void migration_link_add_all(struct migration *m);

/* Pages come. Returns: 0; told already. */
int migration_link_begin(struct migration *m);
/* Returns: 1 all has come; 0 not yet; a negative errno that was told: it will not. */
int migration_link_check(struct migration *m);
/* Blame whoever caused what a fault server reported: a page that cannot be placed is our own. */
int migration_blame_fault(struct migration *m, enum gw_fault_problem problem, int error,
                          const char *text);
uint64_t migration_link_left(struct migration *m); /* bytes that are to come, about */
/*
 * The end, once no back-end waits any more, or is not to: whoever still waits for a page comes
 * back. What the link did is added to the result. Fine without one.
 */
void migration_link_free(struct migration *m);
