/* SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause */
/* The load of a migration, as the rest of it sees it. Without one (generic) nothing happens. */
#pragma once

#include "migrate/migrate_i.h"

int migration_load_new(struct migration *m);
void migration_load_free(struct migration *m);
int migration_load_resume(struct migration *m);
int migration_load_pause(struct migration *m);
bool migration_load_is_running(struct migration *m); /* or asked to */
void migration_load_halt(struct migration *m);       /* the same, and nothing is told */
/* Did it fail? Told already where it returns other than 0. */
int migration_load_check(struct migration *m);
int migration_load_drain(struct migration *m);
/* The other memory is the one from now on, with all that was in flight. */
int migration_load_set_mem(struct migration *m, struct gw_guest_mem *mem);
/*
 * Buffers in another place, for all devices; no requests there (-EBUSY: not yet); none there any
 * more. Paused.
 */
int migration_load_add(struct migration *m, gw_gpa_t gpa, uint64_t len);
int migration_load_retire(struct migration *m, gw_gpa_t gpa, uint64_t len);
int migration_load_remove(struct migration *m, gw_gpa_t gpa, uint64_t len);
/* Is it in buffers that were added? */
bool migration_load_has(const struct migration *m, gw_gpa_t gpa);
int migration_load_check_held(struct migration *m);
uint64_t migration_load_requests(struct migration *m); /* completed so far */
uint64_t migration_load_worst_stall(struct migration *m, bool restart);
/* Which request of which device. */
bool migration_load_find(struct migration *m, gw_gpa_t gpa, struct gw_guest_load_place *ret,
                         unsigned *ret_unit);
void migration_load_stats(struct migration *m);
int migration_load_read_back(struct migration *m); /* after a drain, through the device */
/* Of one device, for another host (migrate_state.c). Nothing where there is no load. Paused. */
int migration_load_save(struct migration *m, unsigned unit, void **ret, size_t *ret_len);
int migration_load_restore(struct migration *m, unsigned unit, const void *state, size_t len);
