/* SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause */
/*
 * Pages that a Xen domain granted us for one request: the hypervisor copies them; they are not
 * mapped.
 *
 * A driver revokes its pages as soon as it sees the used element. The Linux driver
 * (grant-dma-ops.c) stops using the device if one of them is still mapped then. Mappings can only
 * be undone as a whole, so requests that were mapped together would have to be completed together.
 * Copies have none of these problems. They leave no mapping behind, report the result of each page,
 * and need only the access that the driver granted. The kernel can use our pages without
 * restriction. A batch costs one hypercall ioctl in each direction, less than mapping and
 * unmapping.
 */
#pragma once

#include "core/memory/mem_backend.h"

#include <xengnttab.h>

/* A piece of one granted page, or of mapped memory, which the device accesses directly. */
struct gw_grant_piece {
    uint8_t *at; /* our memory */
    uint32_t len;
    uint32_t ref;
    uint16_t domid;
    uint16_t offset;
    uint16_t extent; /* index of the chain's extent */
    bool is_mapped;
    bool is_stored; /* has been written to the guest */
};

struct gw_grant_copies {
    xengnttab_handle *handle; /* of any region */
    unsigned n_pieces;
    uint8_t *memory;
    struct gw_grant_piece pieces[];
};

/*
 * Allocate copies of `n_pieces` pieces, with `n_bytes` of zeroed memory aligned for direct I/O.
 * Returns: NULL if there is no memory.
 */
struct gw_grant_copies *gw_grant_copies_new(xengnttab_handle *handle, unsigned n_pieces,
                                            uint64_t n_bytes);
void gw_grant_copies_free(struct gw_grant_copies *c);

/* The copies of a pin, or NULL if it has none. */
struct gw_grant_copies *gw_pin_copies(const struct gw_pin *pin);

/* As gw_mem_backend_fetch and gw_mem_backend_store. */
void gw_grant_copy_in(struct gw_pin_copy *copies, unsigned n_copies);
void gw_grant_copy_out(struct gw_pin_copy *copies, unsigned n_copies);
