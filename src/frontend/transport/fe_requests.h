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
    bool may_refuse;     /* by a reply without payload */
    /* NEED_REPLY as QEMU has it in this message; AUTO: as the configuration says. */
    enum gw_frontend_ack ack;
};

/* Send it, and wait for its reply, or for the acknowledgement where that was asked for. */
int gw_frontend_transact(struct gw_frontend *fe, const struct gw_frontend_call *call);

/* Where the rings of a driver are, without flags. */
struct gw_frontend_vring_addr gw_frontend_vring_addr_of(const struct gw_driver *d);

/* Have the back-end use the inflight region of the options, or ask it for one. */
int gw_frontend_prepare_inflight(struct gw_frontend *fe, const struct gw_frontend_options *opt);

/* ADD_MEM_REG; in postcopy what it begins ends with gw_frontend_acknowledge. */
int gw_frontend_add_region(struct gw_frontend *fe, const struct gw_guest_mem *m, gw_gpa_t gpa);

/*
 * The forms of postcopy: `call` is SET_MEM_TABLE or ADD_MEM_REG as ever. The answer has the
 * back-end's addresses, which are told to whoever asked for them.
 */
int gw_frontend_tell_table(struct gw_frontend *fe, struct gw_frontend_call *call);
int gw_frontend_tell_region(struct gw_frontend *fe, struct gw_frontend_call *call);
/* Faults may come: `request` is the last one sent. Nothing unless it is postcopy. */
int gw_frontend_acknowledge(struct gw_frontend *fe, uint32_t request);

/* -EOPNOTSUPP unless protocol feature `bit` was negotiated. */
int gw_frontend_gate(struct gw_frontend *fe, unsigned bit, uint32_t request);
