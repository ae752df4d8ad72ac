/* SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause */
/*
 * The guest of a migration is a Xen domain: its memory, and its agent for the load. All of it does
 * nothing, and says that it could not, where the command is built without Xen.
 */
#pragma once

#include "migrate/migrate_work.h"

/* Memory, in place of the tool's own; rings in it, as the agent's driver knows them, too. */
int migration_xen_memory(struct migration *m);
int migration_xen_alloc(struct migration *m, uint64_t len, uint64_t align, gw_gpa_t *ret);
int migration_xen_driver(struct migration *m, const struct gw_driver_config *cfg,
                         struct gw_driver *own);
void migration_xen_free(struct migration *m);
/* What the agent wrote, into the track of the migration. Where that fails, the migration does. */
void migration_xen_take_written(struct migration *m);

/*
 * The domain stays where it is: what was copied is put in place of its memory. A page whose mark
 * was lost is then as old for the domain as it would be on another host.
 */
void migration_xen_put_back(struct migration *m);

/* The load of a disk, run by the agent. */
extern const struct migration_work migration_work_xen;
