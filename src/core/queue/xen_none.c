/* SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause */
/*
 * Stubs for builds without Xen. Every region has a fixed address there, so no buffer is a copy; and
 * event channels never come.
 */
#include "copies.h"

#include "base/log_i.h"
#include "evtchn.h"

#include <errno.h>

unsigned gw_copies_fetch(struct gw_queue *q, struct gw_request **reqs, unsigned n_reqs)
{
    return n_reqs;
}

void gw_copies_store(struct gw_queue *q)
{
}

int gw_evtchn_bind(struct gw_evtchn **ret, const struct gw_evtchn_name *name,
                   struct gw_evtchn *known)
{
    return gw_fail(-EOPNOTSUPP, "libgodwit was built without Xen event channels");
}

void gw_evtchn_put(struct gw_evtchn **e)
{
}

int gw_evtchn_fd(const struct gw_evtchn *e)
{
    return -1;
}

void gw_evtchn_take(struct gw_evtchn *e)
{
}

void gw_evtchn_notify(struct gw_evtchn *e)
{
}
