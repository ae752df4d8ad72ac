/* SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause */
/*
 * Connections to the port of a destination whose first frame has not arrived. Any program may
 * connect. All connections wait concurrently, so a silent one does not delay the others. A lobby
 * belongs to one thread at a time.
 */
#pragma once

#include "link_channel.h"

#define LINK_LOBBY_MAX      64   /* connections; one more replaces the oldest */
#define LINK_LOBBY_MS       5000 /* for the first frame */
#define LINK_LOBBY_PAUSE_MS 100  /* after an accept that failed */

struct link_caller {
    struct link_channel channel;
    uint64_t since_ns;
};

struct link_lobby {
    int listen_fd, epoll_fd;
    struct link_caller callers[LINK_LOBBY_MAX]; /* the oldest first */
    unsigned n_callers;
    uint64_t pause_until_ns; /* accept no connection before; 0: no pause */
    bool is_failing;         /* the last accept failed */
};

/* An empty lobby; link_lobby_done is safe. */
void link_lobby_init(struct link_lobby *l);
/* Takes ownership of the listening socket, also on failure. Returns: 0; as epoll_ctl. */
int link_lobby_open(struct link_lobby *l, int listen_fd);
void link_lobby_done(struct link_lobby *l);

/*
 * Accept new connections, and return the first one whose first frame has arrived, or that is to be
 * rejected; its channel becomes the caller's. `now_ns` is of a monotonic clock. Returns: 0 with a
 * frame of type LINK_HELLO or LINK_RESUME, no longer than a LINK_HELLO; -EAGAIN no such connection:
 * wait until `epoll_fd` is readable or the oldest one times out; -EPROTO: reject `ret` for the
 * reason in `why` (LINK_TEXT_MAX bytes); another negative errno, without `ret`: no connection can
 * be accepted. The lobby returns that once until an accept succeeds, and retries every
 * LINK_LOBBY_PAUSE_MS, so call again after that time.
 */
int link_lobby_next(struct link_lobby *l, uint64_t now_ns, struct link_channel *ret,
                    struct link_frame *ret_frame, struct link_in *ret_in, char *why);
/* Send the reason, if the socket accepts it at once, and close the connection. */
void link_refuse(struct link_channel *c, const char *why);
