/* SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause */
/* One request of the front-end and its reply. */
#pragma once

#include "frontend_i.h"

struct gw_frontend_call {
    uint32_t request;
    uint32_t size; /* payload size in bytes */
    const void *payload;
    const int *fds;
    unsigned n_fds;
    uint32_t reply_size; /* exact size in bytes */
    void *reply;         /* NULL: the message has no reply payload */
    int *reply_fd;       /* receives the fd of the reply; NULL: an fd is an error */
    bool may_refuse;     /* a reply without payload is a rejection */
    /* Whether QEMU sets NEED_REPLY in this message; AUTO: as configured. */
    enum gw_frontend_ack ack;
};

/* Send the request and wait for its reply, or for the acknowledgement if it asks for one. */
int gw_frontend_transact(struct gw_frontend *fe, const struct gw_frontend_call *call);

/* The ring addresses of a driver, without flags. */
struct gw_frontend_vring_addr gw_frontend_vring_addr_of(const struct gw_driver *d);

/* Set the inflight region of the options, or get one from the back-end first. */
int gw_frontend_prepare_inflight(struct gw_frontend *fe, const struct gw_frontend_options *opt);

/* Send ADD_MEM_REG. In postcopy, gw_frontend_acknowledge must follow the last region. */
int gw_frontend_add_region(struct gw_frontend *fe, const struct gw_guest_mem *m, gw_gpa_t gpa);

/*
 * Postcopy forms: `call` is an ordinary SET_MEM_TABLE or ADD_MEM_REG. The reply contains the
 * back-end's addresses, which are passed to fe->base_cb.
 */
int gw_frontend_tell_table(struct gw_frontend *fe, struct gw_frontend_call *call);
int gw_frontend_tell_region(struct gw_frontend *fe, struct gw_frontend_call *call);
/* Allow page faults, after the last memory message `request`. Does nothing unless listening. */
int gw_frontend_acknowledge(struct gw_frontend *fe, uint32_t request);

/* Returns: 0; -EOPNOTSUPP if protocol feature `bit` was not negotiated. */
int gw_frontend_gate(struct gw_frontend *fe, unsigned bit, uint32_t request);
