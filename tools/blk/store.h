/* SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause */
/*
 * Where the blocks are: a file (store_file.c and its parts) or memory (store_ram.c), and either may
 * be made slow (store_delay.c). A store knows bytes and offsets, nothing of virtio; who submits
 * has checked the extent against its size.
 */
#pragma once

#include <godwit.h>
#include <stdatomic.h>
#include <stdio.h>

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

/* What a flush or a durable change needs in addition (store_sync.c). */
struct store_promise {
    struct store_io *next;
    struct store_io **link; /* what points to it in its list */
    uint64_t id;            /* while it is held: of the last promise that it waits for */
    int state;
    int res;
    struct gw_post post;
};

/*
 * One operation. It stays the caller's and must stay put until it is done; `iov` and what it
 * points to is used up on the way.
 */
struct store_io {
    void (*done)(struct store_io *io, int res); /* 0 or a negative errno, on `worker` */
    struct gw_worker *worker;
    struct iovec *iov; /* STORE_READ and STORE_WRITE */
    uint32_t n_iov;
    enum store_kind kind;
    bool is_durable;   /* a change is on stable storage when it is done */
    bool may_unmap;    /* STORE_WRITE_ZEROES: holes are welcome */
    bool is_cancelled; /* see store_ops.cancel */
    uint64_t offset;
    uint64_t length;
    /* below: the store's */
    struct store *store;
    struct gw_io gw;
    uint8_t *bounce;         /* aligned copy for what O_DIRECT does not take as it is; or NULL */
    struct iovec own_iov;    /* of the bounce buffer, or of zeroes */
    uint64_t piece;          /* of a range, that is under way */
    unsigned way;            /* that the piece is done (store_range.c) */
    unsigned refused;        /* ways to do it that were refused (store_range.c) */
    int durable_error;       /* of the first durable write of it that failed, which is repeated */
    struct store_held *held; /* while it is held back (store_delay.c); or NULL */
    struct store_promise promise;
};

struct store_ops {
    /* The operation will be submitted soon. */
    void (*prefetch)(struct store *s, const struct store_io *io);

    /*
     * Do or start an operation. Returns: -EINPROGRESS: `done` will tell, later; 0 or a negative
     * errno: it is over, and `done` is not called.
     */
    int (*submit)(struct store *s, struct store_io *io);

    /*
     * End an operation that is under way as soon as can be; it has is_cancelled set. `done` tells
     * as ever, later: -ECANCELED if something of it is left undone.
     */
    void (*cancel)(struct store *s, struct store_io *io);

    /*
     * The first and the last user of the contents: a queue starts, or has stopped and nothing of
     * it is in flight. Between them, and only then, the contents are claimed, so that two
     * processes that hand over to each other may both have the store open. Stop returns 0 when all
     * that was written is on stable storage, where others see it, or a negative errno when it is
     * not. Context: any worker.
     */
    int (*start)(struct store *s);
    int (*stop)(struct store *s);

    /* Print what went wrong since the start of the program. Context: any thread. */
    void (*report)(struct store *s, FILE *out);

    /* Look at the size again. */
    int (*resize)(struct store *s);
    void (*free)(struct store *s);
};

/* What the driver is told of the shape of the medium; all in bytes, 0 where nothing is known. */
struct store_topology {
    uint32_t physical_block;
    uint32_t alignment_offset;
    uint32_t io_min;
    uint32_t io_opt;
    uint32_t discard_align; /* what begins or ends in between is not freed */
};

struct store {
    const struct store_ops *ops;
    _Atomic uint64_t size; /* in bytes, a multiple of block_size */
    uint32_t block_size;   /* the logical block: every offset and length is a multiple of it */
    bool is_read_only;
    bool can_unmap; /* give space back; else there are no discards, and zeroes stay allocated */
    struct store_topology topology;
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
    unsigned lock_patience_ms; /* for a lock that another process may be about to let go of */
};

/* Open one; what is wrong has been said. Free it with ops->free. Returns: 0 or a negative errno. */
int store_file_new(struct store **ret, const struct store_file_options *o);
int store_ram_new(struct store **ret, uint64_t size, uint32_t block_size, bool is_read_only);

/* One that makes `behind` slow. On success it owns that one. Returns: 0; -ENOMEM. */
int store_delay_new(struct store **ret, struct store *behind, unsigned ms);
