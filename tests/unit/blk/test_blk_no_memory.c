/* SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause */
/* Each allocation of godwit-blk's stores fails once, and the request or the start reports it. */
#include "../fixtures/no_memory.h"
#include "store_fixture.h"

#include <errno.h>

static int make_ram(void *arg)
{
    struct store *ram, *slow;
    int r = store_ram_new(&ram, SIZE, 512, false, NULL);

    if (r < 0)
        return r;
    r = store_delay_new(&slow, ram, 1);
    if (r < 0)
        ram->ops->free(ram);
    else
        slow->ops->free(slow);
    return r;
}

static int make_file(void *arg)
{
    struct store_file_options o = {.path = path, .block_size = 512};
    struct store *file;
    int r = store_file_new(&file, &o);

    if (r == 0)
        file->ops->free(file);
    return r;
}

static void test_blk_no_memory_for_a_store(void **state)
{
    assert_int_equal(no_memory_each(NO_MEMORY_OF_CALLER, make_ram, NULL), 2);
    assert_int_equal(no_memory_each(NO_MEMORY_OF_CALLER, make_file, NULL), 2);
}

static int read_unaligned(void *arg)
{
    return transfer_op(GW_BLK_READ, 0, BLOCK, BLOCK, 1);
}

static int read_slowly(void *arg)
{
    struct store_io io = {.op.kind = GW_BLK_READ,
                          .op.length = 512,
                          .op.iov = iovs,
                          .op.n_iov = 1,
                          .op.done = op_done};
    int r;

    iovs[0].iov_base = memory;
    iovs[0].iov_len = 512;
    r = s->ops->blk.submit(s, &io.op);
    if (r == -EINPROGRESS) {
        timer.cb(timer.arg);
        r = result;
    }
    return r;
}

static void test_blk_no_memory_for_a_request(void **state)
{
    struct store *slow;

    if (open_store(STORE_ON, 512) == 0) /* O_DIRECT needs a bounce buffer */
        assert_int_equal(no_memory_each(NO_MEMORY_OF_CALLER, read_unaligned, NULL), 1);
    if (s != NULL)
        s->ops->free(s);
    assert_int_equal(store_ram_new(&s, SIZE, 512, false, NULL), 0);
    assert_int_equal(store_delay_new(&slow, s, 1), 0);
    s = slow;
    assert_int_equal(no_memory_each(NO_MEMORY_OF_CALLER, read_slowly, NULL), 1);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        STORE_TEST(test_blk_no_memory_for_a_store),
        STORE_TEST(test_blk_no_memory_for_a_request),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
