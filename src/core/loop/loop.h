/* SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause */
/*
 * A worker's event loop: one interface, two implementations in one binary (loop_uring, loop_epoll),
 * chosen at run time. All functions run on the thread that created the loop, unless noted.
 */
#pragma once

#include "base/log_i.h"

#include <godwit/daemon.h>
#include <godwit/worker.h>
#include <stdbool.h>
#include <stdint.h>

/* An fd to wait for. Its owner embeds the source and keeps it in place while it is added. */
struct gw_source {
    int fd;
    uint32_t events; /* of poll(2) */
    /*
     * Edge triggered: `cb` runs once if the fd is ready when it is added, then at least once each
     * time it becomes ready again, and need not read the fd. Otherwise level triggered.
     */
    bool edge;
    void (*cb)(struct gw_source *source, uint32_t events);
    void *token; /* private to the loop */
};

/*
 * What the library keeps in a struct gw_io of the embedder. It may alias, because the memory is
 * declared as another type.
 */
struct __attribute__((may_alias)) gw_io_i {
    void (*done)(struct gw_io *io, int res); /* the same member */
    struct gw_worker *worker;
    struct gw_io_i *next;
    const struct iovec *iov;
    int64_t offset;
    int64_t length;
    unsigned n_iov;
    int fd;
    int op; /* enum gw_io_op */
    int flags;
    int res;
};
_Static_assert(sizeof(struct gw_io_i) <= sizeof(struct gw_io) &&
                   _Alignof(struct gw_io_i) == _Alignof(struct gw_io),
               "struct gw_io has room");

static inline struct gw_io_i *gw_io_inside(struct gw_io *io)
{
    return (struct gw_io_i *)(void *)io;
}

static inline void gw_io_done(struct gw_io_i *io, int res)
{
    io->done((struct gw_io *)(void *)io, res);
}

struct gw_loop {
    const struct gw_loop_ops *ops;
    struct gw_log *log;
    /* Atomic, the number of daemons on this worker that have memory which */
    unsigned n_unpinnable; /* cannot be pinned for direct I/O, see bounce.h */
    unsigned n_missing; /* may be missing (postcopy): file operations may wait, the loop must not */
};

struct gw_loop_ops {
    enum gw_loop_kind kind;
    void (*free)(struct gw_loop *loop);
    /* An fd that is readable while there is an event to handle, if the loop is external. */
    int (*fd)(struct gw_loop *loop);
    int (*add)(struct gw_loop *loop, struct gw_source *source);
    /* On return, `cb` no longer runs and the loop no longer uses the fd. */
    void (*remove)(struct gw_loop *loop, struct gw_source *source);
    /*
     * Prepare signalling an eventfd of the front-end. The caller keeps the fd, and keeps it open
     * until it has freed the bell after a submit. Returns: NULL if this loop needs no preparation.
     */
    void *(*bell_new)(struct gw_loop *loop, int fd);
    void (*bell_free)(void *bell); /* on any thread; accepts NULL */
    /*
     * Add 1 to the eventfd, at the next submit or turn at the latest. Never sleeps, whatever the
     * front-end does to the counter or to O_NONBLOCK.
     */
    void (*signal)(struct gw_loop *loop, int fd, void *bell);
    /* Start a file operation. */
    void (*io)(struct gw_loop *loop, struct gw_io_i *io);
    /* Cancel a file operation that has not ended. Never calls `done` itself. */
    void (*cancel)(struct gw_loop *loop, struct gw_io_i *io);
    /* Submit everything collected so far to the kernel. */
    void (*submit)(struct gw_loop *loop);
    /*
     * Is there anything to submit or to handle? A busy worker calls this every turn, so it avoids
     * system calls and may give a correct answer only after a few turns.
     */
    bool (*is_pending)(struct gw_loop *loop);
    /*
     * Submit, wait up to `timeout_ns` (0: not at all, negative: for ever) for an event, and run the
     * callbacks of all events.
     */
    void (*turn)(struct gw_loop *loop, int64_t timeout_ns);
};

static inline bool gw_loop_may_fault(const struct gw_loop *loop)
{
    return __atomic_load_n(&loop->n_missing, __ATOMIC_RELAXED) > 0;
}

enum gw_io_op {
    GW_IO_PREADV,
    GW_IO_PWRITEV,
    GW_IO_FDATASYNC,
    GW_IO_FALLOCATE,
    GW_IO_DISCARD,
    GW_IO_BOUNCED, /* never passed to a loop: its `next` is performed instead */
};

/* Returns: 0; -ENOMEM; the errno of the kernel if this loop is unavailable. */
int gw_loop_uring_new(struct gw_loop **ret, struct gw_log *log, bool is_external);
int gw_loop_epoll_new(struct gw_loop **ret, struct gw_log *log);

/*
 * Create a loop of the requested kind, and log which one it is. `is_external`: its thread also
 * waits in another loop, for the fd of this one.
 */
int gw_loop_new(struct gw_loop **ret, enum gw_loop_kind kind, struct gw_log *log, bool is_external);
