/* SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause */
/*
 * Xen event channels, for front-ends that have no eventfds to pass. A channel notifies in both
 * directions. xen_none.c is the stub for builds without Xen.
 *
 * Only the worker of a channel's queue uses it. A queue may have the same channel for kicks and
 * calls; the channel is then bound once, because a bound port cannot be bound again.
 */
#pragma once

#include <stdbool.h>
#include <stdint.h>

struct gw_evtchn;

/* A channel as the other domain identifies it. */
struct gw_evtchn_name {
    uint32_t domid;
    uint32_t port;
    bool is_set; /* false: no channel */
};

/*
 * Bind the channel. If `known` (may be NULL) is that channel, take another reference to it instead.
 * Returns: 0; -ENODEV: not running in a Xen domain; -ESRCH: no such domain; -EINVAL: the domain
 * does not offer the port; -ENOMEM; with gw_last_error.
 */
int gw_evtchn_bind(struct gw_evtchn **ret, const struct gw_evtchn_name *name,
                   struct gw_evtchn *known);
/* Drop the reference and set `*e` to NULL; no effect if it is NULL. */
void gw_evtchn_put(struct gw_evtchn **e);

/* Becomes readable on an event. Call gw_evtchn_take before checking what the event announces. */
int gw_evtchn_fd(const struct gw_evtchn *e);
void gw_evtchn_take(struct gw_evtchn *e);

void gw_evtchn_notify(struct gw_evtchn *e);
