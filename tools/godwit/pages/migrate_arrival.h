/* SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause */
/*
 * Postcopy within one process: which pages the destination still misses, and the link that
 * transfers them, pages that a thread waits for first. The link has threads of its own, so that
 * pages arrive while the thread of migration_run waits; only that thread calls these functions.
 */
#pragma once

#include "migrate/migrate_i.h"

#include <godwit/frontend/fault.h>

/*
 * Is postcopy possible on this machine, with our privileges? Returns: 0; a negative errno, already
 * reported.
 */
int migration_link_probe(struct migration *m);
/*
 * Create the link for the present pairs, and register the destination's memory: from now on only
 * the link may write there. Present pages stay, and none is missing yet. Returns: 0; a negative
 * errno, already reported.
 */
int migration_link_new(struct migration *m);
/* The client that serves the faults of back-ends. */
struct gw_fault_server *migration_link_server(struct migration *m);

/*
 * Drop [gpa, gpa + len) at the destination, where it is stale, with all of a huge page, and
 * transfer it again later. Call before migration_link_begin. Returns: 0; a negative errno, already
 * reported.
 */
int migration_link_add(struct migration *m, gw_gpa_t gpa, uint64_t len);
/* Transfer all pages with data; the destination has none. */
void migration_link_add_all(struct migration *m);

/* Start to transfer pages. Returns: 0; a negative errno, already reported. */
int migration_link_begin(struct migration *m);
/* Returns: 1 all pages arrived; 0 not yet; a negative errno, already reported: some will not. */
int migration_link_check(struct migration *m);
/*
 * Record a problem that a fault server reported, with the side at fault. A page that cannot be
 * placed is our own error.
 */
int migration_blame_fault(struct migration *m, enum gw_fault_problem problem, int error,
                          const char *text);
uint64_t migration_link_left(struct migration *m); /* bytes not transferred yet, approximately */
/*
 * End the link, when no back-end waits for pages or none shall. Wakes every thread that still waits
 * for one. Adds the counts to the result. No effect without a link.
 */
void migration_link_free(struct migration *m);
