/* SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause */
/*
 * A fixture: the stores of godwit-blk on a real file. The file I/O of the library is faked, so that
 * it may be short, fail or be unsupported.
 */
#pragma once

#include "store_file.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>

enum {
    BLOCKS = 64,
    BLOCK = 4096,
    SIZE = BLOCKS * BLOCK,
    STORE_FIXTURE_IOVS = 2048,
};

/* ---- the library, faked: one operation at a time per thread, which ends in pump() ---- */

struct store_fake {
    struct gw_io *io;
    int (*act)(void);
    const struct iovec *iov; /* arguments of `act` */
    int64_t offset, length;
    int op, fd, flags;
    uint64_t align; /* unaligned ranges fail with -EINVAL; 0: any range is accepted */
    int64_t discard_offset, discard_length;
    int64_t punch_offset, punch_length; /* last hole */
    size_t short_by;                    /* longest transfer; 0: unlimited */
    unsigned n_iov;
    int fail;           /* result of the next operation */
    int fail_fallocate; /* result of every fallocate */
    int fail_punch;     /* result of every fallocate that punches a hole */
    int fail_discard;   /* result of every BLKDISCARD; no real block device is used */
    int fail_writes;    /* result of every write */
    int fail_sync;      /* result of every fdatasync and of the sync of each durable write */
    unsigned cancel_at; /* cancel this operation, counted from 1, before it ends */
    unsigned n_ops, n_sync, n_fallocate, n_punch, n_discard, n_dsync, n_cancelled, n_said, n_errors;
};

extern _Thread_local struct store_fake fake;

/* The only timer; the test calls `cb`. */
struct gw_timer {
    gw_timer_cb *cb;
    void *arg;
    uint64_t delay_ns;
    bool is_there;
};

extern struct gw_timer timer;

/* A worker without a thread or a loop: run_posts runs what was posted. */
struct gw_worker {
    pthread_mutex_t lock;
    struct gw_post *first;
    struct gw_post *last; /* if there is a first */
};

void worker_init(struct gw_worker *w);
/* Returns: number of posts that ran. */
unsigned run_posts(struct gw_worker *w);

void pump(void);

/* ---- a store on a temporary file, and one operation ---- */

extern struct store *s;
extern char path[64];
extern uint8_t *memory; /* page aligned; one byte more than the file */
extern struct iovec iovs[STORE_FIXTURE_IOVS];
extern int result; /* passed to op_done */

#define STORE_TEST(f) \
    cmocka_unit_test_setup_teardown(f, store_fixture_setup, store_fixture_teardown)
int store_fixture_setup(void **state);
int store_fixture_teardown(void **state);

/* Tasks run at once; or one is held, until run_held_task. */
extern bool are_tasks_held;
void run_held_task(void);
/* Start or stop a store for a queue. Returns: the result, at once or later. */
int start_store(struct store *store);
int stop_store(struct store *store);
int open_store(enum store_mode direct, uint32_t block_size);
/* Fill block n with the byte n + 1. */
void fill_file(void);
void op_done(struct gw_blk_io *io, int res);
/* Returns: the result of the operation, at once or after pump(). */
int run(struct store_io *io);
/*
 * Transfer `length` bytes at `offset` in iovecs of `piece` bytes, which begin `shift` bytes into
 * memory.
 */
int transfer_op(enum gw_blk_kind kind, uint64_t offset, uint64_t length, size_t piece,
                size_t shift);
/* Blocks 8 to 11. */
int range_op(enum gw_blk_kind kind, bool may_unmap, bool is_durable);
int write_op(bool is_durable);
void assert_bytes(const uint8_t *at, int value, size_t n);
/* Check block `n` of the file, read without the store. */
void assert_block(int n, int value);
