/* SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause */
/*
 * Internal state of the front-end's connection, and sending and receiving one message. Front-end
 * and back-end share only the wire structures of proto.h.
 */
#pragma once

#include "base/clock.h"
#include "base/list.h"
#include "base/proto.h"
#include "frontend/error.h"

#include <godwit/frontend/async.h>
#include <godwit/frontend/channel.h>
#include <godwit/frontend/iotlb.h>
#include <poll.h>
#include <stdarg.h>
#include <sys/uio.h>

/* The kernel's limit of fds in one message (SCM_MAX_FD). */
#define GW_FRONTEND_SEND_FDS_MAX 253

#define GW_FRONTEND_WATCHED 3 /* the socket, the back-end channel, a device state */

/* A message on its way out: what the socket has not taken yet. */
struct gw_frontend_tx {
    struct iovec iov[2];
    const int *fds; /* sent with the first byte */
    unsigned n_fds;
};

/* A message on its way in. */
struct gw_frontend_rx {
    size_t got; /* bytes of header and payload; 0 between messages */
    struct gw_wire_header header;
    struct gw_frontend_message msg;
};

enum gw_frontend_phase {
    GW_FRONTEND_PREPARING = 0, /* the next message of the first operation, if any */
    GW_FRONTEND_SENDING,
    GW_FRONTEND_RECEIVING,
};

struct gw_frontend {
    struct gw_frontend_config cfg;
    int fd;              /* -1: not connected */
    int broken;          /* the negative errno that ended the session; 0: alive */
    unsigned generation; /* of the session, counted by hang-ups */
    bool has_mem;        /* memory was sent in this session */
    bool negotiated;
    uint64_t offered;  /* virtio features of the last GET_FEATURES */
    uint64_t wanted;   /* features that gw_frontend_start acknowledges */
    uint64_t features; /* acknowledged */
    uint64_t protocol_features;
    uint64_t n_queues_max;
    uint64_t n_slots_max;
    bool is_listening; /* postcopy forms of memory messages are in use */
    gw_frontend_base_cb *base_cb;
    void *base_arg;

    /* The operations, and the message of the first one (fe_op.h). */
    struct gw_list ops;
    enum gw_frontend_phase phase;
    uint64_t deadline; /* of the message */
    uint64_t retry_at; /* while a step waits; otherwise 0 */
    struct gw_wire_header header;
    struct gw_frontend_tx tx;
    struct gw_frontend_rx rx;
    bool expects_answer;
    unsigned n_users; /* calls on the stack that use the front-end */
    bool is_freed;    /* by a callback: the last of these calls frees it */

    /* The back-end channel. */
    int backend_fd;      /* our end; -1: none */
    unsigned n_channels; /* closed so far */
    struct gw_frontend_rx backend_rx;
    gw_frontend_backend_cb *backend_cb; /* NULL: the embedder reads the channel */
    void *backend_arg;
    bool has_channel_ops;
    struct gw_frontend_channel_ops channel_ops;
    void *channel_arg;
    bool is_serving;                  /* in backend_cb */
    struct gw_frontend_tx backend_tx; /* an answer that the socket has not taken yet */
    struct gw_wire_header backend_header;
    uint64_t backend_value;
    int backend_reply_fd; /* sent with the answer, then closed; -1: none */

    int state_fd; /* an eventfd that the first operation waits for (state/device_state.c); -1: none
                   */

    /* The loop of the embedder. */
    int epoll_fd; /* -1: not in use */
    int timer_fd;
    uint64_t timer_at; /* when it fires; 0: never */
    struct pollfd watched[GW_FRONTEND_WATCHED];

    struct gw_frontend_trace trace[GW_FRONTEND_TRACE_MAX]; /* ring buffer */
    uint64_t n_trace;                                      /* messages recorded so far */
    char why[256];                                         /* with `broken`: the reason */
};

/* End the session: as gw_frontend_fail, and later requests fail in the same way. Returns: `r`. */
int gw_frontend_break(struct gw_frontend *fe, int r, const char *format, ...)
    __attribute__((format(printf, 3, 4)));
/* The same, and end the session: every later request fails in the same way. Returns: `r`. */
int gw_frontend_break(struct gw_frontend *fe, int r, const char *format, ...)
    __attribute__((format(printf, 3, 4)));
/* Returns: 0; the error that ended the session, with its reason. */
int gw_frontend_check_broken(const struct gw_frontend *fe);

/* Begin a session with no state of the previous one; consumes `fd`. Returns: 0; a negative errno.
 */
int gw_frontend_begin_session(struct gw_frontend *fe, int fd);
/* Close a socket of the front-end, which the loop then no longer watches. */
void gw_frontend_close(struct gw_frontend *fe, int *fd);
void gw_frontend_close_channel(struct gw_frontend *fe);

/* The name of a front-end message, "request" for an unknown one. */
const char *gw_frontend_message_name(uint32_t request);

/* The timeout for poll(2) until `deadline`: of gw_clock_ns, in ms, rounded up, never negative. */
int gw_frontend_time_left(uint64_t deadline);
/* Wait for `events` on one fd. Returns: 0; -ETIMEDOUT; the errno of poll. */
int gw_frontend_poll(int fd, short events, uint64_t deadline);

/* Does the library serve the back-end channel? */
static inline bool gw_frontend_serves(const struct gw_frontend *fe)
{
    return fe->backend_cb || fe->has_channel_ops;
}

static inline bool gw_frontend_tx_is_empty(const struct gw_frontend_tx *tx)
{
    return tx->iov[0].iov_len == 0 && tx->iov[1].iov_len == 0;
}

/* Send what the socket takes. Returns: 0 if that was the rest; -EAGAIN; as gw_frontend_send_raw. */
int gw_frontend_wire_send(int fd, struct gw_frontend_tx *tx);
/*
 * Receive what has arrived. Returns: 0 with a complete message, whose fds belong to the caller;
 * -EAGAIN; as gw_frontend_receive, and no fd of the message stays open.
 */
int gw_frontend_wire_receive(int fd, struct gw_frontend_rx *rx);
/* Discard the message, or what has arrived of it; does not wait for its fds to be closed. */
void gw_frontend_rx_reset(struct gw_frontend_rx *rx);
/* The same until `deadline`, for raw messages; receiving moves the message to `ret`. */
int gw_frontend_wire_send_all(int fd, struct gw_frontend_tx *tx, uint64_t deadline);
int gw_frontend_wire_receive_all(int fd, struct gw_frontend_rx *rx, struct gw_frontend_message *ret,
                                 uint64_t deadline);
