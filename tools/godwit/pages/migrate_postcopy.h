/* SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause */
/* The steps of a migration that are other ones with postcopy. Each returns 0; told already. */
#pragma once

#include "migrate/migrate_i.h"

/* The destination's back-ends are connected: have them show their faults later. */
int migration_postcopy_advise(struct migration *m);
/* Before the source is stopped: all that can be done while the guest runs. */
int migration_postcopy_prepare(struct migration *m);
/* The source has stopped: what was marked since the last round, or written by the driver, is to
 * come. */
int migration_postcopy_drop(struct migration *m);
/* Start the devices at the destination. */
int migration_postcopy_start(struct migration *m);
/* Until all pages are there. The guest runs. */
int migration_postcopy_await(struct migration *m);
