/* SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause */
#include "blk_test.h"
#include "patience.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/loop.h>
#include <sched.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mount.h>
#include <unistd.h>

#include <cmocka.h>

#define MIB         (UINT64_C(1) << 20)
#define PATIENCE_MS patience_ms()

const char *blk_test_path;

bool blk_test_has_mounts(void)
{
    static int have = -1;

    if (have < 0)
        have =
            unshare(CLONE_NEWNS) == 0 && mount("none", "/", NULL, MS_REC | MS_PRIVATE, NULL) == 0;
    if (!have)
        fprintf(stderr, "skipped: no mount namespace: %s\n", strerror(errno));
    return have;
}

int blk_test_loop(int fd, unsigned sector_size, char *path, size_t path_size)
{
    struct loop_config cfg = {
        .fd = (uint32_t)fd, .block_size = sector_size, .info.lo_flags = LO_FLAGS_AUTOCLEAR};
    int control = open("/dev/loop-control", O_RDWR | O_CLOEXEC), device = -1, n = -1;

    /* Another process may take the free number first. */
    for (unsigned i = 0; i < 100 && control >= 0 && device < 0; i++) {
        n = ioctl(control, LOOP_CTL_GET_FREE);
        if (n < 0)
            break;
        snprintf(path, path_size, "/dev/loop%d", n);
        device = open(path, O_RDWR | O_CLOEXEC);
        if (device < 0)
            break;
        if (ioctl(device, LOOP_CONFIGURE, &cfg) < 0) {
            close(device);
            device = -1;
            if (errno != EBUSY)
                break;
        }
    }
    if (device < 0)
        fprintf(stderr, "skipped: no loop device: %s\n", strerror(errno));
    if (control >= 0)
        close(control);
    return device;
}

void blk_test_begin(struct blk_test *t, uint64_t size)
{
    memset(t, 0, sizeof(*t));
    strcpy(t->dir, "/tmp/godwit-it-XXXXXX");
    assert_non_null(mkdtemp(t->dir));
    snprintf(t->socket, sizeof(t->socket), "%s/socket", t->dir);
    snprintf(t->file, sizeof(t->file), "%s/disk", t->dir);
    t->fd = -1;
    if (size == 0)
        return;
    t->fd = open(t->file, O_RDWR | O_CREAT | O_CLOEXEC, 0600);
    assert_true(t->fd >= 0);
    assert_int_equal(ftruncate(t->fd, (off_t)size), 0);
}

void blk_test_end(struct blk_test *t)
{
    if (t->fd >= 0)
        close(t->fd);
    (void)unlink(t->file);
    (void)unlink(t->socket);
    assert_int_equal(rmdir(t->dir), 0);
}

struct program_config blk_test_config(const struct blk_test *t, const char *extra)
{
    return (struct program_config){
        .path = blk_test_path,
        .args = {"--verbose", "--num-queues", "2", "--socket-path", t->socket, "--blk-file",
                 t->file, extra},
    };
}

void blk_test_connect(struct blk_test *t)
{
    blk_test_connect_with(t, 0);
}

void blk_test_connect_with(struct blk_test *t, uint64_t features)
{
    guest_init(&t->g, 64);
    if (features != 0)
        t->g.opt.features = GUEST_FEATURES | GUEST_EVENT_IDX | features;
    assert_int_equal(gw_frontend_connect(t->g.fe, t->socket), 0);
    if (gw_frontend_start(t->g.fe, &t->g.opt) < 0)
        fail_msg("%s", gw_frontend_last_error());
}

int blk_test_request(struct blk_test *t, uint32_t type, uint64_t offset, uint8_t pattern)
{
    struct gw_driver_buf buf = {.len = 4096};
    bool has_data = type == GW_DRIVER_BLK_READ || type == GW_DRIVER_BLK_WRITE;
    struct gw_driver_blk blk;
    int r;

    assert_int_equal(gw_driver_blk_init(&blk, t->g.drivers[0]), 0);
    assert_int_equal(gw_guest_mem_alloc(t->g.mem, buf.len, 4096, &buf.addr), 0);
    memset(gw_guest_mem_at(t->g.mem, buf.addr, buf.len), pattern, buf.len);
    assert_int_equal(gw_driver_blk_add(&blk, type, offset / 512, &buf, has_data, 1, 0), 0);
    r = gw_driver_blk_wait(&blk, 1, PATIENCE_MS);
    gw_guest_mem_release(t->g.mem, buf.addr, buf.len);
    gw_driver_blk_done(&blk);
    return r;
}

void blk_test_start(struct blk_test *t, const char *extra)
{
    struct program_config cfg = blk_test_config(t, extra);

    program_start(&t->program, &cfg);
    blk_test_connect(t);
}

void blk_test_stop(struct blk_test *t)
{
    guest_done(&t->g);
    assert_int_equal(program_end(&t->program, SIGTERM), 0);
    assert_int_equal(access(t->socket, F_OK), -1);
    blk_test_end(t);
}

void blk_load_init(struct blk_load *l, struct blk_test *t)
{
    struct gw_guest_disk_config disk = {.size = sizeof(disk), .length = 4 * MIB, .blank = true};
    struct gw_guest_load_config load = {.size = sizeof(load),
                                        .drivers = t->g.drivers,
                                        .n_drivers = FIXTURE_QUEUES,
                                        .depth = 16,
                                        .write_percent = 60,
                                        .sleep = true,
                                        .call_grace_ms = patience_ms()};

    assert_int_equal(gw_guest_disk_new(&l->disk, &disk), 0);
    load.disk = l->disk;
    assert_int_equal(gw_guest_load_new(&l->load, &load), 0);
}

void blk_load_done(struct blk_load *l, const struct blk_test *t)
{
    struct gw_guest_load_stats stats;

    gw_guest_load_stats(l->load, &stats);
    assert_true(stats.writes > 0);
    gw_guest_load_abandon(l->load);
    if (gw_guest_disk_check_fd(l->disk, t->fd) < 0)
        fail_msg("%s", gw_guest_disk_error(l->disk));
    gw_guest_load_free(l->load);
    gw_guest_disk_free(l->disk);
}

static void *load_main(void *arg)
{
    struct blk_load *l = arg;

    l->result = gw_guest_load_run(l->load, 0, 0, 0);
    return NULL;
}

void blk_load_start(struct blk_load *l, struct blk_test *t)
{
    blk_load_init(l, t);
    assert_int_equal(pthread_create(&l->thread, NULL, load_main, l), 0);
}

void blk_load_end(struct blk_load *l, const struct blk_test *t)
{
    gw_guest_load_interrupt(l->load);
    pthread_join(l->thread, NULL);
    if (l->result < 0)
        fail_msg("%s", gw_guest_load_error(l->load));
    blk_load_done(l, t);
}
