/* SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause */
/* Control of the load. Without a load (generic devices) all functions succeed and do nothing. */
#pragma once

#include "migrate/migrate_i.h"

int migration_load_new(struct migration *m);
void migration_load_free(struct migration *m);
int migration_load_resume(struct migration *m);
int migration_load_pause(struct migration *m);
bool migration_load_is_running(struct migration *m); /* or about to */
void migration_load_halt(struct migration *m);       /* pause, without reporting a failure */
/* Did a run fail? Returns: 0; a negative errno, already reported. */
int migration_load_check(struct migration *m);
int migration_load_drain(struct migration *m);
/* Switch to another memory, with all requests in flight. */
int migration_load_set_mem(struct migration *m, struct gw_guest_mem *mem);
/*
 * Add buffers, for all devices; check that no request uses them (-EBUSY: not yet); remove them. The
 * load is paused.
 */
int migration_load_add(struct migration *m, gw_gpa_t gpa, uint64_t len);
int migration_load_retire(struct migration *m, gw_gpa_t gpa, uint64_t len);
int migration_load_remove(struct migration *m, gw_gpa_t gpa, uint64_t len);
/* Is the address in buffers that were added? */
bool migration_load_has(const struct migration *m, gw_gpa_t gpa);
int migration_load_check_held(struct migration *m);
uint64_t migration_load_requests(struct migration *m); /* completed so far */
uint64_t migration_load_worst_stall(struct migration *m, bool restart);
/* Find the request, and its device, at an address. */
bool migration_load_find(struct migration *m, gw_gpa_t gpa, struct gw_guest_load_place *ret,
                         unsigned *ret_unit);
void migration_load_stats(struct migration *m);
int migration_load_read_back(struct migration *m); /* after a drain, through the device */
/*
 * State of the load of one device, for another host (migrate_state.c); empty without a load. The
 * load is paused.
 */
int migration_load_save(struct migration *m, unsigned unit, void **ret, size_t *ret_len);
int migration_load_restore(struct migration *m, unsigned unit, const void *state, size_t len);
