/* SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause */
/*
 * godwit-blk while its environment fails: the file shrinks, grows, runs out of space, is read-only
 * or gives I/O errors; the program is terminated under load, killed and started again.
 *
 * usage: it_blk_faults PATH_OF_GODWIT_BLK
 */
#include "../fixtures/fixture.h"
#include "../fixtures/program.h"
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
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <time.h>
#include <unistd.h>

#define MIB (UINT64_C(1) << 20)

static uint64_t capacity(struct blk_test *t)
{
    uint64_t sectors = 0;

    assert_int_equal(gw_frontend_get_config(t->g.fe, 0, &sectors, sizeof(sectors)), 0);
    return sectors;
}

/* Send SIGHUP, then expect the configuration change message and the new capacity. */
static void expect_size(struct blk_test *t, uint64_t bytes)
{
    struct gw_frontend_message msg;

    assert_int_equal(kill(t->program.pid, SIGHUP), 0);
    assert_int_equal(gw_frontend_backend_request(t->g.fe, &msg, 5000), 0);
    assert_int_equal(msg.request, 2); /* CONFIG_CHANGE */
    gw_frontend_message_done(&msg);
    assert_int_equal(capacity(t), bytes / 512);
}

static void test_file_shrinks(void **state)
{
    struct blk_test t;
    (void)state;

    blk_test_begin(&t, 4 * MIB);
    blk_test_start(&t, NULL);
    assert_int_equal(blk_test_request(&t, GW_DRIVER_BLK_READ, 2 * MIB, 0), 0);
    assert_int_equal(ftruncate(t.fd, (off_t)MIB), 0);
    assert_int_equal(blk_test_request(&t, GW_DRIVER_BLK_READ, 2 * MIB, 0), -EIO);
    assert_true(program_says(&t.program, "read at byte"));
    assert_int_equal(blk_test_request(&t, GW_DRIVER_BLK_READ, 0, 0), 0);
    assert_int_equal(guest_io(&t.g, 1, 8, 1), 0);
    expect_size(&t, MIB);
    assert_int_equal(blk_test_request(&t, GW_DRIVER_BLK_WRITE, 2 * MIB, 1), -EIO);
    assert_int_equal(blk_test_request(&t, GW_DRIVER_BLK_WRITE, MIB - 4096, 1), 0);
    blk_test_stop(&t);
}

static void test_file_grows(void **state)
{
    uint8_t byte = 0;
    struct blk_test t;
    (void)state;

    blk_test_begin(&t, MIB);
    blk_test_start(&t, NULL);
    assert_int_equal(blk_test_request(&t, GW_DRIVER_BLK_WRITE, MIB, 0x5a), -EIO);
    assert_int_equal(ftruncate(t.fd, (off_t)(8 * MIB)), 0);
    expect_size(&t, 8 * MIB);
    assert_int_equal(blk_test_request(&t, GW_DRIVER_BLK_WRITE, 8 * MIB - 4096, 0x5a), 0);
    assert_int_equal(pread(t.fd, &byte, 1, (off_t)(8 * MIB - 1)), 1);
    assert_int_equal(byte, 0x5a);
    assert_int_equal(blk_test_request(&t, GW_DRIVER_BLK_WRITE, 8 * MIB, 0x5a), -EIO);
    blk_test_stop(&t);
}

/* A file system with 1 MiB of free space, and a 4 MiB file. */
static void run_no_room(const char *loop)
{
    struct gw_driver_blk blk;
    unsigned n_failed = 0, n_done = 0;
    struct blk_test t;

    blk_test_begin(&t, 0);
    assert_int_equal(mount("tmpfs", t.dir, "tmpfs", 0, "size=1m"), 0);
    t.fd = open(t.file, O_RDWR | O_CREAT | O_CLOEXEC, 0600);
    assert_true(t.fd >= 0);
    assert_int_equal(ftruncate(t.fd, (off_t)(4 * MIB)), 0);
    blk_test_start(&t, loop);
    for (uint64_t at = 0; at < 4 * MIB; at += 4096) {
        int r = blk_test_request(&t, GW_DRIVER_BLK_WRITE, at, 0x33);

        assert_true(r == 0 || r == -EIO);
        n_failed += r != 0;
        n_done += r == 0;
    }
    assert_true(n_failed > 0 && n_done > 0);
    assert_true(program_says(&t.program, "No space left on device"));
    /* The guest frees space itself, and its writes succeed again. */
    assert_int_equal(gw_driver_blk_init(&blk, t.g.drivers[0]), 0);
    assert_int_equal(
        gw_driver_blk_add_range(&blk, GW_DRIVER_BLK_DISCARD, 0, 4 * MIB / 512, 0, 1, 0), 0);
    assert_int_equal(gw_driver_blk_wait(&blk, 1, 10000), 0);
    gw_driver_blk_done(&blk);
    assert_int_equal(blk_test_request(&t, GW_DRIVER_BLK_WRITE, 3 * MIB, 0x44), 0);
    assert_int_equal(guest_io(&t.g, 1, 8, 1), 0);
    guest_done(&t.g);
    assert_int_equal(program_end(&t.program, SIGTERM), 0);
    close(t.fd);
    t.fd = -1;
    assert_int_equal(umount(t.dir), 0);
    blk_test_end(&t);
}

static void test_no_room(void **state)
{
    (void)state;
    if (!blk_test_has_mounts())
        skip();
    run_no_room("--loop=epoll");
    run_no_room("--loop=auto");
}

/* A read-only file system: refused at startup, served with --read-only. */
static void test_read_only_mount(void **state)
{
    struct program_config cfg;
    struct blk_test t;
    int fd;
    (void)state;

    if (!blk_test_has_mounts())
        skip();
    blk_test_begin(&t, 0);
    assert_int_equal(mount("tmpfs", t.dir, "tmpfs", 0, "size=2m"), 0);
    fd = open(t.file, O_RDWR | O_CREAT | O_CLOEXEC, 0600);
    assert_int_equal(ftruncate(fd, (off_t)MIB), 0);
    close(fd);
    assert_int_equal(mount(NULL, t.dir, NULL, MS_REMOUNT | MS_RDONLY, NULL), 0);
    snprintf(t.socket, sizeof(t.socket), "%s.socket", t.dir);

    cfg = blk_test_config(&t, NULL);
    program_start(&t.program, &cfg);
    assert_int_equal(program_wait(&t.program, patience_ms()), EXIT_FAILURE);
    assert_true(program_says(&t.program, "use --read-only"));
    close(t.program.said_fd);

    blk_test_start(&t, "--read-only");
    assert_int_equal(blk_test_request(&t, GW_DRIVER_BLK_READ, 0, 0), 0);
    assert_int_equal(blk_test_request(&t, GW_DRIVER_BLK_WRITE, 0, 1), -EIO);
    assert_int_equal(blk_test_request(&t, GW_DRIVER_BLK_READ, MIB - 4096, 0), 0);
    guest_done(&t.g);
    assert_int_equal(program_end(&t.program, SIGTERM), 0);
    assert_int_equal(umount(t.dir), 0);
    blk_test_end(&t);
}

static void test_read_only_option(void **state)
{
    uint64_t features;
    struct blk_test t;
    struct stat before, after;
    (void)state;

    blk_test_begin(&t, MIB);
    assert_int_equal(fstat(t.fd, &before), 0);
    blk_test_start(&t, "--read-only");
    assert_int_equal(gw_frontend_get_features(t.g.fe, &features), 0);
    assert_true(features >> VIRTIO_BLK_F_RO & 1);
    assert_int_equal(blk_test_request(&t, GW_DRIVER_BLK_WRITE, 0, 1), -EIO);
    assert_int_equal(blk_test_request(&t, GW_DRIVER_BLK_READ, 0, 0), 0);
    assert_int_equal(fstat(t.fd, &after), 0);
    assert_int_equal(before.st_blocks, after.st_blocks);
    assert_int_equal(before.st_mtim.tv_nsec, after.st_mtim.tv_nsec);
    blk_test_stop(&t);
}

/*
 * The process may not extend files beyond 1 MiB: the guest sees an error, and SIGXFSZ does not kill
 * the program.
 */
static void run_file_size_limit(const char *loop)
{
    struct program_config cfg;
    struct blk_test t;

    blk_test_begin(&t, 4 * MIB);
    cfg = blk_test_config(&t, loop);
    cfg.file_size_limit = MIB;
    program_start(&t.program, &cfg);
    blk_test_connect(&t);
    assert_int_equal(blk_test_request(&t, GW_DRIVER_BLK_WRITE, 0, 1), 0);
    assert_int_equal(blk_test_request(&t, GW_DRIVER_BLK_WRITE, 2 * MIB, 1), -EIO);
    assert_true(program_says(&t.program, "File too large"));
    assert_int_equal(blk_test_request(&t, GW_DRIVER_BLK_READ, 2 * MIB, 1), 0);
    assert_int_equal(guest_io(&t.g, 1, 8, 1), 0);
    blk_test_stop(&t);
}

static void test_file_size_limit(void **state)
{
    (void)state;
    run_file_size_limit("--loop=epoll");
    run_file_size_limit("--loop=auto");
}

/* An unreadable medium: a loop device whose backing file was truncated. */
static void test_io_errors(void **state)
{
    struct blk_test t;
    char file[128];
    int device;
    (void)state;

    blk_test_begin(&t, 4 * MIB);
    strcpy(file, t.file);
    device = blk_test_loop(t.fd, 512, t.file, sizeof(t.file));
    if (device < 0) {
        strcpy(t.file, file);
        blk_test_end(&t);
        skip();
    }
    blk_test_start(&t, "--direct=auto");
    close(device);
    assert_int_equal(blk_test_request(&t, GW_DRIVER_BLK_READ, MIB, 0), 0);
    assert_int_equal(ftruncate(t.fd, (off_t)MIB), 0);
    assert_int_equal(blk_test_request(&t, GW_DRIVER_BLK_READ, 3 * MIB, 0), -EIO);
    assert_true(program_says(&t.program, "Input/output error"));
    assert_int_equal(blk_test_request(&t, GW_DRIVER_BLK_READ, 0, 0), 0);
    assert_int_equal(guest_io(&t.g, 1, 8, 1), 0);
    guest_done(&t.g);
    assert_int_equal(program_end(&t.program, SIGTERM), 0);
    strcpy(t.file, file);
    blk_test_end(&t);
}

/* ---- under load ---- */

static void sleep_ms(long ms)
{
    nanosleep(&(struct timespec){.tv_nsec = ms * 1000000}, NULL);
}

/* Wait until the file has more data than can be in flight, so that some writes have completed. */
static void await_writes(const struct blk_test *t)
{
    struct stat st = {.st_blocks = 0};

    for (unsigned ms = 0; st.st_blocks * 512 < 1024 * 1024 && ms < patience_ms(); ms++) {
        sleep_ms(1);
        assert_int_equal(fstat(t->fd, &st), 0);
    }
    assert_true(st.st_blocks * 512 >= 1024 * 1024);
}

/* Every completed write is in the file, whether the program was terminated or killed. */
static void run_end_under_load(const char *loop, int sig)
{
    struct blk_load l;
    struct blk_test t;

    blk_test_begin(&t, 4 * MIB);
    blk_test_start(&t, loop);
    blk_load_start(&l, &t);
    await_writes(&t);
    assert_int_equal(program_end(&t.program, sig), sig == SIGKILL ? -SIGKILL : 0);
    blk_load_end(&l, &t);
    guest_done(&t.g);

    /* It starts again at the same path, even if the old socket is still there. */
    blk_test_start(&t, loop);
    assert_int_equal(guest_io(&t.g, 0, 0, 0x66), 0);
    blk_test_stop(&t);
}

static void test_sigterm_under_load(void **state)
{
    (void)state;
    run_end_under_load("--loop=epoll", SIGTERM);
    run_end_under_load("--loop=auto", SIGTERM);
}

static void test_kill_and_restart(void **state)
{
    (void)state;
    run_end_under_load("--loop=epoll", SIGKILL);
    run_end_under_load("--loop=auto", SIGKILL);
}

static void test_statistics_under_load(void **state)
{
    struct blk_load l;
    struct blk_test t;
    (void)state;

    blk_test_begin(&t, 4 * MIB);
    blk_test_start(&t, NULL);
    blk_load_start(&l, &t);
    for (unsigned i = 0; i < 20; i++) {
        assert_int_equal(kill(t.program.pid, SIGUSR1), 0);
        sleep_ms(10);
    }
    assert_true(program_says(&t.program, "in flight  oldest ms"));
    blk_load_end(&l, &t);
    blk_test_stop(&t);
}

/* ---- connections ---- */

static void test_two_front_ends(void **state)
{
    struct gw_frontend *waiting;
    uint64_t features;
    struct blk_test t;
    (void)state;

    blk_test_begin(&t, 4 * MIB);
    blk_test_start(&t, NULL);
    assert_int_equal(guest_io(&t.g, 0, 0, 0x71), 0);
    /* The second waits until the first has disconnected. */
    assert_int_equal(gw_frontend_new(&waiting, NULL), 0);
    assert_int_equal(gw_frontend_connect(waiting, t.socket), 0);
    guest_done(&t.g);
    assert_int_equal(gw_frontend_get_features(waiting, &features), 0);
    gw_frontend_free(waiting);
    blk_test_connect(&t);
    assert_int_equal(guest_io(&t.g, 1, 8, 0x72), 0);
    blk_test_stop(&t);
}

static void test_inherited_socketpair(void **state)
{
    struct program_config cfg;
    struct blk_test t;
    int pair[2];
    (void)state;

    blk_test_begin(&t, 4 * MIB);
    assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair), 0);
    cfg = (struct program_config){
        .path = blk_test_path,
        .args = {"--num-queues", "2", "--fd", "3", "--blk-file", t.file},
        .fd = pair[0],
    };
    program_start(&t.program, &cfg);
    close(pair[0]);
    guest_init(&t.g, 64);
    assert_int_equal(gw_frontend_attach(t.g.fe, pair[1]), 0);
    assert_int_equal(gw_frontend_start(t.g.fe, &t.g.opt), 0);
    assert_int_equal(guest_io(&t.g, 0, 0, 0x73), 0);
    guest_done(&t.g);
    /* Its only connection has ended, so the program exits with success. */
    assert_int_equal(program_end(&t.program, 0), 0);
    blk_test_end(&t);
}

/* With --client the front-end listens: it appears late, disappears and returns. */
static void test_client_reconnects(void **state)
{
    struct sockaddr_un addr = {.sun_family = AF_UNIX};
    struct program_config cfg;
    struct blk_test t;
    int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    (void)state;

    blk_test_begin(&t, 4 * MIB);
    cfg = blk_test_config(&t, "--reconnect");
    program_start(&t.program, &cfg);
    assert_int_equal(program_end(&t.program, 0), 64); /* the option makes no sense for a listener */
    cfg.args[8] = "--client";
    program_start(&t.program, &cfg);
    assert_true(program_says(&t.program, "trying again"));
    strcpy(addr.sun_path, t.socket);
    assert_int_equal(bind(fd, (struct sockaddr *)&addr, sizeof(addr)), 0);
    assert_int_equal(listen(fd, 4), 0);
    for (unsigned i = 0; i < 3; i++) {
        guest_init(&t.g, 64);
        assert_int_equal(gw_frontend_accept(t.g.fe, fd), 0);
        assert_int_equal(gw_frontend_start(t.g.fe, &t.g.opt), 0);
        assert_int_equal(guest_io(&t.g, 0, 0, (uint8_t)i), 0);
        guest_done(&t.g);
    }
    close(fd);
    assert_int_equal(program_end(&t.program, SIGTERM), 0);
    blk_test_end(&t);
}

static void test_socket_activation(void **state)
{
    struct sockaddr_un addr = {.sun_family = AF_UNIX};
    struct program_config cfg;
    struct blk_test t;
    int fd;
    (void)state;

    blk_test_begin(&t, 4 * MIB);
    fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    assert_true(fd > 0); /* 0 means none in struct program_config */
    strcpy(addr.sun_path, t.socket);
    assert_int_equal(bind(fd, (struct sockaddr *)&addr, sizeof(addr)), 0);
    assert_int_equal(listen(fd, 4), 0);
    cfg = (struct program_config){
        .path = blk_test_path,
        .args = {"--verbose", "--num-queues", "2", "--blk-file", t.file},
        .fd = fd,
        .is_socket = true,
    };
    program_start(&t.program, &cfg);
    close(fd);
    for (unsigned i = 0; i < 2; i++) {
        blk_test_connect(&t);
        assert_int_equal(guest_io(&t.g, 0, 0, 0x74), 0);
        guest_done(&t.g);
    }
    assert_int_equal(program_end(&t.program, SIGTERM), 0);
    /* systemd owns the socket: the program does not remove it. */
    assert_int_equal(access(t.socket, F_OK), 0);
    blk_test_end(&t);
}

int main(int argc, char **argv)
{
    const struct CMUnitTest tests[] = {
        FDCHECK_TEST(test_file_shrinks),      FDCHECK_TEST(test_file_grows),
        FDCHECK_TEST(test_no_room),           FDCHECK_TEST(test_read_only_mount),
        FDCHECK_TEST(test_read_only_option),  FDCHECK_TEST(test_file_size_limit),
        FDCHECK_TEST(test_io_errors),         FDCHECK_TEST(test_sigterm_under_load),
        FDCHECK_TEST(test_kill_and_restart),  FDCHECK_TEST(test_statistics_under_load),
        FDCHECK_TEST(test_two_front_ends),    FDCHECK_TEST(test_inherited_socketpair),
        FDCHECK_TEST(test_client_reconnects), FDCHECK_TEST(test_socket_activation),
    };

    if (argc != 2) {
        fprintf(stderr, "usage: it_blk_faults PATH_OF_GODWIT_BLK\n");
        return EXIT_FAILURE;
    }
    blk_test_path = argv[1];
    return cmocka_run_group_tests(tests, NULL, NULL);
}
