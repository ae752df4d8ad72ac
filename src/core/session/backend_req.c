/* SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause */
/*
 * The back-end channel. Nothing here waits for the front-end, because the front-end may be waiting
 * for us: requests are sent without NEED_REPLY, and a request that would block is retried later.
 *
 * Nothing reads the channel: the front-end answers only NEED_REPLY, and recv(2) could block even
 * with MSG_DONTWAIT. The front-end may have kept a duplicate of the socket. If one of its threads
 * receives into a page that never arrives, it holds the lock that recv(2) takes. send(2) does not
 * take that lock.
 */
#include "backend_req.h"

#include "base/cleanup.h"
#include "fd/peer_fd.h"

#include <errno.h>
#include <string.h>
#include <sys/socket.h>

void gw_backend_req_close(struct gw_daemon *d)
{
    struct gw_session *s = &d->session;

    d->control->loop->ops->remove(d->control->loop, &s->backend);
    gw_peer_fd_close(&s->backend.fd);
}

int gw_backend_req_set_fd(struct gw_daemon *d, int fd)
{
    gw_cleanup_peer_fd int owned_fd = fd;
    int r = gw_socket_is_listening(fd);

    if (r != 0)
        return r < 0 ? r : gw_fail(-EINVAL, "the back-end channel is a listening socket");
    gw_backend_req_close(d);
    d->session.backend.fd = gw_steal_fd(&owned_fd);
    return 0;
}

/* A suspended device, all of whose rings are stopped, sends nothing ("Suspended device state"). */
static bool is_suspended(const struct gw_daemon *d)
{
    for (unsigned i = 0; i < d->num_queues; i++)
        if (d->session.vrings[i].started)
            return false;
    return true;
}

bool gw_backend_req_flush(struct gw_daemon *d)
{
    const struct gw_wire_header header = {
        .request = GW_BACKEND_MSG_CONFIG_CHANGE,
        .flags = GW_MSG_VERSION,
    };
    int fd = d->session.backend.fd;
    ssize_t n;

    if (fd < 0 || is_suspended(d) || !gw_session_has_protocol(&d->session, GW_PROTOCOL_F_CONFIG) ||
        !__atomic_exchange_n(&d->config_changed, false, __ATOMIC_ACQ_REL))
        return false;
    n = send(fd, &header, sizeof(header), MSG_DONTWAIT | MSG_NOSIGNAL);
    if (n == (ssize_t)sizeof(header)) {
        gw_log(&d->log, GW_LOG_INFO, "sent CONFIG_CHANGE to the front-end");
        return false;
    }
    if (n < 0 && errno == EAGAIN) {
        __atomic_store_n(&d->config_changed, true, __ATOMIC_RELEASE);
        return true;
    }
    gw_log(&d->log, GW_LOG_WARNING, "the back-end channel is broken: %s",
           n < 0 ? strerror(errno) : "a header was sent in part");
    gw_backend_req_close(d);
    return false;
}
