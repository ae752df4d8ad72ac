/* SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause */
/*
 * The socket. Descriptors come with the first byte of a frame (vhost-user specification, "Message
 * Specification"); any that come later, or are too many, are closed and the frame is refused.
 */
#include "socket.h"

#include "cleanup.h"
#include "diag_i.h"

#include <errno.h>
#include <poll.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/socket.h>
#include <sys/un.h>

enum {
    SEND_PATIENCE_MS = 10000
};

/* ---- in ---- */

/* Takes the fds of one recvmsg; those beyond the room for them are closed. */
static int take_fds(struct gw_msg *msg, struct msghdr *hdr)
{
    bool too_many = hdr->msg_flags & MSG_CTRUNC;

    for (struct cmsghdr *c = CMSG_FIRSTHDR(hdr); c; c = CMSG_NXTHDR(hdr, c)) {
        size_t n;

        if (c->cmsg_level != SOL_SOCKET || c->cmsg_type != SCM_RIGHTS)
            continue;
        n = (c->cmsg_len - CMSG_LEN(0)) / sizeof(int);
        for (size_t i = 0; i < n; i++) {
            int fd;

            memcpy(&fd, CMSG_DATA(c) + i * sizeof(int), sizeof(fd));
            if (msg->n_fds < GW_MSG_FDS_MAX) {
                msg->fds[msg->n_fds++] = fd;
            } else {
                gw_close(&fd);
                too_many = true;
            }
        }
    }
    return too_many ? -EMFILE : 0;
}

static ssize_t receive(struct gw_rx *rx, int fd, void *to, size_t len)
{
    union {
        struct cmsghdr align;
        char bytes[CMSG_SPACE(GW_MSG_FDS_MAX * sizeof(int))];
    } control;
    struct iovec iov = {.iov_base = to, .iov_len = len};
    struct msghdr hdr = {
        .msg_iov = &iov,
        .msg_iovlen = 1,
        .msg_control = control.bytes,
        .msg_controllen = sizeof(control.bytes),
    };
    unsigned n_fds = rx->msg.n_fds;
    ssize_t n;
    int r;

    do
        n = recvmsg(fd, &hdr, MSG_DONTWAIT | MSG_CMSG_CLOEXEC);
    while (n < 0 && errno == EINTR);
    if (n < 0)
        return -errno;
    r = take_fds(&rx->msg, &hdr);
    if (r == 0 && rx->msg.n_fds != n_fds && rx->n_read > 0)
        r = -EPROTO;
    return r < 0 ? r : n;
}

int gw_rx_pump(struct gw_rx *rx, int fd)
{
    const size_t header = sizeof(rx->msg.header);

    for (;;) {
        size_t wanted = header;
        uint8_t *to = (uint8_t *)&rx->msg.header + rx->n_read;
        ssize_t n;

        if (rx->n_read >= header) {
            if (rx->msg.header.size > GW_MSG_PAYLOAD_MAX)
                return -EMSGSIZE;
            wanted += rx->msg.header.size;
            to = rx->msg.payload + (rx->n_read - header);
        }
        if (rx->n_read == wanted)
            return 1;
        n = receive(rx, fd, to, wanted - rx->n_read);
        if (n == -EAGAIN)
            return 0;
        /* It hung up, perhaps without reading our last answer. */
        if (n == 0 || n == -ECONNRESET)
            return rx->n_read == 0 ? -ENOTCONN : -ECONNRESET;
        if (n < 0)
            return (int)n;
        rx->n_read += (size_t)n;
    }
}

void gw_rx_reset(struct gw_rx *rx)
{
    gw_close_all(rx->msg.fds, rx->msg.n_fds);
    rx->msg.n_fds = 0;
    rx->n_read = 0;
}

/* ---- out ---- */

/* Room for the one that an answer may have. */
union one_fd {
    struct cmsghdr header;
    char space[CMSG_SPACE(sizeof(int))];
};

static int wait_writable(int fd, int wake_fd, const bool *stop)
{
    struct pollfd fds[] = {{.fd = fd, .events = POLLOUT}, {.fd = wake_fd, .events = POLLIN}};
    eventfd_t count;
    int n;

    do
        n = poll(fds, 2, SEND_PATIENCE_MS);
    while (n < 0 && errno == EINTR);
    if (n < 0)
        return -errno;
    if (n == 0)
        return -ETIMEDOUT;
    /* News of another kind can wait: the session looks at it when this is sent. */
    if (fds[1].revents)
        (void)eventfd_read(wake_fd, &count);
    return __atomic_load_n(stop, __ATOMIC_ACQUIRE) ? -ECANCELED : 0;
}

/* The first byte carries it. */
static void attach_fd(struct msghdr *hdr, union one_fd *control, int fd)
{
    if (fd < 0)
        return;
    *control = (union one_fd){.header = {
                                  .cmsg_level = SOL_SOCKET,
                                  .cmsg_type = SCM_RIGHTS,
                                  .cmsg_len = CMSG_LEN(sizeof(fd)),
                              }};
    memcpy(CMSG_DATA(&control->header), &fd, sizeof(fd));
    hdr->msg_control = control;
    hdr->msg_controllen = sizeof(*control);
}

int gw_socket_send(int fd, const struct gw_wire_header *header, const void *payload, int pass_fd,
                   int wake_fd, const bool *stop)
{
    struct iovec iov[] = {
        {.iov_base = (void *)(uintptr_t)header, .iov_len = sizeof(*header)},
        {.iov_base = (void *)(uintptr_t)payload, .iov_len = header->size},
    };
    struct msghdr hdr = {.msg_iov = iov, .msg_iovlen = 2};
    size_t left = sizeof(*header) + header->size;
    union one_fd control;

    attach_fd(&hdr, &control, pass_fd);
    while (left > 0) {
        ssize_t n = sendmsg(fd, &hdr, MSG_DONTWAIT | MSG_NOSIGNAL);

        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0) {
            int r = errno == EAGAIN ? wait_writable(fd, wake_fd, stop) : -errno;
            if (r < 0)
                return r;
            continue;
        }
        left -= (size_t)n;
        hdr.msg_controllen = 0;
        for (int i = 0; i < 2; i++) {
            size_t step = (size_t)n < iov[i].iov_len ? (size_t)n : iov[i].iov_len;

            iov[i].iov_base = (char *)iov[i].iov_base + step;
            iov[i].iov_len -= step;
            n -= (ssize_t)step;
        }
    }
    return 0;
}

/* ---- making connections ---- */

int gw_socket_address(struct sockaddr_un *addr, const char *path)
{
    size_t len = strlen(path);

    if (len == 0 || len >= sizeof(addr->sun_path))
        return gw_fail(-ENAMETOOLONG, "socket path \"%s\" is %s", path,
                       len ? "longer than 107 bytes" : "empty");
    *addr = (struct sockaddr_un){.sun_family = AF_UNIX};
    memcpy(addr->sun_path, path, len);
    return 0;
}

int gw_socket_new(int flags)
{
    int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | flags, 0);

    return fd < 0 ? gw_fail(-errno, "socket: %s", strerror(errno)) : fd;
}

int gw_socket_connect(const char *path, int flags)
{
    gw_cleanup_fd int fd = -1;
    struct sockaddr_un addr;
    int r;

    r = gw_socket_address(&addr, path);
    if (r < 0)
        return r;
    fd = gw_socket_new(flags);
    if (fd < 0)
        return fd;
    if (connect(fd, (const struct sockaddr *)&addr, sizeof(addr)) < 0)
        return gw_fail(-errno, "cannot connect to %s: %s", path, strerror(errno));
    return gw_steal_fd(&fd);
}

int gw_socket_accept(int listen_fd)
{
    int fd;

    do
        fd = accept4(listen_fd, NULL, NULL, SOCK_CLOEXEC);
    while (fd < 0 && (errno == EINTR || errno == ECONNABORTED));
    return fd < 0 ? gw_fail(-errno, "accept: %s", strerror(errno)) : fd;
}

int gw_socket_is_listening(int fd)
{
    int type = 0, domain = 0, listening = 0;
    socklen_t len = sizeof(int);

    if (getsockopt(fd, SOL_SOCKET, SO_TYPE, &type, &len) < 0 ||
        getsockopt(fd, SOL_SOCKET, SO_DOMAIN, &domain, &len) < 0 ||
        getsockopt(fd, SOL_SOCKET, SO_ACCEPTCONN, &listening, &len) < 0)
        return gw_fail(-errno, "fd %d: %s", fd, strerror(errno));
    if (type != SOCK_STREAM || domain != AF_UNIX)
        return gw_fail(-EINVAL, "fd %d is not a Unix stream socket", fd);
    return listening != 0;
}
