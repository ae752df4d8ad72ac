/* SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause */
/*
 * The postcopy state machine, and the watcher that detects a disconnected front-end.
 *
 * The front-end shares the userfaultfd, which therefore stays open when we close it. To end a wait,
 * we have to unregister the range, which wakes all threads that sleep in it. When the front-end
 * dies or the daemon is stopped, this must happen even while the control thread waits for a
 * sleeping worker. So the watcher does it, and nothing more: it walks the ranges under the lock and
 * leaves them in their list. The control thread adds and removes ranges, also under the lock, and
 * removes a range before it is unmapped: the watcher never unregisters another mapping at the same
 * address. A holder of the lock waits only for the kernel: neither thread touches guest memory.
 */
#include "postcopy.h"

#include "base/checked.h"
#include "base/cleanup.h"
#include "base/log_i.h"
#include "uffd.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>

int gw_postcopy_probe(void)
{
    gw_cleanup_fd int fd = gw_uffd_open();

    return fd < 0 ? fd : 0;
}

void gw_postcopy_init(struct gw_postcopy *p)
{
    *p = (struct gw_postcopy){.uffd = -1, .watch_fd = -1, .quit_fd = -1};
    pthread_mutex_init(&p->lock, NULL);
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

/* ---- the watcher ---- */

static void abandon(struct gw_postcopy *p)
{
    struct gw_list *pos, *next;

    pthread_mutex_lock(&p->lock);
    p->is_abandoned = true;
    gw_list_for_each_safe (pos, next, &p->ranges) {
        struct gw_postcopy_range *range = gw_container_of(pos, struct gw_postcopy_range, link);

        gw_uffd_unregister(p->uffd, range->base, range->length);
    }
    pthread_mutex_unlock(&p->lock);
}

enum seen {
    SEEN_HANG_UP,
    SEEN_NEWS, /* an event for the control thread, perhaps a request to stop */
    SEEN_QUIT,
};

static void *watch(void *arg)
{
    struct gw_postcopy *p = arg;
    struct epoll_event event;

    (void)pthread_setname_np(pthread_self(), "gw-postcopy");
    for (;;) {
        if (epoll_wait(p->watch_fd, &event, 1, -1) < 0)
            continue; /* interrupted by a signal; no other error is possible */
        if (event.data.u32 == SEEN_QUIT)
            return NULL;
        if (event.data.u32 == SEEN_NEWS && !__atomic_load_n(p->stopping, __ATOMIC_ACQUIRE))
            continue;
        abandon(p);
        return NULL;
    }
}

static int watch_for(struct gw_postcopy *p, int fd, uint32_t events, enum seen seen)
{
    struct epoll_event event = {.events = events, .data = {.u32 = seen}};

    return epoll_ctl(p->watch_fd, EPOLL_CTL_ADD, fd, &event) < 0 ? -errno : 0;
}

static void close_watch(struct gw_postcopy *p)
{
    gw_close(&p->watch_fd);
    gw_close(&p->quit_fd);
}

static int start_watcher(struct gw_postcopy *p, const struct gw_postcopy_peer *peer)
{
    int r;

    p->stopping = peer->stopping;
    p->watch_fd = epoll_create1(EPOLL_CLOEXEC);
    p->quit_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    r = p->watch_fd < 0 || p->quit_fd < 0 ? -errno : 0;
    if (r == 0)
        r = watch_for(p, p->quit_fd, EPOLLIN, SEEN_QUIT);
    if (r == 0)
        r = watch_for(p, peer->socket_fd, EPOLLRDHUP, SEEN_HANG_UP);
    /* Edge triggered, because only the control thread reads the eventfd. */
    if (r == 0)
        r = watch_for(p, peer->control_fd, EPOLLIN | EPOLLET, SEEN_NEWS);
    if (r == 0)
        r = -pthread_create(&p->watcher, NULL, watch, p);
    if (r < 0)
        close_watch(p);
    return r;
}

static void stop_watcher(struct gw_postcopy *p)
{
    (void)eventfd_write(p->quit_fd, 1);
    pthread_join(p->watcher, NULL);
    close_watch(p);
}

/* ---- listening ---- */

int gw_postcopy_listen(struct gw_postcopy *p, const struct gw_postcopy_peer *peer)
{
    int r;

    if (p->state != GW_POSTCOPY_ADVISED)
        return gw_fail(-EINVAL, p->state == GW_POSTCOPY_OFF
                                    ? "POSTCOPY_LISTEN before POSTCOPY_ADVISE"
                                    : "POSTCOPY_LISTEN sent twice");
    r = start_watcher(p, peer);
    if (r < 0)
        return gw_fail(r, "postcopy: cannot watch the front-end: %s", strerror(-r));
    p->state = GW_POSTCOPY_LISTENING;
    return 0;
}

int gw_postcopy_register(struct gw_postcopy *p, struct gw_postcopy_range *range, const char *what)
{
    int r;

    pthread_mutex_lock(&p->lock);
    if (p->is_abandoned)
        r = gw_fail(-ENOTCONN, "%s: the front-end has disconnected", what);
    else
        r = gw_uffd_register(p->uffd, range->base, range->length, what);
    if (r == 0) {
        range->owner = p;
        gw_list_append(&p->ranges, &range->link);
    }
    pthread_mutex_unlock(&p->lock);
    return r;
}

void gw_postcopy_unregister(struct gw_postcopy_range *range)
{
    struct gw_postcopy *p = range->owner;

    if (!p)
        return;
    pthread_mutex_lock(&p->lock);
    gw_list_remove(&range->link);
    gw_uffd_unregister(p->uffd, range->base, range->length);
    pthread_mutex_unlock(&p->lock);
    range->owner = NULL;
}

bool gw_postcopy_has_missing(struct gw_postcopy *p)
{
    bool has;

    if (!gw_postcopy_is_listening(p))
        return false;
    pthread_mutex_lock(&p->lock);
    has = !p->is_abandoned;
    pthread_mutex_unlock(&p->lock);
    return has;
}

int gw_postcopy_end(struct gw_postcopy *p)
{
    if (p->state == GW_POSTCOPY_OFF)
        return gw_fail(-EINVAL, "POSTCOPY_END before POSTCOPY_ADVISE");
    while (!gw_list_is_empty(&p->ranges))
        gw_postcopy_unregister(gw_container_of(p->ranges.next, struct gw_postcopy_range, link));
    if (p->state == GW_POSTCOPY_LISTENING)
        stop_watcher(p);
    p->is_abandoned = false;
    gw_close(&p->uffd);
    p->state = GW_POSTCOPY_OFF;
    return 0;
}

void gw_postcopy_done(struct gw_postcopy *p)
{
    if (p->state != GW_POSTCOPY_OFF)
        (void)gw_postcopy_end(p);
    pthread_mutex_destroy(&p->lock);
}
