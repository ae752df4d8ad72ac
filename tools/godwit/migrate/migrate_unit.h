/* SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause */
/* The devices of a migration, and what is done with the back-ends of one of them or of one end. */
#pragma once

#include "guest/disk_config.h"
#include "migrate_result.h"
#include "target/target.h"

struct gw_fault_client;
struct gw_guest_log;
struct migration;

/* One device of the guest: its two back-ends and its rings. Memory and log are everyone's. */
struct migration_unit {
    struct migration *m;
    unsigned number;
    struct target *targets[2];
    struct gw_frontend *fe[2];
    bool running[2]; /* its rings are started */
    struct gw_frontend_inflight inflight[2];
    struct gw_driver **drivers; /* its part of those of the migration */
    unsigned n_drivers;
    int uffd; /* postcopy: the destination's, until it is given away; or -1 */
    struct gw_fault_client *client;
    struct disk_config disk; /* as the first source has it; `sectors` is 0 before */
    uint64_t wanted;         /* virtio features */
};

int migration_connect(struct migration *m, unsigned which);
/* Start the devices, or one, in the memory of the guest as it is now. */
int migration_start(struct migration *m, unsigned which, const struct gw_guest_log *log);
int migration_start_unit(struct migration_unit *u, unsigned which, const struct gw_guest_log *log);
int migration_stop(struct migration *m, unsigned which);
/* Once more, after the back-end was killed; what was negotiated is negotiated again. */
int migration_reconnect(struct migration_unit *u, unsigned which);
void migration_disconnect(struct migration *m, unsigned which);
/*
 * Tell the sources of a region that came or goes: those who know of ADD_MEM_REG and REM_MEM_REG,
 * and those who need a new table.
 */
int migration_tell_slots(struct migration *m, gw_gpa_t gpa, bool is_added);
int migration_tell_table(struct migration *m);
/* Blame a back-end for what its connection says. Returns: r. */
int migration_blame_fe(struct migration_unit *u, unsigned which, int r);
enum migration_side migration_side_of(const struct migration *m, unsigned which);
/* Answer what the back-ends of an end ask, see whether one hung up. */
int migration_tend_end(struct migration *m, unsigned which);
/* The destination's are told that all memory is there; each answers at once, whatever it does. */
int migration_end_postcopy(struct migration *m);
