/* SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause */
/* The eventfds, event channels and messages of a queue. */
#include "notifier.h"

#include "base/cleanup.h"
#include "fd/peer_fd.h"

#include <poll.h>
#include <string.h>

void gw_notifier_init(struct gw_notifier *n)
{
    *n = (struct gw_notifier){.fd = -1};
}

int gw_notifier_open(struct gw_notifier *n, struct gw_notifier_name *name,
                     const struct gw_notifier *other)
{
    gw_notifier_init(n);
    if (name->channel.is_set)
        return gw_evtchn_bind(&n->channel, &name->channel, other->channel);
    n->fd = gw_steal_fd(&name->fd);
    return 0;
}

void gw_notifier_use_inband(struct gw_notifier *n, struct gw_inband *in_band, unsigned bit)
{
    if (!gw_notifier_is_none(n))
        return;
    n->in_band = in_band;
    n->in_band_bit = bit;
}

/* Messages do not add up: one is enough until the control worker has sent it. */
static void post_message(const struct gw_notifier *n)
{
    struct gw_inband *in_band = n->in_band;
    unsigned before = __atomic_fetch_or(&in_band->pending, n->in_band_bit, __ATOMIC_RELEASE);

    if (!(before & n->in_band_bit))
        gw_eventfd_signal(in_band->wake_fd);
}

void gw_notifier_unwatch(struct gw_notifier *n, struct gw_loop *loop)
{
    if (n->source.cb)
        loop->ops->remove(loop, &n->source);
    n->source.cb = NULL;
}

void gw_notifier_unprepare(struct gw_notifier *n, struct gw_loop *loop)
{
    if (n->bell && loop) {
        loop->ops->submit(loop);
        loop->ops->bell_free(n->bell);
    }
    n->bell = NULL;
}

/* Submits pending notifications first: once closed, the fd number may denote another file. */
void gw_notifier_close(struct gw_notifier *n, struct gw_loop *loop)
{
    gw_notifier_unwatch(n, loop);
    gw_notifier_unprepare(n, loop);
    gw_close(&n->fd);
    gw_evtchn_put(&n->channel);
    gw_notifier_init(n);
}

void gw_notifier_replace(struct gw_notifier *n, struct gw_notifier *next, struct gw_loop *loop)
{
    next->signalled = n->signalled;
    gw_notifier_close(n, loop);
    *n = *next;
}

int gw_notifier_watch(struct gw_notifier *n, struct gw_loop *loop,
                      void (*cb)(struct gw_source *source, uint32_t events))
{
    int r;

    if (gw_notifier_is_none(n))
        return 0;
    n->source = (struct gw_source){.fd = n->channel ? gw_evtchn_fd(n->channel) : n->fd,
                                   .events = POLLIN,
                                   .edge = !n->channel,
                                   .cb = cb};
    r = loop->ops->add(loop, &n->source);
    if (r == 0)
        return 0;
    n->source.cb = NULL; /* not added */
    gw_notifier_close(n, loop);
    return gw_fail(r, "cannot wait for the kick fd: %s", strerror(-r));
}

/* An eventfd is watched edge triggered, and never read. */
void gw_notifier_take(struct gw_notifier *n)
{
    if (n->channel)
        gw_evtchn_take(n->channel);
}

void gw_notifier_prepare(struct gw_notifier *n, struct gw_loop *loop)
{
    if (n->fd >= 0)
        n->bell = loop->ops->bell_new(loop, n->fd);
}

bool gw_notifier_signal(struct gw_notifier *n, struct gw_loop *loop)
{
    n->signalled = true;
    if (n->channel)
        gw_evtchn_notify(n->channel);
    else if (n->in_band)
        post_message(n);
    else if (n->fd < 0)
        return false;
    else if (loop)
        loop->ops->signal(loop, n->fd, n->bell);
    else
        gw_eventfd_signal(n->fd);
    return true;
}
