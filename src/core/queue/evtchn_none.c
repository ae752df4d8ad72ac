/* SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause */
/* Stub: builds without Xen never receive event channels. */
#include "evtchn.h"

#include "base/log_i.h"

#include <errno.h>

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
