/* SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause */
/* Tracks the free bytes of a range: free extents in address order, first fit. Pure arithmetic. */
#pragma once

#include <godwit/memory.h>

struct gw_guest_extent {
    gw_gpa_t start;
    uint64_t length;
};

struct gw_guest_alloc {
    struct gw_guest_extent *extents; /* free extents, ascending, never adjacent */
    unsigned n_extents;
    unsigned n_room;
};

/* Start with `length` free bytes at `start`; with length 0, nothing is. Returns: 0; -ENOMEM. */
int gw_guest_alloc_init(struct gw_guest_alloc *a, gw_gpa_t start, uint64_t length);
int gw_guest_alloc_copy(struct gw_guest_alloc *a, const struct gw_guest_alloc *from);
void gw_guest_alloc_done(struct gw_guest_alloc *a);

/* Returns: 0; -ENOSPC; -ENOMEM. */
int gw_guest_alloc_take(struct gw_guest_alloc *a, uint64_t length, uint64_t align, gw_gpa_t *ret);
/* Returns: 0; -ENOMEM if the bytes stay allocated. */
int gw_guest_alloc_give(struct gw_guest_alloc *a, gw_gpa_t start, uint64_t length);
