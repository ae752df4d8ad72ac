/* SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause */
/*
 * Messages and fds on a Unix stream socket. This file interprets only the header. The socket's
 * blocking mode does not matter: every call uses MSG_DONTWAIT. A message that did not arrive, or
 * leave, at once continues in the next call.
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

/* Consume `n` bytes that were sent, and the fds with the first of them. */
static void tx_consume(struct gw_frontend_tx *tx, size_t n)
{
    tx->n_fds = 0;
    for (unsigned i = 0; i < 2; i++) {
        size_t part = n < tx->iov[i].iov_len ? n : tx->iov[i].iov_len;

        tx->iov[i].iov_base = (char *)tx->iov[i].iov_base + part;
        tx->iov[i].iov_len -= part;
        n -= part;
    }
}

int gw_frontend_wire_send(int fd, struct gw_frontend_tx *tx)
{
    union {
        struct cmsghdr align;
        char buf[CMSG_SPACE(sizeof(int) * GW_FRONTEND_SEND_FDS_MAX)];
    } control;
    struct msghdr mh = {.msg_iov = tx->iov, .msg_iovlen = 2};
    struct cmsghdr *c;
    ssize_t n;

    if (tx->n_fds > GW_FRONTEND_SEND_FDS_MAX)
        return -EINVAL;
    if (tx->n_fds) {
        memset(&control, 0, sizeof(control));
        mh.msg_control = &control;
        mh.msg_controllen = CMSG_SPACE(sizeof(int) * tx->n_fds);
        c = CMSG_FIRSTHDR(&mh);
        c->cmsg_level = SOL_SOCKET;
        c->cmsg_type = SCM_RIGHTS;
        c->cmsg_len = CMSG_LEN(sizeof(int) * tx->n_fds);
        memcpy(CMSG_DATA(c), tx->fds, sizeof(int) * tx->n_fds);
    }
    while (!gw_frontend_tx_is_empty(tx)) {
        n = sendmsg(fd, &mh, MSG_NOSIGNAL | MSG_DONTWAIT);
        if (n >= 0) {
            mh.msg_control = NULL;
            mh.msg_controllen = 0;
            tx_consume(tx, (size_t)n);
        } else if (errno == EPIPE || errno == ECONNRESET) {
            return -ECONNRESET;
        } else if (errno != EINTR) {
            return -errno;
        }
    }
    return 0;
}

int gw_frontend_wire_send_all(int fd, struct gw_frontend_tx *tx, uint64_t deadline)
{
    int r;

    do {
        r = gw_frontend_wire_send(fd, tx);
    } while (r == -EAGAIN && (r = gw_frontend_poll(fd, POLLOUT, deadline)) == 0);
    return r;
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

static int receive_some(int fd, struct gw_frontend_rx *rx, void *buf, size_t len)
{
    union in_control control;
    struct iovec iov = {.iov_base = buf, .iov_len = len};
    struct msghdr mh = {.msg_iov = &iov, .msg_iovlen = 1};
    ssize_t n;
    int r;

    mh.msg_control = &control;
    mh.msg_controllen = sizeof(control);
    n = recvmsg(fd, &mh, MSG_DONTWAIT | MSG_CMSG_CLOEXEC);
    if (n == 0)
        return -ECONNRESET;
    if (n < 0)
        return errno == EINTR ? 0 : -errno;
    r = take_control(fd, &mh, &rx->msg);
    rx->got += (size_t)n;
    return r;
}

int gw_frontend_wire_receive(int fd, struct gw_frontend_rx *rx)
{
    const size_t head = sizeof(rx->header);
    struct gw_frontend_message *msg = &rx->msg;
    int r = 0;

    if (rx->got == 0)
        msg->n_fds = 0;
    while (r == 0 && rx->got < head)
        r = receive_some(fd, rx, (char *)&rx->header + rx->got, head - rx->got);
    if (r == 0 && rx->header.size > GW_FRONTEND_PAYLOAD_MAX)
        r = -EPROTO;
    while (r == 0 && rx->got - head < rx->header.size)
        r = receive_some(fd, rx, msg->payload + (rx->got - head),
                         rx->header.size - (rx->got - head));
    if (r == -EAGAIN)
        return r;
    rx->got = 0;
    if (r < 0)
        gw_frontend_rx_reset(rx);
    msg->request = rx->header.request;
    msg->flags = rx->header.flags;
    msg->size = rx->header.size;
    return r;
}

void gw_frontend_rx_reset(struct gw_frontend_rx *rx)
{
    rx->got = 0;
    gw_peer_fd_close_all(rx->msg.fds, rx->msg.n_fds);
    rx->msg.n_fds = 0;
}

int gw_frontend_wire_receive_all(int fd, struct gw_frontend_rx *rx, struct gw_frontend_message *ret,
                                 uint64_t deadline)
{
    int r;

    ret->n_fds = 0; /* also after an error, for callers that release it always */
    do {
        r = gw_frontend_wire_receive(fd, rx);
    } while (r == -EAGAIN && (r = gw_frontend_poll(fd, POLLIN, deadline)) == 0);
    if (r == 0) {
        *ret = rx->msg;
        rx->msg.n_fds = 0;
    }
    return r;
}

void gw_frontend_message_done(struct gw_frontend_message *msg)
{
    gw_peer_fd_close_all(msg->fds, msg->n_fds);
    msg->n_fds = 0;
}
