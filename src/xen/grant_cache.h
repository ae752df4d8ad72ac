/* SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause */
/*
 * Grants that stay mapped from one request to the next, where the guest never takes any back: a
 * revoked page stays readable to us, and a reference that means another page by then goes on
 * meaning the old one. So it is asked for by who knows the guest, bounded, and gone with its
 * region.
 */
#pragma once

#include "grant.h"

#include <stdbool.h>

struct gw_grant_cache;
/* Mapped together; held as long as a request uses any of it. */
struct gw_grant_run;

/* Returns: 0; -ENOMEM with gw_last_error. */
int gw_grant_cache_new(struct gw_grant_cache **ret, xengnttab_handle *handle, uint32_t domid,
                       unsigned max_pages);
/* Nothing of it is held any more. NULL is fine. */
void gw_grant_cache_free(struct gw_grant_cache *c);

/*
 * Hold the pages of `n` references: where each is, and by which run it is held. Those that are not
 * there yet are mapped by one ioctl.
 * Returns: whether they are; if not, none is held: there is no room, or one is not granted for
 * reading and writing.
 * Context: any thread.
 */
bool gw_grant_cache_hold(struct gw_grant_cache *c, const uint32_t *refs, unsigned n,
                         uint8_t **ret_pages, struct gw_grant_run **ret_runs);
void gw_grant_cache_release(struct gw_grant_cache *c, struct gw_grant_run **runs, unsigned n);
