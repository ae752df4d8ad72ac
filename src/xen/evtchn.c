/* SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause */
/* Event channels with libxenevtchn. Each has its own handle, and therefore its own fd. */
#include "core/queue/evtchn.h"

#include "base/log_i.h"
#include "xen_log.h"

#include <errno.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <xenevtchn.h>

struct gw_evtchn {
    xenevtchn_handle *handle;
    struct gw_evtchn_name name;
    evtchn_port_t port; /* ours */
    unsigned refs;
};

static int bind(struct gw_evtchn *e)
{
    int port;

    e->handle = xenevtchn_open(&gw_xen_log, 0);
    if (!e->handle)
        return gw_fail(-ENODEV, "event channels are unavailable: /dev/xen/evtchn: %s",
                       strerror(errno));
    /* If the kernel supports it, the handle can only reach this domain. */
    (void)xenevtchn_restrict(e->handle, (domid_t)e->name.domid);
    port = xenevtchn_bind_interdomain(e->handle, e->name.domid, e->name.port);
    if (port < 0)
        return gw_fail(-errno, "event channel %u of domain %u cannot be bound: %s", e->name.port,
                       e->name.domid, strerror(errno));
    e->port = (evtchn_port_t)port;
    return 0;
}

int gw_evtchn_bind(struct gw_evtchn **ret, const struct gw_evtchn_name *name,
                   struct gw_evtchn *known)
{
    struct gw_evtchn *e;
    int r;

    if (known && known->name.domid == name->domid && known->name.port == name->port) {
        known->refs++;
        *ret = known;
        return 0;
    }
    e = calloc(1, sizeof(*e));
    if (!e)
        return gw_fail(-ENOMEM, "no memory for an event channel");
    e->name = *name;
    e->refs = 1;
    r = bind(e);
    if (r < 0)
        gw_evtchn_put(&e);
    else
        *ret = e;
    return r;
}

void gw_evtchn_put(struct gw_evtchn **at)
{
    struct gw_evtchn *e = *at;

    *at = NULL;
    if (!e || --e->refs > 0)
        return;
    if (e->handle)
        (void)xenevtchn_close(e->handle); /* which unbinds */
    free(e);
}

int gw_evtchn_fd(const struct gw_evtchn *e)
{
    return xenevtchn_fd(e->handle);
}

/* Polls first, because xenevtchn_pending would wait if no event is pending. */
void gw_evtchn_take(struct gw_evtchn *e)
{
    struct pollfd fd = {.fd = xenevtchn_fd(e->handle), .events = POLLIN};
    int port;

    if (poll(&fd, 1, 0) != 1 || !(fd.revents & POLLIN))
        return;
    port = xenevtchn_pending(e->handle);
    if (port >= 0)
        (void)xenevtchn_unmask(e->handle, (evtchn_port_t)port);
}

void gw_evtchn_notify(struct gw_evtchn *e)
{
    (void)xenevtchn_notify(e->handle, e->port);
}
