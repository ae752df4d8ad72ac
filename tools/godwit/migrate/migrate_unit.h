/* SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause */
/* The devices of a migration, and operations on the back-ends of one device or of one end. */
#pragma once

#include "guest/disk_config.h"
#include "migrate_result.h"
#include "target/target.h"

struct gw_fault_client;
struct gw_guest_log;
struct migration;

/* One device of the guest: its two back-ends and its rings. All devices share memory and log. */
struct migration_unit {
    struct migration *m;
    unsigned number;
    struct target *targets[2];
    struct gw_frontend *fe[2];
    bool running[2]; /* its rings are started */
    struct gw_frontend_inflight inflight[2];
    struct gw_driver **drivers; /* a slice of the migration's drivers */
    unsigned n_drivers;
    int uffd; /* postcopy: of the destination, until it is handed over; or -1 */
    struct gw_fault_client *client;
    struct disk_config disk; /* read from the first source; `sectors` is 0 before */
    uint64_t wanted;         /* virtio features */
    void *state;             /* of the device at the source, if has_state; of malloc */
    size_t state_len;
    bool has_state;
};

/* Limit of a device state, in bytes. */
#define MIGRATION_DEVICE_STATE_MAX (UINT64_C(1) << 30)
/*
 * guest/migrate_device_state.c: save the state of each device of the stopped source that offers it;
 * load what was saved into the devices of the destination, whose rings do not run yet; free it.
 */
int migration_save_devices(struct migration *m);
int migration_load_devices(struct migration *m);
void migration_forget_devices(struct migration *m);

int migration_connect(struct migration *m, unsigned which);
/* Start all devices, or one, in the present guest memory. */
int migration_start(struct migration *m, unsigned which, const struct gw_guest_log *log);
int migration_start_unit(struct migration_unit *u, unsigned which, const struct gw_guest_log *log);
int migration_stop(struct migration *m, unsigned which);
/* Connect to a restarted back-end and negotiate the same features again. */
int migration_reconnect(struct migration_unit *u, unsigned which);
void migration_disconnect(struct migration *m, unsigned which);
/*
 * Announce a region that was added or removed to the sources: with ADD_MEM_REG and REM_MEM_REG, or
 * with a new table.
 */
int migration_tell_slots(struct migration *m, gw_gpa_t gpa, bool is_added);
int migration_tell_table(struct migration *m);
/* Blame a back-end for the error of its connection. Returns: r. */
int migration_blame_fe(struct migration_unit *u, unsigned which, int r);
enum migration_side migration_side_of(const struct migration *m, unsigned which);
/* Answer requests of the back-ends of one end, and check that none hung up. */
int migration_tend_end(struct migration *m, unsigned which);
/* Send POSTCOPY_END to the destination's back-ends, and wait for the answers. */
int migration_end_postcopy(struct migration *m);
