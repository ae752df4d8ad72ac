/* SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause */
/*
 * The other end of the wire: what a VMM is to a vhost-user back-end. A connection (gw_frontend_*)
 * and guest memory (gw_guest_mem_*). The driver's side of a queue (gw_driver_*) is in
 * godwit/driver.h, disk requests and a verified load in godwit/load.h.
 *
 * Threads: an object belongs to one thread at a time. A driver may live on another thread than the
 * front-end that starts and stops its queue, as a vCPU does; loads and drivers share the memory.
 *
 * All int functions return 0 or a negative errno where nothing else is said. Config structures
 * are zeroed, `size` set to their sizeof, and then what differs from the defaults.
 */
#ifndef GODWIT_FRONTEND_H
#define GODWIT_FRONTEND_H

#include <godwit/driver.h>
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
 * told to the back-end are no pointers of this process, so that who mixes them up fails.
 * Free with gw_guest_mem_free, after everything that uses it. Returns: 0; -ENOMEM.
 */
int gw_guest_mem_new(struct gw_guest_mem **ret, gw_uva_t uva_base);
void gw_guest_mem_free(struct gw_guest_mem *m);

/*
 * Make one with the same regions in new memfds (huge pages stay huge; no domain's memory) and the
 * same allocations, but zeros for contents: the destination of a migration. Returns: 0; as
 * gw_guest_mem_add.
 */
int gw_guest_mem_clone(struct gw_guest_mem **ret, const struct gw_guest_mem *m, gw_uva_t uva_base);

enum gw_guest_region_kind {
    GW_GUEST_MEMFD = 0, /* a sealed memfd of its own, `offset` + `length` bytes long */
    GW_GUEST_HUGETLB,   /* the same of 2 MiB pages */
    GW_GUEST_FD,        /* `fd`, duplicated; long enough, and sealed, or a back-end truncates it */
    GW_GUEST_MAPPED,    /* what the caller has mapped at `host`, and unmaps after its removal */
};

/* How a back-end reaches a region of a Xen domain, "Memory region description": xen_mmap_flags. */
enum gw_guest_xen {
    GW_GUEST_XEN_NONE = 0,           /* by its fd, as ever */
    GW_GUEST_XEN_FOREIGN = 0x1,      /* by frame numbers: its address counts them */
    GW_GUEST_XEN_GRANT = 0x2,        /* by grant references: bit 63 of its address is set */
    GW_GUEST_XEN_NO_ADVANCE = 0x100, /* with GRANT: only what is in use, while it is */
};

struct gw_guest_region {
    enum gw_guest_region_kind kind;
    gw_gpa_t gpa;
    uint64_t length;
    gw_off_t offset; /* of the region in its file; need not be page-aligned */
    int fd;          /* GW_GUEST_FD: stays the caller's. When asked: the region's, not to close */
    bool no_alloc;   /* gw_guest_mem_alloc leaves it alone */
    gw_uva_t uva;    /* when asked: its user address */
    void *host;      /* GW_GUEST_MAPPED: `length` bytes; `fd`, if any, is for the back-end */
    uint32_t xen;    /* enum gw_guest_xen, told where XEN_MMAP (17) was negotiated */
    uint32_t domid;  /* with it: whose memory it is */
};

/*
 * Add a region; it may touch others but not overlap them. The back-end is told by
 * gw_frontend_add_mem_reg or gw_frontend_set_mem_table.
 * Returns: 0; -EINVAL empty, past the end of the address space, or GW_GUEST_MAPPED without `host`
 * or with an offset; -EEXIST overlap; -ENOMEM, also if there are no huge pages; the errno of
 * memfd_create, ftruncate, F_ADD_SEALS or mmap.
 */
int gw_guest_mem_add(struct gw_guest_mem *m, const struct gw_guest_region *region);

/* Remove the region that begins at `gpa`, and what was allocated there. Returns: 0; -ENOENT. */
int gw_guest_mem_remove(struct gw_guest_mem *m, gw_gpa_t gpa);

/* The regions, ordered by address. gw_guest_mem_region returns 0; -ENOENT beyond the last. */
unsigned gw_guest_mem_count(const struct gw_guest_mem *m);
int gw_guest_mem_region(const struct gw_guest_mem *m, unsigned i, struct gw_guest_region *ret);

/* The host pointer of `len` bytes, NULL unless all of them are in one region. */
void *gw_guest_mem_at(const struct gw_guest_mem *m, gw_gpa_t gpa, uint64_t len);
/* The user address of a guest address, 0 outside of all regions. */
gw_uva_t gw_guest_mem_uva(const struct gw_guest_mem *m, gw_gpa_t gpa);

/*
 * Allocate `len` bytes, aligned to a power of two, zeroed, never across two regions. Give back
 * with gw_guest_mem_release and the same `len`.
 * Returns: 0; -ENOSPC; -EINVAL for length 0 or another alignment; -ENOMEM.
 */
int gw_guest_mem_alloc(struct gw_guest_mem *m, uint64_t len, uint64_t align, gw_gpa_t *ret_gpa);
void gw_guest_mem_release(struct gw_guest_mem *m, gw_gpa_t gpa, uint64_t len);

/* ---- Connection ---- */

enum gw_frontend_ack {
    GW_FRONTEND_ACK_AUTO = 0, /* NEED_REPLY wherever REPLY_ACK was negotiated */
    GW_FRONTEND_ACK_NEVER,    /* as a front-end without REPLY_ACK */
    GW_FRONTEND_ACK_ALWAYS,   /* on every message, but an answer is awaited only where one is due */
};

struct gw_frontend_config {
    size_t size;
    unsigned timeout_ms;         /* of each request; default 10 s */
    unsigned connect_timeout_ms; /* of connect and accept; default 10 s */
    enum gw_frontend_ack ack;
    bool no_gates; /* send also what the negotiated features do not allow */
};

/* `cfg` may be NULL. Free with gw_frontend_free, which hangs up. Returns: 0; -EINVAL; -E2BIG;
 * -ENOMEM. */
int gw_frontend_new(struct gw_frontend **ret, const struct gw_frontend_config *cfg);
void gw_frontend_free(struct gw_frontend *fe);

/* Why the last call on `fe` failed, as a sentence; "" when none did. Valid until the next call. */
const char *gw_frontend_error(const struct gw_frontend *fe);

/* The timeout of the requests from now on. */
void gw_frontend_set_timeout(struct gw_frontend *fe, unsigned timeout_ms);

/*
 * Begin a session: connect to the back-end that listens at `path`, trying again while nobody does;
 * take the next one that connects to `listen_fd` (stays the caller's); or use a connected socket
 * (consumed, also on failure). All negotiated state of a session before is forgotten.
 * Returns: 0; -ETIMEDOUT; -EISCONN; -ENAMETOOLONG; the errno of connect, accept or fcntl.
 */
int gw_frontend_connect(struct gw_frontend *fe, const char *path);
int gw_frontend_accept(struct gw_frontend *fe, int listen_fd);
int gw_frontend_attach(struct gw_frontend *fe, int fd);

/* Hang up. Rings the back-end had started are its own business then. */
void gw_frontend_disconnect(struct gw_frontend *fe);

/*
 * Between requests: has the back-end hung up, or sent what nobody asked for? Returns: 0; -ENOTCONN
 * without a session; -ECONNRESET; -EPROTO; after a request that ended the session, what that
 * request returned (-ETIMEDOUT, for example). If the back-end has hung up, gw_frontend_error names
 * the messages since its last answer.
 */
int gw_frontend_check(struct gw_frontend *fe);

#define GW_FRONTEND_TRACE_MAX 16

enum gw_frontend_trace_kind {
    GW_FRONTEND_TRACE_SENT = 0, /* a request of the front-end */
    GW_FRONTEND_TRACE_ANSWERED, /* the back-end's answer to one */
    GW_FRONTEND_TRACE_ASKED,    /* a request of the back-end, on its own channel */
    GW_FRONTEND_TRACE_REPLIED,  /* the front-end's answer to one */
    /* These are no messages and have no `request`. */
    GW_FRONTEND_TRACE_CONNECTED,
    GW_FRONTEND_TRACE_DISCONNECTED, /* the front-end hung up */
    GW_FRONTEND_TRACE_HUNG_UP,      /* the back-end did */
};

struct gw_frontend_trace {
    uint64_t at_ns; /* CLOCK_MONOTONIC */
    uint64_t value; /* the first 8 bytes of the payload, as in memory; 0 behind its end */
    enum gw_frontend_trace_kind kind;
    uint32_t request, flags, size; /* of the header */
    unsigned n_fds;
};

/*
 * The last messages of `fe`, of all its sessions, oldest first, up to GW_FRONTEND_TRACE_MAX into
 * `ret`. Those of gw_frontend_send_raw, gw_frontend_send_bytes and gw_frontend_receive are not
 * among them. Returns: how many.
 */
unsigned gw_frontend_last_messages(const struct gw_frontend *fe, struct gw_frontend_trace *ret);
/* One of them in words, such as "-> SET_VRING_NUM ring 0: 256". 96 bytes are enough. */
void gw_frontend_trace_text(const struct gw_frontend_trace *t, char *buf, size_t size);

/* The socket, for poll; -1 when not connected. */
int gw_frontend_fd(const struct gw_frontend *fe);

/*
 * The requests ("Front-end message types"), one function each. Blocks up to the timeout. Returns:
 * 0; -ENOTCONN no session; -EINVAL an argument no message can carry; -EOPNOTSUPP the feature behind
 * the message was not negotiated; -EREMOTEIO the back-end answered that it failed; -EPROTO its
 * answer was no answer to this (id, flags other than 0x5, size, an fd); -ETIMEDOUT no answer;
 * -ECONNRESET it hung up. After the last three the session is of no more use, as a late answer
 * could be taken for the next: every further request returns the same.
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
 * The table form takes up to 8 regions, else -E2BIG. Both take what `m` holds when called;
 * -EOPNOTSUPP: memory of a Xen domain, and XEN_MMAP (17) was not negotiated.
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
    gw_gpa_t log;   /* of the used ring, or device event area, with flag bit 0 */
    uint32_t flags; /* bit 0: writes to the used ring are logged */
};

/* `index` goes up to 255; fds stay the caller's, -1 says NOFD. */
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
 * As GET_VRING_BASE, but the back-end stops at once and leaves what it had taken in its inflight
 * region; needs GET_VRING_BASE_SKIP_DRAIN (23). Give the answer to gw_driver_set_base.
 */
int gw_frontend_get_vring_base_skip_drain(struct gw_frontend *fe, unsigned index, uint32_t *ret);

/*
 * Where a back-end keeps what it has taken and not completed, to go on with after a crash of its
 * own. The front-end stores it as it is, and hands it over in each session. All zeros: there is
 * none yet.
 */
struct gw_frontend_inflight {
    int fd; /* counts only with a size */
    uint64_t mmap_size;
    uint64_t mmap_offset;
    uint16_t num_queues;
    uint16_t queue_size;
};

/* Close its fd, if it has one. It is as none then. */
void gw_frontend_inflight_done(struct gw_frontend_inflight *inflight);

/*
 * Ask for a region, after SET_FEATURES, which decide about its layout; gw_frontend_inflight_done
 * closes it. A size of 0 says that the back-end wants none. Hand one over; its fd stays the
 * caller's. Both need INFLIGHT_SHMFD (12). An answer that cannot be a region for so many queues is
 * -EPROTO.
 */
int gw_frontend_get_inflight_fd(struct gw_frontend *fe, unsigned num_queues, unsigned queue_size,
                                struct gw_frontend_inflight *ret);
int gw_frontend_set_inflight_fd(struct gw_frontend *fe,
                                const struct gw_frontend_inflight *inflight);

/* `len` up to 256; a refusal (answer without data) is -EREMOTEIO. */
int gw_frontend_get_config(struct gw_frontend *fe, uint32_t offset, void *buf, uint32_t len);
int gw_frontend_set_config(struct gw_frontend *fe, uint32_t offset, const void *buf, uint32_t len,
                           bool migration);

/* What this session negotiated. */
uint64_t gw_frontend_features(const struct gw_frontend *fe);
uint64_t gw_frontend_protocol_features(const struct gw_frontend *fe);

/* ---- Messages as they are, for tests of bad input ---- */

#define GW_FRONTEND_PAYLOAD_MAX 4096
#define GW_FRONTEND_FDS_MAX     8

struct gw_frontend_message {
    uint32_t request;
    uint32_t flags;
    uint32_t size; /* as the header says */
    unsigned n_fds;
    int fds[GW_FRONTEND_FDS_MAX]; /* the receiver's */
    uint8_t payload[GW_FRONTEND_PAYLOAD_MAX];
};

/*
 * Send a header that may lie, `len` bytes of payload and `n_fds` fds (any number the kernel takes;
 * they stay the caller's) in one sendmsg, or bytes without any header. Nothing is checked or waited
 * for. Returns: 0; -ENOTCONN; -ECONNRESET; -ETIMEDOUT the socket stays full; the errno of sendmsg.
 */
int gw_frontend_send_raw(struct gw_frontend *fe, uint32_t request, uint32_t flags, uint32_t size,
                         const void *payload, size_t len, const int *fds, unsigned n_fds);
int gw_frontend_send_bytes(struct gw_frontend *fe, const void *buf, size_t len);

/*
 * Receive one message, whatever it is; gw_frontend_message_done closes its fds. These do not spoil
 * the session. Returns: 0; -ETIMEDOUT; -ECONNRESET; -EPROTO longer than GW_FRONTEND_PAYLOAD_MAX or
 * more fds than GW_FRONTEND_FDS_MAX; -EMFILE this process has no room for its fds; -ENOTCONN.
 */
int gw_frontend_receive(struct gw_frontend *fe, struct gw_frontend_message *ret,
                        unsigned timeout_ms);
void gw_frontend_message_done(struct gw_frontend_message *msg);

/* ---- The back-end's own requests ("Back-end message types") ---- */

/* Make the channel and hand its other end over; needs BACKEND_REQ. A channel before is closed. */
int gw_frontend_set_backend_req_fd(struct gw_frontend *fe);
/* Its end here, for poll; -1 without one. */
int gw_frontend_backend_fd(const struct gw_frontend *fe);

/*
 * Receive what the back-end asks or tells, known or not (2 is CONFIG_CHANGE). Answer what carries
 * NEED_REPLY (flag 0x8) with gw_frontend_backend_reply, 0 for success.
 * Returns: as gw_frontend_receive.
 */
int gw_frontend_backend_request(struct gw_frontend *fe, struct gw_frontend_message *ret,
                                unsigned timeout_ms);
int gw_frontend_backend_reply(struct gw_frontend *fe, const struct gw_frontend_message *msg,
                              uint64_t value);

/* Start one queue (NUM, BASE, ADDR, KICK, CALL), or stop it (GET_VRING_BASE, kept as its base). */
int gw_frontend_start_queue(struct gw_frontend *fe, struct gw_driver *d);
int gw_frontend_stop_queue(struct gw_frontend *fe, struct gw_driver *d);

/* ---- Sessions as QEMU makes them ---- */

enum gw_frontend_mem_form {
    GW_FRONTEND_MEM_AUTO = 0, /* slots where CONFIGURE_MEM_SLOTS was negotiated, else the table */
    GW_FRONTEND_MEM_TABLE,
    GW_FRONTEND_MEM_SLOTS,
};

struct gw_guest_log;

struct gw_frontend_options {
    size_t size;
    uint64_t features; /* wanted of those offered; 0: bits 28, 29, 30 and 32, 34 if packed */
    uint64_t protocol_features; /* wanted of what is offered; 0: all used here, and XEN_MMAP */
    struct gw_guest_mem *mem;
    struct gw_driver **drivers;
    unsigned n_drivers;
    enum gw_frontend_mem_form mem_form;
    bool no_enable;                 /* leave the queues disabled */
    const struct gw_guest_log *log; /* start with LOG_ALL and this log, as in a migration */
    /* Asked for where it is none yet, handed over where it is one; the caller's. NULL: not used. */
    struct gw_frontend_inflight *inflight;
};

/*
 * Negotiate as QEMU does: GET_FEATURES, protocol features (where bit 30 is offered and wanted),
 * GET_QUEUE_NUM, GET_MAX_MEM_SLOTS, the back-end channel, SET_OWNER. Looks at `features`,
 * `protocol_features`, `drivers`, `mem_form` and `inflight` of the options.
 * Returns: as the requests; -EOPNOTSUPP the back-end does not offer VERSION_1.
 */
int gw_frontend_negotiate(struct gw_frontend *fe, const struct gw_frontend_options *opt);

/*
 * Start the device: negotiate unless that is done, the inflight region, SET_FEATURES, the memory
 * unless this session has it, each queue, then SET_VRING_ENABLE. Drivers must not run meanwhile,
 * unless the negotiated features are those they run with.
 *
 * After a session was lost with queues running: disconnect, connect (or accept), start again with
 * the same drivers. With the inflight region of the session before, the back-end itself completes
 * what was in flight, and drivers that were not stopped begin where the used elements end. Without
 * one, call gw_driver_requeue on each of them first.
 * Returns: as the requests; -ERANGE for more queues or regions than the back-end has; for a driver
 * -EOPNOTSUPP packed where RING_PACKED was not negotiated, -EINVAL split where it was, -EBUSY
 * IN_ORDER changed with chains in flight.
 */
int gw_frontend_start(struct gw_frontend *fe, const struct gw_frontend_options *opt);
/* Stop: SET_VRING_ENABLE 0, then GET_VRING_BASE each. Goes on after a refusal, returns the first.
 */
int gw_frontend_stop(struct gw_frontend *fe, struct gw_driver **drivers, unsigned n_drivers);

#pragma GCC visibility pop
#ifdef __cplusplus
}
#endif
#endif
