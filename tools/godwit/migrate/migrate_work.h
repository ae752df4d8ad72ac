/* SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause */
/*
 * The load of a device during a migration, one kind for each device type. migrate_load.c runs it on
 * a thread of its own, which is paused during every call except run, interrupt and sample.
 */
#pragma once

#include "migrate_i.h"

struct migration_work {
    int (*new)(struct migration_unit *u,
               void **ret); /* *ret: NULL, or valid even after an error, for free() */
    void (*free)(void *w);
    /* Run until interrupted by any thread. Returns: 0; a negative errno, explained by error(). */
    int (*run)(void *w, unsigned stall_ms);
    void (*interrupt)(void *w);
    int (*drain)(void *w, unsigned stall_ms);
    const char *(*error)(void *w);
    int (*set_mem)(void *w, struct gw_guest_mem *mem);
    /* Add buffers; take requests out of a region; remove its buffers: as gw_guest_load_hold_*. */
    int (*add)(void *w, gw_gpa_t gpa, uint64_t len);
    int (*retire)(void *w, gw_gpa_t gpa);
    int (*remove)(void *w, gw_gpa_t gpa);
    int (*check_held)(void *w);
    void (*sample)(void *w, struct gw_guest_load_sample *ret);
    bool (*find)(void *w, gw_gpa_t gpa, struct gw_guest_load_place *ret);
    void (*stats)(void *w, struct migration_result *ret); /* added to the present values */
    /*
     * Read the whole disk through the device and check it; counts the blocks. NULL: not supported.
     * Returns: as run.
     */
    int (*read_back)(void *w, unsigned stall_ms, uint64_t *ret_blocks);
    /* Save the state, to continue on another host; the caller frees `ret`. Paused. */
    int (*save)(void *w, void **ret, size_t *ret_len);
    int (*restore)(void *w, const void *state,
                   size_t len); /* after restoring its drivers; -EINVAL */
};

extern const struct migration_work migration_work_blk, migration_work_rng;
