/* SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause */
/*
 * The other end of the wire, for programs that act as the VMM of a vhost-user back-end: a
 * connection, the messages on it, and complete sessions. Guest memory is in
 * <godwit/frontend/guest_mem.h>, the driver's side of a queue in <godwit/frontend/driver.h>, and
 * the same messages without blocking in <godwit/frontend/async.h>.
 *
 * Errors. A function that can fail returns a negative errno, and gw_frontend_last_error returns the
 * reason as a sentence: <godwit/frontend/error.h>. Out parameters are set only on success.
 *
 * Configuration. Zero a structure that begins with `size`, set `size` to its sizeof, then set each
 * member that differs from its default. Later versions append members, and accept a structure
 * without them.
 *
 * Context, unless a function states another: an object belongs to one thread at a time. A driver
 * may run on another thread than the front-end that starts and stops its queue, like a vCPU.
 */
#ifndef GODWIT_FRONTEND_FRONTEND_H
#define GODWIT_FRONTEND_FRONTEND_H

#include <godwit/frontend/driver.h>
#include <godwit/frontend/error.h>
#include <godwit/frontend/guest_mem.h>
#include <godwit/memory.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif
#pragma GCC visibility push(default)

struct gw_frontend;

/* ---- Connection ---- */

enum gw_frontend_ack {
    GW_FRONTEND_ACK_AUTO = 0, /* NEED_REPLY if REPLY_ACK was negotiated */
    GW_FRONTEND_ACK_NEVER,    /* like a front-end without REPLY_ACK */
    GW_FRONTEND_ACK_ALWAYS,   /* on every message; wait for an answer only if one is due */
};

struct gw_frontend_config {
    size_t size;
    unsigned timeout_ms;         /* of each request; default 10 s */
    unsigned connect_timeout_ms; /* of connect and accept; default 10 s */
    enum gw_frontend_ack ack;
    bool no_gates; /* also send messages that the negotiated features do not allow */
};

/*
 * Make a front-end without a session. `cfg` may be NULL.
 *
 * Ownership: `cfg` is copied. Free the result with gw_frontend_free.
 * Returns: 0; -EINVAL if `size` is smaller than in the first version, or for an unknown `ack`;
 * -E2BIG if a member is set that only later versions know; -ENOMEM.
 */
int gw_frontend_new(struct gw_frontend **ret, const struct gw_frontend_config *cfg);

/* Hang up, as gw_frontend_disconnect, and free the front-end. `fe` may be NULL. */
void gw_frontend_free(struct gw_frontend *fe);

/* Set the time limit of further requests, in milliseconds. */
void gw_frontend_set_timeout(struct gw_frontend *fe, unsigned timeout_ms);

/*
 * Begin a session: connect to the back-end at `path`, retrying while none listens; accept the next
 * connection on `listen_fd`; or use the connected socket `fd`. The session begins without the
 * negotiated state of previous ones.
 *
 * Ownership: `listen_fd` stays the caller's; `fd` is consumed, also on failure.
 * Returns: 0; -ETIMEDOUT if there is no connection within connect_timeout_ms; -EISCONN if a session
 * exists; -ENAMETOOLONG if `path` does not fit a socket address; the errno of connect(2), accept(2)
 * or fcntl(2).
 * Context: blocks up to connect_timeout_ms; gw_frontend_attach returns at once.
 */
int gw_frontend_connect(struct gw_frontend *fe, const char *path);
int gw_frontend_accept(struct gw_frontend *fe, int listen_fd);
int gw_frontend_attach(struct gw_frontend *fe, int fd);

/*
 * Hang up, without stopping rings. Pending operations (async.h) end with -ECANCELED. No effect
 * without a session and operations.
 */
void gw_frontend_disconnect(struct gw_frontend *fe);

/*
 * Check, between requests, whether the back-end has hung up or sent an unexpected message. If it
 * has hung up, gw_frontend_last_error names the messages since its last answer.
 *
 * Returns: 0; -ENOTCONN without a session; -ECONNRESET if it hung up; -EPROTO if it sent a message;
 * after a request that ended the session, the error of that request (-ETIMEDOUT, for example) with
 * its reason.
 */
int gw_frontend_check(struct gw_frontend *fe);

#define GW_FRONTEND_TRACE_MAX 16

enum gw_frontend_trace_kind {
    GW_FRONTEND_TRACE_SENT = 0, /* a request of the front-end */
    GW_FRONTEND_TRACE_ANSWERED, /* an answer of the back-end */
    GW_FRONTEND_TRACE_ASKED,    /* a request of the back-end, on the back-end channel */
    GW_FRONTEND_TRACE_REPLIED,  /* an answer of the front-end */
    /* The following are no messages and have no `request`. */
    GW_FRONTEND_TRACE_CONNECTED,
    GW_FRONTEND_TRACE_DISCONNECTED, /* the front-end hung up */
    GW_FRONTEND_TRACE_HUNG_UP,      /* the back-end hung up */
};

struct gw_frontend_trace {
    uint64_t at_ns; /* CLOCK_MONOTONIC */
    uint64_t value; /* the first 8 bytes of the payload, in native order, padded with zeros */
    enum gw_frontend_trace_kind kind;
    uint32_t request, flags, size; /* of the header */
    unsigned n_fds;
};

/*
 * Store the last messages of `fe`, of all its sessions, oldest first, in `ret`, which has room for
 * GW_FRONTEND_TRACE_MAX. Messages of gw_frontend_send_raw, gw_frontend_send_bytes and
 * gw_frontend_receive are left out.
 *
 * Returns: the number of messages.
 */
unsigned gw_frontend_last_messages(const struct gw_frontend *fe, struct gw_frontend_trace *ret);

/*
 * Write a message as text, such as "-> SET_VRING_NUM ring 0: 256", to `buf` of `size` bytes; 96 are
 * enough.
 *
 * Context: any thread.
 */
void gw_frontend_trace_text(const struct gw_frontend_trace *t, char *buf, size_t size);

/*
 * The socket of the session, for poll(2).
 *
 * Ownership: it stays the front-end's.
 * Returns: the fd; -1 without a session.
 */
int gw_frontend_fd(const struct gw_frontend *fe);

/* ---- Requests (vhost-user.rst, "Front-end message types") ---- */

/*
 * Read the virtio features that the back-end offers: GET_FEATURES.
 *
 * Returns: 0; -ENOTCONN without a session; -EINVAL for an argument that no message can carry;
 * -EOPNOTSUPP if the feature behind the message was not negotiated; -EREMOTEIO if the back-end
 * reported a failure; -EPROTO if its answer does not match the request (id, flags other than 0x5,
 * size, an fd); -ETIMEDOUT without an answer; -ECONNRESET if it hung up. The last three end the
 * session, because a late answer could be mistaken for the next one: every further request returns
 * the same error.
 * Context: blocks up to the time limit of requests.
 */
int gw_frontend_get_features(struct gw_frontend *fe, uint64_t *ret);

/*
 * Accept virtio features: SET_FEATURES.
 *
 * Returns: as gw_frontend_get_features.
 * Context: as gw_frontend_get_features.
 */
int gw_frontend_set_features(struct gw_frontend *fe, uint64_t features);

/*
 * Read the protocol features that the back-end offers: GET_PROTOCOL_FEATURES.
 *
 * Returns: as gw_frontend_get_features.
 * Context: as gw_frontend_get_features.
 */
int gw_frontend_get_protocol_features(struct gw_frontend *fe, uint64_t *ret);

/*
 * Accept protocol features: SET_PROTOCOL_FEATURES.
 *
 * Returns: as gw_frontend_get_features.
 * Context: as gw_frontend_get_features.
 */
int gw_frontend_set_protocol_features(struct gw_frontend *fe, uint64_t features);

/*
 * Become, or no longer be, the owner of the back-end: SET_OWNER and RESET_OWNER, which is
 * deprecated.
 *
 * Returns: as gw_frontend_get_features.
 * Context: as gw_frontend_get_features.
 */
int gw_frontend_set_owner(struct gw_frontend *fe);
int gw_frontend_reset_owner(struct gw_frontend *fe);

/*
 * Reset the device: RESET_DEVICE. Needs RESET_DEVICE (13).
 *
 * Returns: as gw_frontend_get_features.
 * Context: as gw_frontend_get_features.
 */
int gw_frontend_reset_device(struct gw_frontend *fe);

/*
 * Read the number of queues of the back-end: GET_QUEUE_NUM. Needs MQ (0).
 *
 * Returns: as gw_frontend_get_features.
 * Context: as gw_frontend_get_features.
 */
int gw_frontend_get_queue_num(struct gw_frontend *fe, uint64_t *ret);

/*
 * Send all regions of the memory as a table: SET_MEM_TABLE.
 *
 * Ownership: `m` stays the caller's.
 * Returns: as gw_frontend_get_features; -E2BIG for more than 8 regions; -EOPNOTSUPP also for memory
 * of a Xen domain without XEN_MMAP (17).
 * Context: as gw_frontend_get_features.
 */
int gw_frontend_set_mem_table(struct gw_frontend *fe, const struct gw_guest_mem *m);

/*
 * Read how many regions the back-end accepts: GET_MAX_MEM_SLOTS. Needs CONFIGURE_MEM_SLOTS (15).
 *
 * Returns: as gw_frontend_get_features.
 * Context: as gw_frontend_get_features.
 */
int gw_frontend_get_max_mem_slots(struct gw_frontend *fe, uint64_t *ret);

/*
 * Send, or withdraw, the region of the memory that begins at `gpa`: ADD_MEM_REG and REM_MEM_REG.
 * Withdraw a region before gw_guest_mem_remove. Both need CONFIGURE_MEM_SLOTS (15).
 *
 * Ownership: `m` stays the caller's.
 * Returns: as gw_frontend_get_features; -ENOENT if no region begins there; -EOPNOTSUPP also for
 * memory of a Xen domain without XEN_MMAP (17).
 * Context: as gw_frontend_get_features.
 */
int gw_frontend_add_mem_reg(struct gw_frontend *fe, const struct gw_guest_mem *m, gw_gpa_t gpa);
int gw_frontend_rem_mem_reg(struct gw_frontend *fe, const struct gw_guest_mem *m, gw_gpa_t gpa);

struct gw_frontend_vring_addr {
    gw_uva_t desc;
    gw_uva_t avail;
    gw_uva_t used;
    gw_gpa_t log;   /* log address of the used ring or device event area, with flag bit 0 */
    uint32_t flags; /* bit 0: writes to the used ring are logged */
};

/*
 * Set the number of slots of ring `index`, 0 to 255: SET_VRING_NUM.
 *
 * Returns: as gw_frontend_get_features.
 * Context: as gw_frontend_get_features.
 */
int gw_frontend_set_vring_num(struct gw_frontend *fe, unsigned index, uint32_t num);

/*
 * Set the addresses of ring `index`: SET_VRING_ADDR.
 *
 * Returns: as gw_frontend_get_features.
 * Context: as gw_frontend_get_features.
 */
int gw_frontend_set_vring_addr(struct gw_frontend *fe, unsigned index,
                               const struct gw_frontend_vring_addr *addr);

/*
 * Set where ring `index` begins: SET_VRING_BASE.
 *
 * Returns: as gw_frontend_get_features.
 * Context: as gw_frontend_get_features.
 */
int gw_frontend_set_vring_base(struct gw_frontend *fe, unsigned index, uint32_t base);

/*
 * Stop ring `index` and read where it ends: GET_VRING_BASE. The back-end first finishes its
 * requests.
 *
 * Returns: as gw_frontend_get_features.
 * Context: as gw_frontend_get_features.
 */
int gw_frontend_get_vring_base(struct gw_frontend *fe, unsigned index, uint32_t *ret);

/*
 * Stop ring `index` at once, as GET_VRING_BASE, and leave requests in flight in the inflight
 * region: GET_VRING_BASE_SKIP_DRAIN. Needs GET_VRING_BASE_SKIP_DRAIN (23). Pass the answer to
 * gw_driver_set_base.
 *
 * Returns: as gw_frontend_get_features.
 * Context: as gw_frontend_get_features.
 */
int gw_frontend_get_vring_base_skip_drain(struct gw_frontend *fe, unsigned index, uint32_t *ret);

/*
 * Send an eventfd of ring `index`: SET_VRING_KICK, which starts the ring, SET_VRING_CALL or
 * SET_VRING_ERR. -1 sends NOFD.
 *
 * Ownership: `fd` stays the caller's.
 * Returns: as gw_frontend_get_features.
 * Context: as gw_frontend_get_features.
 */
int gw_frontend_set_vring_kick(struct gw_frontend *fe, unsigned index, int fd);
int gw_frontend_set_vring_call(struct gw_frontend *fe, unsigned index, int fd);
int gw_frontend_set_vring_err(struct gw_frontend *fe, unsigned index, int fd);

/*
 * Enable or disable ring `index`: SET_VRING_ENABLE.
 *
 * Returns: as gw_frontend_get_features.
 * Context: as gw_frontend_get_features.
 */
int gw_frontend_set_vring_enable(struct gw_frontend *fe, unsigned index, bool enable);

/*
 * The inflight region, in which a back-end tracks requests in flight so that it can resume them
 * after a crash. The front-end keeps it unchanged and hands it over in each session. All zeros: no
 * region yet.
 */
struct gw_frontend_inflight {
    int fd; /* valid only with a size */
    uint64_t mmap_size;
    uint64_t mmap_offset;
    uint16_t num_queues;
    uint16_t queue_size;
};

/* Close the fd of a region, if any, and reset the structure to no region. */
void gw_frontend_inflight_done(struct gw_frontend_inflight *inflight);

/*
 * Request an inflight region for `num_queues` rings of `queue_size` slots: GET_INFLIGHT_FD. Call it
 * after SET_FEATURES, because the features determine the layout. A size of 0 means that the
 * back-end uses none. Needs INFLIGHT_SHMFD (12).
 *
 * Ownership: release the region with gw_frontend_inflight_done.
 * Returns: as gw_frontend_get_features; -EPROTO also if the answer cannot be a region for these
 * rings.
 * Context: as gw_frontend_get_features.
 */
int gw_frontend_get_inflight_fd(struct gw_frontend *fe, unsigned num_queues, unsigned queue_size,
                                struct gw_frontend_inflight *ret);

/*
 * Hand an inflight region over: SET_INFLIGHT_FD. Needs INFLIGHT_SHMFD (12).
 *
 * Ownership: the fd of the region stays the caller's.
 * Returns: as gw_frontend_get_features.
 * Context: as gw_frontend_get_features.
 */
int gw_frontend_set_inflight_fd(struct gw_frontend *fe,
                                const struct gw_frontend_inflight *inflight);

/*
 * Read, or write, `len` bytes of config space at byte `offset`: GET_CONFIG and SET_CONFIG. `len` is
 * up to 4096. `migration`: the write restores a device. Both need CONFIG (9).
 *
 * Returns: as gw_frontend_get_features; -EREMOTEIO also for an answer without data.
 * Context: as gw_frontend_get_features.
 */
int gw_frontend_get_config(struct gw_frontend *fe, uint32_t offset, void *buf, uint32_t len);
int gw_frontend_set_config(struct gw_frontend *fe, uint32_t offset, const void *buf, uint32_t len,
                           bool migration);

/*
 * The virtio and protocol features that this session negotiated.
 *
 * Returns: the feature bits.
 */
uint64_t gw_frontend_features(const struct gw_frontend *fe);
uint64_t gw_frontend_protocol_features(const struct gw_frontend *fe);

/* ---- Raw messages, for tests of bad input ---- */

#define GW_FRONTEND_PAYLOAD_MAX 4108 /* with all of a config space */
#define GW_FRONTEND_FDS_MAX     8

struct gw_frontend_message {
    uint32_t request;
    uint32_t flags;
    uint32_t size; /* from the header */
    unsigned n_fds;
    int fds[GW_FRONTEND_FDS_MAX]; /* owned by the receiver */
    uint8_t payload[GW_FRONTEND_PAYLOAD_MAX];
};

/*
 * Send a header with any contents, `len` bytes of payload and `n_fds` fds (any number that the
 * kernel accepts) in one sendmsg(2). No checks, no wait for an answer.
 *
 * Ownership: the fds stay the caller's.
 * Returns: 0; -ENOTCONN without a session; -ECONNRESET if the back-end hung up; -ETIMEDOUT if the
 * socket stays full; the errno of sendmsg(2).
 * Context: as gw_frontend_get_features.
 */
int gw_frontend_send_raw(struct gw_frontend *fe, uint32_t request, uint32_t flags, uint32_t size,
                         const void *payload, size_t len, const int *fds, unsigned n_fds);

/*
 * Send `len` bytes as they are, without a header.
 *
 * Returns: as gw_frontend_send_raw.
 * Context: as gw_frontend_get_features.
 */
int gw_frontend_send_bytes(struct gw_frontend *fe, const void *buf, size_t len);

/*
 * Receive any message, waiting up to `timeout_ms` milliseconds. Errors do not end the session.
 *
 * Ownership: release its fds with gw_frontend_message_done, which may follow an error, too.
 * Returns: 0; -ETIMEDOUT without a message; -ECONNRESET if the back-end hung up; -EPROTO if it is
 * longer than GW_FRONTEND_PAYLOAD_MAX or has more fds than GW_FRONTEND_FDS_MAX; -EMFILE if this
 * process has no room for its fds; -ENOTCONN without a session.
 * Context: blocks up to `timeout_ms`.
 */
int gw_frontend_receive(struct gw_frontend *fe, struct gw_frontend_message *ret,
                        unsigned timeout_ms);

/* Close the fds of a message. */
void gw_frontend_message_done(struct gw_frontend_message *msg);

/* ---- The back-end's own requests (vhost-user.rst, "Back-end message types") ---- */

/*
 * Make a channel for requests of the back-end and send its other end: SET_BACKEND_REQ_FD. Closes a
 * previous channel. Needs BACKEND_REQ (5).
 *
 * Returns: as gw_frontend_get_features; the errno of socketpair(2).
 * Context: as gw_frontend_get_features.
 */
int gw_frontend_set_backend_req_fd(struct gw_frontend *fe);

/*
 * The front-end's end of the channel, for poll(2).
 *
 * Ownership: it stays the front-end's.
 * Returns: the fd; -1 without a channel.
 */
int gw_frontend_backend_fd(const struct gw_frontend *fe);

/*
 * Receive a request of the back-end, known or not (2 is CONFIG_CHANGE). Answer a request with
 * NEED_REPLY (flag 0x8) by gw_frontend_backend_reply.
 *
 * Ownership: as gw_frontend_receive.
 * Returns: as gw_frontend_receive; -ENOTCONN also without a channel.
 * Context: blocks up to `timeout_ms` milliseconds.
 */
int gw_frontend_backend_request(struct gw_frontend *fe, struct gw_frontend_message *ret,
                                unsigned timeout_ms);

/*
 * Answer the request `msg` of the back-end with `value`, 0 for success.
 *
 * Returns: 0; -ENOTCONN without a channel; -ECONNRESET if the back-end hung up; -ETIMEDOUT if the
 * socket stays full; the errno of sendmsg(2).
 * Context: as gw_frontend_get_features.
 */
int gw_frontend_backend_reply(struct gw_frontend *fe, const struct gw_frontend_message *msg,
                              uint64_t value);

/* ---- Complete sessions, like those of QEMU ---- */

/*
 * Start the queue of a driver: SET_VRING_NUM, SET_VRING_BASE, SET_VRING_ADDR, SET_VRING_KICK and
 * SET_VRING_CALL.
 *
 * Returns: as gw_frontend_get_features.
 * Context: as gw_frontend_get_features.
 */
int gw_frontend_start_queue(struct gw_frontend *fe, struct gw_driver *d);

/*
 * Stop the queue of a driver with GET_VRING_BASE, and set the base of the driver.
 *
 * Returns: as gw_frontend_get_features.
 * Context: as gw_frontend_get_features.
 */
int gw_frontend_stop_queue(struct gw_frontend *fe, struct gw_driver *d);

enum gw_frontend_mem_form {
    GW_FRONTEND_MEM_AUTO = 0, /* slots if CONFIGURE_MEM_SLOTS was negotiated, otherwise the table */
    GW_FRONTEND_MEM_TABLE,
    GW_FRONTEND_MEM_SLOTS,
};

struct gw_guest_log;

struct gw_frontend_options {
    size_t size;
    uint64_t features;          /* to accept if offered; 0: bits 28, 29, 30 and 32, 34 if packed */
    uint64_t protocol_features; /* to accept if offered; 0: all used here, and XEN_MMAP */
    struct gw_guest_mem *mem;
    struct gw_driver **drivers;
    unsigned n_drivers;
    enum gw_frontend_mem_form mem_form;
    bool no_enable;                 /* leave the queues disabled */
    const struct gw_guest_log *log; /* start with LOG_ALL and this log, as in a migration */
    /* Requested if it is no region yet, otherwise handed over; stays the caller's. NULL: unused. */
    struct gw_frontend_inflight *inflight;
};

/*
 * Negotiate like QEMU: GET_FEATURES, protocol features (if bit 30 is offered and accepted),
 * GET_QUEUE_NUM, GET_MAX_MEM_SLOTS, the back-end channel, SET_OWNER. Uses `features`,
 * `protocol_features`, `drivers`, `mem_form` and `inflight` of the options.
 *
 * Returns: as gw_frontend_get_features; -EINVAL also if `size` is smaller than in the first
 * version; -E2BIG if a member is set that only later versions know; -EOPNOTSUPP also if the
 * back-end does not offer VERSION_1.
 * Context: as gw_frontend_get_features, for each message.
 */
int gw_frontend_negotiate(struct gw_frontend *fe, const struct gw_frontend_options *opt);

/*
 * Start the device: negotiate if not yet done, the inflight region, SET_FEATURES, the memory unless
 * this session has it, each queue, then SET_VRING_ENABLE. Drivers must not run during the call,
 * unless the negotiated features are those with which they run.
 *
 * After a session was lost with running queues: disconnect, connect (or accept), start again with
 * the same drivers. With the inflight region of the previous session, the back-end itself completes
 * requests in flight, and drivers that were not stopped begin at the used index. Without one, first
 * call gw_driver_requeue on each driver.
 *
 * Ownership: everything in the options stays the caller's.
 * Returns: as gw_frontend_negotiate; -ERANGE for more queues or regions than the back-end has;
 * -EOPNOTSUPP also for a packed driver without RING_PACKED; -EINVAL also for a split driver with
 * it; -EBUSY if IN_ORDER changed with chains of a driver in flight.
 * Context: as gw_frontend_negotiate.
 */
int gw_frontend_start(struct gw_frontend *fe, const struct gw_frontend_options *opt);

/*
 * Stop the device: SET_VRING_ENABLE 0, then GET_VRING_BASE of each queue. Continues after an error.
 *
 * Returns: as gw_frontend_get_features, for the first error.
 * Context: as gw_frontend_negotiate.
 */
int gw_frontend_stop(struct gw_frontend *fe, struct gw_driver **drivers, unsigned n_drivers);

#pragma GCC visibility pop
#ifdef __cplusplus
}
#endif
#endif
