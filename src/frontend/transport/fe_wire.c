/* SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause */
/*
 * Messages and fds on a Unix stream socket, with a deadline on every wait. This file interprets
 * only the header. The socket's blocking mode does not matter: every call uses MSG_DONTWAIT, then
 * poll.
 *
 * Header, payload and fds are sent with one sendmsg: libvhost-user reads the payload with one call
 * and asserts that it is complete.
 */
#include "fd/peer_fd.h"
#include "frontend_i.h"

#include "base/clock.h"
#include "base/proto.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#define OTHER_CONTROL_MAX 8192 /* a security label has up to 4096 bytes */
#define CONTROL_PIDFD     4    /* SCM_PIDFD (Linux 6.5), undefined in older C libraries */

int gw_frontend_time_left(uint64_t deadline)
{
    uint64_t now = gw_clock_ns();
    uint64_t ms;

    if (deadline <= now)
        return 0;
    ms = (deadline - now + 999999u) / 1000000u;
    return ms > INT32_MAX ? INT32_MAX : (int)ms;
}

int gw_frontend_poll(int fd, short events, uint64_t deadline)
{
    struct pollfd p = {.fd = fd, .events = events};
    int r;

    for (;;) {
        r = poll(&p, 1, gw_frontend_time_left(deadline));
        if (r > 0)
            return 0;
        if (r == 0 && gw_clock_ns() >= deadline)
            return -ETIMEDOUT;
        if (r < 0 && errno != EINTR)
            return -errno;
    }
}

/* Consume `n` bytes of an iovec array. */
static void iov_consume(struct iovec **iov, unsigned *n_iov, size_t n)
{
    while (*n_iov && n >= (*iov)->iov_len) {
        n -= (*iov)->iov_len;
        (*iov)++;
        (*n_iov)--;
    }
    if (*n_iov) {
        (*iov)->iov_base = (char *)(*iov)->iov_base + n;
        (*iov)->iov_len -= n;
    }
}

int gw_frontend_wire_send(int fd, struct iovec *iov, unsigned n_iov, const int *fds, unsigned n_fds,
                          uint64_t deadline)
{
    union {
        struct cmsghdr align;
        char buf[CMSG_SPACE(sizeof(int) * GW_FRONTEND_SEND_FDS_MAX)];
    } control;
    struct msghdr mh = {0};
    struct cmsghdr *c;
    ssize_t n;
    int r;

    if (n_fds > GW_FRONTEND_SEND_FDS_MAX)
        return -EINVAL;
    if (n_fds) {
        memset(&control, 0, sizeof(control));
        mh.msg_control = &control;
        mh.msg_controllen = CMSG_SPACE(sizeof(int) * n_fds);
        c = CMSG_FIRSTHDR(&mh);
        c->cmsg_level = SOL_SOCKET;
        c->cmsg_type = SCM_RIGHTS;
        c->cmsg_len = CMSG_LEN(sizeof(int) * n_fds);
        memcpy(CMSG_DATA(c), fds, sizeof(int) * n_fds);
    }
    while (n_iov) {
        mh.msg_iov = iov;
        mh.msg_iovlen = n_iov;
        n = sendmsg(fd, &mh, MSG_NOSIGNAL | MSG_DONTWAIT);
        if (n >= 0) {
            /* The fds were sent with the first byte. */
            mh.msg_control = NULL;
            mh.msg_controllen = 0;
            iov_consume(&iov, &n_iov, (size_t)n);
            continue;
        }
        r = -errno;
        if (r == -EPIPE || r == -ECONNRESET)
            return -ECONNRESET;
        if (r == -EAGAIN)
            r = gw_frontend_poll(fd, POLLOUT, deadline);
        if (r < 0 && r != -EINTR)
            return r;
    }
    return 0;
}

/*
 * Room for everything that one recvmsg can return. Credentials, labels and timestamps come only if
 * a parent process enabled them on the socket; they must not displace file descriptors.
 */
union in_control {
    struct cmsghdr align;
    char buf[CMSG_SPACE(sizeof(int) * GW_FRONTEND_SEND_FDS_MAX) + OTHER_CONTROL_MAX];
};

/* Take the fds of SCM_RIGHTS. Excess ones are closed, and the message is a protocol error. */
static int take_rights(const struct cmsghdr *c, struct gw_frontend_message *msg)
{
    size_t n = (c->cmsg_len - CMSG_LEN(0)) / sizeof(int);
    int fd, r = 0;

    for (size_t i = 0; i < n; i++) {
        memcpy(&fd, CMSG_DATA(c) + i * sizeof(int), sizeof(int));
        if (msg->n_fds < GW_FRONTEND_FDS_MAX) {
            msg->fds[msg->n_fds++] = fd;
        } else {
            gw_peer_fd_close(&fd);
            r = -EPROTO;
        }
    }
    return r;
}

/* Returns: 0; -EPROTO: too many fds; -EMFILE: fds were dropped at this process's limit. */
static int take_control(int fd, struct msghdr *mh, struct gw_frontend_message *msg)
{
    int r = 0, other;

    for (struct cmsghdr *c = CMSG_FIRSTHDR(mh); c; c = CMSG_NXTHDR(mh, c)) {
        if (c->cmsg_level != SOL_SOCKET)
            continue;
        if (c->cmsg_type == SCM_RIGHTS && take_rights(c, msg) < 0)
            r = -EPROTO;
        if (c->cmsg_type == CONTROL_PIDFD) {
            memcpy(&other, CMSG_DATA(c), sizeof(other));
            close(other);
        }
    }
    if (!(mh->msg_flags & MSG_CTRUNC))
        return r;
    /* The type of truncated data is unknown, but fds are dropped only at the process limit. */
    other = fcntl(fd, F_DUPFD_CLOEXEC, 0);
    if (other < 0)
        return -errno;
    close(other);
    return r;
}

static int receive_all(int fd, void *buf, size_t len, struct gw_frontend_message *msg,
                       uint64_t deadline)
{
    union in_control control;
    struct iovec iov = {.iov_base = buf, .iov_len = len};
    struct msghdr mh;
    ssize_t n;
    int r;

    while (iov.iov_len) {
        mh = (struct msghdr){.msg_iov = &iov, .msg_iovlen = 1};
        mh.msg_control = &control;
        mh.msg_controllen = sizeof(control);
        n = recvmsg(fd, &mh, MSG_DONTWAIT | MSG_CMSG_CLOEXEC);
        if (n > 0) {
            r = take_control(fd, &mh, msg);
            if (r < 0)
                return r;
            iov.iov_base = (char *)iov.iov_base + n;
            iov.iov_len -= (size_t)n;
            continue;
        }
        r = n == 0 ? -ECONNRESET : -errno;
        if (r == -EAGAIN)
            r = gw_frontend_poll(fd, POLLIN, deadline);
        if (r < 0 && r != -EINTR)
            return r;
    }
    return 0;
}

int gw_frontend_wire_receive(int fd, struct gw_frontend_message *msg, uint64_t deadline)
{
    struct gw_wire_header h;
    int r;

    msg->n_fds = 0;
    msg->size = 0;
    r = receive_all(fd, &h, sizeof(h), msg, deadline);
    if (r == 0) {
        msg->request = h.request;
        msg->flags = h.flags;
        msg->size = h.size;
        if (h.size > GW_FRONTEND_PAYLOAD_MAX)
            r = -EPROTO;
        else
            r = receive_all(fd, msg->payload, h.size, msg, deadline);
    }
    if (r < 0)
        gw_frontend_message_done(msg);
    return r;
}

void gw_frontend_message_done(struct gw_frontend_message *msg)
{
    gw_peer_fd_close_all(msg->fds, msg->n_fds);
    msg->n_fds = 0;
}
