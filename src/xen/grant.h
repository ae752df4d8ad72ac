/* SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause */
/*
 * Pages that a Xen domain granted us, mapped by their references (libxengnttab): a list of them
 * with one hypercall ioctl, all or nothing.
 */
#pragma once

#include <stdint.h>
#include <xengnttab.h>

/* The limit of one ioctl, and therefore of a contiguous mapping. */
#define GW_GRANTS_MAX 65536u

struct gw_grants {
    xengnttab_handle *handle; /* not owned */
    void *base;               /* NULL: nothing is mapped */
    uint32_t n;
};

/* Returns: 0; -ENODEV if this is not a Xen domain; with gw_last_error. */
int gw_grant_open(xengnttab_handle **ret);
void gw_grant_close(xengnttab_handle *handle);

/*
 * Map `n` grants of the domain from reference `first` on, for reading and writing. When they are
 * unmapped, the kernel must no longer be using any of the pages.
 * Returns: 0; -EINVAL if one of them is not granted for reading and writing, or the domain is gone;
 * -E2BIG; -ENOMEM; with gw_last_error.
 */
int gw_grants_map(struct gw_grants *g, xengnttab_handle *handle, uint32_t domid, uint32_t first,
                  uint32_t n);
/* The same for any references, in the order of the list. */
int gw_grants_map_list(struct gw_grants *g, xengnttab_handle *handle, uint32_t domid,
                       uint32_t *refs, uint32_t n);
/* Idempotent; allowed if zeroed. */
void gw_grants_unmap(struct gw_grants *g);
