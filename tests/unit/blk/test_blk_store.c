/* SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause */
/*
 * The stores of godwit-blk on real files: with short and failing I/O, all data must arrive, or the
 * operation must fail.
 */
#include "store_fixture.h"

#include <errno.h>
#include <pthread.h>
#include <stdio.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

static void check_read_and_write(size_t piece, size_t shift)
{
    memset(memory, 0, SIZE + BLOCK);
    assert_int_equal(transfer_op(GW_BLK_READ, BLOCK, 40 * BLOCK, piece, shift), 0);
    for (int i = 0; i < 40; i++)
        assert_bytes(memory + shift + (size_t)i * BLOCK, i + 2, BLOCK);

    memset(memory, 0x77, SIZE + BLOCK);
    assert_int_equal(transfer_op(GW_BLK_WRITE, 2 * BLOCK, 40 * BLOCK, piece, shift), 0);
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
        skip(); /* no O_DIRECT in the build folder */
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
    check_read_and_write(100, 0); /* 1639 iovecs */
}

static void test_store_read_past_a_shrunk_end_fails(void **state)
{
    assert_int_equal(open_store(STORE_OFF, 512), 0);
    assert_int_equal(truncate(path, SIZE / 2 + 100), 0);
    assert_int_equal(transfer_op(GW_BLK_READ, 0, SIZE, SIZE, 0), -ENODATA);
}

static void test_store_errors_are_passed_on(void **state)
{
    assert_int_equal(open_store(STORE_OFF, 512), 0);
    fake.fail = -EINTR;
    assert_int_equal(transfer_op(GW_BLK_READ, 0, BLOCK, BLOCK, 0), 0);
    fake.fail = -ENOSPC;
    assert_int_equal(transfer_op(GW_BLK_WRITE, 0, BLOCK, BLOCK, 0), -ENOSPC);
    fake.fail = -EIO;
    assert_int_equal(run(&(struct store_io){.op.kind = GW_BLK_FLUSH}), -EIO);
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
    assert_int_equal(range_op(GW_BLK_WRITE_ZEROES, true, false), 0);
    assert_zeroed();
    fake.fail_fallocate = -EOPNOTSUPP;
    fake.short_by = 5000;
    assert_int_equal(range_op(GW_BLK_WRITE_ZEROES, false, false), 0);
    assert_zeroed();
    fake.n_fallocate = 0;
    assert_int_equal(range_op(GW_BLK_WRITE_ZEROES, false, true),
                     0); /* fallocate is not tried again */
    assert_zeroed();
    assert_int_equal(fake.n_fallocate, 0);
    assert_int_equal(fake.n_sync, 1);
}

static void test_store_discard_is_advice(void **state)
{
    assert_int_equal(open_store(STORE_OFF, 512), 0);
    fake.fail_fallocate = -EOPNOTSUPP;
    assert_int_equal(range_op(GW_BLK_DISCARD, false, false), 0);
    assert_int_equal(range_op(GW_BLK_DISCARD, false, false), 0);
    assert_int_equal(fake.n_fallocate, 1);
    assert_block(8, 9);
}

static void test_store_write_through_is_durable(void **state)
{
    assert_int_equal(open_store(STORE_OFF, 512), 0);
    assert_int_equal(range_op(GW_BLK_DISCARD, false, true), 0);
    assert_int_equal(fake.n_sync, 1);
    iovs[0] = (struct iovec){memory, BLOCK};
    assert_int_equal(run(&(struct store_io){.op.kind = GW_BLK_WRITE,
                                            .op.is_durable = true,
                                            .op.iov = iovs,
                                            .op.n_iov = 1,
                                            .op.length = BLOCK}),
                     0);
    assert_int_equal(fake.n_dsync, 1);
}

/* Run an operation, and cancel its `at`th piece of I/O while it is in flight. */
static int cancelled_at(unsigned at, int (*op)(void))
{
    unsigned n_said = fake.n_said;
    int r;

    fake.n_ops = fake.n_cancelled = fake.n_sync = 0;
    fake.cancel_at = at;
    r = op();
    fake.cancel_at = 0;
    assert_int_equal(fake.n_cancelled, 1);
    assert_int_equal(fake.n_ops, at); /* no I/O after the cancelled one */
    if (r == -ECANCELED)
        assert_int_equal(fake.n_said, n_said);
    return r;
}

static int read_op(void)
{
    return transfer_op(GW_BLK_READ, 0, 4 * BLOCK, 4 * BLOCK, 0);
}

static int shifted_write_op(void)
{
    return transfer_op(GW_BLK_WRITE, 0, 4 * BLOCK, BLOCK, 1);
}

static int zero_op(void)
{
    return range_op(GW_BLK_WRITE_ZEROES, false, false);
}

static int durable_discard_op(void)
{
    return range_op(GW_BLK_DISCARD, false, true);
}

static int flush_op(void)
{
    return run(&(struct store_io){.op.kind = GW_BLK_FLUSH});
}

static void check_cancelled_transfers(int (*op)(void))
{
    fake.short_by = BLOCK;
    for (unsigned at = 1; at < 4; at++)
        assert_int_equal(cancelled_at(at, op), -ECANCELED);
    assert_int_equal(cancelled_at(4, op), 0); /* the last piece, so the operation is complete */
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
        skip(); /* no O_DIRECT in the build folder */
    check_cancelled_transfers(shifted_write_op);
}

static void test_store_cancelled_range_begins_nothing_more(void **state)
{
    assert_int_equal(open_store(STORE_OFF, 512), 0);
    assert_int_equal(cancelled_at(1, durable_discard_op), -ECANCELED); /* the sync is missing */
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
    struct store_io io = {
        .op.kind = GW_BLK_WRITE, .op.iov = iovs, .op.n_iov = 1, .op.length = BLOCK};

    assert_int_equal(open_store(STORE_OFF, 512), 0);
    assert_int_equal(store_delay_new(&s, s, 20), 0);
    memset(memory, 0x77, BLOCK);
    io.op.done = op_done;
    iovs[0] = (struct iovec){memory, BLOCK};
    result = 1;
    assert_int_equal(s->ops->blk.submit(s, &io.op), -EINPROGRESS);
    assert_int_equal(timer.delay_ns, 20000000);
    io.op.is_cancelled = true;
    s->ops->blk.cancel(s, &io.op);
    assert_int_equal(timer.delay_ns, 0);
    assert_int_equal(result, 1);
    timer.cb(timer.arg);
    assert_false(timer.is_there);
    assert_int_equal(result, -ECANCELED);
    assert_int_equal(fake.n_ops, 0);

    /* After the delay, the operation reaches the wrapped store. */
    io.op.is_cancelled = false;
    assert_int_equal(s->ops->blk.submit(s, &io.op), -EINPROGRESS);
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
    assert_int_equal(open_store(STORE_OFF, 512), 0); /* like the destination of a migration */
    second = s;
    assert_int_equal(start_store(first), 0);
    assert_int_equal(start_store(first), 0); /* its second queue */
    assert_int_equal(start_store(second), -EBUSY);
    stop_store(first);
    assert_int_equal(start_store(second), -EBUSY);
    stop_store(first);
    assert_int_equal(start_store(second), 0);
    assert_int_equal(start_store(first), -EBUSY);
    stop_store(second);
    first->ops->free(first);
}

static void test_store_readers_share(void **state)
{
    struct store_file_options o = {.path = path, .block_size = 512, .is_read_only = true};
    struct store *reader, *reader2;

    assert_int_equal(store_file_new(&reader, &o), 0);
    assert_int_equal(store_file_new(&reader2, &o), 0);
    assert_int_equal(open_store(STORE_OFF, 512), 0);
    assert_int_equal(start_store(reader), 0);
    assert_int_equal(start_store(reader2), 0);
    assert_int_equal(start_store(s), -EBUSY);
    stop_store(reader);
    stop_store(reader2);
    assert_int_equal(start_store(s), 0);
    assert_int_equal(start_store(reader), -EBUSY);
    stop_store(s);
    reader->ops->free(reader);
    reader2->ops->free(reader2);
}

static int user_result;

static void note_user(struct gw_blk_user *user, int r)
{
    user_result = r;
}

static void *let_go_later(void *arg)
{
    struct store *holder = arg;

    nanosleep(&(struct timespec){.tv_nsec = 30 * 1000000}, NULL);
    stop_store(holder);
    return NULL;
}

/* The process that held the lock was killed, and releases it soon. */
static void test_store_waits_for_a_lock(void **state)
{
    struct store_file_options o = {.path = path, .block_size = 512, .lock_patience_ms = 60000};
    struct store *holder;
    pthread_t thread;

    assert_int_equal(open_store(STORE_AUTO, 512), 0);
    holder = s;
    assert_int_equal(start_store(holder), 0);
    assert_int_equal(store_file_new(&s, &o), 0);
    assert_int_equal(pthread_create(&thread, NULL, let_go_later, holder), 0);
    assert_int_equal(start_store(s), 0);
    assert_int_equal(pthread_join(thread, NULL), 0);
    stop_store(s);
    holder->ops->free(holder);
}

/* A start that waits for a lock ends early; nobody holds the lock after that. */
static void test_store_start_can_be_cancelled(void **state)
{
    struct gw_blk_user users[2] = {{.done = note_user}, {.done = note_user}};
    struct gw_worker worker;
    struct store *holder;

    worker_init(&worker);
    users[0].worker = users[1].worker = &worker;
    assert_int_equal(open_store(STORE_OFF, 512), 0);
    holder = s;
    assert_int_equal(open_store(STORE_OFF, 512), 0);
    are_tasks_held = true;
    for (unsigned i = 0; i < 2; i++)
        assert_int_equal(s->ops->blk.start(s, &users[i]), -EINPROGRESS);
    s->ops->blk.cancel_start(s, &users[0]);
    assert_int_equal(run_posts(&worker), 1);
    assert_int_equal(user_result, -ECANCELED);
    s->ops->blk.cancel_start(s, &users[0]);
    s->ops->blk.cancel_start(s, &users[1]);
    assert_int_equal(run_posts(&worker), 1);
    run_held_task();
    assert_int_equal(run_posts(&worker), 0);
    assert_int_equal(start_store(holder), 0);
    assert_int_equal(start_store(s), -EBUSY);
    assert_int_equal(stop_store(holder), 0);
    holder->ops->free(holder);

    /* The next queue starts while the last one still stops. */
    assert_int_equal(start_store(s), 0);
    are_tasks_held = true;
    assert_int_equal(s->ops->blk.stop(s, &users[0]), -EINPROGRESS);
    assert_int_equal(s->ops->blk.start(s, &users[1]), -EINPROGRESS);
    user_result = 1;
    run_held_task();
    assert_int_equal(run_posts(&worker), 2);
    assert_int_equal(user_result, 0);
    assert_int_equal(stop_store(s), 0);
}

/* Without a lock, a start takes no time; with one, its success is silent. */
static void test_store_start_with_and_without_locking(void **state)
{
    static const enum store_mode modes[] = {STORE_OFF, STORE_AUTO, STORE_ON};
    struct gw_blk_user users[2] = {{.done = note_user}, {.done = note_user}};
    struct gw_worker worker;

    worker_init(&worker);
    users[0].worker = users[1].worker = &worker;
    for (unsigned i = 0; i < 3; i++) {
        const struct store_file_options o = {
            .path = path, .block_size = 512, .direct = STORE_OFF, .locking = modes[i]};

        assert_int_equal(store_file_new(&s, &o), 0);
        user_result = 1;
        assert_int_equal(s->ops->blk.start(s, &users[0]), modes[i] == STORE_OFF ? 0 : -EINPROGRESS);
        assert_int_equal(run_posts(&worker), modes[i] != STORE_OFF);
        assert_int_equal(user_result, modes[i] == STORE_OFF);
        assert_int_equal(s->ops->blk.start(s, &users[1]), 0); /* the second one never waits */
        assert_int_equal(s->ops->blk.stop(s, &users[1]), 0);
        assert_int_equal(stop_store(s), 0);
        assert_int_equal(fake.n_errors + fake.n_said, 0);
        s->ops->free(s);
    }
    s = NULL;
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
    assert_int_equal(store_ram_new(&s, SIZE, 512, false, NULL), 0);
    assert_int_equal(transfer_op(GW_BLK_READ, 0, SIZE, 1000, 0), 0);
    assert_bytes(memory, 0, SIZE);
    memset(memory, 0x77, SIZE);
    assert_int_equal(transfer_op(GW_BLK_WRITE, 512, SIZE - 1024, 1000, 0), 0);
    /* from the middle of a page to the middle of another */
    assert_int_equal(run(&(struct store_io){
                         .op.kind = GW_BLK_DISCARD, .op.offset = 1024, .op.length = 3 * BLOCK}),
                     0);
    assert_int_equal(transfer_op(GW_BLK_READ, 0, SIZE, SIZE, 0), 0);
    assert_bytes(memory, 0, 512);
    assert_bytes(memory + 512, 0x77, 512);
    assert_bytes(memory + 1024, 0, 3 * BLOCK);
    assert_bytes(memory + 1024 + 3 * BLOCK, 0x77, SIZE - 1024 - 3 * BLOCK - 512);
    assert_bytes(memory + SIZE - 512, 0, 512);
}

#define TEST(name) STORE_TEST(test_store_##name)

static uint64_t resident(void)
{
    FILE *statm = fopen("/proc/self/statm", "re");
    unsigned long n_pages = 0;

    assert_non_null(statm);
    assert_int_equal(fscanf(statm, "%*u %lu", &n_pages), 1);
    fclose(statm);
    return n_pages * BLOCK;
}

/* Ranges of any size are given back to the system; short zeroes stay allocated. */
static void test_store_ram_frees_what_is_discarded(void **state)
{
    const uint64_t size = 32 << 20, piece = 256 << 10;
    uint64_t before, after;

    assert_int_equal(store_ram_new(&s, size, 512, false, NULL), 0);
    for (uint64_t at = 0; at < size; at += piece)
        assert_int_equal(transfer_op(GW_BLK_WRITE, at, piece, piece, 0), 0);
    before = resident();
    for (unsigned kind = 0; kind < 2; kind++) {
        for (uint64_t at = 0; at < size; at += piece)
            assert_int_equal(
                run(&(struct store_io){.op.kind = kind == 0 ? GW_BLK_WRITE_ZEROES : GW_BLK_DISCARD,
                                       .op.offset = at,
                                       .op.length = piece}),
                0);
        after = resident();
        if (kind == 0)
            assert_true(after + size / 4 > before);
        else
            assert_true(after + size / 2 < before);
    }
}

/* A disk with a delay has the properties of the one behind it. */
static void test_store_delay_is_like_the_store_behind(void **state)
{
    static const struct store_topology topology = {1, 2, 3, 4, 5};
    struct store *behind;

    for (unsigned i = 0; i < 2; i++) {
        assert_int_equal(store_ram_new(&behind, SIZE, i == 0 ? 512 : 4096, i == 1, NULL), 0);
        behind->topology = topology;
        behind->can_unmap = i == 0;
        behind->id = (struct store_id){.device = 7, .file = 8};
        assert_int_equal(store_delay_new(&s, behind, 1), 0);
        assert_true(s->size == SIZE && s->block_size == behind->block_size);
        assert_true(s->is_read_only == (i == 1) && s->can_unmap == (i == 0));
        assert_memory_equal(&s->topology, &topology, sizeof(topology));
        assert_true(s->id.device == 7 && s->id.file == 8);
        s->ops->free(s);
    }
    s = NULL;
}

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
        TEST(start_can_be_cancelled),
        TEST(start_with_and_without_locking),
        TEST(size_is_whole_blocks),
        TEST(refuses_what_is_no_disk),
        TEST(ram_reads_what_was_written),
        TEST(ram_frees_what_is_discarded),
        TEST(delay_is_like_the_store_behind),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
