/* SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause */
/*
 * godwit-blk on block devices with sectors of 512 and 4096 bytes, on read-only devices, and on
 * files whose file system cannot punch holes: every feature offered to the guest works, and
 * discards free space.
 *
 * usage: it_blk_devices PATH_OF_GODWIT_BLK
 */
#include "blk_test.h"
#include "fdcheck.h"

#include <endian.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/fs.h>
#include <linux/virtio_blk.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <unistd.h>

#define MIB       (UINT64_C(1) << 20)
#define SIZE      (8 * MIB)
#define BIT(n)    (UINT64_C(1) << (n))
#define CAN_FLUSH (BIT(VIRTIO_BLK_F_FLUSH) | BIT(VIRTIO_BLK_F_CONFIG_WCE))
#define UNMAP     VIRTIO_BLK_WRITE_ZEROES_FLAG_UNMAP

struct device_test {
    struct blk_test blk;
    char backing[128];
    int device;                    /* -1: the disk is a plain file */
    struct virtio_blk_config disk; /* as the guest reads it */
    uint8_t expected[SIZE];        /* contents of the disk */
    uint8_t undefined[SIZE / 512]; /* discarded sectors, which may read as anything */
};

static struct device_test t;

/* Use a loop device on the file `fd` as the disk. Without loop devices, t.device stays -1. */
static void begin_device(int fd, unsigned sector_size)
{
    int is_read_only = 0;

    t.device = blk_test_loop(fd, sector_size, t.blk.file, sizeof(t.blk.file));
    if (t.device < 0)
        strcpy(t.blk.file, t.backing);
    else /* left read-only if an earlier test failed: the device outlives the test */
        assert_int_equal(ioctl(t.device, BLKROSET, &is_read_only), 0);
}

/* Returns: false if this machine has no loop devices; the reason has been printed. */
static bool begin(unsigned sector_size)
{
    memset(&t, 0, sizeof(t));
    t.device = -1;
    blk_test_begin(&t.blk, SIZE);
    for (size_t i = 0; i < SIZE; i++)
        t.expected[i] = (uint8_t)(1 + i / 512 % 255);
    assert_int_equal(pwrite(t.blk.fd, t.expected, SIZE, 0), SIZE);
    assert_int_equal(fdatasync(t.blk.fd), 0);
    strcpy(t.backing, t.blk.file);
    if (sector_size == 0)
        return true;
    begin_device(t.blk.fd, sector_size);
    return t.device >= 0;
}

static void end(void)
{
    if (t.device >= 0)
        close(t.device);
    strcpy(t.blk.file, t.backing);
    blk_test_end(&t.blk);
}

static void start(const char *option, const char *option2, int fallocate_error)
{
    struct program_config cfg = blk_test_config(&t.blk, option);

    cfg.args[8] = option2;
    cfg.fallocate_error = fallocate_error;
    program_start(&t.blk.program, &cfg);
    blk_test_connect_with(&t.blk, CAN_FLUSH);
    assert_int_equal(gw_frontend_get_config(t.blk.g.fe, 0, &t.disk, sizeof(t.disk)), 0);
}

static void stop(void)
{
    guest_done(&t.blk.g);
    assert_int_equal(program_end(&t.blk.program, SIGTERM), 0);
}

static uint64_t offered(void)
{
    uint64_t features;

    assert_int_equal(gw_frontend_get_features(t.blk.g.fe, &features), 0);
    return features &
           (BIT(VIRTIO_BLK_F_RO) | BIT(VIRTIO_BLK_F_DISCARD) | BIT(VIRTIO_BLK_F_WRITE_ZEROES));
}

/* Returns: 0 or a negative errno, from the device's status. */
static int range(uint32_t type, uint64_t sector, uint32_t n, uint32_t flags)
{
    struct gw_driver_blk blk;
    int r;

    assert_int_equal(gw_driver_blk_init(&blk, t.blk.g.drivers[0]), 0);
    assert_int_equal(gw_driver_blk_add_range(&blk, type, sector, n, flags, 1, 0), 0);
    r = gw_driver_blk_wait(&blk, 1, 60000);
    gw_driver_blk_done(&blk);
    return r;
}

static void zeroes(uint64_t sector, uint32_t n, uint32_t flags)
{
    assert_int_equal(range(GW_DRIVER_BLK_WRITE_ZEROES, sector, n, flags), 0);
    memset(t.expected + sector * 512, 0, (size_t)n * 512);
    memset(t.undefined + sector, 0, n);
}

static void discard(uint64_t sector, uint32_t n)
{
    assert_int_equal(range(GW_DRIVER_BLK_DISCARD, sector, n, 0), 0);
    memset(t.undefined + sector, 1, n);
}

/* Read the disk as the guest does and compare all but the discarded sectors. */
static void check_disk(void)
{
    struct gw_driver_buf buf = {.len = 65536};
    struct gw_driver_blk blk;

    assert_int_equal(gw_driver_blk_init(&blk, t.blk.g.drivers[1]), 0);
    assert_int_equal(gw_guest_mem_alloc(t.blk.g.mem, buf.len, 4096, &buf.addr), 0);
    for (uint64_t at = 0; at < SIZE; at += buf.len) {
        const uint8_t *data = gw_guest_mem_at(t.blk.g.mem, buf.addr, buf.len);

        assert_int_equal(gw_driver_blk_add(&blk, GW_DRIVER_BLK_READ, at / 512, &buf, 1, 1, 0), 0);
        assert_int_equal(gw_driver_blk_wait(&blk, 1, 60000), 0);
        for (unsigned i = 0; i < buf.len; i += 512)
            if (!t.undefined[(at + i) / 512])
                assert_memory_equal(data + i, t.expected + at + i, 512);
    }
    gw_guest_mem_release(t.blk.g.mem, buf.addr, buf.len);
    gw_driver_blk_done(&blk);
}

/* Bytes allocated to the backing file. */
static uint64_t allocated(void)
{
    struct stat st;

    assert_int_equal(fdatasync(t.blk.fd), 0);
    assert_int_equal(fstat(t.blk.fd, &st), 0);
    return (uint64_t)st.st_blocks * 512;
}

/* The device's discard granularity, from sysfs. */
static uint64_t discard_granularity(void)
{
    unsigned long long value;
    char path[256];
    FILE *f;

    snprintf(path, sizeof(path), "/sys/block/%.100s/queue/discard_granularity",
             strrchr(t.blk.file, '/') + 1);
    f = fopen(path, "re");
    assert_non_null(f);
    assert_int_equal(fscanf(f, "%llu", &value), 1);
    fclose(f);
    return value;
}

/* The alignment of discards in config space: the granule, the sector or the logical block. */
static void check_alignment(unsigned sector_size)
{
    uint64_t granule = sector_size ? discard_granularity() : 0;
    uint64_t alignment = le32toh(t.disk.discard_sector_alignment) * UINT64_C(512);

    assert_true(alignment >= granule && alignment >= sector_size &&
                alignment >= le32toh(t.disk.blk_size));
    if (granule > 0)
        assert_true(alignment == granule || alignment == sector_size ||
                    alignment == le32toh(t.disk.blk_size));
}

/*
 * Ranges of whole logical blocks at every offset within a 4096-byte sector, and across its
 * boundaries.
 */
static void check_ranges(void)
{
    uint32_t block = le32toh(t.disk.blk_size) / 512;

    for (uint32_t at = 0; at < 8; at += block) {
        for (uint32_t n = block; n <= 24; n += block) {
            uint64_t sector = 1024 + 64 * (uint64_t)at;

            zeroes(sector + at, n, at % 2 ? UNMAP : 0);
            zeroes(sector + 32 + at, n, at % 2 ? 0 : UNMAP);
            discard(4096 + 32 * (uint64_t)at + at, n);
        }
    }
    assert_int_equal(blk_test_request(&t.blk, GW_DRIVER_BLK_FLUSH, 0, 0), 0);
    check_disk();
}

static void run_ranges(unsigned sector_size)
{
    static const struct {
        const char *option, *option2;
    } options[] = {
        {"--loop=auto", NULL},
        {"--loop=epoll", NULL},
        {"--direct=off", NULL},
        {"--direct=on", "--logical-block-size=4096"},
    };

    for (unsigned i = 0; i < 4; i++) {
        uint64_t before;

        if (!begin(sector_size)) {
            end();
            skip();
        }
        start(options[i].option, options[i].option2, 0);
        assert_int_equal(offered(), BIT(VIRTIO_BLK_F_DISCARD) | BIT(VIRTIO_BLK_F_WRITE_ZEROES));
        check_alignment(sector_size);
        check_ranges();
        before = allocated();
        if (options[i].option2)
            discard(8192, 4096);
        else
            discard(8193, 4094); /* 2 MiB; the device discards all but both ends */
        assert_true(allocated() + MIB < before);
        zeroes(12288, 2048, UNMAP);
        check_disk();
        stop();
        end();
    }
}

static void test_device_of_512_bytes(void **state)
{
    run_ranges(512);
}

static void test_device_of_4096_bytes(void **state)
{
    run_ranges(4096);
}

static void test_device_file(void **state)
{
    run_ranges(0);
}

/* Discards are neither offered nor accepted; zeroes are written explicitly. */
static void expect_zeroes_only(void)
{
    assert_int_equal(offered(), BIT(VIRTIO_BLK_F_WRITE_ZEROES));
    assert_int_equal(t.disk.write_zeroes_may_unmap, 0);
    assert_int_equal(t.disk.max_discard_seg, 0);
    assert_int_not_equal(range(GW_DRIVER_BLK_DISCARD, 0, 2048, 0), 0);
    zeroes(4096, 4096, UNMAP);
    check_disk();
}

/* --discard=ignore: neither discards nor write-zeroes let the guest deallocate space. */
static void test_device_stays_allocated(void **state)
{
    for (unsigned sector_size = 0; sector_size <= 512; sector_size += 512) {
        uint64_t before;

        if (!begin(sector_size)) {
            end();
            skip();
        }
        before = allocated();
        start("--discard=ignore", NULL, 0);
        expect_zeroes_only();
        assert_true(allocated() >= before);
        stop();
        end();
    }
}

/*
 * Open a file with the contents of the disk on a file system without fallocate(2): loop devices on
 * it cannot discard. Returns: -1 if there is no such file system; the reason has been printed.
 */
static int open_without_fallocate(void)
{
    char folder[160], file[170];
    int fd;

    if (!blk_test_has_mounts())
        return -1;
    snprintf(folder, sizeof(folder), "%s/ramfs", t.blk.dir);
    snprintf(file, sizeof(file), "%s/disk", folder);
    assert_int_equal(mkdir(folder, 0700), 0);
    if (mount("none", folder, "ramfs", 0, NULL) < 0) {
        fprintf(stderr, "skipped: no ramfs: %s\n", strerror(errno));
        assert_int_equal(rmdir(folder), 0);
        return -1;
    }
    fd = open(file, O_RDWR | O_CREAT | O_CLOEXEC, 0600);
    assert_true(fd >= 0);
    assert_int_equal(pwrite(fd, t.expected, SIZE, 0), SIZE);
    assert_int_equal(umount2(folder, MNT_DETACH), 0);
    assert_int_equal(rmdir(folder), 0);
    return fd;
}

/* On a device that cannot discard, discards are not offered and write-zeroes works. */
static void test_device_that_cannot_discard(void **state)
{
    int backing;

    (void)begin(0);
    backing = open_without_fallocate();
    if (backing >= 0)
        begin_device(backing, 512);
    if (t.device < 0) {
        end();
        skip();
    }
    close(backing);
    start(NULL, NULL, 0);
    expect_zeroes_only();
    stop();
    end();
}

/* The kernel reports the device as read-only although --read-only was not given. */
static void test_device_that_is_read_only(void **state)
{
    int on = 1, off = 0;

    if (!begin(512)) {
        end();
        skip();
    }
    assert_int_equal(ioctl(t.device, BLKROSET, &on), 0);
    start(NULL, NULL, 0);
    assert_int_equal(offered(), BIT(VIRTIO_BLK_F_RO));
    assert_true(program_says(&t.blk.program, "the device is read-only"));
    assert_int_equal(blk_test_request(&t.blk, GW_DRIVER_BLK_WRITE, 0, 1), -EIO);
    assert_int_not_equal(range(GW_DRIVER_BLK_DISCARD, 0, 8, 0), 0);
    assert_int_not_equal(range(GW_DRIVER_BLK_WRITE_ZEROES, 0, 8, 0), 0);
    assert_int_equal(blk_test_request(&t.blk, GW_DRIVER_BLK_FLUSH, 0, 0), 0);
    check_disk();
    stop();
    assert_int_equal(ioctl(t.device, BLKROSET, &off), 0); /* the device outlives the test */
    end();
}

/* If a filter or the file system refuses fallocate, zeroes are written and discards do nothing. */
static void test_device_whose_fallocate_is_refused(void **state)
{
    static const int errors[] = {ENOSYS, EPERM, EINVAL};

    for (unsigned i = 0; i < sizeof(errors) / sizeof(errors[0]); i++) {
        for (unsigned sector_size = 0; sector_size <= 4096; sector_size += 4096) {
            uint64_t before;

            if (!begin(sector_size)) {
                end();
                skip();
            }
            /* io_uring does not go through the filtered system call. */
            start("--loop=epoll", NULL, errors[i]);
            check_ranges();
            before = allocated();
            discard(8192, 4096);
            /* BLKDISCARD needs no fallocate. */
            assert_int_equal(allocated() + MIB < before, sector_size != 0);
            check_disk();
            stop();
            end();
        }
    }
}

int main(int argc, char **argv)
{
    const struct CMUnitTest tests[] = {
        FDCHECK_TEST(test_device_of_512_bytes),
        FDCHECK_TEST(test_device_of_4096_bytes),
        FDCHECK_TEST(test_device_file),
        FDCHECK_TEST(test_device_stays_allocated),
        FDCHECK_TEST(test_device_that_cannot_discard),
        FDCHECK_TEST(test_device_that_is_read_only),
        FDCHECK_TEST(test_device_whose_fallocate_is_refused),
    };

    if (argc != 2) {
        fprintf(stderr, "usage: it_blk_devices PATH_OF_GODWIT_BLK\n");
        return EXIT_FAILURE;
    }
    blk_test_path = argv[1];
    return cmocka_run_group_tests(tests, NULL, NULL);
}
