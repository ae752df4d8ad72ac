/* SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause */
/*
 * The control thread between sessions: how the next session begins. With a listening socket, the
 * thread accepts connections. With a path where the front-end listens, it reconnects after every
 * session. It serves a connected socket once. The device and its workers are not involved.
 */
#include "base/clock.h"
#include "daemon.h"

#include "base/cleanup.h"

#include <errno.h>
#include <poll.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/socket.h>
#include <unistd.h>

enum {
    ACCEPT_PAUSE_MS = 100,
    RECONNECT_FIRST_MS = 10
};

/*
 * Wait until `fd` (-1: none) is readable, for up to `timeout_ms` (-1: no limit), or until
 * control_fd is signalled. Returns: whether `fd` is readable.
 */
static bool wait_for(struct gw_daemon *d, int fd, int timeout_ms)
{
    struct pollfd fds[] = {
        {.fd = fd, .events = POLLIN},
        {.fd = d->control_fd, .events = POLLIN},
    };
    eventfd_t count;

    gw_daemon_reclaim(d);
    if (poll(fds, GW_ARRAY_SIZE(fds), timeout_ms) <= 0)
        return false;
    if (fds[1].revents)
        (void)eventfd_read(d->control_fd, &count);
    return fds[0].revents != 0;
}

/* Wait for `ms`, or until the daemon is asked to stop. */
static void pause_for(struct gw_daemon *d, unsigned ms)
{
    uint64_t end = gw_clock_ns() + ms * UINT64_C(1000000), now;

    while (!gw_daemon_is_stopping(d) && (now = gw_clock_ns()) < end)
        (void)wait_for(d, -1, (int)((end - now) / 1000000 + 1));
}

static int serve_listener(struct gw_daemon *d)
{
    while (!gw_daemon_is_stopping(d)) {
        int fd;

        if (!wait_for(d, d->listener.fd, -1) || gw_daemon_is_stopping(d))
            continue;
        fd = gw_socket_accept(d->listener.fd);
        if (fd >= 0) {
            int r = gw_session_run(d, fd);
            if (d->single)
                return r;
        } else if (fd != -EAGAIN) {
            /* Probably too many open files. The connection stays in the backlog, so try again. */
            gw_log(&d->log, GW_LOG_ERROR, "no new session: %s", gw_last_error());
            pause_for(d, ACCEPT_PAUSE_MS);
        }
    }
    return 0;
}

/*
 * The pause doubles with every failure. A session without a message, or shorter than the current
 * pause, counts as a failure: otherwise a front-end that accepts and hangs up would keep both sides
 * busy. After a successful session we reconnect at once, because the front-end may be listening
 * already.
 */
static int serve_reconnecting(struct gw_daemon *d)
{
    unsigned pause_ms = RECONNECT_FIRST_MS;
    bool reported = false;

    while (!gw_daemon_is_stopping(d)) {
        uint64_t begin = gw_clock_ns();
        int fd = gw_socket_connect(d->client_path, SOCK_NONBLOCK);
        bool heard = false;

        if (fd >= 0) {
            (void)gw_session_run(d, fd);
            heard = d->session.heard;
            reported = false;
        } else if (!reported) {
            gw_log(&d->log, GW_LOG_WARNING, "%s; trying again until it works", gw_last_error());
            reported = true;
        }
        if (heard && gw_clock_ns() - begin > pause_ms * UINT64_C(1000000)) {
            pause_ms = RECONNECT_FIRST_MS;
            continue;
        }
        pause_ms = gw_min_u(pause_ms, d->reconnect_max_ms);
        pause_for(d, pause_ms);
        pause_ms = gw_min_u(pause_ms, d->reconnect_max_ms / 2) * 2;
    }
    return 0;
}

void *gw_control_main(void *arg)
{
    struct gw_daemon *d = arg;

    __atomic_store_n(&d->tid, gettid(), __ATOMIC_RELAXED);
    (void)pthread_setname_np(pthread_self(), "gw-control");
    if (d->guard)
        gw_sigbus_unblock();
    if (d->listener.fd >= 0)
        d->result = serve_listener(d);
    else if (d->client_path)
        d->result = serve_reconnecting(d);
    else
        d->result = gw_session_run(d, gw_steal_fd(&d->session.fd));
    __atomic_store_n(&d->tid, 0, __ATOMIC_RELAXED);
    return NULL;
}
