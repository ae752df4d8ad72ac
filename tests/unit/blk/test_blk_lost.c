/* SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause */
/* After the medium lost data, godwit-blk's file store confirms no durable write or flush. */
#include "store_fixture.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static int plain_flush_op(void)
{
    return run(&(struct store_io){.op.kind = GW_BLK_FLUSH});
}

static int durable_write_op(void)
{
    return write_op(true);
}

static int durable_zeroes_op(void)
{
    return range_op(GW_BLK_WRITE_ZEROES, true, true);
}

/* Write zeroes by writing them. */
static int durable_written_zeroes_op(void)
{
    fake.fail_fallocate = -EOPNOTSUPP;
    return range_op(GW_BLK_WRITE_ZEROES, false, true);
}

/* Operations that promise durability. */
static int (*const promises[])(void) = {plain_flush_op, durable_write_op, durable_zeroes_op,
                                        durable_written_zeroes_op};

/* After one failed sync, found by any operation, no promise of the store succeeds again. */
static void test_store_failed_sync_is_final(void **state)
{
    for (unsigned i = 0; i < sizeof(promises) / sizeof(promises[0]); i++) {
        memset(&fake, 0, sizeof(fake));
        assert_int_equal(open_store(STORE_OFF, 512), 0);
        assert_int_equal(start_store(s), 0);
        assert_int_equal(start_store(s), 0);
        fake.fail_sync = -EIO;
        assert_int_equal(promises[i](), -EIO);
        assert_int_equal(fake.n_errors, 1);
        fake.fail_sync = 0; /* Linux reports it once */
        for (unsigned j = 0; j < sizeof(promises) / sizeof(promises[0]); j++)
            assert_int_equal(promises[j](), -EIO);
        assert_int_equal(write_op(false), 0);
        assert_int_equal(transfer_op(GW_BLK_READ, 0, BLOCK, BLOCK, 0), 0);
        assert_int_equal(stop_store(s), -EIO);
        assert_int_equal(stop_store(s), -EIO);
        assert_int_equal(start_store(s), 0); /* the data is still lost in the next session */
        assert_int_equal(plain_flush_op(), -EIO);
        assert_int_equal(stop_store(s), -EIO);
        assert_int_equal(fake.n_errors, 1);
        s->ops->free(s);
    }
    assert_int_equal(open_store(STORE_OFF, 512), 0);
    assert_int_equal(plain_flush_op(), 0);
}

static void test_store_durable_write_that_fails_itself_loses_nothing(void **state)
{
    struct store_file *f;

    assert_int_equal(open_store(STORE_OFF, 512), 0);
    f = (struct store_file *)(void *)((char *)s - offsetof(struct store_file, base));
    assert_int_equal(truncate(path, 0), 0);
    fake.fail_writes = -ENOSPC;
    assert_int_equal(durable_write_op(), -ENOSPC);
    assert_int_equal(durable_written_zeroes_op(), -ENOSPC);
    fake.fail_writes = 0;
    assert_int_equal(durable_write_op(), 0);
    assert_int_equal(durable_written_zeroes_op(), 0);
    assert_int_equal(plain_flush_op(), 0);
    assert_int_equal(fake.n_errors, 0);
    assert_int_equal(f->n_failed[GW_BLK_WRITE], 1);
    assert_int_equal(f->n_failed[GW_BLK_WRITE_ZEROES], 1);
}

/* Linux reports an error to only one of two concurrent syncs. */
static void test_store_sync_beside_a_failed_one_is_no_success(void **state)
{
    struct store_io one = {.op.kind = GW_BLK_FLUSH, .op.done = op_done};
    struct store_io other = {.op.kind = GW_BLK_FLUSH, .op.done = op_done};

    assert_int_equal(open_store(STORE_OFF, 512), 0);
    assert_int_equal(s->ops->blk.submit(s, &one.op), -EINPROGRESS);
    fake.io = NULL;
    assert_int_equal(s->ops->blk.submit(s, &other.op), -EINPROGRESS);
    fake.io = NULL;
    one.gw.done(&one.gw, -EIO);
    assert_int_equal(result, -EIO);
    result = 1;
    other.gw.done(&other.gw, 0);
    assert_int_equal(result, -EIO);
}

static void test_store_interrupted_sync_is_repeated(void **state)
{
    assert_int_equal(open_store(STORE_OFF, 512), 0);
    fake.fail = -EINTR;
    assert_int_equal(plain_flush_op(), 0);
    assert_int_equal(fake.n_sync, 1);
    assert_int_equal(fake.n_errors, 0);
}

/* The page cache may hold writes of an earlier process that was killed. */
static void test_store_first_stop_syncs_what_others_wrote(void **state)
{
    struct store_file *f;

    assert_int_equal(open_store(STORE_OFF, 512), 0);
    f = (struct store_file *)(void *)((char *)s - offsetof(struct store_file, base));
    assert_true(f->is_dirty);
    assert_int_equal(start_store(s), 0);
    assert_int_equal(stop_store(s), 0);
    assert_false(f->is_dirty);
}

static void test_store_report_has_failures(void **state)
{
    char *text = NULL;
    size_t size = 0;
    FILE *out = open_memstream(&text, &size);

    assert_int_equal(open_store(STORE_OFF, 512), 0);
    fake.fail = -EIO;
    assert_int_equal(transfer_op(GW_BLK_READ, 0, BLOCK, BLOCK, 0), -EIO);
    s->ops->report(s, out);
    fake.fail_sync = -ENOSPC;
    assert_int_equal(plain_flush_op(), -EIO);
    s->ops->report(s, out);
    fclose(out);
    assert_non_null(strstr(text, "failed: read 1, write 0, flush 0, discard 0, write zeroes 0\n"));
    assert_non_null(strstr(text, "flush 1, discard 0, write zeroes 0; data lost: No space left"));
    free(text);
}

#define TEST(name) STORE_TEST(test_store_##name)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(failed_sync_is_final),
        TEST(durable_write_that_fails_itself_loses_nothing),
        TEST(sync_beside_a_failed_one_is_no_success),
        TEST(interrupted_sync_is_repeated),
        TEST(first_stop_syncs_what_others_wrote),
        TEST(report_has_failures),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
