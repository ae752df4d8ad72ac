/* SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause */
/*
 * Between the parts of the file store: opening (store_file.c), I/O (store_file_io.c), ranges,
 * syncs, the lock.
 */
#pragma once

#include "store.h"

#include "backend.h"

#include <pthread.h>

/* Promises that wait for something, in the order of their ids. */
struct store_promises {
    struct store_io *first;
    struct store_io **end; /* where the next one is linked */
};

struct store_file {
    struct store base;
    char *path;
    int fd;
    bool is_block_device;
    uint32_t memory_align; /* of iovec bases under O_DIRECT; 0: the page cache, anything goes */
    bool must_hold_writes; /* durable ones that succeeded; see store_sync.c */
    enum store_mode locking;
    unsigned lock_patience_ms;
    pthread_mutex_t users_lock; /* n_users, and what happens when it leaves or reaches 0 */
    unsigned n_users;
    _Atomic bool is_dirty;         /* something may have been written since the last flush began */
    _Atomic int sync_error;        /* of the first sync that failed, 0: none; see store_sync.c */
    pthread_mutex_t promises_lock; /* in_flight, held, last_promise */
    struct store_promises in_flight;
    struct store_promises held; /* succeeded, but wait for some that are in flight */
    uint64_t last_promise;      /* the latest id */
    _Atomic uint64_t n_failed[STORE_N_KINDS];
    uint32_t range_align;     /* of what fallocate and BLKDISCARD take, in bytes */
    uint32_t first_granule;   /* where the first one begins, of topology.discard_align bytes */
    _Atomic unsigned refused; /* ways to do a range that were refused for good (store_range.c) */
};

/* store_file_io.c */
int store_file_submit(struct store *s, struct store_io *io);
void store_file_cancel(struct store *s, struct store_io *io);
/* An operation ended by itself: a failure is logged. A promise may have to wait then. */
void store_file_finish(struct store_io *io, int res);
/* The end of any operation: a failure is counted, and `done` is called. */
void store_file_complete(struct store_io *io, int res);
/* Take the next step, unless the operation was cancelled. */
void store_file_go_on(struct store_io *io, void (*step)(struct store_io *io));
void store_file_report(struct store *s, FILE *out);

/* store_sync.c */
void store_sync_init(struct store_file *f);
void store_sync_done(struct store_file *f);
/* Flushes and durable changes: they promise that something is on the medium. */
bool store_is_promise(const struct store_io *io);
/* A sync has failed: no promise succeeds any more. */
bool store_has_lost_data(struct store_file *f);
/* Prepare an operation of any kind for the functions below. */
void store_promise_init(struct store_io *io);
/* A sync of it is about to start, in whatever system call. */
void store_promise_begin(struct store_io *io);
/* Complete an operation of any kind, now or when other promises have ended. */
void store_promise_end(struct store_io *io, int res);
/* End it early: its file operation, or its wait for others. */
void store_promise_cancel(struct store_io *io);
/* Its sync failed: keep the error, log it, and end the promise. */
void store_sync_failed(struct store_io *io, int error);
/* Sync, then finish. */
void store_sync_start(struct store_io *io);
/* The program's last word to the medium, and a blocking one. Returns: 0 or a negative errno. */
int store_file_sync(struct store_file *f);

/* store_range.c: discard and write zeroes. Returns: as store_ops.submit. */
int store_range_submit(struct store_file *f, struct store_io *io);

/*
 * store_lock.c: the lock of QEMU's file driver. Returns: 0; -EAGAIN when another process has it;
 * what fcntl(2) says where the file system has no locks.
 */
int store_lock_take(int fd, bool is_read_only);
void store_lock_drop(int fd);
