/* SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause */
/*
 * Event channels of Xen domains, in place of eventfds where a front-end has none to pass: one wakes
 * us, and we wake the other end by the same. evtchn_none.c where the build knows no Xen.
 *
 * Used on the worker of one queue only, which may have the same channel for kicks and for calls: it
 * is bound once, since a port that is bound cannot be bound again.
 */
#pragma once

#include <stdbool.h>
#include <stdint.h>

struct gw_evtchn;

/* The other end's name of a channel. */
struct gw_evtchn_name {
    uint32_t domid;
    uint32_t port;
    bool is_set; /* else there is none */
};

/*
 * Bind the channel, or take another reference on `known` if it is that one (may be NULL).
 * Returns: 0; -ENODEV where this is no Xen domain; -ESRCH no such domain; -EINVAL it does not offer
 * the port; -ENOMEM; with gw_last_error.
 */
int gw_evtchn_bind(struct gw_evtchn **ret, const struct gw_evtchn_name *name,
                   struct gw_evtchn *known);
/* Give the reference back and forget. Fine with NULL in it. */
void gw_evtchn_put(struct gw_evtchn **e);

/* Readable when there was an event; then gw_evtchn_take, before looking for what it is about. */
int gw_evtchn_fd(const struct gw_evtchn *e);
void gw_evtchn_take(struct gw_evtchn *e);

void gw_evtchn_notify(struct gw_evtchn *e);
