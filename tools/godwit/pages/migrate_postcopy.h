/* SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause */
/*
 * The steps of a migration that differ with postcopy. Each returns 0, or a negative errno, already
 * reported.
 */
#pragma once

#include "migrate/migrate_i.h"

/* Send POSTCOPY_ADVISE to the destination's back-ends, once they are connected. */
int migration_postcopy_advise(struct migration *m);
/* Everything that can be done before the source stops, while the guest runs. */
int migration_postcopy_prepare(struct migration *m);
/*
 * The source has stopped: drop the pages that were marked, or written by the driver, since the last
 * round. They arrive later.
 */
int migration_postcopy_drop(struct migration *m);
/* Start the devices at the destination. */
int migration_postcopy_start(struct migration *m);
/* Wait until all pages arrived. The guest runs. */
int migration_postcopy_await(struct migration *m);
