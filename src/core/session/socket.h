/* SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause */
/*
 * Bytes and file descriptors over a Unix stream socket. Knows frames, not what they mean. Nothing
 * here waits for a peer in the middle of a frame, and every descriptor is close-on-exec.
 */
#pragma once

#include "base/proto.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/un.h>

struct gw_msg {
    struct gw_wire_header header;
    int fds[GW_MSG_FDS_MAX];
    unsigned n_fds;
    /* 0; why fds of it are missing: -E2BIG: it had more than that; -EMFILE: no more can be opened
     */
    int fds_error;
    /* The payload is as aligned as any structure in it needs. */
    _Alignas(8) uint8_t payload[GW_MSG_PAYLOAD_MAX];
};

/* A frame on its way in; zeroed before the first use. */
struct gw_rx {
    struct gw_msg msg;
    size_t n_read; /* of header and payload */
};

/*
 * Read what is there, without waiting.
 * Returns: 1 when `msg` is complete, which then owns its fds until gw_rx_reset; 0 when more is to
 * come; -ENOTCONN for a hang-up between frames; -ECONNRESET for one inside a frame; -EMSGSIZE for a
 * payload that is too long; -EPROTO for fds behind the first byte; the errno of recvmsg(2). All but
 * the first two end the connection.
 */
int gw_rx_pump(struct gw_rx *rx, int fd);

/* Begin the next frame: closes the fds that nobody took. */
void gw_rx_reset(struct gw_rx *rx);

/*
 * Send a frame, and `pass_fd` with it unless that is -1; waits up to 10 s for a peer that does not
 * read, unless the eventfd `wake_fd` is written to and `stop` (atomic) is set then.
 * Returns: 0; -ETIMEDOUT; -ECANCELED when told to stop; the errno of send(2).
 */
int gw_socket_send(int fd, const struct gw_wire_header *header, const void *payload, int pass_fd,
                   int wake_fd, const bool *stop);

/*
 * Close a connection and set `*fd` to -1; nothing happens with -1. A peer that reads it sees the
 * end. Descriptors that arrived and were not read cannot hold up the caller.
 */
void gw_socket_hang_up(int *fd);

/* Returns: 0; -ENAMETOOLONG, also for an empty path; with gw_last_error. */
int gw_socket_address(struct sockaddr_un *ret, const char *path);

/*
 * All return the new fd or a negative errno, with gw_last_error. `flags` are of socket(2): with
 * SOCK_NONBLOCK, connecting fails with -EAGAIN rather than wait while others are being accepted.
 */
int gw_socket_new(int flags);
int gw_socket_connect(const char *path, int flags);
int gw_socket_accept(int listen_fd);

/* Returns: 1 for a listening Unix stream socket, 0 for a connected one; -ENOTSOCK; -EINVAL. */
int gw_socket_is_listening(int fd);
