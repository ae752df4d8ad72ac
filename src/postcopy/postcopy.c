/* SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause */
/*
 * The postcopy state machine.
 *
 * The front-end shares the userfaultfd, which therefore stays open when we close it. To end a wait,
 * we have to unregister the range, which wakes all threads that sleep in it. When the front-end
 * hangs up or the daemon is stopped, the control worker does so: it never waits for a worker, and
 * never touches guest memory. A range is unregistered before it is unmapped, so never another
 * mapping at the same address.
 */
#include "postcopy.h"

#include "base/checked.h"
#include "base/cleanup.h"
#include "base/log_i.h"
#include "uffd.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>

int gw_postcopy_probe(void)
{
    gw_cleanup_fd int fd = gw_uffd_open();

    return fd < 0 ? fd : 0;
}

void gw_postcopy_init(struct gw_postcopy *p)
{
    *p = (struct gw_postcopy){.uffd = -1};
    gw_list_init(&p->ranges);
}

int gw_postcopy_advise(struct gw_postcopy *p, int *ret_fd)
{
    gw_cleanup_fd int fd = -1, copy = -1;

    if (p->state == GW_POSTCOPY_LISTENING)
        return gw_fail(-EBUSY, "POSTCOPY_ADVISE after POSTCOPY_LISTEN");
    fd = gw_uffd_open();
    if (fd < 0)
        return fd;
    copy = fcntl(fd, F_DUPFD_CLOEXEC, 0);
    if (copy < 0)
        return gw_fail(-errno, "userfaultfd: no file descriptor for the front-end: %s",
                       strerror(errno));
    gw_close(&p->uffd);
    p->uffd = gw_steal_fd(&fd);
    p->state = GW_POSTCOPY_ADVISED;
    *ret_fd = gw_steal_fd(&copy);
    return 0;
}

/* ---- listening ---- */

int gw_postcopy_listen(struct gw_postcopy *p)
{
    if (p->state != GW_POSTCOPY_ADVISED)
        return gw_fail(-EINVAL, p->state == GW_POSTCOPY_OFF
                                    ? "POSTCOPY_LISTEN before POSTCOPY_ADVISE"
                                    : "POSTCOPY_LISTEN sent twice");
    p->state = GW_POSTCOPY_LISTENING;
    return 0;
}

int gw_postcopy_register(struct gw_postcopy *p, struct gw_postcopy_range *range, const char *what)
{
    int r;

    if (p->is_abandoned)
        return gw_fail(-ENOTCONN, "%s: the front-end has disconnected", what);
    r = gw_uffd_register(p->uffd, range->base, range->length, what);
    if (r < 0)
        return r;
    range->owner = p;
    gw_list_append(&p->ranges, &range->link);
    return 0;
}

void gw_postcopy_unregister(struct gw_postcopy_range *range)
{
    if (!range->owner)
        return;
    gw_list_remove(&range->link);
    gw_uffd_unregister(range->owner->uffd, range->base, range->length);
    range->owner = NULL;
}

static void unregister_all(struct gw_postcopy *p)
{
    while (!gw_list_is_empty(&p->ranges))
        gw_postcopy_unregister(gw_container_of(p->ranges.next, struct gw_postcopy_range, link));
}

void gw_postcopy_abandon(struct gw_postcopy *p)
{
    if (!gw_postcopy_is_listening(p))
        return;
    p->is_abandoned = true;
    unregister_all(p);
}

bool gw_postcopy_has_missing(const struct gw_postcopy *p)
{
    return gw_postcopy_is_listening(p) && !p->is_abandoned;
}

int gw_postcopy_end(struct gw_postcopy *p)
{
    if (p->state == GW_POSTCOPY_OFF)
        return gw_fail(-EINVAL, "POSTCOPY_END before POSTCOPY_ADVISE");
    unregister_all(p);
    p->is_abandoned = false;
    gw_close(&p->uffd);
    p->state = GW_POSTCOPY_OFF;
    return 0;
}

void gw_postcopy_done(struct gw_postcopy *p)
{
    if (p->state != GW_POSTCOPY_OFF)
        (void)gw_postcopy_end(p);
}
