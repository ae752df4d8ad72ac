/* SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause */
/*
 * Internal state of the front-end's connection, and sending and receiving one message. Front-end
 * and back-end share only the wire structures of proto.h.
 */
#pragma once

#include "base/clock.h"
#include "frontend/error.h"

#include <godwit/frontend/fault.h>
#include <godwit/frontend/frontend.h>
#include <stdarg.h>
#include <sys/uio.h>

/* The kernel's limit of fds in one message (SCM_MAX_FD). */
#define GW_FRONTEND_SEND_FDS_MAX 253

struct gw_frontend {
    struct gw_frontend_config cfg;
    int fd;         /* -1: not connected */
    int backend_fd; /* our end of the back-end channel; -1: none */
    int broken;     /* the negative errno that ended the session; 0: alive */
    bool has_mem;   /* memory was sent in this session */
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
    struct gw_frontend_trace trace[GW_FRONTEND_TRACE_MAX]; /* ring buffer */
    uint64_t n_trace;                                      /* messages recorded so far */
    char why[256];                                         /* with `broken`: the reason */
};

/* End the session: as gw_frontend_fail, and later requests fail in the same way. Returns: `r`. */
int gw_frontend_break(struct gw_frontend *fe, int r, const char *format, ...)
    __attribute__((format(printf, 3, 4)));
/* Returns: 0; the error that ended the session, with its reason. */
int gw_frontend_check_broken(const struct gw_frontend *fe);

/* The name of a front-end message, "request" for an unknown one. */
const char *gw_frontend_message_name(uint32_t request);

/* The timeout for poll(2) until `deadline`: of gw_clock_ns, in ms, rounded up, never negative. */
int gw_frontend_time_left(uint64_t deadline);
/* Wait for `events` on one fd. Returns: 0; -ETIMEDOUT; the errno of poll. */
int gw_frontend_poll(int fd, short events, uint64_t deadline);

/* Send one message and its fds. Returns: as gw_frontend_send_raw. */
int gw_frontend_wire_send(int fd, struct iovec *iov, unsigned n_iov, const int *fds, unsigned n_fds,
                          uint64_t deadline);
/* Receive one message. On failure no fd stays open. Returns: as gw_frontend_receive. */
int gw_frontend_wire_receive(int fd, struct gw_frontend_message *msg, uint64_t deadline);
