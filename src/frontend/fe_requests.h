/* SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause */
/* One request of the front-end and its answer. */
#pragma once

#include "frontend_i.h"

struct gw_frontend_call {
    uint32_t request;
    uint32_t size; /* of payload */
    const void *payload;
    const int *fds;
    unsigned n_fds;
    uint32_t reply_size; /* exactly */
    void *reply;         /* NULL: the message has no reply of its own */
    int *reply_fd;       /* where an fd of the reply goes; NULL: it must have none */
};

/* Send it, and wait for its reply, or for the acknowledgement where that was asked for. */
int gw_frontend_transact(struct gw_frontend *fe, const struct gw_frontend_call *call);

/* Where the rings of a driver are, without flags. */
struct gw_frontend_vring_addr gw_frontend_vring_addr_of(const struct gw_driver *d);

/* Have the back-end use the inflight region of the options, or ask it for one. */
int gw_frontend_prepare_inflight(struct gw_frontend *fe, const struct gw_frontend_options *opt);

/* -EOPNOTSUPP unless protocol feature `bit` was negotiated. */
int gw_frontend_gate(struct gw_frontend *fe, unsigned bit, uint32_t request);
