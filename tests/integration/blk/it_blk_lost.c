/* SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause */
/*
 * godwit-blk on a block device whose writeback fails: a loop device on a full file system. Linux
 * reports the failure once and drops the data. Until it is restarted, the program must not complete
 * any request as if the data were still there.
 *
 * usage: it_blk_lost PATH_OF_GODWIT_BLK
 */
#include "blk_test.h"
#include "fdcheck.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/virtio_blk.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mount.h>
#include <unistd.h>

#define MIB      (UINT64_C(1) << 20)
#define AT       (4 * MIB) /* offset of the guest's writes */
#define CAN_SYNC (UINT64_C(1) << VIRTIO_BLK_F_FLUSH | UINT64_C(1) << VIRTIO_BLK_F_CONFIG_WCE)
#define FLUSH    GW_DRIVER_BLK_FLUSH
#define WRITE    GW_DRIVER_BLK_WRITE
#define READ     GW_DRIVER_BLK_READ

struct lost_test {
    struct blk_test blk;
    char dir[64]; /* mount point of the file system */
    char fill[80];
    const char *options[2];
    int backing;
    int device; /* keeps the device and its page cache between two programs */
};

static void start_program(struct lost_test *t)
{
    struct program_config cfg = blk_test_config(&t->blk, t->options[0]);

    cfg.args[8] = t->options[1];
    program_start(&t->blk.program, &cfg);
}

static void fill(struct lost_test *t)
{
    static const uint8_t bytes[65536];
    int fd = open(t->fill, O_WRONLY | O_CREAT | O_CLOEXEC, 0600);

    assert_true(fd >= 0);
    while (write(fd, bytes, sizeof(bytes)) > 0)
        ;
    assert_int_equal(errno, ENOSPC);
    close(fd);
}

/* Returns: false if this machine lacks what the test needs; the reason has been printed. */
static bool begin(struct lost_test *t, const char *loop, const char *direct)
{
    char backing[96];

    memset(t, 0, sizeof(*t));
    t->options[0] = loop;
    t->options[1] = direct;
    if (!blk_test_has_mounts())
        return false;
    blk_test_begin(&t->blk, 0);
    strcpy(t->dir, "/tmp/godwit-it-XXXXXX");
    assert_non_null(mkdtemp(t->dir));
    assert_int_equal(mount("tmpfs", t->dir, "tmpfs", 0, "size=1m"), 0);
    snprintf(t->fill, sizeof(t->fill), "%s/fill", t->dir);
    snprintf(backing, sizeof(backing), "%s/backing", t->dir);
    t->backing = open(backing, O_RDWR | O_CREAT | O_CLOEXEC, 0600);
    assert_true(t->backing >= 0);
    assert_int_equal(ftruncate(t->backing, (off_t)(16 * MIB)), 0);
    fill(t);
    t->device = blk_test_loop(t->backing, 512, t->blk.file, sizeof(t->blk.file));
    return t->device >= 0;
}

static void end(struct lost_test *t)
{
    if (t->device >= 0)
        close(t->device);
    if (t->dir[0] != '\0') {
        close(t->backing);
        assert_int_equal(umount2(t->dir, MNT_DETACH), 0);
        assert_int_equal(rmdir(t->dir), 0);
        strcpy(t->blk.file, "/nonexistent");
        blk_test_end(&t->blk);
    }
}

static void make_room(const struct lost_test *t)
{
    assert_int_equal(unlink(t->fill), 0);
}

static void connect_guest(struct lost_test *t)
{
    blk_test_connect_with(&t->blk, CAN_SYNC);
}

static int get_base(struct lost_test *t, unsigned queue)
{
    uint32_t base;

    return gw_frontend_get_vring_base(t->blk.g.fe, queue, &base);
}

/* Flushes fail from now on, for this guest and the next. */
static void expect_lost(struct lost_test *t)
{
    make_room(t);
    assert_int_equal(blk_test_request(&t->blk, FLUSH, 0, 0), -EIO);
    assert_int_equal(blk_test_request(&t->blk, WRITE, AT, 2), 0);
    assert_int_equal(blk_test_request(&t->blk, READ, AT, 0), 0);
    assert_int_equal(blk_test_request(&t->blk, FLUSH, 0, 0), -EIO);
    assert_int_equal(kill(t->blk.program.pid, SIGUSR1), 0);
    assert_true(program_says(&t->blk.program, "data lost: Input/output error"));
    assert_true(program_says(&t->blk.program, "the medium lost data that was written"));
    assert_int_not_equal(get_base(t, 0), 0);
    assert_true(program_says(&t->blk.program, "cannot keep what it confirmed"));
    guest_done(&t->blk.g);

    connect_guest(t);
    assert_int_equal(blk_test_request(&t->blk, FLUSH, 0, 0), -EIO);
    guest_done(&t->blk.g);
    /* Without FLUSH, the device syncs every write. */
    blk_test_connect(&t->blk);
    assert_int_equal(blk_test_request(&t->blk, WRITE, AT, 3), -EIO);
    guest_done(&t->blk.g);
    assert_int_equal(program_end(&t->blk.program, SIGTERM), EXIT_FAILURE);
}

/* With free space again, the next program has a working medium. */
static void expect_well(struct lost_test *t)
{
    uint8_t byte = 0;

    start_program(t);
    connect_guest(t);
    assert_int_equal(blk_test_request(&t->blk, WRITE, AT, 4), 0);
    assert_int_equal(blk_test_request(&t->blk, FLUSH, 0, 0), 0);
    assert_int_equal(blk_test_request(&t->blk, WRITE, AT, 5), 0);
    assert_int_equal(get_base(t, 0), 0);
    assert_int_equal(get_base(t, 1), 0);
    guest_done(&t->blk.g);
    assert_int_equal(program_end(&t->blk.program, SIGTERM), 0);
    assert_int_equal(pread(t->backing, &byte, 1, (off_t)AT), 1);
    assert_int_equal(byte, 5);
}

static void flush_fails(struct lost_test *t)
{
    start_program(t);
    connect_guest(t);
    assert_int_equal(blk_test_request(&t->blk, WRITE, AT, 1), 0);
    assert_int_equal(blk_test_request(&t->blk, FLUSH, 0, 0), -EIO);
    expect_lost(t);
}

/* The front-end migrates; stopping the last of its queues fails. */
static void stop_fails(struct lost_test *t)
{
    start_program(t);
    connect_guest(t);
    assert_int_equal(blk_test_request(&t->blk, WRITE, AT, 1), 0);
    assert_int_equal(get_base(t, 1), 0);
    assert_int_not_equal(get_base(t, 0), 0);
    assert_true(program_says(&t->blk.program, "cannot keep what it confirmed"));
    guest_done(&t->blk.g);
    connect_guest(t);
    expect_lost(t);
}

static void hang_up_fails(struct lost_test *t)
{
    start_program(t);
    connect_guest(t);
    assert_int_equal(blk_test_request(&t->blk, WRITE, AT, 1), 0);
    guest_done(&t->blk.g);
    connect_guest(t);
    expect_lost(t);
}

static void sigterm_fails(struct lost_test *t)
{
    start_program(t);
    connect_guest(t);
    assert_int_equal(blk_test_request(&t->blk, WRITE, AT, 1), 0);
    assert_int_equal(program_end(&t->blk.program, SIGTERM), EXIT_FAILURE);
    guest_done(&t->blk.g);
    make_room(t);
}

static void write_through_fails(struct lost_test *t)
{
    uint8_t wce = 0;

    start_program(t);
    connect_guest(t);
    assert_int_equal(blk_test_request(&t->blk, WRITE, AT, 1), 0);
    assert_int_equal(
        gw_frontend_set_config(t->blk.g.fe, offsetof(struct virtio_blk_config, wce), &wce, 1, 0),
        0);
    assert_int_equal(blk_test_request(&t->blk, WRITE, AT + 4096, 1), -EIO);
    wce = 1;
    assert_int_equal(
        gw_frontend_set_config(t->blk.g.fe, offsetof(struct virtio_blk_config, wce), &wce, 1, 0),
        0);
    expect_lost(t);
}

/* Data that a killed program wrote is left for its successor to sync. */
static void killed_in_between(struct lost_test *t)
{
    start_program(t);
    connect_guest(t);
    assert_int_equal(blk_test_request(&t->blk, WRITE, AT, 1), 0);
    assert_int_equal(program_end(&t->blk.program, SIGKILL), -SIGKILL);
    guest_done(&t->blk.g);
    start_program(t);
    connect_guest(t);
    assert_int_equal(get_base(t, 0), 0);
    assert_int_not_equal(get_base(t, 1), 0);
    guest_done(&t->blk.g);
    connect_guest(t);
    expect_lost(t);
}

static void run_on_both_loops(void (*scenario)(struct lost_test *t), const char *direct)
{
    static const char *const loops[] = {"--loop=epoll", "--loop=auto"};
    struct lost_test t;

    for (unsigned i = 0; i < 2; i++) {
        if (!begin(&t, loops[i], direct)) {
            end(&t);
            skip();
        }
        scenario(&t);
        expect_well(&t);
        end(&t);
    }
}

static void test_lost_at_a_flush(void **state)
{
    run_on_both_loops(flush_fails, "--direct=off");
}

static void test_lost_at_the_stop(void **state)
{
    run_on_both_loops(stop_fails, "--direct=off");
}

static void test_lost_after_a_hang_up(void **state)
{
    run_on_both_loops(hang_up_fails, "--direct=off");
}

static void test_lost_at_sigterm(void **state)
{
    run_on_both_loops(sigterm_fails, "--direct=off");
}

static void test_lost_with_write_through(void **state)
{
    run_on_both_loops(write_through_fails, "--direct=off");
}

static void test_lost_by_a_program_that_was_killed(void **state)
{
    run_on_both_loops(killed_in_between, "--direct=off");
}

/* With direct I/O the write itself fails: its guest sees the error and no data is lost. */
static void direct_write_fails(struct lost_test *t)
{
    start_program(t);
    connect_guest(t);
    assert_int_equal(blk_test_request(&t->blk, WRITE, AT, 1), -EIO);
    assert_int_equal(blk_test_request(&t->blk, FLUSH, 0, 0), 0);
    guest_done(&t->blk.g);
    blk_test_connect(&t->blk);
    assert_int_equal(blk_test_request(&t->blk, WRITE, AT, 1), -EIO);
    guest_done(&t->blk.g);
    connect_guest(t);
    assert_int_equal(blk_test_request(&t->blk, FLUSH, 0, 0), 0);
    assert_int_equal(get_base(t, 0), 0);
    assert_int_equal(get_base(t, 1), 0);
    guest_done(&t->blk.g);
    assert_int_equal(program_end(&t->blk.program, SIGTERM), 0);
    make_room(t);
}

static void test_direct_write_that_fails_loses_nothing(void **state)
{
    run_on_both_loops(direct_write_fails, "--direct=on");
}

int main(int argc, char **argv)
{
    const struct CMUnitTest tests[] = {
        FDCHECK_TEST(test_lost_at_a_flush),
        FDCHECK_TEST(test_lost_at_the_stop),
        FDCHECK_TEST(test_lost_after_a_hang_up),
        FDCHECK_TEST(test_lost_at_sigterm),
        FDCHECK_TEST(test_lost_with_write_through),
        FDCHECK_TEST(test_lost_by_a_program_that_was_killed),
        FDCHECK_TEST(test_direct_write_that_fails_loses_nothing),
    };

    if (argc != 2) {
        fprintf(stderr, "usage: it_blk_lost PATH_OF_GODWIT_BLK\n");
        return EXIT_FAILURE;
    }
    blk_test_path = argv[1];
    return cmocka_run_group_tests(tests, NULL, NULL);
}
