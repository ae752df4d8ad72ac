/* SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause */
/* Pieces of files, mapped at any offset with normal and huge pages, and then truncated. */
#include "fdcheck.h"

#include "base/checked.h"
#include "base/log_i.h"
#include "core/memory/mapping.h"
#include "hold_sigbus.h"
#include "log/dirty_log.h"
#include "requires.h"

#include <errno.h>
#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

#define PAGE UINT64_C(4096)
#define HUGE (UINT64_C(2) << 20)

#define HUGE_PAGES 16u

static int memory(uint64_t len, unsigned flags)
{
    int fd = memfd_create("shared", MFD_CLOEXEC | flags);

    if (fd < 0 || ftruncate(fd, (off_t)len) < 0) {
        close(fd);
        return -1;
    }
    return fd;
}

/* Returns: an fd, or -1 if huge pages are unavailable. */
static int huge_memory(uint64_t len)
{
    int fd = memory(len, MFD_HUGETLB);
    void *probe;

    if (fd < 0)
        return -1;
    /* Mapping reserves the huge pages. */
    probe = mmap(NULL, len, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
    if (probe == MAP_FAILED) {
        close(fd);
        return -1;
    }
    munmap(probe, len);
    return fd;
}

/* Counts only mappings of files made by `memory`: sanitizers map other memory at any time. */
static unsigned n_maps(void)
{
    FILE *maps = fopen("/proc/self/maps", "re");
    char line[512];
    unsigned n = 0;

    assert_non_null(maps);
    while (fgets(line, sizeof(line), maps))
        n += strstr(line, "/memfd:") != NULL;
    fclose(maps);
    return n;
}

/* A mapping from any offset must show the right bytes up to the last one, and leave no mapping. */
static void map_anywhere(int fd, uint64_t len, const gw_off_t *offsets, unsigned n)
{
    for (unsigned i = 0; i < n; i++) {
        uint64_t size = len - offsets[i];
        unsigned before = n_maps();
        struct gw_mapping whole, piece = {0};

        assert_int_equal(gw_mapping_init(&piece, "it", fd, offsets[i], size, 0), 0);
        assert_int_equal(gw_mapping_init(&whole, "it", fd, 0, len, 0), 0);
        piece.at[0] = (uint8_t)(i + 1);
        piece.at[size - 1] = (uint8_t)(i + 2);
        assert_int_equal(whole.at[len - 1], i + 2);
        if (size > 1)
            assert_int_equal(whole.at[offsets[i]], i + 1);
        assert_int_equal(gw_mapping_check(&piece, "it"), 0);
        gw_mapping_done(&whole);
        gw_mapping_done(&piece);
        gw_mapping_done(&piece); /* fine twice */
        assert_int_equal(n_maps(), before);
        assert_int_equal(gw_mapping_init(&piece, "it", fd, offsets[i], size + 1, 0), -EINVAL);
    }
}

static void test_mapping_of_any_offset_shows_the_right_bytes(void **state)
{
    static const gw_off_t offsets[] = {0, 1, PAGE - 1, PAGE, PAGE + 1, 3 * PAGE + 17, 4 * PAGE - 1};
    int fd = memory(4 * PAGE, 0);

    map_anywhere(fd, 4 * PAGE, offsets, GW_ARRAY_SIZE(offsets));
    close(fd);
}

static void test_mapping_of_huge_pages_is_cut_anywhere(void **state)
{
    static const gw_off_t offsets[] = {0, 1, PAGE, HUGE - 1, HUGE, HUGE + PAGE, 2 * HUGE - 1};
    int fd = huge_memory(2 * HUGE);

    if (fd < 0) {
        print_message("no huge pages\n");
        skip();
    }
    map_anywhere(fd, 2 * HUGE, offsets, GW_ARRAY_SIZE(offsets));
    close(fd);
}

/* A child that closes a front-end's file may live forever, so it must not inherit the mapping. */
static void test_mapping_stays_with_its_process(void **state)
{
    unsigned char resident;
    struct gw_mapping m;
    int status, fd = memory(PAGE, 0);
    pid_t pid;

    assert_int_equal(gw_mapping_init(&m, "it", fd, 0, PAGE, 0), 0);
    pid = fork();
    assert_true(pid >= 0);
    if (pid == 0)
        _exit(mincore(m.at, PAGE, &resident) < 0 && errno == ENOMEM ? 0 : 1);
    assert_int_equal(waitpid(pid, &status, 0), pid);
    assert_int_equal(status, 0);
    gw_mapping_done(&m);
    close(fd);
}

static void test_mapping_that_cannot_be_is_refused(void **state)
{
    static const struct {
        gw_off_t offset;
        uint64_t size;
    } cases[] = {
        {0, 0},          {0, PAGE + 1},          {PAGE, 1},         {UINT64_MAX, 1},
        {0, UINT64_MAX}, {PAGE, UINT64_MAX - 1}, {INT64_MAX, PAGE},
    };
    int fd = memory(PAGE, 0);
    struct gw_mapping m = {0};

    for (unsigned i = 0; i < GW_ARRAY_SIZE(cases); i++) {
        assert_int_equal(gw_mapping_init(&m, "the thing", fd, cases[i].offset, cases[i].size, 0),
                         -EINVAL);
        assert_non_null(strstr(gw_last_error(), "the thing"));
        assert_null(m.at);
    }
    assert_int_equal(gw_mapping_init(&m, "it", -1, 0, PAGE, 0), -EBADF);
    gw_mapping_done(&m); /* nothing was mapped */
    close(fd);
}

/* ---- lost pages ---- */

static void expect_told(const struct gw_loss *loss, int told)
{
    eventfd_t n;

    assert_int_equal(__atomic_load_n(&loss->happened, __ATOMIC_ACQUIRE), told);
    assert_int_equal(eventfd_read(loss->wake_fd, &n), told ? 0 : -1);
}

/* Truncate all but the first of at least three pages of `page` bytes, and access the lost pages. */
static void lose(int fd, uint64_t page, gw_off_t offset)
{
    struct gw_loss loss = {.wake_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK)};
    unsigned before = n_maps();
    volatile uint8_t *at;
    struct gw_mapping m;

    assert_int_equal(gw_mapping_init(&m, "it", fd, offset, 3 * page - offset, MAP_NORESERVE), 0);
    gw_sigbus_install();
    gw_mapping_guard(&m, &loss);
    hold_sigbus();
    at = m.at - offset;
    at[offset] = 1;
    at[2 * page] = 3;
    assert_int_equal(ftruncate(fd, (off_t)page), 0);
    expect_told(&loss, 0);
    assert_int_equal(gw_mapping_check(&m, "it"), 0);
    assert_int_equal(at[2 * page - 1], 0);
    expect_told(&loss, 1);
    at[page] = 7;
    assert_int_equal(at[page], 7);
    assert_int_equal(at[2 * page], 0); /* lost, too */
    assert_int_equal(at[offset], 1);   /* never lost */
    assert_int_equal(gw_mapping_check(&m, "it"), -EIO);
    assert_non_null(strstr(gw_last_error(), "is gone"));
    gw_mapping_done(&m);
    assert_int_equal(n_maps(), before);
    close(loss.wake_fd);
}

static void test_mapping_lost_page_reads_as_zeroes(void **state)
{
    int fd = memory(3 * PAGE, 0);

    lose(fd, PAGE, 0);
    assert_int_equal(ftruncate(fd, 3 * PAGE), 0);
    lose(fd, PAGE, 17);
    close(fd);
}

static void test_mapping_lost_huge_page_reads_as_zeroes(void **state)
{
    int fd = huge_memory(3 * HUGE);

    if (fd < 0) {
        print_message("no huge pages\n");
        skip();
    }
    lose(fd, HUGE, 0);
    assert_int_equal(ftruncate(fd, 3 * HUGE), 0);
    lose(fd, HUGE, PAGE + 1);
    close(fd);
}

/* No huge pages were reserved and the pool is empty: SIGBUS without a truncated file. */
static void test_mapping_survives_the_end_of_the_huge_pages(void **state)
{
    const uint64_t size = UINT64_C(1) << 40;
    struct gw_loss loss = {.wake_fd = -1};
    int fd = is_under_valgrind() ? -1 : memory(size, MFD_HUGETLB);
    struct gw_mapping m;

    if (fd < 0) {
        print_message("no huge pages\n");
        skip();
    }
    loss.wake_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    assert_int_equal(gw_mapping_init(&m, "it", fd, 0, size, MAP_NORESERVE), 0);
    gw_sigbus_install();
    gw_mapping_guard(&m, &loss);
    hold_sigbus();
    for (uint64_t i = 0; !__atomic_load_n(&loss.happened, __ATOMIC_ACQUIRE); i++)
        m.at[i * HUGE] = 1;
    expect_told(&loss, 1);
    gw_mapping_done(&m);
    close(loss.wake_fd);
    close(fd);
}

/* ---- users of mappings ---- */

/* A log's size and offset need not be multiples of a huge page. */
static void test_mapping_of_a_dirty_log_in_huge_pages(void **state)
{
    static const gw_off_t offsets[] = {0, 1, PAGE, HUGE + 24};
    int fd = huge_memory(2 * HUGE);

    if (fd < 0) {
        print_message("no huge pages\n");
        skip();
    }
    for (unsigned i = 0; i < GW_ARRAY_SIZE(offsets); i++) {
        unsigned before = n_maps();
        struct gw_dirty_log *log;
        uint8_t byte;

        assert_int_equal(
            gw_dirty_log_new(&log, fcntl(fd, F_DUPFD_CLOEXEC, 0), offsets[i], PAGE + 8), 0);
        gw_dirty_log_mark(log, (PAGE + 7) * 8 * PAGE, 8 * PAGE); /* its last byte */
        byte = log->bitmap[PAGE + 7];
        assert_int_equal(byte, 0xff);
        assert_int_equal(gw_dirty_log_n_lost(log), 0);
        gw_dirty_log_free(log);
        assert_int_equal(n_maps(), before);
    }
    close(fd);
}

/* The machine's number of huge pages; as root, the test raises it while it runs. */
static unsigned n_huge_pages;

static void set_huge_pages(unsigned n)
{
    FILE *file = fopen("/proc/sys/vm/nr_hugepages", "we");

    if (!file)
        return;
    fprintf(file, "%u\n", n);
    fclose(file);
}

static int take_huge_pages(void **state)
{
    FILE *file = fopen("/proc/sys/vm/nr_hugepages", "re");

    if (!file || fscanf(file, "%u", &n_huge_pages) != 1)
        n_huge_pages = HUGE_PAGES; /* unknown: do not change it */
    if (file)
        fclose(file);
    if (n_huge_pages < HUGE_PAGES)
        set_huge_pages(HUGE_PAGES);
    return 0;
}

static int give_huge_pages_back(void **state)
{
    if (n_huge_pages < HUGE_PAGES)
        set_huge_pages(n_huge_pages);
    return 0;
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        FDCHECK_TEST(test_mapping_of_any_offset_shows_the_right_bytes),
        FDCHECK_TEST(test_mapping_of_huge_pages_is_cut_anywhere),
        FDCHECK_TEST(test_mapping_stays_with_its_process),
        FDCHECK_TEST(test_mapping_that_cannot_be_is_refused),
        FDCHECK_TEST(test_mapping_lost_page_reads_as_zeroes),
        FDCHECK_TEST(test_mapping_lost_huge_page_reads_as_zeroes),
        FDCHECK_TEST(test_mapping_survives_the_end_of_the_huge_pages),
        FDCHECK_TEST(test_mapping_of_a_dirty_log_in_huge_pages),
    };

    return cmocka_run_group_tests(tests, take_huge_pages, give_huge_pages_back);
}
