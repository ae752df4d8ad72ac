/* SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause */
/*
 * A domU as a guest of the tool in dom0: its memory is guest memory, and its agent drives the
 * rings. The tool has a driver for each queue, too, in the same memory. While the agent does not
 * run, both have the same state; the tool's driver starts and stops the queue, and describes bytes
 * of the rings.
 */
#pragma once

#include "xen_link.h"

#include "load/load.h"
#include <godwit/frontend/log.h>

struct xen_guest;

/* How a back-end reaches the memory. */
enum xen_form {
    XEN_FORM_FOREIGN = 0, /* by frame numbers */
    XEN_FORM_GRANT,       /* by grant references */
    XEN_FORM_NO_ADVANCE,  /* by grant references, mapped only while a request uses them */
};

/*
 * Find the agent of a domain, and use its memory as guest memory: `length` bytes, in as few regions
 * of `mem` as possible, mapped in dom0. `spare` further pages are kept for xen_guest_add. `mem`
 * must outlive the guest. Free with xen_guest_free, after everything in the memory, also after a
 * failure: *ret is NULL only if no error text is available. All functions return errors as those of
 * xen_link.h; xen_guest_error has the sentence.
 */
int xen_guest_new(struct xen_guest **ret, uint32_t domid, enum xen_form form);
int xen_guest_fill(struct xen_guest *g, struct gw_guest_mem *mem, uint64_t length, uint32_t spare);
void xen_guest_free(struct xen_guest *g);
const char *xen_guest_error(const struct xen_guest *g);
struct xen_link *xen_guest_link(struct xen_guest *g);

/* Add a region of spare pages, in which nothing is allocated; remove it. -ENOSPC. */
int xen_guest_add(struct xen_guest *g, uint32_t n_pages, gw_gpa_t *ret_gpa);
int xen_guest_remove(struct xen_guest *g, gw_gpa_t gpa);
/* End the grants of the region at `gpa`, even if they are in use. */
int xen_guest_revoke(struct xen_guest *g, gw_gpa_t gpa);

/* Allocate the same memory in the tool and the agent: as gw_guest_mem_alloc. */
int xen_guest_alloc(struct xen_guest *g, uint64_t len, uint64_t align, gw_gpa_t *ret);

/* The back-end binds the event channels of later queues itself, without the bridge. */
void xen_guest_give_channels(struct xen_guest *g);

/*
 * Make the agent's driver for the same ring as `own`, which was made from `cfg`, and start to pass
 * kicks and calls. Call it in the order of the queues.
 */
int xen_guest_driver(struct xen_guest *g, const struct gw_driver_config *cfg,
                     struct gw_driver *own);

/* Make the agent's load, on the first queues. */
int xen_guest_load(struct xen_guest *g, const struct xen_load *load);
/* Send the state of the tool's drivers and load (or NULL) to the agent; fetch it back. */
int xen_guest_push(struct xen_guest *g, const struct gw_guest_load *load);
int xen_guest_pull(struct xen_guest *g, struct gw_guest_load *load);
/*
 * Mark in `track` what the agent wrote since the last call. Context: any thread, also during a
 * push, a pull or the wait for a run.
 */
int xen_guest_take_written(struct xen_guest *g, struct gw_guest_track *track);
/*
 * As gw_guest_load_run and gw_guest_load_drain, run by the agent. xen_guest_begin does not wait;
 * xen_link_wait does. xen_link_interrupt interrupts a run.
 */
int xen_guest_begin(struct xen_guest *g, unsigned duration_ms, uint64_t n_requests,
                    unsigned stall_ms);
int xen_guest_run(struct xen_guest *g, unsigned duration_ms, uint64_t n_requests,
                  unsigned stall_ms);
int xen_guest_drain(struct xen_guest *g, unsigned stall_ms);
int xen_guest_stats(struct xen_guest *g, bool restart, struct xen_stats *ret);
