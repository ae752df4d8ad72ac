/* SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause */
/* No event channels: who has no memory of Xen domains is not told of any. */
#include "evtchn.h"

#include "base/diag_i.h"

#include <errno.h>

int gw_evtchn_bind(struct gw_evtchn **ret, const struct gw_evtchn_name *name,
                   struct gw_evtchn *known)
{
    return gw_fail(-EOPNOTSUPP, "there are no event channels in this build");
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
