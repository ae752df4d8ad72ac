/* SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause */
/*
 * The other end of the wire, for programs that act as the VMM of a vhost-user back-end: a
 * connection (gw_frontend_*) and guest memory (gw_guest_mem_*). The driver's side of a queue
 * (gw_driver_*) is in <godwit/frontend/driver.h>.
 *
 * Threads: an object belongs to one thread at a time. A driver may run on another thread than the
 * front-end that starts and stops its queue, like a vCPU; loads and drivers share the memory.
 *
 * Unless stated otherwise, int functions return 0 or a negative errno. Zero a config structure, set
 * `size` to its sizeof, then set each member that differs from its default.
 */
#ifndef GODWIT_FRONTEND_FRONTEND_H
#define GODWIT_FRONTEND_FRONTEND_H

#include <godwit/frontend/driver.h>
#include <godwit/memory.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif
#pragma GCC visibility push(default)

struct gw_frontend;
struct gw_guest_mem;

/* ---- Guest memory ---- */

/* user address = host pointer, as in a real VMM; otherwise user address = base + guest address */
#define GW_GUEST_UVA_HOST UINT64_MAX

/*
 * Make an empty guest memory. With a `uva_base` other than GW_GUEST_UVA_HOST the user addresses
 * sent to the back-end are no pointers of this process, so that code that confuses the two address
 * spaces fails. Free with gw_guest_mem_free, after everything that uses it. Returns: 0; -ENOMEM.
 */
int gw_guest_mem_new(struct gw_guest_mem **ret, gw_uva_t uva_base);
void gw_guest_mem_free(struct gw_guest_mem *m);

/*
 * Make the guest memory of a migration's destination: the same regions in new memfds (huge pages
 * stay huge; no memory of Xen domains), the same allocations, filled with zeros. Returns: as
 * gw_guest_mem_add.
 */
int gw_guest_mem_clone(struct gw_guest_mem **ret, const struct gw_guest_mem *m, gw_uva_t uva_base);

enum gw_guest_region_kind {
    GW_GUEST_MEMFD = 0, /* a new sealed memfd, `offset` + `length` bytes long */
    GW_GUEST_HUGETLB,   /* the same with 2 MiB pages */
    GW_GUEST_FD, /* a duplicate of `fd`, long enough; a back-end can truncate it unless sealed */
    GW_GUEST_MAPPED, /* memory that the caller maps at `host`, and unmaps after the removal */
};

/* How a back-end maps a region of a Xen domain, "Memory region description": xen_mmap_flags. */
enum gw_guest_xen {
    GW_GUEST_XEN_NONE = 0,           /* by its fd */
    GW_GUEST_XEN_FOREIGN = 0x1,      /* by frame numbers: the address contains them */
    GW_GUEST_XEN_GRANT = 0x2,        /* by grant references: bit 63 of its address is set */
    GW_GUEST_XEN_NO_ADVANCE = 0x100, /* with GRANT: map pages only while in use */
};

struct gw_guest_region {
    enum gw_guest_region_kind kind;
    gw_gpa_t gpa;
    uint64_t length;
    gw_off_t offset; /* of the region in its file; need not be page-aligned */
    int fd;          /* GW_GUEST_FD: stays the caller's. As a result: do not close it */
    bool no_alloc;   /* gw_guest_mem_alloc does not use it */
    gw_uva_t uva;    /* as a result: its user address */
    void *host;      /* GW_GUEST_MAPPED: `length` bytes; `fd`, if any, is for the back-end */
    uint32_t xen;    /* enum gw_guest_xen, sent if XEN_MMAP (17) was negotiated */
    uint32_t domid;  /* with `xen`: the domain that owns the memory */
};

/*
 * Add a region, which may touch others but not overlap them. gw_frontend_add_mem_reg or
 * gw_frontend_set_mem_table sends it to the back-end.
 * Returns: 0; -EINVAL empty, past the end of the address space, or GW_GUEST_MAPPED without `host`
 * or with an offset; -EEXIST overlap; -ENOMEM, also without free huge pages; the errno of
 * memfd_create, ftruncate, F_ADD_SEALS or mmap.
 */
int gw_guest_mem_add(struct gw_guest_mem *m, const struct gw_guest_region *region);

/* Remove the region that begins at `gpa`, with its allocations. Returns: 0; -ENOENT. */
int gw_guest_mem_remove(struct gw_guest_mem *m, gw_gpa_t gpa);

/* The regions, ordered by address. gw_guest_mem_region returns 0; -ENOENT beyond the last. */
unsigned gw_guest_mem_count(const struct gw_guest_mem *m);
int gw_guest_mem_region(const struct gw_guest_mem *m, unsigned i, struct gw_guest_region *ret);

/* The host pointer of `len` bytes at `gpa`; NULL unless all of them are in one region. */
void *gw_guest_mem_at(const struct gw_guest_mem *m, gw_gpa_t gpa, uint64_t len);
/* The user address of a guest address, 0 outside of all regions. */
gw_uva_t gw_guest_mem_uva(const struct gw_guest_mem *m, gw_gpa_t gpa);

/*
 * Allocate `len` zeroed bytes within one region, aligned to `align`, a power of two. Release them
 * with gw_guest_mem_release and the same `len`.
 * Returns: 0; -ENOSPC no free range is long enough; -EINVAL for length 0 or another alignment;
 * -ENOMEM.
 */
int gw_guest_mem_alloc(struct gw_guest_mem *m, uint64_t len, uint64_t align, gw_gpa_t *ret_gpa);
void gw_guest_mem_release(struct gw_guest_mem *m, gw_gpa_t gpa, uint64_t len);

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
 * Make a front-end without a session. `cfg` may be NULL. Free with gw_frontend_free, which hangs
 * up. Returns: 0; -EINVAL bad `size` or `ack`; -E2BIG a member is set that only later versions
 * know; -ENOMEM.
 */
int gw_frontend_new(struct gw_frontend **ret, const struct gw_frontend_config *cfg);
void gw_frontend_free(struct gw_frontend *fe);

/* The reason of the last failed call on `fe`, as a sentence, or "". Valid until the next call. */
const char *gw_frontend_error(const struct gw_frontend *fe);

/* Set the timeout of further requests. */
void gw_frontend_set_timeout(struct gw_frontend *fe, unsigned timeout_ms);

/*
 * Begin a session: connect to the back-end at `path`, retrying while none listens; accept the next
 * connection on `listen_fd` (stays the caller's); or use a connected socket (consumed, also on
 * failure). The session begins without the negotiated state of previous ones.
 * Returns: 0; -ETIMEDOUT no connection within connect_timeout_ms; -EISCONN a session exists;
 * -ENAMETOOLONG; the errno of connect, accept or fcntl.
 */
int gw_frontend_connect(struct gw_frontend *fe, const char *path);
int gw_frontend_accept(struct gw_frontend *fe, int listen_fd);
int gw_frontend_attach(struct gw_frontend *fe, int fd);

/* Hang up, without stopping rings. */
void gw_frontend_disconnect(struct gw_frontend *fe);

/*
 * Between requests: check whether the back-end has hung up or sent an unexpected message. Returns:
 * 0; -ENOTCONN without a session; -ECONNRESET it hung up; -EPROTO it sent a message; after a
 * request that ended the session, the error of that request (-ETIMEDOUT, for example). If the
 * back-end has hung up, gw_frontend_error names the messages since its last answer.
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
 * Store the last messages of `fe`, of all its sessions, oldest first, up to GW_FRONTEND_TRACE_MAX,
 * in `ret`, without those of gw_frontend_send_raw, gw_frontend_send_bytes and gw_frontend_receive.
 * Returns: the number of messages.
 */
unsigned gw_frontend_last_messages(const struct gw_frontend *fe, struct gw_frontend_trace *ret);
/* A message as text, such as "-> SET_VRING_NUM ring 0: 256". 96 bytes are enough. */
void gw_frontend_trace_text(const struct gw_frontend_trace *t, char *buf, size_t size);

/* The socket, for poll; -1 when not connected. */
int gw_frontend_fd(const struct gw_frontend *fe);

/*
 * The requests ("Front-end message types"), one function each. They block up to the timeout.
 * Returns: 0; -ENOTCONN no session; -EINVAL an argument that no message can carry; -EOPNOTSUPP the
 * feature behind the message was not negotiated; -EREMOTEIO the back-end reported a failure;
 * -EPROTO its answer does not match the request (id, flags other than 0x5, size, an fd); -ETIMEDOUT
 * no answer; -ECONNRESET it hung up. The last three end the session, because a late answer could be
 * mistaken for the next one: every further request returns the same error.
 */
int gw_frontend_get_features(struct gw_frontend *fe, uint64_t *ret);
int gw_frontend_set_features(struct gw_frontend *fe, uint64_t features);
int gw_frontend_get_protocol_features(struct gw_frontend *fe, uint64_t *ret);
int gw_frontend_set_protocol_features(struct gw_frontend *fe, uint64_t features);
int gw_frontend_set_owner(struct gw_frontend *fe);
int gw_frontend_reset_owner(struct gw_frontend *fe);
int gw_frontend_reset_device(struct gw_frontend *fe);
int gw_frontend_get_queue_num(struct gw_frontend *fe, uint64_t *ret);

/*
 * Send memory as a table or region by region. A table has up to 8 regions, more are -E2BIG. Both
 * forms: -EOPNOTSUPP memory of a Xen domain without XEN_MMAP (17).
 */
int gw_frontend_set_mem_table(struct gw_frontend *fe, const struct gw_guest_mem *m);
int gw_frontend_get_max_mem_slots(struct gw_frontend *fe, uint64_t *ret);
/* The region that begins at `gpa`; -ENOENT without one. Send REM before gw_guest_mem_remove. */
int gw_frontend_add_mem_reg(struct gw_frontend *fe, const struct gw_guest_mem *m, gw_gpa_t gpa);
int gw_frontend_rem_mem_reg(struct gw_frontend *fe, const struct gw_guest_mem *m, gw_gpa_t gpa);

struct gw_frontend_vring_addr {
    gw_uva_t desc;
    gw_uva_t avail;
    gw_uva_t used;
    gw_gpa_t log;   /* log address of the used ring or device event area, with flag bit 0 */
    uint32_t flags; /* bit 0: writes to the used ring are logged */
};

/* `index` is 0 to 255; fds stay the caller's, -1 sends NOFD. */
int gw_frontend_set_vring_num(struct gw_frontend *fe, unsigned index, uint32_t num);
int gw_frontend_set_vring_addr(struct gw_frontend *fe, unsigned index,
                               const struct gw_frontend_vring_addr *addr);
int gw_frontend_set_vring_base(struct gw_frontend *fe, unsigned index, uint32_t base);
int gw_frontend_get_vring_base(struct gw_frontend *fe, unsigned index, uint32_t *ret);
int gw_frontend_set_vring_kick(struct gw_frontend *fe, unsigned index, int fd);
int gw_frontend_set_vring_call(struct gw_frontend *fe, unsigned index, int fd);
int gw_frontend_set_vring_err(struct gw_frontend *fe, unsigned index, int fd);
int gw_frontend_set_vring_enable(struct gw_frontend *fe, unsigned index, bool enable);

/*
 * As GET_VRING_BASE, but the back-end stops at once and leaves requests in flight in its inflight
 * region; needs GET_VRING_BASE_SKIP_DRAIN (23). Pass the answer to gw_driver_set_base.
 */
int gw_frontend_get_vring_base_skip_drain(struct gw_frontend *fe, unsigned index, uint32_t *ret);

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

/* Close its fd, if any, and reset the structure to no region. */
void gw_frontend_inflight_done(struct gw_frontend_inflight *inflight);

/*
 * get: request a region, after SET_FEATURES, because the features determine its layout; release it
 * with gw_frontend_inflight_done. A size of 0 means that the back-end uses none. -EPROTO: the
 * answer cannot be a region for `num_queues` queues. set: hand a region over; its fd stays the
 * caller's. Both need INFLIGHT_SHMFD (12).
 */
int gw_frontend_get_inflight_fd(struct gw_frontend *fe, unsigned num_queues, unsigned queue_size,
                                struct gw_frontend_inflight *ret);
int gw_frontend_set_inflight_fd(struct gw_frontend *fe,
                                const struct gw_frontend_inflight *inflight);

/* `len` is up to 256; a refusal (answer without data) is -EREMOTEIO. */
int gw_frontend_get_config(struct gw_frontend *fe, uint32_t offset, void *buf, uint32_t len);
int gw_frontend_set_config(struct gw_frontend *fe, uint32_t offset, const void *buf, uint32_t len,
                           bool migration);

/* The features that this session negotiated. */
uint64_t gw_frontend_features(const struct gw_frontend *fe);
uint64_t gw_frontend_protocol_features(const struct gw_frontend *fe);

/* ---- Raw messages, for tests of bad input ---- */

#define GW_FRONTEND_PAYLOAD_MAX 4096
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
 * kernel accepts; they stay the caller's) in one sendmsg, or bytes without a header. No checks, no
 * wait for an answer. Returns: 0; -ENOTCONN; -ECONNRESET; -ETIMEDOUT the socket stays full; the
 * errno of sendmsg.
 */
int gw_frontend_send_raw(struct gw_frontend *fe, uint32_t request, uint32_t flags, uint32_t size,
                         const void *payload, size_t len, const int *fds, unsigned n_fds);
int gw_frontend_send_bytes(struct gw_frontend *fe, const void *buf, size_t len);

/*
 * Receive any message; gw_frontend_message_done closes its fds. Errors do not end the session.
 * Returns: 0; -ETIMEDOUT; -ECONNRESET; -EPROTO longer than GW_FRONTEND_PAYLOAD_MAX or more fds than
 * GW_FRONTEND_FDS_MAX; -EMFILE this process has no room for its fds; -ENOTCONN.
 */
int gw_frontend_receive(struct gw_frontend *fe, struct gw_frontend_message *ret,
                        unsigned timeout_ms);
void gw_frontend_message_done(struct gw_frontend_message *msg);

/* ---- The back-end's own requests ("Back-end message types") ---- */

/* Make a channel and send its other end; needs BACKEND_REQ. Closes a previous channel. */
int gw_frontend_set_backend_req_fd(struct gw_frontend *fe);
/* The front-end's end of the channel, for poll; -1 without one. */
int gw_frontend_backend_fd(const struct gw_frontend *fe);

/*
 * Receive a request of the back-end, known or not (2 is CONFIG_CHANGE). Answer a request with
 * NEED_REPLY (flag 0x8) by gw_frontend_backend_reply, with value 0 for success.
 * Returns: as gw_frontend_receive.
 */
int gw_frontend_backend_request(struct gw_frontend *fe, struct gw_frontend_message *ret,
                                unsigned timeout_ms);
int gw_frontend_backend_reply(struct gw_frontend *fe, const struct gw_frontend_message *msg,
                              uint64_t value);

/* Start one queue (NUM, BASE, ADDR, KICK, CALL), or stop it (GET_VRING_BASE sets its base). */
int gw_frontend_start_queue(struct gw_frontend *fe, struct gw_driver *d);
int gw_frontend_stop_queue(struct gw_frontend *fe, struct gw_driver *d);

/* ---- Complete sessions, like those of QEMU ---- */

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
 * Returns: as the requests; -EOPNOTSUPP the back-end does not offer VERSION_1.
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
 * Returns: as the requests; -ERANGE more queues or regions than the back-end has; for a driver
 * -EOPNOTSUPP packed without RING_PACKED, -EINVAL split with RING_PACKED, -EBUSY IN_ORDER changed
 * with chains in flight.
 */
int gw_frontend_start(struct gw_frontend *fe, const struct gw_frontend_options *opt);
/*
 * Stop: SET_VRING_ENABLE 0, then GET_VRING_BASE of each queue. Continues after an error and returns
 * the first one.
 */
int gw_frontend_stop(struct gw_frontend *fe, struct gw_driver **drivers, unsigned n_drivers);

#pragma GCC visibility pop
#ifdef __cplusplus
}
#endif
#endif
