/* SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause */
/*
 * Pages that a Xen domain granted us for one request: copied by the hypervisor, not mapped.
 *
 * A driver takes its pages back as soon as it sees the answer, and Linux's (grant-dma-ops.c) does
 * not use the device any more when one of them is still mapped then. Mappings can only be undone as
 * a whole, so a batch of requests that was mapped together could only be answered together. Copies
 * are gone when they are done; they tell of each page whether it was there; each side of a copy
 * needs only the right that the driver gave; the kernel can do anything with ours; and a batch of
 * them costs one hypercall ioctl each way, which is less than mapping and unmapping.
 */
#pragma once

#include "core/memory/mem_backend.h"

#include <xengnttab.h>

/* One piece of one page; or of memory that is mapped, which the device reads and writes itself. */
struct gw_grant_piece {
    uint8_t *at; /* ours */
    uint32_t len;
    uint32_t ref;
    uint16_t domid;
    uint16_t offset;
    uint16_t extent; /* of the chain */
    bool is_mapped;
    bool is_stored; /* it was written to the guest */
};

struct gw_grant_copies {
    xengnttab_handle *handle; /* any will do */
    unsigned n_pieces;
    uint8_t *memory;
    struct gw_grant_piece pieces[];
};

/*
 * Copies of `n_pieces` pieces in `n_bytes` of zeroed memory, which begins where direct I/O may.
 * Returns: NULL when there is no memory.
 */
struct gw_grant_copies *gw_grant_copies_new(xengnttab_handle *handle, unsigned n_pieces,
                                            uint64_t n_bytes);
void gw_grant_copies_free(struct gw_grant_copies *c);

/* What the backend has of a pin, if those are copies; else NULL. */
struct gw_grant_copies *gw_pin_copies(const struct gw_pin *pin);

/* As gw_mem_backend_fetch and gw_mem_backend_store. */
void gw_grant_copy_in(struct gw_pin_copy *copies, unsigned n_copies);
void gw_grant_copy_out(struct gw_pin_copy *copies, unsigned n_copies);
