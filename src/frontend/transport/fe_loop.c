/* SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause */
/*
 * What a front-end waits for: its socket, its back-end channel and a time. A blocking function
 * polls them itself. For a program with a loop, an epoll instance collects them, with a timer, so
 * that the program watches one descriptor that never changes.
 */
#include "fe_op.h"
#include "fe_requests.h"

#include "base/cleanup.h"
#include "base/clock.h"

#include <errno.h>
#include <poll.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/timerfd.h>
#include <unistd.h>

_Static_assert(EPOLLIN == POLLIN && EPOLLOUT == POLLOUT, "events of poll and epoll");

/* What poll(2) is to watch; fd -1: nothing. */
static void wanted_events(const struct gw_frontend *fe, struct pollfd p[GW_FRONTEND_WATCHED])
{
    bool sends =
        !gw_list_is_empty(&fe->ops) && fe->phase != GW_FRONTEND_RECEIVING && fe->state_fd < 0;

    /* While a message leaves, bytes that arrive can wait. */
    p[0] = (struct pollfd){.fd = fe->broken ? -1 : fe->fd, .events = sends ? POLLOUT : POLLIN};
    p[1] = (struct pollfd){
        .fd = fe->broken || !gw_frontend_serves(fe) || fe->is_serving ? -1 : fe->backend_fd,
        .events = gw_frontend_tx_is_empty(&fe->backend_tx) ? POLLIN : POLLOUT,
    };
    p[2] = (struct pollfd){.fd = fe->broken ? -1 : fe->state_fd, .events = POLLIN};
}

int gw_frontend_poll_timeout(const struct gw_frontend *fe)
{
    if (gw_list_is_empty(&fe->ops))
        return -1;
    /* An operation that waits for nothing can continue at once. */
    return gw_frontend_time_left(fe->phase == GW_FRONTEND_PREPARING ? fe->retry_at : fe->deadline);
}

void gw_frontend_sleep(struct gw_frontend *fe, int timeout_ms)
{
    int until = gw_frontend_poll_timeout(fe);
    struct pollfd p[GW_FRONTEND_WATCHED];

    if (timeout_ms < 0 || (until >= 0 && until < timeout_ms))
        timeout_ms = until;
    wanted_events(fe, p);
    (void)poll(p, GW_FRONTEND_WATCHED, timeout_ms);
}

int gw_frontend_run(struct gw_frontend *fe, int timeout_ms)
{
    gw_frontend_enter(fe);
    if (timeout_ms != 0 && !fe->broken)
        gw_frontend_sleep(fe, timeout_ms);
    gw_frontend_work(fe);
    if (fe->fd >= 0 && !fe->broken && gw_list_is_empty(&fe->ops))
        (void)gw_frontend_check_silence(fe, NULL);
    return gw_frontend_leave(fe, gw_frontend_check_broken(fe));
}

/* ---- The descriptor for the loop of a program ---- */

static int watch(struct gw_frontend *fe, struct pollfd *old, const struct pollfd *wanted)
{
    struct epoll_event event = {.events = (uint32_t)wanted->events};
    int what;

    if (old->fd >= 0 && old->fd != wanted->fd) {
        /* Explicitly, because a child process may still have the descriptor. */
        (void)epoll_ctl(fe->epoll_fd, EPOLL_CTL_DEL, old->fd, NULL);
        old->fd = -1;
    }
    if (wanted->fd < 0 || (old->fd == wanted->fd && old->events == wanted->events))
        return 0;
    what = old->fd < 0 ? EPOLL_CTL_ADD : EPOLL_CTL_MOD;
    if (epoll_ctl(fe->epoll_fd, what, wanted->fd, &event) < 0)
        return -errno;
    *old = *wanted;
    return 0;
}

/* When the loop must run even if nothing is ready; 0: never. */
static uint64_t wanted_time(const struct gw_frontend *fe)
{
    if (gw_list_is_empty(&fe->ops))
        return 0;
    if (fe->phase != GW_FRONTEND_PREPARING)
        return fe->deadline;
    if (fe->retry_at || fe->fd < 0)
        return fe->retry_at ? fe->retry_at : 1;
    /* As soon as there is room in the socket, but not never. */
    return gw_clock_ns() + fe->cfg.timeout_ms * GW_NS_PER_MS;
}

/*
 * The timer may fire too early, which costs one turn. A timer that is always right would cost a
 * system call for each message.
 */
static void set_timer(struct gw_frontend *fe)
{
    uint64_t at = wanted_time(fe);
    const struct itimerspec spec = {.it_value = gw_clock_timespec(at)};
    bool has_fired = fe->timer_at && gw_clock_ns() >= fe->timer_at;

    if (!has_fired && (!at || (fe->timer_at && fe->timer_at <= at)))
        return;
    /* This also makes a timer that has fired, or is about to, unreadable. */
    (void)timerfd_settime(fe->timer_fd, TFD_TIMER_ABSTIME, &spec, NULL);
    fe->timer_at = at;
}

int gw_frontend_watch(struct gw_frontend *fe)
{
    struct pollfd p[GW_FRONTEND_WATCHED];
    int r = 0;

    if (fe->epoll_fd < 0)
        return 0;
    wanted_events(fe, p);
    for (unsigned i = 0; i < GW_FRONTEND_WATCHED; i++) {
        int failed = watch(fe, &fe->watched[i], &p[i]);

        if (failed < 0)
            r = failed;
    }
    set_timer(fe);
    return r;
}

void gw_frontend_unwatch(struct gw_frontend *fe)
{
    gw_close(&fe->epoll_fd);
    gw_close(&fe->timer_fd);
    for (unsigned i = 0; i < GW_FRONTEND_WATCHED; i++)
        fe->watched[i].fd = -1;
    fe->timer_at = 0;
}

static int begin_watching(struct gw_frontend *fe)
{
    struct epoll_event event = {.events = EPOLLIN};

    fe->epoll_fd = epoll_create1(EPOLL_CLOEXEC);
    fe->timer_fd = timerfd_create(CLOCK_MONOTONIC, TFD_CLOEXEC | TFD_NONBLOCK);
    if (fe->epoll_fd < 0 || fe->timer_fd < 0 ||
        epoll_ctl(fe->epoll_fd, EPOLL_CTL_ADD, fe->timer_fd, &event) < 0)
        return -errno;
    return gw_frontend_watch(fe);
}

int gw_frontend_poll_fd(struct gw_frontend *fe)
{
    int r = fe->epoll_fd < 0 ? begin_watching(fe) : 0;

    if (r < 0) {
        gw_frontend_unwatch(fe);
        return gw_frontend_fail(r, "fd to poll: %s", strerror(-r));
    }
    return fe->epoll_fd;
}
