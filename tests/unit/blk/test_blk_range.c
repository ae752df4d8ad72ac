/* SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause */
/*
 * Discard and write zeroes of godwit-blk's file store if the file system, the device or a system
 * call filter refuses the best method: zeroes fall back to another method, a discard does nothing.
 */
#include "store_fixture.h"

#include <errno.h>
#include <limits.h>
#include <string.h>

/* Errors for unsupported or forbidden operations. */
static const struct {
    int error;
    bool for_good;
} refusals[] = {
    {EOPNOTSUPP, true}, {ENOSYS, true}, {ENODEV, true},  {EPERM, true},   {EACCES, true},
    {EINVAL, false},    {EBUSY, false}, {ENOSPC, false}, {EDQUOT, false},
};

#define N_REFUSALS (sizeof(refusals) / sizeof(refusals[0]))

static struct store_file *file(void)
{
    return (struct store_file *)(void *)((char *)s - offsetof(struct store_file, base));
}

static void assert_zeroed(void)
{
    assert_block(7, 8);
    for (int i = 8; i < 12; i++)
        assert_block(i, 0);
    assert_block(12, 13);
    fill_file();
}

static void open_new(void)
{
    if (s != NULL)
        s->ops->free(s);
    memset(&fake, 0, sizeof(fake));
    assert_int_equal(open_store(STORE_OFF, 512), 0);
    assert_true(s->can_unmap);
}

static void test_range_refused_zeroes_are_written(void **state)
{
    for (unsigned i = 0; i < N_REFUSALS; i++) {
        for (unsigned unmap = 0; unmap < 2; unmap++) {
            open_new();
            fake.fail_fallocate = -refusals[i].error;
            assert_int_equal(range_op(GW_BLK_WRITE_ZEROES, unmap == 1, false), 0);
            assert_zeroed();
            assert_int_equal(fake.n_fallocate, 1 + unmap);
            fake.n_fallocate = 0;
            assert_int_equal(range_op(GW_BLK_WRITE_ZEROES, unmap == 1, true), 0);
            assert_zeroed();
            assert_int_equal(fake.n_fallocate, refusals[i].for_good ? 0 : 1 + unmap);
            assert_int_equal(fake.n_sync, 1);
            assert_int_equal(fake.n_said, 0);
        }
    }
}

static void test_range_refused_hole_is_allocated_zeroes(void **state)
{
    open_new();
    fake.fail_punch = -EOPNOTSUPP;
    for (unsigned i = 0; i < 3; i++) {
        assert_int_equal(range_op(GW_BLK_WRITE_ZEROES, true, false), 0);
        assert_zeroed();
    }
    assert_int_equal(fake.n_punch, 1);
    assert_int_equal(fake.n_fallocate, 4);
}

static void test_range_refused_discard_is_left_alone(void **state)
{
    for (unsigned i = 0; i < N_REFUSALS; i++) {
        open_new();
        fake.fail_punch = -refusals[i].error;
        assert_int_equal(range_op(GW_BLK_DISCARD, false, false), 0);
        assert_int_equal(range_op(GW_BLK_DISCARD, false, false), 0);
        assert_int_equal(fake.n_punch, refusals[i].for_good ? 1 : 2);
        assert_int_equal(fake.n_fallocate, fake.n_punch);
        assert_block(8, 9);
        assert_int_equal(fake.n_said, 0);
    }
}

/* An error of the medium does not mean "unsupported". */
static void test_range_errors_of_the_medium_are_passed_on(void **state)
{
    open_new();
    fake.fail_fallocate = -EIO;
    assert_int_equal(range_op(GW_BLK_DISCARD, false, false), -EIO);
    assert_int_equal(range_op(GW_BLK_WRITE_ZEROES, true, false), -EIO);
    assert_int_equal(range_op(GW_BLK_WRITE_ZEROES, false, false), -EIO);
    assert_int_equal(fake.n_fallocate, 3);
    fake.fail_fallocate = -EOPNOTSUPP;
    fake.fail_writes = -ENOSPC;
    assert_int_equal(range_op(GW_BLK_WRITE_ZEROES, false, false), -ENOSPC);
}

static void test_range_interrupted_is_repeated(void **state)
{
    open_new();
    fake.fail = -EINTR;
    assert_int_equal(range_op(GW_BLK_WRITE_ZEROES, true, false), 0);
    fake.fail = -EINTR;
    assert_int_equal(range_op(GW_BLK_DISCARD, false, false), 0);
    assert_int_equal(fake.n_punch, 2);
}

static int op_at(enum gw_blk_kind kind, uint64_t offset, uint64_t length)
{
    return run(&(struct store_io){
        .op.kind = kind, .op.may_unmap = true, .op.offset = offset, .op.length = length});
}

/* A device with 4096-byte sectors, exported with 512-byte blocks. */
static void open_device(void)
{
    open_new();
    file()->is_block_device = true;
    file()->range_align = 4096;
    fake.align = 4096;
}

static void check_zeroes(uint64_t offset, uint64_t length)
{
    uint8_t expected[4 * BLOCK];

    open_device();
    for (unsigned i = 0; i < 4; i++)
        memset(expected + (size_t)i * BLOCK, (int)i + 1, BLOCK);
    memset(expected + offset, 0, length);
    assert_int_equal(op_at(GW_BLK_WRITE_ZEROES, offset, length), 0);
    assert_int_equal(transfer_op(GW_BLK_READ, 0, sizeof(expected), SIZE, 0), 0);
    assert_memory_equal(memory, expected, sizeof(expected));
    fill_file();
}

static void test_range_zeroes_aligned_middle_and_written_ends(void **state)
{
    for (uint64_t offset = 0; offset <= BLOCK; offset += 512) {
        for (uint64_t length = 512; length <= 3 * BLOCK; length += 512) {
            uint64_t first = (offset + 4095) / 4096, last = (offset + length) / 4096;

            check_zeroes(offset, length);
            assert_int_equal(fake.n_fallocate, first < last);
        }
    }
}

static void test_range_discards_the_aligned_middle(void **state)
{
    static const struct {
        uint64_t offset, length;
        int64_t expected_offset, expected_length; /* 0: no discard */
    } cases[] = {
        {0, 4096, 0, 4096},       {512, 4096, 0, 0},        {4096, 8192, 4096, 8192},
        {512, 12288, 4096, 8192}, {4096, 4608, 4096, 4096}, {3584, 4608, 4096, 4096},
        {512, 512, 0, 0},         {4096, 512, 0, 0},        {3584, 512, 0, 0},
    };

    for (unsigned i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        open_device();
        assert_int_equal(op_at(GW_BLK_DISCARD, cases[i].offset, cases[i].length), 0);
        assert_int_equal(fake.n_discard, cases[i].expected_length != 0);
        assert_int_equal(fake.discard_offset, cases[i].expected_offset);
        assert_int_equal(fake.discard_length, cases[i].expected_length);
        assert_int_equal(fake.n_fallocate, 0);
    }
}

/* Only whole granules are freed; the rest at both ends of a range is zeroed in place. */
static void test_range_punches_whole_granules(void **state)
{
    open_new();
    file()->is_block_device = true;
    file()->range_align = 512;
    s->topology.discard_align = 8192;
    fake.align = 512;
    assert_int_equal(op_at(GW_BLK_WRITE_ZEROES, 6 * BLOCK + 512, 10 * BLOCK), 0);
    assert_int_equal(fake.n_punch, 1);
    assert_int_equal(fake.n_fallocate, 3);
    assert_int_equal(op_at(GW_BLK_WRITE_ZEROES, 20 * BLOCK + 512, 512), 0);
    assert_int_equal(fake.n_punch, 1);
    assert_int_equal(fake.n_fallocate, 4);
    assert_int_equal(transfer_op(GW_BLK_READ, 6 * BLOCK, 11 * BLOCK, SIZE, 0), 0);
    assert_bytes(memory, 7, 512);
    assert_bytes(memory + 512, 0, 10 * BLOCK);
    assert_bytes(memory + 512 + 10 * BLOCK, 17, BLOCK - 512);
}

/* Granules of a partition are aligned to its disk. */
static void test_range_punches_granules_that_begin_later(void **state)
{
    open_new();
    file()->is_block_device = true;
    file()->range_align = 512;
    s->topology.discard_align = 8192;
    file()->first_granule = 1536;
    fake.align = 512;
    assert_int_equal(op_at(GW_BLK_WRITE_ZEROES, 6 * BLOCK, 10 * BLOCK), 0);
    assert_int_equal(fake.n_punch, 1);
    assert_int_equal(fake.punch_offset, 6 * BLOCK + 1536);
    assert_int_equal(fake.punch_length, 8 * BLOCK);
    assert_int_equal(fake.n_fallocate, 3);
    assert_int_equal(transfer_op(GW_BLK_READ, 6 * BLOCK, 10 * BLOCK, SIZE, 0), 0);
    assert_bytes(memory, 0, 10 * BLOCK);
}

/* dm-thin, null_blk and zvols support discards, but not holes. */
static void test_range_device_without_holes_discards(void **state)
{
    open_device();
    fake.fail_fallocate = -EOPNOTSUPP;
    assert_int_equal(range_op(GW_BLK_WRITE_ZEROES, true, false), 0);
    assert_zeroed();
    assert_int_equal(range_op(GW_BLK_DISCARD, false, true), 0);
    assert_int_equal(fake.n_discard, 1);
    assert_int_equal(fake.n_sync, 1);
    fake.fail_discard = -EOPNOTSUPP;
    assert_int_equal(range_op(GW_BLK_DISCARD, false, false), 0);
    assert_int_equal(range_op(GW_BLK_DISCARD, false, false), 0);
    assert_int_equal(fake.n_discard, 2);
}

static void *toggle_refused(void *ended)
{
    while (!atomic_load((_Atomic bool *)ended)) {
        atomic_store(&file()->refused, UINT_MAX);
        atomic_store(&file()->refused, 0);
    }
    return NULL;
}

/* While another worker's discard is refused, a discard ends in submit or later, but not in both. */
static void test_range_refused_concurrently_ends_once(void **state)
{
    struct store_io io = {.op.done = op_done, .op.kind = GW_BLK_DISCARD};
    unsigned n_changes = 0;
    _Atomic bool ended = false;
    pthread_t thread;
    int r = 0;

    open_new();
    assert_int_equal(pthread_create(&thread, NULL, toggle_refused, &ended), 0);
    for (unsigned i = 0; i < 10000000 && n_changes < 2000000; i++) {
        int before = r;

        io.op.offset = 8 * BLOCK;
        io.op.length = 4 * BLOCK;
        fake.io = NULL;
        r = s->ops->blk.submit(s, &io.op);
        if (r != (fake.io != NULL ? -EINPROGRESS : 0))
            fail_msg("it ended in submit, which returned %d", r);
        n_changes += r != before;
    }
    fake.io = NULL;
    atomic_store(&ended, true);
    pthread_join(thread, NULL);
}

#define TEST(name) STORE_TEST(test_range_##name)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(refused_zeroes_are_written),        TEST(refused_hole_is_allocated_zeroes),
        TEST(refused_discard_is_left_alone),     TEST(errors_of_the_medium_are_passed_on),
        TEST(interrupted_is_repeated),           TEST(zeroes_aligned_middle_and_written_ends),
        TEST(discards_the_aligned_middle),       TEST(punches_whole_granules),
        TEST(punches_granules_that_begin_later), TEST(device_without_holes_discards),
        TEST(refused_concurrently_ends_once),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
