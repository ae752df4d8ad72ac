/* SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause */
/*
 * Pages that a Xen domain granted us, mapped by their references (libxengnttab): a run of them, by
 * one hypercall ioctl, all or nothing.
 */
#pragma once

#include <stdint.h>
#include <xengnttab.h>

/* As many can be mapped by one ioctl; and a mapping without holes is one ioctl's. */
#define GW_GRANTS_MAX 65536u

struct gw_grants {
    xengnttab_handle *handle; /* not owned */
    void *base;               /* NULL: nothing is mapped */
    uint32_t n;
};

/* Returns: 0; -ENODEV where this is no Xen domain; with gw_last_error. */
int gw_grant_open(xengnttab_handle **ret);
void gw_grant_close(xengnttab_handle *handle);

/*
 * Map `n` grants of the domain from reference `first` on, for reading and writing. No page of them
 * may be in the kernel's hands any more when they are unmapped.
 * Returns: 0; -EINVAL when one of them is not granted so, or the domain is gone; -E2BIG; -ENOMEM;
 * with gw_last_error.
 */
int gw_grants_map(struct gw_grants *g, xengnttab_handle *handle, uint32_t domid, uint32_t first,
                  uint32_t n);
/* The same of any references, in that order. */
int gw_grants_map_list(struct gw_grants *g, xengnttab_handle *handle, uint32_t domid,
                       uint32_t *refs, uint32_t n);
/* Fine twice, and on zeroes. */
void gw_grants_unmap(struct gw_grants *g);
