/* SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause */
/*
 * A front-end and its connection: create, connect in one of three ways, disconnect, free; and raw
 * messages, for tests that send what no conforming front-end would. The meaning of messages is in
 * fe_requests.c.
 */
#include "fe_trace.h"

#include "base/checked.h"
#include "base/clock.h"
#include "base/proto.h"
#include "base/struct_sizes.h"
#include "fd/peer_fd.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <time.h>
#include <unistd.h>

#define TIMEOUT_MS 10000
#define RETRY_MS   10

int gw_frontend_break(struct gw_frontend *fe, int r, const char *format, ...)
{
    va_list args;

    va_start(args, format);
    vsnprintf(fe->why, sizeof(fe->why), format, args);
    va_end(args);
    fe->broken = r;
    return gw_frontend_check_broken(fe);
}

int gw_frontend_check_broken(const struct gw_frontend *fe)
{
    return fe->broken ? gw_frontend_fail(fe->broken, "%s", fe->why) : 0;
}

int gw_frontend_new(struct gw_frontend **ret, const struct gw_frontend_config *given)
{
    struct gw_frontend_config cfg = {.size = sizeof(cfg)};
    struct gw_frontend *fe;
    int r = given ? gw_copy_struct(&cfg, sizeof(cfg), given, GW_FIRST_FRONTEND_CONFIG) : 0;

    if (r < 0)
        return gw_frontend_fail(r, "front-end: configuration of another version");
    if (cfg.ack > GW_FRONTEND_ACK_ALWAYS)
        return gw_frontend_fail(-EINVAL, "front-end: unknown ack %u", (unsigned)cfg.ack);
    fe = calloc(1, sizeof(*fe));
    if (!fe)
        return gw_frontend_fail_fixed(-ENOMEM, "out of memory");
    fe->cfg = cfg;
    if (!fe->cfg.timeout_ms)
        fe->cfg.timeout_ms = TIMEOUT_MS;
    if (!fe->cfg.connect_timeout_ms)
        fe->cfg.connect_timeout_ms = TIMEOUT_MS;
    fe->fd = -1;
    fe->backend_fd = -1;
    *ret = fe;
    return 0;
}

void gw_frontend_set_timeout(struct gw_frontend *fe, unsigned timeout_ms)
{
    fe->cfg.timeout_ms = timeout_ms;
}

void gw_frontend_free(struct gw_frontend *fe)
{
    if (!fe)
        return;
    gw_frontend_disconnect(fe);
    free(fe);
}

/* Begin a session with no state of the previous one. */
static int begin(struct gw_frontend *fe, int fd)
{
    fe->fd = fd;
    fe->broken = 0;
    fe->has_mem = false;
    fe->negotiated = false;
    fe->offered = 0;
    fe->wanted = 0;
    fe->features = 0;
    fe->protocol_features = 0;
    fe->n_queues_max = 0;
    fe->n_slots_max = 0;
    fe->is_listening = false;
    gw_frontend_trace_event(fe, GW_FRONTEND_TRACE_CONNECTED);
    return 0;
}

static int try_connect(const struct sockaddr_un *sa, int *ret_fd)
{
    int fd, r;

    fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    if (fd < 0)
        return -errno;
    if (connect(fd, (const struct sockaddr *)sa, sizeof(*sa)) < 0) {
        r = -errno;
        close(fd);
        return r;
    }
    *ret_fd = fd;
    return 0;
}

int gw_frontend_connect(struct gw_frontend *fe, const char *path)
{
    const struct timespec pause = {.tv_nsec = (long)RETRY_MS * GW_NS_PER_MS};
    struct sockaddr_un sa = {.sun_family = AF_UNIX};
    size_t len = strlen(path);
    uint64_t deadline;
    int fd = -1, r;

    if (fe->fd >= 0)
        return gw_frontend_fail(-EISCONN, "connect to %s: already connected", path);
    if (len >= sizeof(sa.sun_path))
        return gw_frontend_fail(-ENAMETOOLONG, "connect: the path %s is too long", path);
    memcpy(sa.sun_path, path, len + 1);
    deadline = gw_clock_ns() + (uint64_t)fe->cfg.connect_timeout_ms * GW_NS_PER_MS;
    for (;;) {
        r = try_connect(&sa, &fd);
        if (r == 0)
            return begin(fe, fd);
        /* Not created yet, stale, or its backlog is full. */
        if (r != -ENOENT && r != -ECONNREFUSED && r != -EAGAIN && r != -EINTR)
            return gw_frontend_fail(r, "connect to %s: %s", path, strerror(-r));
        if (gw_clock_ns() >= deadline)
            return gw_frontend_fail(-ETIMEDOUT, "connect to %s: nothing listened within %u ms",
                                    path, fe->cfg.connect_timeout_ms);
        nanosleep(&pause, NULL);
    }
}

int gw_frontend_accept(struct gw_frontend *fe, int listen_fd)
{
    uint64_t deadline = gw_clock_ns() + (uint64_t)fe->cfg.connect_timeout_ms * GW_NS_PER_MS;
    int fd, r;

    if (fe->fd >= 0)
        return gw_frontend_fail(-EISCONN, "accept: already connected");
    do {
        r = gw_frontend_poll(listen_fd, POLLIN, deadline);
        if (r == -ETIMEDOUT)
            return gw_frontend_fail(r, "accept: no back-end connected within %u ms",
                                    fe->cfg.connect_timeout_ms);
        if (r < 0)
            return gw_frontend_fail(r, "accept: %s", strerror(-r));
        fd = accept4(listen_fd, NULL, NULL, SOCK_CLOEXEC | SOCK_NONBLOCK);
        r = fd < 0 ? -errno : 0;
    } while (r == -EAGAIN || r == -EINTR || r == -ECONNABORTED);
    if (r < 0)
        return gw_frontend_fail(r, "accept: %s", strerror(-r));
    return begin(fe, fd);
}

int gw_frontend_attach(struct gw_frontend *fe, int fd)
{
    int flags, r = 0;

    if (fe->fd >= 0)
        r = -EISCONN;
    flags = fcntl(fd, F_GETFD);
    if (r == 0 && (flags < 0 || fcntl(fd, F_SETFD, flags | FD_CLOEXEC) < 0))
        r = -errno;
    if (r < 0) {
        if (flags >= 0)
            close(fd);
        return gw_frontend_fail(r, "attach fd %d: %s", fd, strerror(-r));
    }
    return begin(fe, fd);
}

void gw_frontend_disconnect(struct gw_frontend *fe)
{
    if (fe->fd >= 0)
        gw_frontend_trace_event(fe, GW_FRONTEND_TRACE_DISCONNECTED);
    /* Closing a socket also closes all descriptors that are queued in it. */
    gw_peer_fd_close(&fe->fd);
    gw_peer_fd_close(&fe->backend_fd);
}

int gw_frontend_fd(const struct gw_frontend *fe)
{
    return fe->fd;
}

static int send_iov(struct gw_frontend *fe, struct iovec *iov, unsigned n_iov, const int *fds,
                    unsigned n_fds)
{
    uint64_t deadline = gw_clock_ns() + (uint64_t)fe->cfg.timeout_ms * GW_NS_PER_MS;
    int r;

    if (fe->fd < 0)
        return gw_frontend_fail(-ENOTCONN, "send: not connected");
    r = gw_frontend_wire_send(fe->fd, iov, n_iov, fds, n_fds, deadline);
    if (r < 0)
        return gw_frontend_fail(r, "send: %s", strerror(-r));
    return 0;
}

int gw_frontend_send_raw(struct gw_frontend *fe, uint32_t request, uint32_t flags, uint32_t size,
                         const void *payload, size_t len, const int *fds, unsigned n_fds)
{
    struct gw_wire_header h = {.request = request, .flags = flags, .size = size};
    struct iovec iov[2] = {
        {.iov_base = &h, .iov_len = sizeof(h)},
        {.iov_base = (void *)(uintptr_t)payload, .iov_len = len},
    };

    return send_iov(fe, iov, len ? 2 : 1, fds, n_fds);
}

int gw_frontend_send_bytes(struct gw_frontend *fe, const void *buf, size_t len)
{
    struct iovec iov = {.iov_base = (void *)(uintptr_t)buf, .iov_len = len};

    return send_iov(fe, &iov, 1, NULL, 0);
}

int gw_frontend_receive(struct gw_frontend *fe, struct gw_frontend_message *ret,
                        unsigned timeout_ms)
{
    int r;

    if (fe->fd < 0)
        return gw_frontend_fail(-ENOTCONN, "receive: not connected");
    r = gw_frontend_wire_receive(fe->fd, ret, gw_clock_ns() + (uint64_t)timeout_ms * GW_NS_PER_MS);
    if (r < 0)
        return gw_frontend_fail(r, "receive: %s", strerror(-r));
    return 0;
}
