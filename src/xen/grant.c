/* SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause */
/* Maps grants, for memory that is accessed all the time: rings and regions mapped in advance. */
#include "grant.h"

#include "base/cleanup.h"
#include "base/log_i.h"
#include "xen_log.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

int gw_grant_open(xengnttab_handle **ret)
{
    xengnttab_handle *handle = xengnttab_open(&gw_xen_log, 0);

    if (!handle)
        return gw_fail(-ENODEV, "granted pages are unavailable: /dev/xen/gntdev: %s",
                       strerror(errno));
    *ret = handle;
    return 0;
}

void gw_grant_close(xengnttab_handle *handle)
{
    if (handle)
        (void)xengnttab_close(handle);
}

int gw_grants_map_list(struct gw_grants *g, xengnttab_handle *handle, uint32_t domid,
                       uint32_t *refs, uint32_t n)
{
    int r;

    *g = (struct gw_grants){.handle = handle, .n = n};
    errno = 0;
    g->base = xengnttab_map_domain_grant_refs(handle, n, domid, refs, PROT_READ | PROT_WRITE);
    if (g->base)
        return 0;
    r = errno ? -errno : -EINVAL;
    return gw_fail(r, "grants %u to %u of domain %u cannot be mapped: %s", refs[0], refs[n - 1],
                   domid, strerror(-r));
}

int gw_grants_map(struct gw_grants *g, xengnttab_handle *handle, uint32_t domid, uint32_t first,
                  uint32_t n)
{
    gw_cleanup_free uint32_t *refs = NULL;

    if (n > GW_GRANTS_MAX)
        return gw_fail(-E2BIG, "cannot map %u grants together, the limit is %u", n, GW_GRANTS_MAX);
    refs = calloc(n, sizeof(*refs));
    if (!refs)
        return gw_fail(-ENOMEM, "no memory for a list of %u grants", n);
    for (uint32_t i = 0; i < n; i++)
        refs[i] = first + i;
    return gw_grants_map_list(g, handle, domid, refs, n);
}

void gw_grants_unmap(struct gw_grants *g)
{
    if (g->base)
        (void)xengnttab_unmap(g->handle, g->base, g->n);
    g->base = NULL;
}
