/* SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause */
/*
 * Interfaces between the parts of the file store: opening (store_file.c), users (store_users.c),
 * I/O (store_file_io.c), ranges, syncs and the lock.
 */
#pragma once

#include "store.h"
#include "tasks.h"

#include "backend.h"

#include <pthread.h>
#include <stddef.h>

/* Promises that wait, ordered by id. */
struct store_promises {
    struct store_io *first;
    struct store_io **end; /* link of the next promise to append */
};

/* The queues that use the file, and what they wait for (store_users.c). */
struct store_users {
    pthread_mutex_t lock;         /* everything below */
    unsigned n;                   /* that have started */
    struct gw_blk_user *starting; /* they wait for the lock of the file */
    struct gw_blk_user *stopping; /* the last one; it waits for its data to be on the medium */
    bool is_busy;                 /* the task waits or runs */
    pthread_cond_t idle;          /* signalled when it has ended */
    struct task task;
};

struct store_file {
    struct store base;
    char *path;
    int fd;
    bool is_block_device;
    uint32_t memory_align; /* of iovec bases for O_DIRECT; 0: page cache, no alignment */
    bool must_hold_writes; /* hold successful durable writes; see store_sync.c */
    enum store_mode locking;
    unsigned lock_patience_ms;
    struct store_users users;
    _Atomic bool is_dirty;         /* a write may have followed the start of the last flush */
    _Atomic int sync_error;        /* first failed sync, 0: none; see store_sync.c */
    pthread_mutex_t promises_lock; /* in_flight, held, last_promise */
    struct store_promises in_flight;
    struct store_promises held; /* succeeded, but wait for promises in flight */
    uint64_t last_promise;      /* latest id */
    _Atomic uint64_t n_failed[STORE_N_KINDS];
    uint32_t range_align;     /* alignment for fallocate and BLKDISCARD, in bytes */
    uint32_t first_granule;   /* offset of the first granule of topology.discard_align bytes */
    _Atomic unsigned refused; /* methods that were rejected for good (store_range.c) */
};

static inline struct store_file *file_of(struct store *s)
{
    return (struct store_file *)(void *)((char *)s - offsetof(struct store_file, base));
}

static inline struct store_io *io_of(struct gw_io *gw)
{
    return (struct store_io *)(void *)((char *)gw - offsetof(struct store_io, gw));
}

/* store_file_io.c */
int store_file_submit(void *store, struct gw_blk_io *op);
void store_file_cancel(void *store, struct gw_blk_io *op);
/* An operation has ended: log a failure. A promise may have to wait before it completes. */
void store_file_finish(struct store_io *io, int res);
/* Complete any operation: count a failure and call `done`. */
void store_file_complete(struct store_io *io, int res);
/* Take the next step, unless the operation was cancelled. */
void store_file_go_on(struct store_io *io, void (*step)(struct store_io *io));
void store_file_report(struct store *s, FILE *out);

/* store_sync.c */
void store_sync_init(struct store_file *f);
void store_sync_done(struct store_file *f);
/* Whether it is a promise: a flush or durable change, whose success promises data on the medium. */
bool store_is_promise(const struct store_io *io);
/* Whether a sync has failed, so that no promise may succeed again. */
bool store_has_lost_data(struct store_file *f);
/* Prepare an operation of any kind for the functions below. */
void store_promise_init(struct store_io *io);
/* Call before starting any system call that syncs for the operation. */
void store_promise_begin(struct store_io *io);
/* Complete an operation of any kind, at once or after other promises have ended. */
void store_promise_end(struct store_io *io, int res);
/* End it early: cancel its file operation, or its wait for other promises. */
void store_promise_cancel(struct store_io *io);
/* The sync of `io` failed: record and log the error, and end the promise. */
void store_sync_failed(struct store_io *io, int error);
/* Sync, then finish the operation. */
void store_sync_start(struct store_io *io);
/* The final, blocking sync of the last stop. Returns: 0 or a negative errno. */
int store_file_sync(struct store_file *f);

/* store_users.c: three are functions of gw_blk_store_ops. `done` waits for the end of the task. */
void store_users_init(struct store_file *f);
void store_users_done(struct store_file *f);
int store_users_start(void *store, struct gw_blk_user *user);
void store_users_cancel_start(void *store, struct gw_blk_user *user);
int store_users_stop(void *store, struct gw_blk_user *user);

/* store_range.c: discard and write zeroes. Returns: as gw_blk_store_ops.submit. */
int store_range_submit(struct store_file *f, struct store_io *io);

/*
 * store_lock.c: the lock of QEMU's file driver. Returns: 0; -EAGAIN if another process holds it;
 * the negative errno of fcntl(2) if the file system does not support locks.
 */
int store_lock_take(int fd, bool is_read_only);
void store_lock_drop(int fd);
