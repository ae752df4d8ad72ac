/* SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause */
/*
 * The storage of the disk: a file (store_file.c and its parts) or memory (store_ram.c), either of
 * which store_delay.c can slow down: the stores of libgodwit-blk in this program.
 */
#pragma once

#include <godwit.h>
#include <godwit/blk.h>
#include <stdatomic.h>
#include <stdio.h>

struct backend_log;
struct store;

enum {
    STORE_N_KINDS = GW_BLK_WRITE_ZEROES + 1
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

/* One operation, of any of the stores. */
struct store_io {
    struct gw_blk_io op; /* first */
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

static inline struct store_io *store_io_of(struct gw_blk_io *op)
{
    return (struct store_io *)(void *)op;
}

struct store_ops {
    struct gw_blk_store_ops blk; /* their `store` is a struct store */

    /* Print the error counters since the start of the program. Context: any thread. */
    void (*report)(struct store *s, FILE *out);

    /* Read the size again. */
    int (*resize)(struct store *s);
    void (*free)(struct store *s);
};

/* As in struct gw_blk_config. */
struct store_topology {
    uint32_t physical_block;
    uint32_t alignment_offset;
    uint32_t io_min;
    uint32_t io_opt;
    uint32_t discard_align;
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
