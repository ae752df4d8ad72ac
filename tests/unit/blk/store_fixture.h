/* SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause */
/*
 * The stores of godwit-blk on a real file, with file I/O of the library faked so that it may be
 * short, fail or be unsupported.
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

/* ---- the library, faked: one operation at a time of each thread, done when the test pumps ---- */

struct store_fake {
    struct gw_io *io;
    int (*act)(void);
    const struct iovec *iov; /* arguments of `act` */
    int64_t offset, length;
    int op, fd, flags;
    uint64_t align; /* ranges that are not aligned are -EINVAL; 0: anything goes */
    int64_t discard_offset, discard_length;
    int64_t punch_offset, punch_length; /* of the last hole */
    size_t short_by;                    /* transfers move at most this much; 0: all */
    unsigned n_iov;
    int fail;           /* the next operation ends with this */
    int fail_fallocate; /* every fallocate does */
    int fail_punch;     /* every one that punches a hole does */
    int fail_discard;   /* every BLKDISCARD does; there is no block device here */
    int fail_writes;    /* every write does */
    int fail_sync;      /* every fdatasync and the sync of each durable write does */
    unsigned cancel_at; /* this operation, counted from 1, is cancelled before it ends */
    unsigned n_ops, n_sync, n_fallocate, n_punch, n_discard, n_dsync, n_cancelled, n_said, n_errors;
};

extern _Thread_local struct store_fake fake;

/* A timer at a time; it is due when the test says so. */
struct gw_timer {
    gw_timer_cb *cb;
    void *arg;
    uint64_t delay_ns;
    bool is_there;
};

extern struct gw_timer timer;

/* Its posts run when the test says so. Operations of a single thread need no worker. */
struct gw_worker {
    pthread_mutex_t lock;
    struct gw_post *first;
    struct gw_post *last; /* if there is a first */
};

void worker_init(struct gw_worker *w);
/* Returns: how many posts have run. */
unsigned run_posts(struct gw_worker *w);

void pump(void);

/* ---- a store on a file of its own, and one operation ---- */

extern struct store *s;
extern char path[64];
extern uint8_t *memory; /* page aligned; one byte more than the file */
extern struct iovec iovs[STORE_FIXTURE_IOVS];
extern int result; /* what op_done got */

#define STORE_TEST(f) \
    cmocka_unit_test_setup_teardown(f, store_fixture_setup, store_fixture_teardown)
int store_fixture_setup(void **state);
int store_fixture_teardown(void **state);

int open_store(enum store_mode direct, uint32_t block_size);
/* Block n of the file is full of n + 1. */
void fill_file(void);
void op_done(struct store_io *io, int res);
/* Returns: the result of the operation, now or when it was pumped. */
int run(struct store_io *io);
/* Transfer `length` bytes at `offset` in iovecs of `piece` bytes, from `shift` bytes in memory. */
int transfer_op(enum store_kind kind, uint64_t offset, uint64_t length, size_t piece, size_t shift);
/* Blocks 8 to 11. */
int range_op(enum store_kind kind, bool may_unmap, bool is_durable);
int write_op(bool is_durable);
void assert_bytes(const uint8_t *at, int value, size_t n);
/* What the file has at block `n`, read past the store. */
void assert_block(int n, int value);
