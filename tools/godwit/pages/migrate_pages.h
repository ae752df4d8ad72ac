/* SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause */
/*
 * Postcopy at the source's half: the pages that go over the link after the switch, those that
 * somebody waits for at the destination first. All of it belongs to the thread of the migration.
 */
#pragma once

#include "link/link_wire.h"
#include "migrate/migrate_remote.h"

/*
 * Before the source is stopped, and again when it has: what was marked since the last look, or
 * written by the driver, goes later, and the destination is told so. Returns: 0; told already.
 */
int migration_pages_prepare(struct migration *m);
int migration_pages_drop(struct migration *m);
void migration_pages_free(struct migration *m);

/* These are waited for. Returns: false where there can be none. */
bool migration_pages_request(struct migration *m, const struct link_run *runs, unsigned n_runs);
/*
 * Write as many as may go now. Returns: milliseconds until more may, where it is the rate that
 * keeps them; or UINT_MAX.
 */
unsigned migration_pages_put(struct migration *m);
/* The connection was lost: no page goes until it is known which have to go again. */
void migration_pages_pause(struct migration *m);
bool migration_pages_again(struct migration *m, const struct link_run *runs, unsigned n_runs);
void migration_pages_go_on(struct migration *m);
