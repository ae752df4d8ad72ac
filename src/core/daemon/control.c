/* SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause */
/*
 * With a listening socket, the control worker accepts connections. With a path where the front-end
 * listens, it reconnects after every session. It serves a connected socket once. The device and its
 * workers are not involved. Nothing here waits: between two events the worker does other things.
 */
#include "control.h"

#include "base/clock.h"
#include "core/move/balance.h"
#include "core/move/move.h"
#include "core/session/session.h"

#include "base/cleanup.h"

#include <errno.h>
#include <poll.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/socket.h>

enum {
    ACCEPT_PAUSE_MS = 100,
    RECONNECT_FIRST_MS = 10
};

static int add(struct gw_daemon *d, struct gw_source *source)
{
    return source->token ? 0 : d->control->loop->ops->add(d->control->loop, source);
}

static void remove_source(struct gw_daemon *d, struct gw_source *source)
{
    d->control->loop->ops->remove(d->control->loop, source);
}

/*
 * Wakes gw_daemon_wait, after which the daemon may be started again or freed. Another thread may do
 * that before `ended` is called.
 */
static void finish_end(struct gw_daemon *d)
{
    void (*ended)(void *arg, int result) = d->ended;
    void *arg = d->ended_arg;
    int result = d->end_result;

    d->is_ending = false;
    pthread_mutex_lock(&d->end_lock);
    d->result = result;
    __atomic_store_n(&d->running, false, __ATOMIC_RELEASE);
    pthread_cond_broadcast(&d->end_cond);
    if (d->waiter)
        gw_worker_wake(d->waiter);
    pthread_mutex_unlock(&d->end_lock);
    if (ended)
        ended(arg, result);
}

static void end(struct gw_daemon *d, int result)
{
    gw_timer_stop(d->timer);
    gw_balance_stop(d->balance);
    remove_source(d, &d->accept);
    remove_source(d, &d->wake);
    d->end_result = result;
    d->is_ending = true;
    if (d->n_moves == 0)
        finish_end(d);
}

void gw_control_moved(struct gw_daemon *d)
{
    if (d->is_ending && d->n_moves == 0)
        finish_end(d);
}

/* ---- a listening socket ---- */

static void pause_accepting(struct gw_daemon *d)
{
    remove_source(d, &d->accept);
    gw_timer_start(d->timer, ACCEPT_PAUSE_MS * UINT64_C(1000000), 0);
}

static void wait_for_front_end(struct gw_daemon *d)
{
    if (add(d, &d->accept) == 0)
        return;
    gw_log(&d->log, GW_LOG_ERROR, "no new session: no memory to wait for one");
    pause_accepting(d);
}

static void front_end_waits(struct gw_source *source, uint32_t events)
{
    struct gw_daemon *d = gw_container_of(source, struct gw_daemon, accept);
    int fd;

    if (d->session.is_open) {
        /* Logged once, for a session that continues. */
        remove_source(d, &d->accept);
        if (!d->session.is_ending)
            gw_log(&d->log, GW_LOG_WARNING,
                   "another front-end has connected and waits until this session ends");
        return;
    }
    fd = gw_socket_accept(d->listener.fd);
    if (fd == -EAGAIN)
        return;
    if (fd < 0) {
        /* Probably too many open files. The connection stays in the backlog, so try again. */
        gw_log(&d->log, GW_LOG_ERROR, "no new session: %s", gw_last_error());
        pause_accepting(d);
        return;
    }
    gw_session_begin(d, fd);
}

/* ---- a front-end that listens ---- */

/*
 * The pause doubles with every failure. A session without a message, or shorter than the current
 * pause, counts as a failure: otherwise a front-end that accepts and hangs up would keep both sides
 * busy. After a successful session we reconnect at once, because the front-end may be listening
 * already.
 */
static void pause_connecting(struct gw_daemon *d)
{
    d->pause_ms = gw_min_u(d->pause_ms, d->reconnect_max_ms);
    gw_timer_start(d->timer, d->pause_ms * UINT64_C(1000000), 0);
    d->pause_ms = gw_min_u(d->pause_ms, d->reconnect_max_ms / 2) * 2;
}

static void connect_to_front_end(struct gw_daemon *d)
{
    int fd = gw_socket_connect(d->client_path, SOCK_NONBLOCK);

    d->connected_ns = gw_clock_ns();
    if (fd >= 0) {
        d->connect_failed = false;
        gw_session_begin(d, fd);
        return;
    }
    if (!d->connect_failed)
        gw_log(&d->log, GW_LOG_WARNING, "%s; trying again until it works", gw_last_error());
    d->connect_failed = true;
    pause_connecting(d);
}

static void reconnect(struct gw_daemon *d)
{
    bool served =
        d->session.heard && gw_clock_ns() - d->connected_ns > d->pause_ms * UINT64_C(1000000);

    if (!served) {
        pause_connecting(d);
        return;
    }
    d->pause_ms = RECONNECT_FIRST_MS;
    connect_to_front_end(d);
}

/* ---- sessions ---- */

static bool is_stopping(const struct gw_daemon *d)
{
    return __atomic_load_n(&d->stopping, __ATOMIC_ACQUIRE);
}

static void begin(struct gw_post *post)
{
    struct gw_daemon *d = gw_container_of(post, struct gw_daemon, begin);
    int r = add(d, &d->wake);

    gw_balance_start(d->balance);
    if (r < 0 || is_stopping(d)) {
        end(d, r);
    } else if (d->listener.fd >= 0) {
        d->accept.fd = d->listener.fd;
        wait_for_front_end(d);
    } else if (d->client_path) {
        d->pause_ms = RECONNECT_FIRST_MS;
        d->connect_failed = false;
        connect_to_front_end(d);
    } else {
        gw_session_begin(d, gw_steal_fd(&d->connected_fd));
    }
}

void gw_control_session_ended(struct gw_daemon *d, int r)
{
    if (is_stopping(d))
        end(d, d->single && r < 0 ? -EPROTO : 0);
    else if (d->client_path)
        reconnect(d);
    else if (d->single || d->listener.fd < 0)
        end(d, r < 0 ? -EPROTO : 0);
    else
        wait_for_front_end(d);
}

static void woken(struct gw_source *source, uint32_t events)
{
    struct gw_daemon *d = gw_container_of(source, struct gw_daemon, wake);
    eventfd_t count;

    (void)eventfd_read(d->control_fd, &count);
    if (is_stopping(d)) {
        if (d->session.is_open)
            gw_session_end(d, 0);
        else
            end(d, 0);
        return;
    }
    gw_moves_begin(d);
    gw_session_check(d);
}

static void timer_fired(void *arg)
{
    struct gw_daemon *d = arg;

    if (d->session.is_open)
        gw_session_check_time(d);
    else if (d->client_path)
        connect_to_front_end(d);
    else
        wait_for_front_end(d);
}

int gw_control_init(struct gw_daemon *d)
{
    d->wake = (struct gw_source){.fd = d->control_fd, .events = POLLIN, .cb = woken};
    d->accept = (struct gw_source){.fd = -1, .events = POLLIN, .cb = front_end_waits};
    d->begin.run = begin;
    return gw_timer_new(&d->timer, d->control, timer_fired, d);
}
