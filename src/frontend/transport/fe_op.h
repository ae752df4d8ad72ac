/* SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause */
/*
 * Operations: what a front-end does on its connection, in the order in which they were started. An
 * operation is one message, or a sequence of them, and the end of it is a callback.
 *
 * Every request exists once, as a function that encodes it (fe_requests.h). fe_forms.c makes the
 * public functions of it: the one that starts the operation, and the one that also waits for it.
 */
#pragma once

#include "base/list.h"
#include "base/proto.h"
#include "frontend_i.h"

#include <sys/un.h>

#define GW_FRONTEND_CONFIG_MAX 4096 /* QEMU uses 256 bytes, the vhost crate up to 4084 */

struct gw_frontend_op;

/*
 * Results of a step and of an encoder, in addition to negative errnos. One message is on the wire
 * at a time: the next step follows when its answer has arrived, or when it is sent if it has none.
 */
enum gw_frontend_step_result {
    GW_FRONTEND_STEP_DONE = 0,   /* nothing to send: the next step follows at once */
    GW_FRONTEND_STEP_SEND,       /* op->call is to be sent, then the next step follows */
    GW_FRONTEND_STEP_SEND_AGAIN, /* op->call is to be sent, then the same step follows */
    GW_FRONTEND_STEP_WAIT,       /* the same step follows at fe->retry_at */
};

typedef int gw_frontend_step(struct gw_frontend_op *op);

/* One message and its answer. */
struct gw_frontend_call {
    uint32_t request;
    uint32_t size;            /* of the payload, in bytes */
    uint32_t reply_size;      /* of the answer's payload, exact */
    bool has_reply;           /* the message has an answer of its own */
    bool has_reply_fd;        /* which may carry one fd */
    bool may_refuse;          /* an answer without payload is a rejection */
    enum gw_frontend_ack ack; /* whether QEMU sets NEED_REPLY; AUTO: as configured */
    uint64_t needs;           /* protocol features without which it is not sent */
    uint64_t needs_virtio;    /* the same of the virtio features */
    int fds[GW_MSG_FDS_MAX];
    unsigned n_fds;
    /*
     * Checks a valid answer and keeps what it says; `answer` is NULL if the message has none of its
     * own. It takes an fd by setting n_fds to 0. NULL: nothing to do. Returns: 0; a negative errno.
     */
    int (*finish)(struct gw_frontend_op *op, struct gw_frontend_message *answer);
    void *ret; /* the caller's out parameter, for `finish` */
    union {
        uint64_t u64;
        struct gw_wire_vring_state state;
        struct gw_wire_vring_addr addr;
        struct gw_wire_log log;
        struct gw_wire_iotlb iotlb;
        struct gw_wire_inflight inflight;
        struct gw_wire_device_state device_state;
        struct gw_wire_mem_table table;
        struct gw_wire_xen_mem_table xen_table;
        struct gw_wire_single_region region;
        struct gw_wire_xen_single_region xen_region;
        uint8_t bytes[sizeof(struct gw_wire_config) + GW_FRONTEND_CONFIG_MAX];
    } payload;
};

struct gw_frontend_op {
    struct gw_frontend *fe;
    struct gw_list node; /* in fe->ops */
    gw_frontend_done_cb *done;
    void *arg;
    bool is_allocated;
    bool connects;  /* it begins a session */
    bool has_ended; /* if a function waits for it: with `result` */
    int result;
    unsigned generation; /* of the session in which it was started */
    struct gw_frontend_call call;

    gw_frontend_step *const *steps; /* the next one; the array ends with NULL */
    gw_frontend_step *const *then;  /* the array that follows; NULL: none */
    unsigned i;                     /* messages that this step has sent; 0 when it begins */
    bool keeps_going;               /* a refused message does not end the operation */
    int first_error;                /* with keeps_going */
    char why[256];                  /* of first_error */

    /* Arguments of the operations that need some after their start. */
    struct gw_frontend_options opt;
    const struct gw_guest_mem *mem;
    gw_gpa_t gpa;
    struct gw_driver *driver;
    struct gw_driver **drivers;
    unsigned n_drivers;
    bool on;
    uint64_t offered; /* protocol features of the back-end */
    uint8_t status;   /* of the device */
    gw_frontend_base_cb *base_cb;
    void *base_arg;
    struct sockaddr_un address;
    struct gw_frontend_transfer *transfer; /* of the device state (frontend/state) */
    bool has_channel;
    int channel[2]; /* our end, and the back-end's; closed with the operation */
};

/*
 * Prepare an operation on the heap, or on the caller's stack. Its encoder is next, whose result
 * goes to gw_frontend_start_op (which frees the operation after a failure) or to
 * gw_frontend_wait_op, which returns the operation's result.
 * Returns: the operation; NULL without memory.
 */
struct gw_frontend_op *gw_frontend_new_op(struct gw_frontend *fe, gw_frontend_done_cb *done,
                                          void *arg);
void gw_frontend_init_op(struct gw_frontend_op *op, struct gw_frontend *fe);
int gw_frontend_start_op(struct gw_frontend_op *op, int encoded);
int gw_frontend_wait_op(struct gw_frontend_op *op, int encoded);

/*
 * The message op->call (fe_message.c): begin it, send it, receive its answer. Each sets the phase
 * that follows. Returns: 0; WAIT; a negative errno.
 */
int gw_frontend_begin_message(struct gw_frontend_op *op);
int gw_frontend_send_message(struct gw_frontend_op *op);
int gw_frontend_receive_answer(struct gw_frontend_op *op);

/* Sleep until gw_frontend_work can continue, up to `timeout_ms` milliseconds; negative: no limit.
 */
void gw_frontend_sleep(struct gw_frontend *fe, int timeout_ms);
/*
 * Watch the current descriptors: before one is closed, and after one is new. gw_frontend_leave does
 * it for the last caller. Returns: 0; the errno of epoll_ctl(2) for a new one.
 */
int gw_frontend_watch(struct gw_frontend *fe);
/* Close the descriptor of gw_frontend_poll_fd. */
void gw_frontend_unwatch(struct gw_frontend *fe);

/* Handle requests on the back-end channel. The caller has entered. */
void gw_frontend_serve_channel(struct gw_frontend *fe);

/* Work on the operations until they wait. Their callbacks run, so the caller has entered. */
void gw_frontend_work(struct gw_frontend *fe);

/* End all operations of this and previous sessions with -ECANCELED. The caller has entered. */
void gw_frontend_cancel(struct gw_frontend *fe);

/*
 * Callbacks may free the front-end: it stays until the last caller leaves.
 * Returns: `r`; -ECANCELED if the front-end was freed.
 */
void gw_frontend_enter(struct gw_frontend *fe);
int gw_frontend_leave(struct gw_frontend *fe, int r);
