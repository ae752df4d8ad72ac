/* SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause */
/*
 * One connection of the link: frames over a non-blocking socket. Frames that cannot be sent yet are
 * kept, without a limit. A channel belongs to one thread at a time.
 */
#pragma once

#include "link_wire.h"

struct link_channel {
    int fd; /* -1: not connected */
    struct link_out out;
    size_t sent; /* bytes of `out` already sent */
    uint8_t *in;
    size_t in_at, in_len, in_room; /* unread bytes of `in` are at [in_at, in_at + in_len) */
    size_t in_used;                /* from in_at on: the frame last returned */
    uint64_t n_sent, n_received;   /* total bytes */
    uint32_t length_max; /* a frame with a longer payload is an error; 0: the limit of its type */
};

/* Takes ownership of the fd; -1: not connected. */
void link_channel_init(struct link_channel *c, int fd);
void link_channel_done(struct link_channel *c); /* closes the connection; may run twice */

/* Bytes not sent yet. */
size_t link_channel_pending(const struct link_channel *c);
/* Send what the socket accepts. Returns: 0, also if bytes remain; -ENOMEM; as send. */
int link_channel_flush(struct link_channel *c);

/*
 * Return the next complete frame; its payload is valid until the next call. Returns: 0; -EAGAIN;
 * -ECONNRESET the peer disconnected, or the errno of recv; -EPROTO with `why` (LINK_TEXT_MAX
 * bytes); -ENOMEM.
 */
int link_channel_next(struct link_channel *c, struct link_frame *ret, struct link_in *ret_in,
                      char *why);

/*
 * Wait up to `timeout_ms` until the channel is readable, or writable if bytes wait, or one of two
 * other fds (-1: unused) is readable. Returns: whether `fd` is readable.
 */
bool link_channel_wait(const struct link_channel *c, int fd, int wake_fd, unsigned timeout_ms);

/* Does the error end the connection only, so that reconnecting may help? */
bool link_is_lost(int r);
