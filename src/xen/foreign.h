/* SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause */
/*
 * Consecutive frames of a Xen domain, mapped by their numbers (libxenforeignmemory), once and with
 * a fixed protection. Frames may be missing: a read of a missing frame returns all ones in some
 * domains and raises SIGBUS in others, so the holes are recorded.
 */
#pragma once

#include <stdbool.h>
#include <stdint.h>
#include <xenforeignmemory.h>

struct gw_foreign {
    xenforeignmemory_handle *handle; /* NULL: nothing is mapped */
    uint8_t *base;
    uint64_t n_frames;
    uint64_t n_mapped; /* frames mapped so far, from the start of the address range */
    uint64_t n_holes;
    uint8_t *holes; /* a bit for each frame; NULL: no holes */
    int hole_error; /* of the first hole */
};

/*
 * Map the frames from `first` on, for reading and writing.
 * Returns: 0, also with holes; -ESRCH, -EPERM, -EINVAL or another errno if not a single frame can
 * be mapped, or if 4 GiB in a row have none and more frames follow; -ENODEV if this is not a Xen
 * domain that may map the memory of others; -ENOMEM; with gw_last_error.
 */
int gw_foreign_map(struct gw_foreign *f, uint32_t domid, uint64_t first, uint64_t n_frames);
/* Idempotent; allowed if zeroed. */
void gw_foreign_unmap(struct gw_foreign *f);

/* Are all of these frames mapped? */
bool gw_foreign_has(const struct gw_foreign *f, uint64_t first, uint64_t n);
