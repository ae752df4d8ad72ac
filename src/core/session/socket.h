/* SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause */
/*
 * Frames and file descriptors over a Unix stream socket, without their meaning. A receiver never
 * waits for the rest of a frame. Every descriptor is close-on-exec.
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
    /* 0; if fds are missing: -E2BIG, more than GW_MSG_FDS_MAX; -EMFILE, too many open files */
    int fds_error;
    /* Aligned for every payload structure. */
    _Alignas(8) uint8_t payload[GW_MSG_PAYLOAD_MAX];
};

/* A partly received frame. Zero it before the first use. */
struct gw_rx {
    struct gw_msg msg;
    size_t n_read; /* bytes of header and payload */
};

/*
 * Read the available bytes, without waiting.
 * Returns: 1 if `msg` is complete and owns its fds until gw_rx_reset; 0 if bytes are missing;
 * -ENOTCONN for a hang-up between frames; -ECONNRESET for one inside a frame; -EMSGSIZE for a
 * payload that is too long; -EPROTO for fds after the first byte; the errno of recvmsg(2). The
 * connection is unusable after an error.
 */
int gw_rx_pump(struct gw_rx *rx, int fd);

/* Begin the next frame, and close the fds that the handler did not take. */
void gw_rx_reset(struct gw_rx *rx);

/* A frame on its way out; all zero: none. */
struct gw_tx {
    struct gw_wire_header header;
    const void *payload; /* header.size bytes */
    int fd;              /* goes with the first byte, and stays the caller's; -1: none */
    size_t n_sent;       /* bytes of header and payload */
    size_t size;         /* of both; 0: nothing to send */
};

void gw_tx_init(struct gw_tx *tx, const struct gw_wire_header *header, const void *payload, int fd);

/*
 * Send what the peer has room for, without waiting.
 * Returns: 0 when all of the frame has been sent; -EAGAIN; the errno of sendmsg(2).
 */
int gw_tx_pump(struct gw_tx *tx, int fd);

/*
 * Close a connection and set `*fd` to -1; no effect if it is -1. A peer that reads gets end of
 * file. Descriptors that were sent to us but not received cannot block the caller.
 */
void gw_socket_hang_up(int *fd);

/* Returns: 0; -ENAMETOOLONG, also for an empty path; with gw_last_error. */
int gw_socket_address(struct sockaddr_un *ret, const char *path);

/*
 * All return the new fd, or a negative errno with gw_last_error. `flags` are those of socket(2).
 * With SOCK_NONBLOCK, connecting fails with -EAGAIN if the backlog of the listener is full.
 */
int gw_socket_new(int flags);
int gw_socket_connect(const char *path, int flags);
/* -EAGAIN if no connection waits; never blocks, but makes the socket non-blocking for all users. */
int gw_socket_accept(int listen_fd);

/* Returns: 1 for a listening Unix stream socket, 0 for a connected one; -ENOTSOCK; -EINVAL. */
int gw_socket_is_listening(int fd);
