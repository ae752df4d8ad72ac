/* SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause */
/*
 * Grants that stay mapped from one request to the next, for guests that never revoke them: we could
 * still access a revoked page, and a reference that the guest reuses for another page would still
 * map the old one. So an embedder that knows its guests has to enable the cache. It is bounded, and
 * freed with its region.
 */
#pragma once

#include "grant.h"

#include <stdbool.h>

struct gw_grant_cache;
/* Pages that were mapped together; held as long as a request uses any of them. */
struct gw_grant_run;

/* Returns: 0; -ENOMEM with gw_last_error. */
int gw_grant_cache_new(struct gw_grant_cache **ret, xengnttab_handle *handle, uint32_t domid,
                       unsigned max_pages);
/* No page may be held any longer. Accepts NULL. */
void gw_grant_cache_free(struct gw_grant_cache *c);

/*
 * Hold the pages of `n` references. Stores the address of each page and the run that holds it. One
 * ioctl maps all pages that are not mapped yet.
 * Returns: true; false, without holding any page, if there is no room, or a page is not granted for
 * reading and writing.
 * Context: any thread.
 */
bool gw_grant_cache_hold(struct gw_grant_cache *c, const uint32_t *refs, unsigned n,
                         uint8_t **ret_pages, struct gw_grant_run **ret_runs);
void gw_grant_cache_release(struct gw_grant_cache *c, struct gw_grant_run **runs, unsigned n);
