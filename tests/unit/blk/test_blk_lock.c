/* SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause */
/*
 * The image lock of godwit-blk, byte by byte, with QEMU's numbers: which bytes it locks, and which
 * locks of another process make it fail.
 */
#include "store_file.h"

#include "fdcheck.h"

#include <errno.h>
#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <unistd.h>

#include <cmocka.h>

enum {
    DOES_READ = 100, /* QEMU 10.0, block/file-posix.c: RAW_LOCK_PERM_BASE + BLK_PERM_* */
    DOES_WRITE = 101,
    REFUSES_READ = 200, /* RAW_LOCK_SHARED_BASE */
    REFUSES_WRITE = 201,
    BYTES = 300,
};

static int ours = -1, others = -1; /* open file descriptions of one image */

static int setup(void **state)
{
    char path[] = "/tmp/blk_lock.XXXXXX";

    if (fdcheck_setup(state) < 0)
        return -1;
    ours = mkostemp(path, O_CLOEXEC);
    others = open(path, O_RDWR | O_CLOEXEC);
    unlink(path);
    return ours < 0 || others < 0 ? -1 : 0;
}

static int teardown(void **state)
{
    close(ours);
    close(others);
    return fdcheck_teardown(state);
}

static int lock(int fd, short type, off_t byte)
{
    struct flock l = {.l_type = type, .l_whence = SEEK_SET, .l_start = byte, .l_len = 1};

    return fcntl(fd, F_OFD_SETLK, &l) < 0 ? -errno : 0;
}

/* Returns: the type of the lock that conflicts with `fd`; F_UNLCK: none. */
static short met(int fd, off_t byte)
{
    struct flock l = {.l_type = F_WRLCK, .l_whence = SEEK_SET, .l_start = byte, .l_len = 1};

    assert_int_equal(fcntl(fd, F_OFD_GETLK, &l), 0);
    return l.l_type;
}

static void expect_held(bool reads, bool writes)
{
    for (off_t byte = 0; byte < BYTES; byte++) {
        bool is_held = (byte == DOES_READ && reads) || (byte == DOES_WRITE && writes) ||
                       (byte == REFUSES_WRITE && reads);

        /* Shared, because QEMU takes shared locks, too, and an exclusive lock would exclude it. */
        assert_int_equal(met(others, byte), is_held ? F_RDLCK : F_UNLCK);
    }
}

static void test_blk_lock_holds_the_bytes_of_what_it_does(void **state)
{
    assert_int_equal(store_lock_take(ours, true), 0);
    expect_held(true, false);
    store_lock_drop(ours);
    expect_held(false, false);
    assert_int_equal(store_lock_take(ours, false), 0);
    expect_held(true, true);
    store_lock_drop(ours);
    expect_held(false, false);
}

/* Another process locks one byte, as QEMU does. */
static void test_blk_lock_gives_way_to_the_opposite_byte(void **state)
{
    for (unsigned is_read_only = 0; is_read_only < 2; is_read_only++) {
        for (off_t byte = DOES_READ - 1; byte < BYTES; byte++) {
            bool collides = byte == DOES_WRITE || byte == REFUSES_READ ||
                            (byte == REFUSES_WRITE && !is_read_only);

            assert_int_equal(lock(others, F_RDLCK, byte), 0);
            assert_int_equal(store_lock_take(ours, is_read_only), collides ? -EAGAIN : 0);
            assert_int_equal(lock(others, F_UNLCK, byte), 0);
            if (collides)
                expect_held(false, false); /* a refused lock leaves no byte locked */
            store_lock_drop(ours);
        }
    }
}

/* An exclusive lock on one of our bytes, which QEMU never takes. */
static void test_blk_lock_is_refused_by_an_exclusive_lock(void **state)
{
    static const off_t bytes[] = {DOES_READ, DOES_WRITE, REFUSES_WRITE};

    for (unsigned i = 0; i < sizeof(bytes) / sizeof(bytes[0]); i++) {
        assert_int_equal(lock(others, F_WRLCK, bytes[i]), 0);
        assert_int_equal(store_lock_take(ours, false), -EAGAIN);
        assert_int_equal(lock(others, F_UNLCK, bytes[i]), 0);
        expect_held(false, false);
    }
}

/* ---- two processes at the same time ---- */

/* Called before the n-th check for other holders, counted from 1. */
static void (*before_look)(unsigned n);
static unsigned n_looks;

int __real_fcntl64(int fd, int cmd, void *arg);
int __wrap_fcntl64(int fd, int cmd, void *arg);

int __wrap_fcntl64(int fd, int cmd, void *arg)
{
    if (cmd == F_OFD_GETLK && fd == ours && before_look != NULL)
        before_look(++n_looks);
    return __real_fcntl64(fd, cmd, arg);
}

static void expect_all_held(unsigned n)
{
    void (*fn)(unsigned) = before_look;

    before_look = NULL;
    expect_held(true, true);
    before_look = fn;
}

/* If two processes lock at the same time, both may be refused, but never both accepted. */
static void test_blk_lock_is_held_before_others_are_looked_for(void **state)
{
    n_looks = 0;
    before_look = expect_all_held;
    assert_int_equal(store_lock_take(ours, false), 0);
    before_look = NULL;
    assert_int_equal(n_looks, 3);
    assert_int_equal(store_lock_take(others, false), -EAGAIN);
    store_lock_drop(ours);
}

static void test_blk_lock_of_no_file_is_an_error(void **state)
{
    assert_int_equal(store_lock_take(-1, false), -EBADF);
}

#define TEST(name) cmocka_unit_test_setup_teardown(test_blk_lock_##name, setup, teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(holds_the_bytes_of_what_it_does), TEST(gives_way_to_the_opposite_byte),
        TEST(is_refused_by_an_exclusive_lock), TEST(is_held_before_others_are_looked_for),
        TEST(of_no_file_is_an_error),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
