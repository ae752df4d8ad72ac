/* SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause */
/*
 * The guest of a migration is a Xen domain: its memory, and its agent as the load. In a build
 * without Xen, each function does nothing or reports that.
 */
#pragma once

#include "migrate/migrate_work.h"

/* Replace the tool's own memory; make rings in it that the agent's driver uses, too. */
int migration_xen_memory(struct migration *m);
int migration_xen_alloc(struct migration *m, uint64_t len, uint64_t align, gw_gpa_t *ret);
int migration_xen_driver(struct migration *m, const struct gw_driver_config *cfg,
                         struct gw_driver *own);
void migration_xen_free(struct migration *m);
/* Add what the agent wrote to the track of the migration. A failure ends the migration. */
void migration_xen_take_written(struct migration *m);

/*
 * A migrated domain stays on its host: replace its memory with the copy. A page whose mark was lost
 * is then as stale as it would be on another host.
 */
void migration_xen_put_back(struct migration *m);

/* The load of a disk, run by the agent. */
extern const struct migration_work migration_work_xen;
