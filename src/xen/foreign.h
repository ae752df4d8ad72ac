/* SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause */
/*
 * Frames of a Xen domain, mapped by their numbers (libxenforeignmemory): a run of them, once, with
 * the protection it keeps. Frames may be missing; whoever touches one of those reads all ones in
 * some domains and dies of SIGBUS in others, so the holes are known.
 */
#pragma once

#include <stdbool.h>
#include <stdint.h>
#include <xenforeignmemory.h>

struct gw_foreign {
    xenforeignmemory_handle *handle; /* NULL: nothing is mapped */
    uint8_t *base;
    uint64_t n_frames;
    uint64_t n_mapped; /* of the address range, from its begin */
    uint64_t n_holes;
    uint8_t *holes; /* a bit for each frame; NULL: there are none */
    int hole_error; /* of the first */
};

/*
 * Map the frames from `first` on, for reading and writing.
 * Returns: 0, also with holes; -ESRCH, -EPERM, -EINVAL ... when there is not a single frame, or 4
 * GiB have none and are not its end; -ENODEV where this is no Xen domain that may map others'
 * memory; -ENOMEM; with gw_last_error.
 */
int gw_foreign_map(struct gw_foreign *f, uint32_t domid, uint64_t first, uint64_t n_frames);
/* Fine twice, and on zeroes. */
void gw_foreign_unmap(struct gw_foreign *f);

/* Are the frames of this run there? */
bool gw_foreign_has(const struct gw_foreign *f, uint64_t first, uint64_t n);
