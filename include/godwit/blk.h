/* SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause */
/*
 * libgodwit-blk: a virtio-blk device ("Block Device", virtio 1.3, 5.2) over a store of the
 * embedder. The library parses and checks requests, serves the config space, and counts. The store
 * (struct gw_blk_store_ops) reads and writes bytes; it knows nothing of virtio. gw_daemon_new makes
 * a daemon from gw_blk_ops and the device of gw_blk_new.
 *
 * Bounds. Every operation lies within the capacity that the device had when its request was popped,
 * and is a multiple of the logical block, so that a store need not check it again. After
 * gw_blk_resize to a smaller capacity, operations beyond the new end may still arrive: the store
 * fails them. Data is never inspected.
 *
 * Order. Operations of a queue are submitted in the order of its requests, those of different
 * queues concurrently. They may overlap and complete in any order. A driver that needs an order
 * waits for the completion of the first request.
 *
 * Durability. A completed write need not be on stable storage, unless its operation is_durable: the
 * driver has no write cache, or has turned it off. A flush that succeeds has put everything on
 * stable storage that was completed before the flush was submitted, on any queue. A store that
 * loses written data fails this flush and every later one, because the driver does not repeat
 * writes.
 *
 * Context, unless a function states another: any thread.
 */
#ifndef GODWIT_BLK_H
#define GODWIT_BLK_H

#include <godwit/daemon.h>
#include <godwit/device.h>
#include <godwit/log.h>
#include <godwit/worker.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/uio.h>

#ifdef __cplusplus
extern "C" {
#endif
#pragma GCC visibility push(default)

struct gw_blk;

enum gw_blk_kind {
    GW_BLK_READ = 0,
    GW_BLK_WRITE,
    GW_BLK_FLUSH,
    GW_BLK_DISCARD,
    GW_BLK_WRITE_ZEROES,
};

/*
 * One operation. The device owns it and keeps it at its address until it is complete; a store that
 * submits operations to other stores owns those. The store may change `offset`, `length`, `iov`,
 * `n_iov`, and the iovecs.
 *
 * A store that needs memory for each operation defines a structure that begins with a struct
 * gw_blk_io, and sets io_size to its size.
 */
struct gw_blk_io {
    /*
     * Receives the result, 0 or a negative errno, on `worker`. The owner sets it; a store calls
     * gw_blk_io_complete, or `done` if it is on the worker.
     */
    void (*done)(struct gw_blk_io *io, int res);
    struct gw_worker *worker; /* the worker of the queue; runs `submit` and `done` */
    /* GW_BLK_READ, GW_BLK_WRITE: `length` bytes of guest memory, which the guest may change. */
    struct iovec *iov;
    uint32_t n_iov;
    enum gw_blk_kind kind;
    bool is_durable;   /* not GW_BLK_READ: success means that the change is on stable storage */
    bool may_unmap;    /* GW_BLK_WRITE_ZEROES: may deallocate */
    bool is_cancelled; /* see `cancel` */
    uint64_t offset;   /* bytes, as `length`; both 0 for GW_BLK_FLUSH */
    uint64_t length;
    /* Below: the library's, initialized by gw_blk_io_complete. */
    int res;
    struct gw_post post;
    uint64_t reserved[2];
};

/*
 * The use of a store by one queue, from a start to a stop. The device owns it and keeps it at its
 * address.
 */
struct gw_blk_user {
    /* Receives the result of a start or stop that returned -EINPROGRESS, on `worker`. */
    void (*done)(struct gw_blk_user *user, int res);
    struct gw_worker *worker;
    struct gw_blk_user *next; /* for the store, to keep a list of users */
    /* Below: the library's, initialized by gw_blk_user_complete. */
    int res;
    struct gw_post post;
};

/*
 * The store: set `size` to sizeof(struct gw_blk_store_ops). `store` is the pointer that gw_blk_new
 * received. All functions run on the worker of the operation or user, several at a time if the
 * device has several workers. None may block, because other queues and devices share the worker.
 */
struct gw_blk_store_ops {
    size_t size;
    size_t io_size; /* bytes of one operation; default: sizeof(struct gw_blk_io) */

    /*
     * Hint: this operation will be submitted soon, after those that were popped with it. NULL:
     * nothing.
     */
    void (*prefetch)(void *store, const struct gw_blk_io *io);

    /*
     * Execute or start an operation. Returns: -EINPROGRESS: gw_blk_io_complete follows, on any
     * thread, or on this worker after the return; 0 or a negative errno: it has ended, and is not
     * completed again. -EOPNOTSUPP becomes VIRTIO_BLK_S_UNSUPP, other errors VIRTIO_BLK_S_IOERR.
     * A discard is advice: a store that cannot free the range leaves it unchanged and returns 0.
     * Required.
     */
    int (*submit)(void *store, struct gw_blk_io *io);

    /*
     * End an operation in progress as soon as possible, because its queue stops and another
     * back-end may do its request (gw_queue_may_suspend). is_cancelled is set. It is completed as
     * usual: with -ECANCELED if a part was not executed, so that it will be repeated from its
     * beginning; with its result otherwise. No thread or system call may touch its iovecs then.
     * NULL: the stop waits for the operation.
     */
    void (*cancel)(void *store, struct gw_blk_io *io);

    /*
     * A queue starts; a queue has stopped and has no operation in progress. Between the first start
     * and the last stop, and only then, the device uses the contents: claim them here (a lock,
     * for example), because a back-end that takes over starts its queues while this process still
     * has its store open. A stop returns 0 if everything that was written is on stable storage and
     * visible to others; otherwise a negative errno, with which the stop of the queue fails
     * (gw_queue_fail_stop). A non-zero start refuses the queue. -EINPROGRESS: gw_blk_user_complete
     * follows. NULL: 0.
     *
     * cancel_start: end a start in progress soon, with -ECANCELED or another result. NULL: the
     * device waits for the result.
     */
    int (*start)(void *store, struct gw_blk_user *user);
    void (*cancel_start)(void *store, struct gw_blk_user *user);
    int (*stop)(void *store, struct gw_blk_user *user);
};

/*
 * The device. Zero the structure, then set `size` to sizeof(struct gw_blk_config) and each member
 * that differs from its default. Sizes are in bytes.
 */
struct gw_blk_config {
    size_t size;
    uint64_t capacity;       /* a multiple of block_size */
    uint32_t block_size;     /* the logical block: a power of two, 512 (default) to 65536 */
    bool is_read_only;       /* the store gets reads and flushes only */
    bool can_discard;        /* offer discard, and zeroes that deallocate */
    bool no_write_zeroes;    /* do not offer write zeroes, which the store cannot do */
    unsigned num_queues;     /* 1 to GW_QUEUES_MAX; default 1 */
    unsigned queue_size_max; /* power of two up to GW_QUEUE_SIZE_MAX; default 1024 */
    const char *serial;      /* up to 20 bytes; NULL: none. Copied */
    /* The topology for the driver (virtio 1.3, 5.2.4); 0: unknown. */
    uint32_t physical_block;
    uint32_t alignment_offset; /* of the first aligned logical block */
    uint32_t io_min;
    uint32_t io_opt;
    uint32_t discard_align; /* only whole units of this size are freed */
    gw_log_cb *log;         /* NULL: stderr. One message for each session or resize at most */
    void *log_arg;
    enum gw_log_level log_level; /* least severe level passed to log; default: errors only */
    /*
     * Offer translated addresses (VIRTIO_F_ACCESS_PLATFORM), which a guest needs if the disk is
     * behind an IOMMU. A front-end that accepts the feature without having an IOMMU gets no
     * answers.
     */
    bool access_platform;
};

/* Operations of one kind. */
struct gw_blk_count {
    uint64_t submitted;
    uint64_t bytes;  /* of the submitted ones */
    uint64_t failed; /* ended with an error; without the cancelled ones */
};

/* What the device did since gw_blk_new. Set `size` to sizeof(struct gw_blk_stats). */
struct gw_blk_stats {
    size_t size;
    struct gw_blk_count read, write, flush, discard, write_zeroes;
    uint64_t refused; /* requests that did not reach the store: malformed, out of bounds, unknown */
};

/*
 * Make a device on a store.
 *
 * Ownership: `cfg` and `ops` are copied; `store` stays the caller's and must outlive the device.
 * Free the result with gw_blk_free.
 * Returns: 0; -EINVAL if `size` or `submit` is not set, or a member is outside of its limits, with
 * an error message; -E2BIG if a member is set that only later versions know; -ENOMEM.
 */
int gw_blk_new(struct gw_blk **ret, const struct gw_blk_config *cfg,
               const struct gw_blk_store_ops *ops, void *store);

/*
 * Free a device, after gw_daemon_free of its daemon. On shared workers, free the daemon only when
 * it has ended, no request is in flight (gw_queue_stats), and gw_blk_is_pending returns false. `b`
 * may be NULL.
 */
void gw_blk_free(struct gw_blk *b);

/*
 * The callbacks of the device, for gw_daemon_new with `b` as `dev`.
 *
 * Ownership: a constant.
 */
const struct gw_device_ops *gw_blk_ops(void);

/*
 * Set the members of the daemon's configuration that depend on the device: num_queues,
 * queue_size_max, request_size, request_bytes_max.
 */
void gw_blk_configure(const struct gw_blk *b, struct gw_daemon_config *cfg);

/*
 * Change the capacity, and notify the driver if it differs. The store must be ready for operations
 * up to the greater of both capacities. `d` is the daemon of the device.
 *
 * Returns: 0; -EINVAL if `capacity` is not a multiple of the logical block.
 * Context: any thread, one at a time for each device; returns at once.
 */
int gw_blk_resize(struct gw_blk *b, struct gw_daemon *d, uint64_t capacity);

/*
 * Is a start or stop of the store in progress?
 *
 * Returns: whether the store will still call gw_blk_user_complete.
 */
bool gw_blk_is_pending(const struct gw_blk *b);

/*
 * The result of the last stop of each queue.
 *
 * Returns: 0; the negative errno of a queue whose store did not keep what was written.
 * Context: while no worker of the device runs: after gw_daemon_free, for example.
 */
int gw_blk_stop_error(const struct gw_blk *b);

/* Copy the counters of all queues to `ret`. */
void gw_blk_stats(const struct gw_blk *b, struct gw_blk_stats *ret);

/*
 * Complete an operation for which `submit` returned -EINPROGRESS: call its `done` with `res`, at
 * once on its worker, otherwise later. If the worker has ended, the operation never completes.
 *
 * Ownership: the store must not touch the operation afterwards.
 * Context: any thread, but not within `submit` or `cancel`.
 */
void gw_blk_io_complete(struct gw_blk_io *io, int res);

/*
 * Report the result of a start or stop that returned -EINPROGRESS: the worker calls `done` later.
 *
 * Ownership: the store must not touch `user` afterwards, until the next start or stop.
 */
void gw_blk_user_complete(struct gw_blk_user *user, int res);

#pragma GCC visibility pop
#ifdef __cplusplus
}
#endif
#endif
