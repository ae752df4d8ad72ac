/* SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause */
/*
 * A domU as a guest of the tool in dom0: its memory as guest memory, its agent as the one who
 * drives the rings. The tool has a driver of its own for each, in the same memory, which knows what
 * the agent's knows whenever that one rests: it starts and stops the queue, and names what is
 * found.
 */
#pragma once

#include "xen_link.h"

#include "load/load.h"
#include <godwit/frontend/log.h>

struct xen_guest;

/* How a back-end is to reach the memory. */
enum xen_form {
    XEN_FORM_FOREIGN = 0, /* by frame numbers */
    XEN_FORM_GRANT,       /* by grant references */
    XEN_FORM_NO_ADVANCE,  /* the same, mapped only where and while it is used */
};

/*
 * Find the agent of a domain and make its memory a guest's: `length` bytes that dom0 has mapped and
 * the back-end will, in as few regions as they fall into, of `mem`, which outlives it. `spare`
 * pages more are kept for xen_guest_add. Free with xen_guest_free, after everything in the memory,
 * also when this failed: *ret is NULL only where there is nothing to say.
 * All functions return as those of xen_link.h; the sentence is xen_guest_error.
 */
int xen_guest_new(struct xen_guest **ret, uint32_t domid, enum xen_form form);
int xen_guest_fill(struct xen_guest *g, struct gw_guest_mem *mem, uint64_t length, uint32_t spare);
void xen_guest_free(struct xen_guest *g);
const char *xen_guest_error(const struct xen_guest *g);
struct xen_link *xen_guest_link(struct xen_guest *g);

/* One more region, of the spare pages, where nothing is allocated; and remove it. -ENOSPC. */
int xen_guest_add(struct xen_guest *g, uint32_t n_pages, gw_gpa_t *ret_gpa);
int xen_guest_remove(struct xen_guest *g, gw_gpa_t gpa);
/* Have the agent end the grants of the region that begins at `gpa`, in use or not. */
int xen_guest_revoke(struct xen_guest *g, gw_gpa_t gpa);

/* Memory for both, from the same place: as gw_guest_mem_alloc. */
int xen_guest_alloc(struct xen_guest *g, uint64_t len, uint64_t align, gw_gpa_t *ret);

/* The event channels of the queues to come are bound by the back-end, not carried by the tool. */
void xen_guest_give_channels(struct xen_guest *g);

/*
 * Have the agent make its driver beside `own`, which was made by `cfg`; kicks and calls are
 * carried from now on. In the order of their numbers.
 */
int xen_guest_driver(struct xen_guest *g, const struct gw_driver_config *cfg,
                     struct gw_driver *own);

/* Have the agent make a load on the first queues. */
int xen_guest_load(struct xen_guest *g, const struct xen_load *load);
/*
 * What the own drivers and the own load (NULL: there is none) know goes to the agent, and comes
 * back.
 */
int xen_guest_push(struct xen_guest *g, const struct gw_guest_load *load);
int xen_guest_pull(struct xen_guest *g, struct gw_guest_load *load);
/*
 * What the agent's side wrote since the last time is marked in `track`. Context: any thread, also
 * beside one that pushes, pulls, or waits for a run.
 */
int xen_guest_take_written(struct xen_guest *g, struct gw_guest_track *track);
/*
 * As gw_guest_load_run and gw_guest_load_drain, by the agent. xen_guest_begin does not wait:
 * xen_link_wait does. To interrupt it: xen_link_interrupt.
 */
int xen_guest_begin(struct xen_guest *g, unsigned duration_ms, uint64_t n_requests,
                    unsigned stall_ms);
int xen_guest_run(struct xen_guest *g, unsigned duration_ms, uint64_t n_requests,
                  unsigned stall_ms);
int xen_guest_drain(struct xen_guest *g, unsigned stall_ms);
int xen_guest_stats(struct xen_guest *g, bool restart, struct xen_stats *ret);
