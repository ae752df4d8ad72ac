/* SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause */
/*
 * The stores of godwit-blk on real files, with file I/O of the library faked so that it may be
 * short, fail or be unsupported: everything must arrive all the same, or fail as it should.
 */
#include "store_file.h"

#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include <cmocka.h>

enum {
    BLOCKS = 64,
    BLOCK = 4096,
    SIZE = BLOCKS * BLOCK
};

/* ---- the library, faked: one operation at a time, done when the test pumps ---- */

static struct {
    struct gw_io *io;
    int (*act)(struct gw_io *io);
    size_t short_by; /* transfers move at most this much; 0: all */
    unsigned n_iov;
    int fail;           /* the next operation ends with this */
    int fail_fallocate; /* every fallocate does */
    unsigned cancel_at; /* this operation, counted from 1, is cancelled before it ends */
    unsigned n_ops, n_sync, n_fallocate, n_dsync, n_cancelled, n_said;
} fake;

static void begin(struct gw_io *io, int (*act)(struct gw_io *io))
{
    assert_null(fake.io);
    fake.io = io;
    fake.act = act;
    fake.n_ops++;
}

static int transfer(struct gw_io *io)
{
    struct iovec part[1024];
    size_t left = fake.short_by != 0 ? fake.short_by : SIZE_MAX;
    unsigned n = 0;
    ssize_t r;

    for (; n < fake.n_iov && left > 0; n++) {
        part[n] = io->iov[n];
        if (part[n].iov_len > left)
            part[n].iov_len = left;
        left -= part[n].iov_len;
    }
    r = io->op == 0 ? preadv(io->fd, part, (int)n, io->offset)
                    : pwritev2(io->fd, part, (int)n, io->offset, io->flags);
    return r < 0 ? -errno : (int)r;
}

static int act_sync(struct gw_io *io)
{
    fake.n_sync++;
    return fdatasync(io->fd) < 0 ? -errno : 0;
}

static int act_fallocate(struct gw_io *io)
{
    fake.n_fallocate++;
    if (fake.fail_fallocate != 0)
        return fake.fail_fallocate;
    return fallocate(io->fd, io->flags, io->offset, io->length) < 0 ? -errno : 0;
}

static void begin_transfer(struct gw_io *io, int fd, const struct iovec *iov, unsigned n_iov,
                           int64_t offset)
{
    assert_in_range(n_iov, 1, 1024);
    io->fd = fd;
    io->iov = iov;
    io->offset = offset;
    fake.n_iov = n_iov;
    begin(io, transfer);
}

void gw_io_preadv(struct gw_worker *w, struct gw_io *io, int fd, const struct iovec *iov,
                  unsigned n_iov, int64_t offset)
{
    io->op = 0;
    begin_transfer(io, fd, iov, n_iov, offset);
}

void gw_io_pwritev(struct gw_worker *w, struct gw_io *io, int fd, const struct iovec *iov,
                   unsigned n_iov, int64_t offset, int rwf_flags)
{
    io->op = 1;
    io->flags = rwf_flags;
    fake.n_dsync += (rwf_flags & RWF_DSYNC) != 0;
    begin_transfer(io, fd, iov, n_iov, offset);
}

void gw_io_fdatasync(struct gw_worker *w, struct gw_io *io, int fd)
{
    io->fd = fd;
    begin(io, act_sync);
}

void gw_io_fallocate(struct gw_worker *w, struct gw_io *io, int fd, int mode, int64_t offset,
                     int64_t length)
{
    io->fd = fd;
    io->flags = mode;
    io->offset = offset;
    io->length = length;
    begin(io, act_fallocate);
}

void gw_io_cancel(struct gw_io *io)
{
    assert_ptr_equal(io, fake.io);
    fake.n_cancelled++;
}

static struct store *s;

static void cancel(struct gw_io *gw)
{
    struct store_io *io = (struct store_io *)(void *)((char *)gw - offsetof(struct store_io, gw));

    io->is_cancelled = true;
    s->ops->cancel(s, io);
}

static void pump(void)
{
    while (fake.io != NULL) {
        struct gw_io *io = fake.io;
        int r;

        if (fake.n_ops == fake.cancel_at)
            cancel(io);
        r = fake.fail != 0 ? fake.fail : fake.act(io);
        fake.fail = 0;
        fake.io = NULL;
        io->done(io, r);
    }
}

void backend_say(enum gw_diag_level level, const char *format, ...)
{
}

void backend_say_limited(struct backend_limit *limit, enum gw_diag_level level, const char *format,
                         ...)
{
    fake.n_said++;
}

/* A timer at a time; it is due when the test says so. */
static struct gw_timer {
    gw_timer_cb *cb;
    void *arg;
    uint64_t delay_ns;
    bool is_there;
} timer;

int gw_timer_new(struct gw_timer **ret, struct gw_worker *w, gw_timer_cb *cb, void *arg)
{
    assert_false(timer.is_there);
    timer = (struct gw_timer){.cb = cb, .arg = arg, .is_there = true};
    *ret = &timer;
    return 0;
}

void gw_timer_start(struct gw_timer *t, uint64_t delay_ns, uint64_t period_ns)
{
    t->delay_ns = delay_ns;
}

void gw_timer_free(struct gw_timer *t)
{
    t->is_there = false;
}

/* ---- a store on a file of its own, and one operation ---- */

static char path[64];
static uint8_t *memory; /* page aligned; one byte more than the file */
static struct iovec iovs[2048];
static int result;

static void op_done(struct store_io *io, int res)
{
    result = res;
}

static int file_fd(void)
{
    return open(path, O_RDWR | O_CLOEXEC);
}

/* Block n of the file is full of n + 1. */
static void fill_file(void)
{
    int fd = file_fd();

    for (int i = 0; i < BLOCKS; i++) {
        memset(memory, i + 1, BLOCK);
        assert_int_equal(pwrite(fd, memory, BLOCK, (off_t)i * BLOCK), BLOCK);
    }
    close(fd);
}

static int open_store(enum store_mode direct, uint32_t block_size)
{
    struct store_file_options o = {.path = path, .block_size = block_size, .direct = direct};

    return store_file_new(&s, &o);
}

static int setup(void **state)
{
    memset(&fake, 0, sizeof(fake));
    strcpy(path, "test_blk_store.XXXXXX"); /* in the build folder: /tmp may have no O_DIRECT */
    close(mkstemp(path));
    memory = aligned_alloc(BLOCK, SIZE + BLOCK);
    assert_non_null(memory);
    memset(memory, 0, SIZE + BLOCK);
    fill_file();
    s = NULL;
    return 0;
}

static int teardown(void **state)
{
    if (s != NULL)
        s->ops->free(s);
    free(memory);
    return unlink(path);
}

static int run(struct store_io *io)
{
    int r;

    io->done = op_done;
    result = 1;
    r = s->ops->submit(s, io);
    if (r == -EINPROGRESS) {
        pump();
        assert_int_not_equal(result, 1);
        return result;
    }
    assert_int_equal(result, 1); /* not both */
    return r;
}

/* Transfer `length` bytes at `offset` in iovecs of `piece` bytes, from `shift` bytes in memory. */
static int transfer_op(enum store_kind kind, uint64_t offset, uint64_t length, size_t piece,
                       size_t shift)
{
    struct store_io io = {.kind = kind, .offset = offset, .length = length, .iov = iovs};
    uint8_t *at = memory + shift;

    for (uint64_t left = length; left > 0; io.n_iov++) {
        size_t n = piece < left ? piece : left;

        iovs[io.n_iov] = (struct iovec){at, n};
        at += n;
        left -= n;
    }
    return run(&io);
}

static void assert_bytes(const uint8_t *at, int value, size_t n)
{
    for (size_t i = 0; i < n; i++)
        assert_int_equal(at[i], value);
}

/* What the file has at block `n`, read past the store. */
static void assert_block(int n, int value)
{
    uint8_t buf[BLOCK];
    int fd = file_fd();

    assert_int_equal(pread(fd, buf, BLOCK, (off_t)n * BLOCK), BLOCK);
    close(fd);
    assert_bytes(buf, value, BLOCK);
}

static void check_read_and_write(size_t piece, size_t shift)
{
    memset(memory, 0, SIZE + BLOCK);
    assert_int_equal(transfer_op(STORE_READ, BLOCK, 40 * BLOCK, piece, shift), 0);
    for (int i = 0; i < 40; i++)
        assert_bytes(memory + shift + (size_t)i * BLOCK, i + 2, BLOCK);

    memset(memory, 0x77, SIZE + BLOCK);
    assert_int_equal(transfer_op(STORE_WRITE, 2 * BLOCK, 40 * BLOCK, piece, shift), 0);
    assert_block(1, 2);
    for (int i = 2; i < 42; i++)
        assert_block(i, 0x77);
    assert_block(42, 43);
    fill_file();
}

static void test_store_transfers_whole_and_in_short_pieces(void **state)
{
    assert_int_equal(open_store(STORE_OFF, 512), 0);
    check_read_and_write(SIZE, 0);
    check_read_and_write(1000, 1);
    fake.short_by = 3333;
    check_read_and_write(SIZE, 0);
    check_read_and_write(1000, 1);
}

static void test_store_direct_bounces_what_is_not_aligned(void **state)
{
    if (open_store(STORE_ON, BLOCK) < 0)
        skip(); /* the build folder's file system has no O_DIRECT */
    check_read_and_write(SIZE, 0);
    check_read_and_write(SIZE, 1);
    check_read_and_write(1000, 0);
    fake.short_by = 2 * BLOCK;
    check_read_and_write(BLOCK, 0);
    check_read_and_write(SIZE, 1);
}

static void test_store_more_iovecs_than_one_io_takes(void **state)
{
    assert_int_equal(open_store(STORE_OFF, 512), 0);
    check_read_and_write(100, 0); /* 1639 of them */
}

static void test_store_read_past_a_shrunk_end_fails(void **state)
{
    assert_int_equal(open_store(STORE_OFF, 512), 0);
    assert_int_equal(truncate(path, SIZE / 2 + 100), 0);
    assert_int_equal(transfer_op(STORE_READ, 0, SIZE, SIZE, 0), -ENODATA);
}

static void test_store_errors_are_passed_on(void **state)
{
    assert_int_equal(open_store(STORE_OFF, 512), 0);
    fake.fail = -EINTR;
    assert_int_equal(transfer_op(STORE_READ, 0, BLOCK, BLOCK, 0), 0);
    fake.fail = -ENOSPC;
    assert_int_equal(transfer_op(STORE_WRITE, 0, BLOCK, BLOCK, 0), -ENOSPC);
    fake.fail = -EIO;
    assert_int_equal(run(&(struct store_io){.kind = STORE_FLUSH}), -EIO);
}

static int range_op(enum store_kind kind, bool may_unmap, bool is_durable)
{
    return run(&(struct store_io){.kind = kind,
                                  .may_unmap = may_unmap,
                                  .is_durable = is_durable,
                                  .offset = 8 * BLOCK,
                                  .length = 4 * BLOCK});
}

static void assert_zeroed(void)
{
    assert_block(7, 8);
    for (int i = 8; i < 12; i++)
        assert_block(i, 0);
    assert_block(12, 13);
    fill_file();
}

static void test_store_zeroes_with_and_without_fallocate(void **state)
{
    assert_int_equal(open_store(STORE_OFF, 512), 0);
    assert_int_equal(range_op(STORE_WRITE_ZEROES, true, false), 0);
    assert_zeroed();
    fake.fail_fallocate = -EOPNOTSUPP;
    fake.short_by = 5000;
    assert_int_equal(range_op(STORE_WRITE_ZEROES, false, false), 0);
    assert_zeroed();
    fake.n_fallocate = 0;
    assert_int_equal(range_op(STORE_WRITE_ZEROES, false, true), 0); /* not tried again */
    assert_zeroed();
    assert_int_equal(fake.n_fallocate, 0);
    assert_int_not_equal(fake.n_dsync, 0);
}

static void test_store_discard_is_advice(void **state)
{
    assert_int_equal(open_store(STORE_OFF, 512), 0);
    fake.fail_fallocate = -EOPNOTSUPP;
    assert_int_equal(range_op(STORE_DISCARD, false, false), 0);
    assert_int_equal(range_op(STORE_DISCARD, false, false), 0);
    assert_int_equal(fake.n_fallocate, 1);
    assert_block(8, 9);
}

static void test_store_write_through_is_durable(void **state)
{
    assert_int_equal(open_store(STORE_OFF, 512), 0);
    assert_int_equal(range_op(STORE_DISCARD, false, true), 0);
    assert_int_equal(fake.n_sync, 1);
    iovs[0] = (struct iovec){memory, BLOCK};
    assert_int_equal(
        run(&(struct store_io){
            .kind = STORE_WRITE, .is_durable = true, .iov = iovs, .n_iov = 1, .length = BLOCK}),
        0);
    assert_int_equal(fake.n_dsync, 1);
}

/* Run an operation whose `at`th piece of I/O is cancelled while it is under way. */
static int cancelled_at(unsigned at, int (*op)(void))
{
    unsigned n_said = fake.n_said;
    int r;

    fake.n_ops = fake.n_cancelled = fake.n_sync = 0;
    fake.cancel_at = at;
    r = op();
    fake.cancel_at = 0;
    assert_int_equal(fake.n_cancelled, 1);
    assert_int_equal(fake.n_ops, at); /* nothing was begun after it */
    if (r == -ECANCELED)
        assert_int_equal(fake.n_said, n_said);
    return r;
}

static int read_op(void)
{
    return transfer_op(STORE_READ, 0, 4 * BLOCK, 4 * BLOCK, 0);
}

static int shifted_write_op(void)
{
    return transfer_op(STORE_WRITE, 0, 4 * BLOCK, BLOCK, 1);
}

static int zero_op(void)
{
    return range_op(STORE_WRITE_ZEROES, false, false);
}

static int durable_discard_op(void)
{
    return range_op(STORE_DISCARD, false, true);
}

static int flush_op(void)
{
    return run(&(struct store_io){.kind = STORE_FLUSH});
}

static void check_cancelled_transfers(int (*op)(void))
{
    fake.short_by = BLOCK;
    for (unsigned at = 1; at < 4; at++)
        assert_int_equal(cancelled_at(at, op), -ECANCELED);
    assert_int_equal(cancelled_at(4, op), 0); /* it was the last, and it happened */
    fake.fail = -EINTR;
    assert_int_equal(cancelled_at(1, op), -ECANCELED);
    fake.fail = -ECANCELED;
    assert_int_equal(cancelled_at(1, op), -ECANCELED);
    fake.fail = -EIO;
    assert_int_equal(cancelled_at(1, op), -EIO);
    fake.short_by = 0;
}

static void test_store_cancelled_transfer_begins_nothing_more(void **state)
{
    assert_int_equal(open_store(STORE_OFF, 512), 0);
    check_cancelled_transfers(read_op);
    check_cancelled_transfers(shifted_write_op);
}

static void test_store_cancelled_bounce_begins_nothing_more(void **state)
{
    if (open_store(STORE_ON, BLOCK) < 0)
        skip(); /* the build folder's file system has no O_DIRECT */
    check_cancelled_transfers(shifted_write_op);
}

static void test_store_cancelled_range_begins_nothing_more(void **state)
{
    assert_int_equal(open_store(STORE_OFF, 512), 0);
    assert_int_equal(cancelled_at(1, durable_discard_op), -ECANCELED); /* it was not synced */
    assert_int_equal(cancelled_at(2, durable_discard_op), 0);
    fake.fail = -EINTR;
    assert_int_equal(cancelled_at(1, zero_op), -ECANCELED);
    assert_int_equal(cancelled_at(1, zero_op), 0);
    fake.fail_fallocate = -EOPNOTSUPP;
    assert_int_equal(cancelled_at(1, zero_op), -ECANCELED);
    check_cancelled_transfers(zero_op);
}

static void test_store_cancelled_flush_leaves_it_dirty(void **state)
{
    struct store_file *f;

    assert_int_equal(open_store(STORE_OFF, 512), 0);
    f = (struct store_file *)(void *)((char *)s - offsetof(struct store_file, base));
    assert_int_equal(shifted_write_op(), 0);
    fake.fail = -ECANCELED;
    assert_int_equal(cancelled_at(1, flush_op), -ECANCELED);
    assert_true(f->is_dirty);
    assert_int_equal(cancelled_at(1, flush_op), 0);
    assert_false(f->is_dirty);
}

static void test_store_delay_is_cut_short(void **state)
{
    struct store_io io = {.kind = STORE_WRITE, .iov = iovs, .n_iov = 1, .length = BLOCK};

    assert_int_equal(open_store(STORE_OFF, 512), 0);
    assert_int_equal(store_delay_new(&s, s, 20), 0);
    memset(memory, 0x77, BLOCK);
    io.done = op_done;
    iovs[0] = (struct iovec){memory, BLOCK};
    result = 1;
    assert_int_equal(s->ops->submit(s, &io), -EINPROGRESS);
    assert_int_equal(timer.delay_ns, 20000000);
    io.is_cancelled = true;
    s->ops->cancel(s, &io);
    assert_int_equal(timer.delay_ns, 0);
    assert_int_equal(result, 1);
    timer.cb(timer.arg);
    assert_false(timer.is_there);
    assert_int_equal(result, -ECANCELED);
    assert_int_equal(fake.n_ops, 0);

    /* When its time is over the store behind has it. */
    io.is_cancelled = false;
    assert_int_equal(s->ops->submit(s, &io), -EINPROGRESS);
    timer.cb(timer.arg);
    fake.cancel_at = 1;
    fake.fail = -ECANCELED;
    pump();
    assert_int_equal(fake.n_cancelled, 1);
    assert_int_equal(result, -ECANCELED);
    assert_block(0, 1);
}

static void test_store_two_users_take_turns(void **state)
{
    struct store *first, *second;

    assert_int_equal(open_store(STORE_OFF, 512), 0);
    first = s;
    assert_int_equal(open_store(STORE_OFF, 512), 0); /* a migration's destination */
    second = s;
    assert_int_equal(first->ops->start(first), 0);
    assert_int_equal(first->ops->start(first), 0); /* its second queue */
    assert_int_equal(second->ops->start(second), -EBUSY);
    first->ops->stop(first);
    assert_int_equal(second->ops->start(second), -EBUSY);
    first->ops->stop(first);
    assert_int_equal(second->ops->start(second), 0);
    assert_int_equal(first->ops->start(first), -EBUSY);
    second->ops->stop(second);
    first->ops->free(first);
}

static void test_store_readers_share(void **state)
{
    struct store_file_options o = {.path = path, .block_size = 512, .is_read_only = true};
    struct store *reader, *reader2;

    assert_int_equal(store_file_new(&reader, &o), 0);
    assert_int_equal(store_file_new(&reader2, &o), 0);
    assert_int_equal(open_store(STORE_OFF, 512), 0);
    assert_int_equal(reader->ops->start(reader), 0);
    assert_int_equal(reader2->ops->start(reader2), 0);
    assert_int_equal(s->ops->start(s), -EBUSY);
    reader->ops->stop(reader);
    reader2->ops->stop(reader2);
    assert_int_equal(s->ops->start(s), 0);
    assert_int_equal(reader->ops->start(reader), -EBUSY);
    s->ops->stop(s);
    reader->ops->free(reader);
    reader2->ops->free(reader2);
}

static void *let_go_later(void *arg)
{
    struct store *holder = arg;

    nanosleep(&(struct timespec){.tv_nsec = 30 * 1000000}, NULL);
    holder->ops->stop(holder);
    return NULL;
}

/* A process that was killed is about to let go of it. */
static void test_store_waits_for_a_lock(void **state)
{
    struct store_file_options o = {.path = path, .block_size = 512, .lock_patience_ms = 60000};
    struct store *holder;
    pthread_t thread;

    assert_int_equal(open_store(STORE_AUTO, 512), 0);
    holder = s;
    assert_int_equal(holder->ops->start(holder), 0);
    assert_int_equal(store_file_new(&s, &o), 0);
    assert_int_equal(pthread_create(&thread, NULL, let_go_later, holder), 0);
    assert_int_equal(s->ops->start(s), 0);
    assert_int_equal(pthread_join(thread, NULL), 0);
    s->ops->stop(s);
    holder->ops->free(holder);
}

static void test_store_size_is_whole_blocks(void **state)
{
    assert_int_equal(truncate(path, SIZE + 700), 0);
    assert_int_equal(open_store(STORE_OFF, 512), 0);
    assert_int_equal(s->size, SIZE + 512);
    assert_int_equal(truncate(path, SIZE * 2), 0);
    assert_int_equal(s->ops->resize(s), 0);
    assert_int_equal(s->size, SIZE * 2);
}

static void test_store_refuses_what_is_no_disk(void **state)
{
    struct store_file_options o = {.path = "/dev/null", .block_size = 512};

    assert_int_equal(store_file_new(&s, &o), -ENOTBLK);
    o.path = "/nonexistent/disk";
    assert_int_equal(store_file_new(&s, &o), -ENOENT);
}

static void test_store_ram_reads_what_was_written(void **state)
{
    assert_int_equal(store_ram_new(&s, SIZE, 512, false), 0);
    assert_int_equal(transfer_op(STORE_READ, 0, SIZE, 1000, 0), 0);
    assert_bytes(memory, 0, SIZE);
    memset(memory, 0x77, SIZE);
    assert_int_equal(transfer_op(STORE_WRITE, 512, SIZE - 1024, 1000, 0), 0);
    /* from the middle of a page to the middle of another */
    assert_int_equal(
        run(&(struct store_io){.kind = STORE_DISCARD, .offset = 1024, .length = 3 * BLOCK}), 0);
    assert_int_equal(transfer_op(STORE_READ, 0, SIZE, SIZE, 0), 0);
    assert_bytes(memory, 0, 512);
    assert_bytes(memory + 512, 0x77, 512);
    assert_bytes(memory + 1024, 0, 3 * BLOCK);
    assert_bytes(memory + 1024 + 3 * BLOCK, 0x77, SIZE - 1024 - 3 * BLOCK - 512);
    assert_bytes(memory + SIZE - 512, 0, 512);
}

#define TEST(name) cmocka_unit_test_setup_teardown(test_store_##name, setup, teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(transfers_whole_and_in_short_pieces),
        TEST(direct_bounces_what_is_not_aligned),
        TEST(more_iovecs_than_one_io_takes),
        TEST(read_past_a_shrunk_end_fails),
        TEST(errors_are_passed_on),
        TEST(zeroes_with_and_without_fallocate),
        TEST(discard_is_advice),
        TEST(write_through_is_durable),
        TEST(cancelled_transfer_begins_nothing_more),
        TEST(cancelled_bounce_begins_nothing_more),
        TEST(cancelled_range_begins_nothing_more),
        TEST(cancelled_flush_leaves_it_dirty),
        TEST(delay_is_cut_short),
        TEST(two_users_take_turns),
        TEST(readers_share),
        TEST(waits_for_a_lock),
        TEST(size_is_whole_blocks),
        TEST(refuses_what_is_no_disk),
        TEST(ram_reads_what_was_written),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
