/* SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause */
/*
 * The kernel can do this (IOCTL_PRIVCMD_IRQFD and IOEVENTFD), but Debian builds its kernels without
 * it, so the bridge uses a thread. Queues are added while the thread runs; their count is stored
 * last.
 */
#include "xen_bridge.h"

#include "control.h"

#include "../../src/fd/peer_fd.h"

#include <errno.h>
#include <poll.h>
#include <pthread.h>
#include <stdbool.h>
#include <stdlib.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include <xenevtchn.h>

struct line {
    int port; /* our end */
    int kick_fd, call_fd;
};

struct xen_bridge {
    uint32_t domid;
    xenevtchn_handle *events;
    struct line lines[XEN_QUEUES];
    unsigned n_lines; /* atomic */
    int wake_fd;
    bool is_ending; /* atomic */
    pthread_t thread;
    bool has_thread;
};

static void take_event(struct xen_bridge *b, unsigned n)
{
    int port = xenevtchn_pending(b->events);

    if (port < 0)
        return;
    /* Unmask first: an event that arrives while the kick is passed on is a new one. */
    xenevtchn_unmask(b->events, (evtchn_port_t)port);
    for (unsigned i = 0; i < n; i++) {
        if (b->lines[i].port == port)
            gw_eventfd_signal(b->lines[i].kick_fd);
    }
}

static void *carry(void *arg)
{
    struct xen_bridge *b = arg;
    struct pollfd fds[2 + XEN_QUEUES];
    uint64_t n_calls;

    while (!__atomic_load_n(&b->is_ending, __ATOMIC_ACQUIRE)) {
        unsigned n = __atomic_load_n(&b->n_lines, __ATOMIC_ACQUIRE);

        fds[0] = (struct pollfd){.fd = xenevtchn_fd(b->events), .events = POLLIN};
        fds[1] = (struct pollfd){.fd = b->wake_fd, .events = POLLIN};
        for (unsigned i = 0; i < n; i++)
            fds[2 + i] = (struct pollfd){.fd = b->lines[i].call_fd, .events = POLLIN};
        if (poll(fds, 2 + n, -1) < 0)
            continue;
        for (unsigned i = 0; i < n; i++) {
            if (fds[2 + i].revents && gw_eventfd_take(b->lines[i].call_fd))
                xenevtchn_notify(b->events, (evtchn_port_t)b->lines[i].port);
        }
        if (fds[0].revents)
            take_event(b, n);
        if (fds[1].revents && read(b->wake_fd, &n_calls, sizeof(n_calls)) < 0)
            continue;
    }
    return NULL;
}

int xen_bridge_new(struct xen_bridge **ret, uint32_t domid)
{
    struct xen_bridge *b = calloc(1, sizeof(*b));
    int r = 0;

    if (!b)
        return -ENOMEM;
    b->domid = domid;
    b->wake_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    b->events = b->wake_fd < 0 ? NULL : xenevtchn_open(NULL, 0);
    if (!b->events)
        r = -errno;
    if (r == 0)
        r = -pthread_create(&b->thread, NULL, carry, b);
    b->has_thread = r == 0;
    if (r < 0)
        xen_bridge_free(b);
    else
        *ret = b;
    return r;
}

void xen_bridge_free(struct xen_bridge *b)
{
    if (!b)
        return;
    if (b->has_thread) {
        __atomic_store_n(&b->is_ending, true, __ATOMIC_RELEASE);
        gw_eventfd_signal(b->wake_fd);
        pthread_join(b->thread, NULL);
    }
    if (b->events)
        xenevtchn_close(b->events);
    if (b->wake_fd >= 0)
        close(b->wake_fd);
    free(b);
}

int xen_bridge_add(struct xen_bridge *b, uint32_t port, int kick_fd, int call_fd)
{
    struct line *line = &b->lines[b->n_lines];

    if (b->n_lines == XEN_QUEUES)
        return -ENOSPC;
    line->port = xenevtchn_bind_interdomain(b->events, b->domid, port);
    if (line->port < 0)
        return -errno;
    line->kick_fd = kick_fd;
    line->call_fd = call_fd;
    /*
     * Release: a thread that sees the count sees the line. An earlier event had no line and was
     * dropped, so always send one kick now.
     */
    __atomic_store_n(&b->n_lines, b->n_lines + 1, __ATOMIC_RELEASE);
    gw_eventfd_signal(b->wake_fd);
    gw_eventfd_signal(kick_fd);
    return 0;
}
