/* SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause */
/*
 * The socket. File descriptors accompany the first byte of a frame (vhost-user specification,
 * "Message Specification"). Descriptors after that byte end the session. A message with too many
 * descriptors is refused.
 */
#include "socket.h"

#include "base/cleanup.h"
#include "base/log_i.h"
#include "fd/peer_fd.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>

enum {
    SCM_FDS_MAX = 253, /* SCM_MAX_FD; recvmsg(2) itself closes fds that do not fit */
    SECURITY_LABEL_MAX = 4096,
    TIMESTAMPS_MAX = 256,
    CONTROL_PIDFD = 4, /* SCM_PIDFD of Linux 6.5, which older C libraries do not name */
};

/* ---- receiving ---- */

/*
 * Room for all control data of one recvmsg, so that a socket inherited with SO_PASSCRED,
 * SO_PASSPIDFD, SO_PASSSEC or a timestamp option still has room for the file descriptors.
 */
union control {
    struct cmsghdr align;
    char bytes[CMSG_SPACE(SCM_FDS_MAX * sizeof(int)) + CMSG_SPACE(sizeof(struct ucred)) +
               CMSG_SPACE(sizeof(int)) + CMSG_SPACE(SECURITY_LABEL_MAX) + TIMESTAMPS_MAX];
};

/* Store received fds in `msg`. Close pidfds, and fds beyond GW_MSG_FDS_MAX. */
static void take_fds(struct gw_msg *msg, const struct cmsghdr *c)
{
    size_t n = (c->cmsg_len - CMSG_LEN(0)) / sizeof(int);

    for (size_t i = 0; i < n; i++) {
        int fd;

        memcpy(&fd, CMSG_DATA(c) + i * sizeof(int), sizeof(fd));
        if (c->cmsg_type == CONTROL_PIDFD) {
            gw_close(&fd);
        } else if (msg->n_fds < GW_MSG_FDS_MAX) {
            msg->fds[msg->n_fds++] = fd;
        } else {
            gw_peer_fd_close(&fd);
            msg->fds_error = -E2BIG;
        }
    }
}

/*
 * Take the control data of one recvmsg. Only SCM_RIGHTS and SCM_PIDFD carry file descriptors; other
 * kinds are ignored. MSG_CTRUNC alone proves nothing, because data of any kind may have been cut
 * off. It counts only if this process cannot open another file. Otherwise the check of the number
 * of fds detects a missing fd.
 * Returns: whether SCM_RIGHTS was present.
 */
static bool take_control(struct gw_msg *msg, struct msghdr *hdr, int fd)
{
    bool has_rights = false;

    for (struct cmsghdr *c = CMSG_FIRSTHDR(hdr); c; c = CMSG_NXTHDR(hdr, c)) {
        if (c->cmsg_level != SOL_SOCKET ||
            (c->cmsg_type != SCM_RIGHTS && c->cmsg_type != CONTROL_PIDFD))
            continue;
        take_fds(msg, c);
        has_rights |= c->cmsg_type == SCM_RIGHTS;
    }
    if (hdr->msg_flags & MSG_CTRUNC) {
        int another = fcntl(fd, F_DUPFD_CLOEXEC, 0);

        if (another < 0)
            msg->fds_error = -errno;
        gw_close(&another);
    }
    return has_rights;
}

static ssize_t receive(struct gw_rx *rx, int fd, void *to, size_t len)
{
    union control control;
    struct iovec iov = {.iov_base = to, .iov_len = len};
    struct msghdr hdr = {
        .msg_iov = &iov,
        .msg_iovlen = 1,
        .msg_control = control.bytes,
        .msg_controllen = sizeof(control.bytes),
    };
    ssize_t n;

    do
        n = recvmsg(fd, &hdr, MSG_DONTWAIT | MSG_CMSG_CLOEXEC);
    while (n < 0 && errno == EINTR);
    if (n < 0)
        return -errno;
    return take_control(&rx->msg, &hdr, fd) && rx->n_read > 0 ? -EPROTO : n;
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
        /* The peer hung up; -ECONNRESET means that it left our last answer unread. */
        if (n == 0 || n == -ECONNRESET)
            return rx->n_read == 0 ? -ENOTCONN : -ECONNRESET;
        if (n < 0)
            return (int)n;
        rx->n_read += (size_t)n;
    }
}

void gw_rx_reset(struct gw_rx *rx)
{
    gw_peer_fd_close_all(rx->msg.fds, rx->msg.n_fds);
    rx->msg.n_fds = 0;
    rx->msg.fds_error = 0;
    rx->n_read = 0;
}

/*
 * close(2) on a socket also closes the descriptors queued in it, synchronously, which blocks if one
 * is a socket that lingers. So the queue is emptied first. After the shutdown nothing more arrives.
 */
void gw_socket_hang_up(int *fd)
{
    struct gw_rx rx = {.n_read = 0};
    uint8_t ignored[4096];
    ssize_t n;

    if (*fd < 0)
        return;
    (void)shutdown(*fd, SHUT_RDWR); /* a child of fork(2) may have the socket, too */
    do {
        n = receive(&rx, *fd, ignored, sizeof(ignored));
        gw_rx_reset(&rx);
    } while (n > 0);
    gw_close(fd);
}

/* ---- sending ---- */

/* Room for the fd of an answer. */
union one_fd {
    struct cmsghdr header;
    char space[CMSG_SPACE(sizeof(int))];
};

/* The fd accompanies the first byte. */
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

void gw_tx_init(struct gw_tx *tx, const struct gw_wire_header *header, const void *payload, int fd)
{
    *tx = (struct gw_tx){
        .header = *header,
        .payload = payload,
        .fd = fd,
        .size = sizeof(*header) + header->size,
    };
}

int gw_tx_pump(struct gw_tx *tx, int fd)
{
    const size_t header = sizeof(tx->header);

    while (tx->n_sent < tx->size) {
        size_t of_header = tx->n_sent < header ? tx->n_sent : header;
        size_t of_payload = tx->n_sent - of_header;
        struct iovec iov[] = {
            {(uint8_t *)&tx->header + of_header, header - of_header},
            {(uint8_t *)(uintptr_t)tx->payload + of_payload, tx->header.size - of_payload},
        };
        struct msghdr hdr = {.msg_iov = iov, .msg_iovlen = 2};
        union one_fd control;
        ssize_t n;

        if (tx->n_sent == 0)
            attach_fd(&hdr, &control, tx->fd);
        n = sendmsg(fd, &hdr, MSG_DONTWAIT | MSG_NOSIGNAL);
        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0)
            return -errno;
        tx->n_sent += (size_t)n;
    }
    return 0;
}

/* ---- connecting ---- */

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

/*
 * Another process that shares an inherited listening socket may take the connection first, and may
 * clear O_NONBLOCK, which belongs to the socket and not to the descriptor.
 */
static void set_nonblocking(int fd)
{
    int flags = fcntl(fd, F_GETFL);

    if (flags >= 0 && !(flags & O_NONBLOCK))
        (void)fcntl(fd, F_SETFL, flags | O_NONBLOCK);
}

int gw_socket_accept(int listen_fd)
{
    int fd;

    set_nonblocking(listen_fd);
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
