/* SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause */
/*
 * What a device is given to do during a migration. One kind for each type of device that is driven;
 * migrate_load.c runs it on a thread of its own and stops it for everything but run, interrupt and
 * sample.
 */
#pragma once

#include "migrate_i.h"

struct migration_work {
    int (*new)(struct migration_unit *u, void **ret); /* *ret: NULL, or to be freed all the same */
    void (*free)(void *w);
    /* Until it is interrupted, from any thread. Returns: 0; a negative errno, and then error(). */
    int (*run)(void *w, unsigned stall_ms);
    void (*interrupt)(void *w);
    int (*drain)(void *w, unsigned stall_ms);
    const char *(*error)(void *w);
    int (*set_mem)(void *w, struct gw_guest_mem *mem);
    /* More buffers; no requests there, buffers there any more: as gw_guest_load_hold_*. */
    int (*add)(void *w, gw_gpa_t gpa, uint64_t len);
    int (*retire)(void *w, gw_gpa_t gpa);
    int (*remove)(void *w, gw_gpa_t gpa);
    int (*check_held)(void *w);
    void (*sample)(void *w, struct gw_guest_load_sample *ret);
    bool (*find)(void *w, gw_gpa_t gpa, struct gw_guest_load_place *ret);
    void (*stats)(void *w, struct migration_result *ret); /* added to what is there */
    /*
     * Read all of the disk through the device and check it; how many blocks. NULL: it has no disk,
     * or cannot. Returns: as run.
     */
    int (*read_back)(void *w, unsigned stall_ms, uint64_t *ret_blocks);
    /* What it knows, for the same work at another host; `ret` is of malloc. Paused. */
    int (*save)(void *w, void **ret, size_t *ret_len);
    int (*restore)(void *w, const void *state, size_t len); /* after its drivers; -EINVAL */
};

extern const struct migration_work migration_work_blk, migration_work_rng;
