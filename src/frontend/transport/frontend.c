/* SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause */
/*
 * A front-end and its connection: create, connect in one of three ways, disconnect, free; and raw
 * messages, for tests that send what no conforming front-end would.
 */
#include "fe_requests.h"
#include "fe_trace.h"

#include "base/checked.h"
#include "base/cleanup.h"
#include "base/clock.h"
#include "base/struct_sizes.h"
#include "fd/peer_fd.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#define TIMEOUT_MS   10000
#define RETRY_MS     2 /* between attempts to connect, at first */
#define RETRY_MAX_MS 100

int gw_frontend_break(struct gw_frontend *fe, int r, const char *format, ...)
{
    va_list args;

    va_start(args, format);
    vsnprintf(fe->why, sizeof(fe->why), format, args);
    va_end(args);
    fe->broken = r;
    gw_frontend_rx_reset(&fe->rx);
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
    fe->backend_reply_fd = -1;
    fe->epoll_fd = fe->timer_fd = -1;
    fe->state_fd = -1;
    for (unsigned i = 0; i < GW_FRONTEND_WATCHED; i++)
        fe->watched[i].fd = -1;
    gw_list_init(&fe->ops);
    *ret = fe;
    return 0;
}

void gw_frontend_set_timeout(struct gw_frontend *fe, unsigned timeout_ms)
{
    fe->cfg.timeout_ms = timeout_ms;
}

void gw_frontend_free(struct gw_frontend *fe)
{
    if (!fe || fe->is_freed)
        return;
    fe->is_freed = true;
    gw_frontend_enter(fe);
    gw_frontend_disconnect(fe);
    (void)gw_frontend_leave(fe, 0);
}

int gw_frontend_begin_session(struct gw_frontend *fe, int fd)
{
    int r;

    fe->fd = fd;
    r = fe->is_freed ? -ECANCELED : gw_frontend_watch(fe);
    if (r < 0) {
        gw_frontend_close(fe, &fe->fd);
        return gw_frontend_fail(r, "begin of a session: %s", strerror(-r));
    }
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

void gw_frontend_close(struct gw_frontend *fe, int *fd)
{
    int stolen = gw_steal_fd(fd);

    (void)gw_frontend_watch(fe);
    /* This also closes all descriptors that are queued in the socket. */
    gw_peer_fd_close(&stolen);
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

/* Attempts become rare, so that many front-ends that wait for back-ends cost little. */
static uint64_t next_attempt(const struct gw_frontend *fe, uint64_t now)
{
    uint64_t begun = fe->deadline - fe->cfg.connect_timeout_ms * GW_NS_PER_MS;
    uint64_t pause = (now - begun) / 4;

    if (pause < RETRY_MS * GW_NS_PER_MS)
        pause = RETRY_MS * GW_NS_PER_MS;
    if (pause > RETRY_MAX_MS * GW_NS_PER_MS)
        pause = RETRY_MAX_MS * GW_NS_PER_MS;
    return now + pause < fe->deadline ? now + pause : fe->deadline;
}

static int connect_step(struct gw_frontend_op *op)
{
    const char *path = op->address.sun_path;
    struct gw_frontend *fe = op->fe;
    uint64_t now = gw_clock_ns();
    int fd = -1, r;

    if (fe->fd >= 0)
        return gw_frontend_fail(-EISCONN, "connect to %s: already connected", path);
    if (fe->retry_at > now)
        return GW_FRONTEND_STEP_WAIT;
    if (!fe->retry_at)
        fe->deadline = now + fe->cfg.connect_timeout_ms * GW_NS_PER_MS;
    r = try_connect(&op->address, &fd);
    if (r == 0)
        return gw_frontend_begin_session(fe, fd);
    /* Not created yet, stale, or its backlog is full. */
    if (r != -ENOENT && r != -ECONNREFUSED && r != -EAGAIN && r != -EINTR)
        return gw_frontend_fail(r, "connect to %s: %s", path, strerror(-r));
    if (now >= fe->deadline)
        return gw_frontend_fail(-ETIMEDOUT, "connect to %s: nothing listened within %u ms", path,
                                fe->cfg.connect_timeout_ms);
    fe->retry_at = next_attempt(fe, now);
    return GW_FRONTEND_STEP_WAIT;
}

int gw_frontend_encode_connect(struct gw_frontend_op *op, const char *path)
{
    static gw_frontend_step *const steps[] = {connect_step, NULL};
    size_t len = strlen(path);

    if (len >= sizeof(op->address.sun_path))
        return gw_frontend_fail(-ENAMETOOLONG, "connect: the path %s is too long", path);
    op->address.sun_family = AF_UNIX;
    memcpy(op->address.sun_path, path, len + 1);
    op->connects = true;
    op->steps = steps;
    return GW_FRONTEND_STEP_SEND;
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
    return gw_frontend_begin_session(fe, fd);
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
    return gw_frontend_begin_session(fe, fd);
}

void gw_frontend_disconnect(struct gw_frontend *fe)
{
    gw_frontend_enter(fe);
    if (fe->fd >= 0)
        gw_frontend_trace_event(fe, GW_FRONTEND_TRACE_DISCONNECTED);
    gw_frontend_rx_reset(&fe->rx);
    gw_frontend_close_channel(fe);
    gw_frontend_close(fe, &fe->fd);
    fe->broken = 0;
    gw_frontend_cancel(fe);
    (void)gw_frontend_leave(fe, 0);
}

int gw_frontend_fd(const struct gw_frontend *fe)
{
    return fe->fd;
}

static int send_tx(struct gw_frontend *fe, struct gw_frontend_tx *tx)
{
    int r;

    if (fe->fd < 0)
        return gw_frontend_fail(-ENOTCONN, "send: not connected");
    r = gw_frontend_wire_send_all(fe->fd, tx, gw_clock_ns() + fe->cfg.timeout_ms * GW_NS_PER_MS);
    if (r < 0)
        return gw_frontend_fail(r, "send: %s", strerror(-r));
    return 0;
}

int gw_frontend_send_raw(struct gw_frontend *fe, uint32_t request, uint32_t flags, uint32_t size,
                         const void *payload, size_t len, const int *fds, unsigned n_fds)
{
    struct gw_wire_header h = {.request = request, .flags = flags, .size = size};
    struct gw_frontend_tx tx = {
        .iov = {{.iov_base = &h, .iov_len = sizeof(h)},
                {.iov_base = (void *)(uintptr_t)payload, .iov_len = len}},
        .fds = fds,
        .n_fds = n_fds,
    };

    return send_tx(fe, &tx);
}

int gw_frontend_send_bytes(struct gw_frontend *fe, const void *buf, size_t len)
{
    struct gw_frontend_tx tx = {
        .iov = {{.iov_base = (void *)(uintptr_t)buf, .iov_len = len}},
    };

    return send_tx(fe, &tx);
}

int gw_frontend_receive(struct gw_frontend *fe, struct gw_frontend_message *ret,
                        unsigned timeout_ms)
{
    int r;

    ret->n_fds = 0;
    if (fe->fd < 0)
        return gw_frontend_fail(-ENOTCONN, "receive: not connected");
    r = gw_frontend_wire_receive_all(fe->fd, &fe->rx, ret,
                                     gw_clock_ns() + timeout_ms * GW_NS_PER_MS);
    if (r < 0)
        return gw_frontend_fail(r, "receive: %s", strerror(-r));
    return 0;
}
