/* SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause */
/* The mmap backend: which files can be a region, and the offsets of its bytes. */
#include "fdcheck.h"

#include "base/log_i.h"
#include "core/memory/mem.h"
#include "requires.h"

#include <errno.h>
#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <unistd.h>

#include <cmocka.h>

#define PAGE UINT64_C(4096)
#define HUGE (UINT64_C(2) << 20)

static int memory(uint64_t len, unsigned flags)
{
    int fd = memfd_create("guest", MFD_CLOEXEC | flags);

    assert_true(fd >= 0);
    assert_int_equal(ftruncate(fd, (off_t)len), 0);
    return fd;
}

static int dup_of(int fd)
{
    int r = fcntl(fd, F_DUPFD_CLOEXEC, 0);

    assert_true(r >= 0);
    return r;
}

/* Consumes `fd`. */
static int make(struct gw_region **ret, uint64_t size, gw_off_t offset, int fd)
{
    struct gw_region_desc desc = {.gpa = PAGE, .size = size, .mmap_offset = offset};

    return gw_region_new(ret, &desc, fd);
}

static int try_to_make(uint64_t size, gw_off_t offset, int fd)
{
    struct gw_region *region = NULL;
    int r = make(&region, size, offset, fd);

    assert_true(!region == (r < 0));
    gw_region_put(region);
    return r;
}

static void test_mem_mmap_any_offset_shows_the_right_bytes(void **state)
{
    static const gw_off_t offsets[] = {0, 1, 0x800, PAGE - 1, PAGE, PAGE + 1, 3 * PAGE + 17};
    int fd = memory(8 * PAGE, 0);

    for (unsigned i = 0; i < GW_ARRAY_SIZE(offsets); i++) {
        uint64_t size = 8 * PAGE - offsets[i];
        struct gw_region *region;
        char byte = (char)('a' + i);

        assert_int_equal(pwrite(fd, &byte, 1, (off_t)offsets[i]), 1);
        assert_int_equal(make(&region, size, offsets[i], dup_of(fd)), 0);
        assert_int_equal(region->hva[0], byte);
        region->hva[size - 1] = (uint8_t)(i + 1); /* the last byte of the file */
        assert_int_equal(pread(fd, &byte, 1, 8 * PAGE - 1), 1);
        assert_int_equal(byte, i + 1);
        gw_region_put(region);
    }
    close(fd);
}

static void test_mem_mmap_short_file_is_refused(void **state)
{
    int fd = memory(4 * PAGE, 0);

    assert_int_equal(try_to_make(4 * PAGE, 0, dup_of(fd)), 0);
    assert_int_equal(try_to_make(4 * PAGE + 1, 0, dup_of(fd)), -EINVAL);
    assert_non_null(strstr(gw_last_error(), "0x4001 bytes of its file, which has 0x4000"));
    assert_int_equal(try_to_make(4 * PAGE, 1, dup_of(fd)), -EINVAL);
    assert_int_equal(try_to_make(PAGE, 3 * PAGE, dup_of(fd)), 0);
    assert_int_equal(try_to_make(PAGE, 4 * PAGE, dup_of(fd)), -EINVAL);
    assert_int_equal(try_to_make(1, 4 * PAGE - 1, dup_of(fd)), 0);
    assert_int_equal(ftruncate(fd, 4 * PAGE - 1), 0);
    assert_int_equal(try_to_make(4 * PAGE, 0, dup_of(fd)), -EINVAL);
    close(fd);
}

static void test_mem_mmap_read_only_file_is_refused(void **state)
{
    int fd = memory(PAGE, 0);
    char path[64];
    int ro;

    snprintf(path, sizeof(path), "/proc/self/fd/%d", fd);
    ro = open(path, O_RDONLY | O_CLOEXEC);
    assert_true(ro >= 0);
    assert_int_equal(try_to_make(PAGE, 0, ro), -EACCES);
    assert_non_null(strstr(gw_last_error(), "open for writing"));
    close(fd);
}

static void test_mem_mmap_what_is_no_memory_is_refused(void **state)
{
    int pipes[2], sockets[2];

    assert_int_equal(pipe2(pipes, O_CLOEXEC), 0);
    assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, sockets), 0);
    assert_true(try_to_make(PAGE, 0, pipes[1]) < 0);
    assert_true(try_to_make(PAGE, 0, sockets[1]) < 0);
    assert_int_equal(try_to_make(PAGE, 0, open("/dev/null", O_RDWR | O_CLOEXEC)), -ENODEV);
    assert_true(try_to_make(PAGE, 0, open("/", O_RDONLY | O_DIRECTORY | O_CLOEXEC)) < 0);
    assert_int_equal(try_to_make(PAGE, 0, -1), -EBADF);
    close(pipes[0]);
    close(sockets[0]);
}

/* A file may be larger than memory; the region neither touches nor reserves its pages. */
static void test_mem_mmap_sparse_terabyte_is_fine(void **state)
{
    uint64_t size = UINT64_C(1) << 40;
    struct gw_region *region;

    if (is_under_valgrind())
        skip();
    assert_int_equal(make(&region, size, 0, memory(size, 0)), 0);
    region->hva[size - 1] = 1;
    gw_region_put(region);
}

static int huge_memory(uint64_t len)
{
    int fd = memfd_create("guest", MFD_CLOEXEC | MFD_HUGETLB);
    void *probe;

    if (fd < 0 || ftruncate(fd, (off_t)len) < 0) {
        close(fd);
        return -1;
    }
    /* Mapping reserves the pages. */
    probe = mmap(NULL, len, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
    if (probe == MAP_FAILED) {
        close(fd);
        return -1;
    }
    munmap(probe, len);
    return fd;
}

static void test_mem_mmap_huge_pages_are_cut_anywhere(void **state)
{
    static const gw_off_t offsets[] = {0, PAGE, HUGE, HUGE + PAGE, HUGE - 1};
    int fd = huge_memory(2 * HUGE);

    if (fd < 0) {
        print_message("no huge pages\n");
        skip();
    }
    for (unsigned i = 0; i < GW_ARRAY_SIZE(offsets); i++) {
        uint64_t size = 2 * HUGE - offsets[i];
        struct gw_region *region;

        assert_int_equal(make(&region, size, offsets[i], dup_of(fd)), 0);
        region->hva[0] = (uint8_t)(i + 1);
        region->hva[size - 1] = 1;
        gw_region_put(region);
        assert_int_equal(make(&region, 2 * HUGE, 0, dup_of(fd)), 0);
        assert_int_equal(region->hva[offsets[i]], i + 1);
        gw_region_put(region);
        assert_int_equal(try_to_make(size + 1, offsets[i], dup_of(fd)), -EINVAL);
    }
    assert_int_equal(try_to_make(PAGE, 0, dup_of(fd)), 0); /* a part of a huge page */
    close(fd);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        FDCHECK_TEST(test_mem_mmap_any_offset_shows_the_right_bytes),
        FDCHECK_TEST(test_mem_mmap_short_file_is_refused),
        FDCHECK_TEST(test_mem_mmap_read_only_file_is_refused),
        FDCHECK_TEST(test_mem_mmap_what_is_no_memory_is_refused),
        FDCHECK_TEST(test_mem_mmap_sparse_terabyte_is_fine),
        FDCHECK_TEST(test_mem_mmap_huge_pages_are_cut_anywhere),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
