/* SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause */
/*
 * One connection of the link: frames in and out of a socket that does not block. What cannot be
 * sent yet is kept, as much as the caller puts there. It belongs to one thread at a time.
 */
#pragma once

#include "link_wire.h"

struct link_channel {
    int fd; /* -1: not connected */
    struct link_out out;
    size_t sent; /* of out */
    uint8_t *in;
    size_t in_at, in_len, in_room; /* of in: what was read and not taken yet is in between */
    size_t in_used;                /* from in_at on: given out with the last frame */
    uint64_t n_sent, n_received;   /* bytes, ever */
    uint32_t
        length_max; /* a frame with a longer payload is refused; 0: as long as its type allows */
};

/* The fd is the channel's from now on; -1 for none. */
void link_channel_init(struct link_channel *c, int fd);
void link_channel_done(struct link_channel *c); /* hangs up; safe twice */

/* Bytes that wait in it. */
size_t link_channel_pending(const struct link_channel *c);
/* Send what the socket takes. Returns: 0, whether it was all or not; -ENOMEM; as send. */
int link_channel_flush(struct link_channel *c);

/*
 * The next frame that is here wholly; its payload stays valid until the next call.
 * Returns: 0; -EAGAIN; -ECONNRESET it hung up, or the errno of recv; -EPROTO with `why` (of
 * LINK_TEXT_MAX); -ENOMEM.
 */
int link_channel_next(struct link_channel *c, struct link_frame *ret, struct link_in *ret_in,
                      char *why);

/*
 * Wait until there is something to read, or to send where something waits, or one of two other fds
 * (-1: none) is readable, for at most `timeout_ms`. Returns: whether it is the first of them.
 */
bool link_channel_wait(const struct link_channel *c, int fd, int wake_fd, unsigned timeout_ms);

/* Is it over with the connection, and not with what was said on it? */
bool link_is_lost(int r);
