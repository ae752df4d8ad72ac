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
};

/* Send it, and wait for its reply, or for the acknowledgement where that was asked for. */
int gw_frontend_transact(struct gw_frontend *fe, const struct gw_frontend_call *call);

/* Where the rings of a driver are, without flags. */
struct gw_frontend_vring_addr gw_frontend_vring_addr_of(const struct gw_driver *d);

/* -EOPNOTSUPP unless protocol feature `bit` was negotiated. */
int gw_frontend_gate(struct gw_frontend *fe, unsigned bit, uint32_t request);
