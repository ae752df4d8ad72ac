/* SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause */
/*
 * One session, on the control thread: wait for messages, dispatch them, and clean up after any kind
 * of end. The control thread waits only for the front-end, for a write to the control fd (see
 * daemon.h), and for the workers (all_queues.h).
 */
#include "backend_req.h"
#include "base/cleanup.h"
#include "core/daemon/all_queues.h"
#include "dispatch.h"
#include "fd/peer_fd.h"

#include <errno.h>
#include <inttypes.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>

static int session_init(struct gw_daemon *d, int fd)
{
    struct gw_session *s = &d->session;

    memset(s, 0, sizeof(*s));
    s->first_change = d->n_changes;
    s->fd = fd;
    s->backend_fd = -1;
    s->dirty_log.event_fd = -1;
    gw_postcopy_init(&s->postcopy);
    return gw_map_new(&s->map, NULL, 0);
}

static void reset_queue(struct gw_queue *q, void *arg)
{
    gw_queue_reset(q);
}

static void session_done(struct gw_daemon *d)
{
    struct gw_session *s = &d->session;

    /* First, so that no worker waits for a page and the front-end does not wait for an answer. */
    gw_postcopy_done(&s->postcopy);
    gw_daemon_expect_faults(d, false);
    gw_socket_hang_up(&s->fd);
    gw_peer_fd_close(&s->backend_fd);
    gw_rx_reset(&s->rx);
    gw_daemon_end_map(d, gw_daemon_stop_queues(d, GW_STOP_LOST) < 0);
    gw_map_free(s->pending);
    s->pending = NULL;
    gw_mem_backend_unwatch(s->owners);
    s->owners = NULL;
    gw_daemon_call_on_queues(d, reset_queue, NULL); /* they drop the dirty log */
    gw_mapping_done(&s->inflight.mapping);
    gw_dirty_log_free(gw_steal(s->dirty_log.log));
    gw_close(&s->dirty_log.event_fd);
    gw_daemon_drop_logs(d);
    gw_daemon_reclaim(d);
    if (d->ops.reset)
        d->ops.reset(d->dev);
}

/* Returns: 1 to continue; 0 after a hang-up; a negative errno if the session ends otherwise. */
static int receive(struct gw_daemon *d)
{
    struct gw_session *s = &d->session;
    int r = gw_rx_pump(&s->rx, s->fd);

    if (r == 1) {
        s->heard = true;
        r = gw_dispatch(d);
        gw_rx_reset(&s->rx);
        return r < 0 ? r : 1;
    }
    if (r == 0)
        return 1;
    if (r == -ENOTCONN)
        return 0;
    if (r == -EMSGSIZE)
        gw_log(&d->log, GW_LOG_WARNING,
               "the session ends: message too long: %" PRIu32 " bytes, limit %u",
               s->rx.msg.header.size, (unsigned)GW_MSG_PAYLOAD_MAX);
    else
        gw_log(&d->log, GW_LOG_WARNING, "the session ends: %s",
               r == -ECONNRESET ? "the front-end hung up in the middle of a message"
               : r == -EPROTO   ? "file descriptors came in the middle of a message"
                                : strerror(-r));
    return r;
}

/* If any thread hit a lost page of the front-end's memory, find and log it. */
static int check_loss(struct gw_daemon *d)
{
    const struct gw_session *s = &d->session;
    int r = 0;

    if (!__atomic_exchange_n(&d->loss.happened, false, __ATOMIC_ACQUIRE))
        return 0;
    for (unsigned i = 0; i < s->map->n_entries && r == 0; i++)
        r = gw_region_check(s->map->entries[i].region);
    if (r == 0 && s->dirty_log.log)
        r = gw_dirty_log_check(s->dirty_log.log);
    if (r == 0 && s->inflight.mapping.at)
        r = gw_mapping_check(&s->inflight.mapping, GW_INFLIGHT_NAME);
    if (r < 0)
        gw_log(&d->log, GW_LOG_ERROR, "the session ends: %s", gw_last_error());
    return r;
}

/* If an owner of guest memory has gone, the session ends, which is no fault of the front-end. */
static bool owners_live(struct gw_daemon *d)
{
    struct gw_session *s = &d->session;

    if (gw_mem_backend_check_owners(s->owners, s->map) == 0)
        return true;
    gw_log(&d->log, GW_LOG_WARNING, "the session ends: %s", gw_last_error());
    return false;
}

/* Handle all events that the control fd signals. Returns: as session_turn. */
static int look_around(struct gw_daemon *d)
{
    int r;

    if (gw_daemon_is_stopping(d))
        return 0;
    gw_daemon_reclaim(d);
    r = check_loss(d);
    return r < 0 ? r : 1;
}

/* Another front-end waits to be accepted. Logged once a session; this session continues. */
static void note_rival(struct gw_daemon *d)
{
    d->session.has_rival = true;
    gw_log(&d->log, GW_LOG_WARNING,
           "another front-end has connected and waits until this session ends");
}

/* Returns: 1 to continue; 0 or a negative errno if the session ends. */
static int session_turn(struct gw_daemon *d)
{
    struct gw_session *s = &d->session;
    bool full = gw_backend_req_flush(d);
    struct pollfd fds[] = {
        {.fd = s->fd, .events = POLLIN},
        {.fd = d->control_fd, .events = POLLIN},
        {.fd = s->backend_fd, .events = (short)(full ? POLLOUT : 0)},
        {.fd = gw_mem_backend_watch_fd(s->owners), .events = POLLIN},
        {.fd = s->has_rival ? -1 : d->listener.fd, .events = POLLIN},
    };
    eventfd_t count;
    int r = look_around(d); /* gw_socket_send may have consumed a wake-up */

    if (r <= 0)
        return r;
    if (poll(fds, GW_ARRAY_SIZE(fds), -1) < 0)
        return errno == EINTR ? 1 : -errno;
    if (fds[1].revents) {
        (void)eventfd_read(d->control_fd, &count);
        r = look_around(d);
        if (r <= 0)
            return r;
    }
    if (fds[2].revents & ~POLLOUT)
        gw_peer_fd_close(&s->backend_fd); /* the front-end has closed its end */
    if (fds[3].revents && !owners_live(d))
        return 0;
    if (fds[0].revents)
        return receive(d);
    if (fds[4].revents)
        note_rival(d);
    return 1;
}

int gw_session_run(struct gw_daemon *d, int fd)
{
    int r;

    r = session_init(d, fd);
    gw_log(&d->log, GW_LOG_INFO, "a front-end is connected");
    if (r == 0)
        do
            r = session_turn(d);
        while (r > 0);
    session_done(d);
    gw_log(&d->log, GW_LOG_INFO, "the session is over");
    /* A hang-up before our answer (-EPIPE) or a stop (-ECANCELED) is no fault of the front-end. */
    return r < 0 && r != -EPIPE && r != -ECANCELED ? -EPROTO : 0;
}
