/* SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause */
/*
 * The storage of the disk: a file (store_file.c and its parts) or memory (store_ram.c), either of
 * which store_delay.c can slow down. A store works on bytes and offsets and knows nothing about
 * virtio; the caller of submit has checked the extent against the size.
 */
#pragma once

#include <godwit.h>
#include <stdatomic.h>
#include <stdio.h>

struct backend_log;
struct store;

enum store_kind {
    STORE_READ,
    STORE_WRITE,
    STORE_FLUSH,
    STORE_DISCARD,
    STORE_WRITE_ZEROES,
};

enum {
    STORE_N_KINDS = STORE_WRITE_ZEROES + 1
};

struct store_io;

/* Additional state of a flush or durable change (store_sync.c). */
struct store_promise {
    struct store_io *next;
    struct store_io **link; /* pointer in its list that points to this operation */
    uint64_t id;            /* in the held list: id of the last promise it waits for */
    int state;
    int res;
    struct gw_post post;
};

/*
 * One operation. The caller owns it and must keep it at its address until it is done. The operation
 * modifies `iov` and the iovecs that it points to.
 */
struct store_io {
    void (*done)(struct store_io *io, int res); /* 0 or a negative errno, on `worker` */
    struct gw_worker *worker;
    struct iovec *iov; /* STORE_READ and STORE_WRITE */
    uint32_t n_iov;
    enum store_kind kind;
    bool is_durable;   /* done means that the change is on stable storage */
    bool may_unmap;    /* STORE_WRITE_ZEROES: may deallocate */
    bool is_cancelled; /* see store_ops.cancel */
    uint64_t offset;
    uint64_t length;
    /* Below: used by the store only. */
    struct store *store;
    struct gw_io gw;
    uint8_t *bounce;         /* aligned copy of memory that O_DIRECT rejects; or NULL */
    struct iovec own_iov;    /* bounce buffer or zeroes */
    uint64_t piece;          /* bytes of a range being processed */
    unsigned way;            /* method used for the piece (store_range.c) */
    unsigned refused;        /* methods that were rejected (store_range.c) */
    int durable_error;       /* error of the failed durable write that is being repeated */
    struct store_held *held; /* set while delayed (store_delay.c); or NULL */
    struct store_promise promise;
};

/*
 * The use of a store by a queue, from a start to a stop. The caller keeps it at its address, and
 * sets `done` and `worker`.
 */
struct store_user {
    /* The result of a start or stop in progress, on `worker`. */
    void (*done)(struct store_user *user, int r);
    struct gw_worker *worker;
    /* Below: used by the store only. */
    struct store_user *next;
    int res;
    struct gw_post post;
};

struct store_ops {
    /* Hint: the operation will be submitted soon. */
    void (*prefetch)(struct store *s, const struct store_io *io);

    /*
     * Execute or start an operation. Returns: -EINPROGRESS: `done` reports the result later; 0 or a
     * negative errno: the operation has ended, and `done` is not called.
     */
    int (*submit)(struct store *s, struct store_io *io);

    /*
     * End an operation in progress as soon as possible; the caller has set is_cancelled. `done`
     * reports the result later as usual: -ECANCELED if part of the operation was not executed.
     */
    void (*cancel)(struct store *s, struct store_io *io);

    /*
     * A queue starts, or has stopped with no request in flight. The contents are claimed from the
     * first start to the last stop, and only then, so that two processes that hand over to each
     * other may both have the store open. The result of a stop is 0 if all written data is on
     * stable storage and visible to others, or a negative errno if not. Both return -EINPROGRESS
     * if they take time: then done() of the user follows, never inside the call.
     *
     * cancel_start: end a start in progress soon, with -ECANCELED or another result.
     * Context: the user's worker.
     */
    int (*start)(struct store *s, struct store_user *user);
    void (*cancel_start)(struct store *s, struct store_user *user);
    int (*stop)(struct store *s, struct store_user *user);

    /* Print the error counters since the start of the program. Context: any thread. */
    void (*report)(struct store *s, FILE *out);

    /* Read the size again. */
    int (*resize)(struct store *s);
    void (*free)(struct store *s);
};

/* The topology reported to the driver; all in bytes, 0 if unknown. */
struct store_topology {
    uint32_t physical_block;
    uint32_t alignment_offset;
    uint32_t io_min;
    uint32_t io_opt;
    uint32_t discard_align; /* only whole units of this size are freed */
};

/* Two stores with the same one use the same file or device. */
struct store_id {
    uint64_t device, file; /* both 0: a store that no other can use */
};

struct store {
    const struct store_ops *ops;
    struct backend_log *log; /* for its messages, see backend_say */
    _Atomic uint64_t size;   /* in bytes, a multiple of block_size */
    uint32_t block_size;     /* the logical block: every offset and length is a multiple of it */
    bool is_read_only;
    bool can_unmap; /* supports discard; otherwise zeroes stay allocated, too */
    struct store_topology topology;
    struct store_id id;
};

enum store_mode {
    STORE_AUTO,
    STORE_ON,
    STORE_OFF
};

struct store_file_options {
    const char *path;
    uint32_t block_size;
    bool is_read_only;
    enum store_mode direct;
    enum store_mode locking;
    unsigned lock_patience_ms; /* how long to wait for another process to release its lock */
    struct backend_log *log;
};

/* Open a store; errors are logged. Free it with ops->free. Returns: 0 or a negative errno. */
int store_file_new(struct store **ret, const struct store_file_options *o);
int store_ram_new(struct store **ret, uint64_t size, uint32_t block_size, bool is_read_only,
                  struct backend_log *log);

/* A store that delays `behind`, and owns it on success. Returns: 0; -ENOMEM. */
int store_delay_new(struct store **ret, struct store *behind, unsigned ms);
