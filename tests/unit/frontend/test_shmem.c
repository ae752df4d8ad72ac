/* SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause */
/* A shared memory region: what may be mapped where, and that nothing else stays reachable. */
#include "base/checked.h"
#include "fdcheck.h"

#include <godwit/frontend.h>

#include <errno.h>
#include <fcntl.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

enum {
    PAGE = 4096,
    N_PAGES = 64,
    FILE_PAGES = 16
};

static struct gw_frontend_shmem_range pages(uint64_t at, uint64_t n, uint64_t from)
{
    return (struct gw_frontend_shmem_range){
        .shm_offset = at * PAGE, .fd_offset = from * PAGE, .len = n * PAGE, .writable = true};
}

static int map(struct gw_frontend_shmem *s, uint64_t at, uint64_t n, uint64_t from, int fd)
{
    struct gw_frontend_shmem_range range = pages(at, n, from);

    return gw_frontend_shmem_map(s, &range, fd);
}

static int unmap(struct gw_frontend_shmem *s, uint64_t at, uint64_t n)
{
    struct gw_frontend_shmem_range range = pages(at, n, 0);

    return gw_frontend_shmem_unmap(s, &range);
}

/* A file whose pages begin with their numbers. */
static int new_file(void)
{
    int fd = memfd_create("shared", MFD_CLOEXEC);

    assert_int_equal(ftruncate(fd, FILE_PAGES * PAGE), 0);
    for (uint8_t i = 0; i < FILE_PAGES; i++)
        assert_int_equal(pwrite(fd, &i, 1, i * PAGE), 1);
    return fd;
}

static uint8_t at_page(const struct gw_frontend_shmem *s, unsigned page)
{
    return *((const volatile uint8_t *)gw_frontend_shmem_base(s) + (size_t)page * PAGE);
}

/* Does reading the page raise SIGSEGV? Asked in a child. */
static bool is_reserved(const struct gw_frontend_shmem *s, unsigned page)
{
    struct rlimit none = {0, 0};
    pid_t pid = fork();
    int status;

    assert_true(pid >= 0);
    if (pid == 0) {
        (void)setrlimit(RLIMIT_CORE, &none);
        (void)signal(SIGSEGV, SIG_DFL);
        _exit(at_page(s, page) >= FILE_PAGES);
    }
    assert_int_equal(waitpid(pid, &status, 0), pid);
    return WIFSIGNALED(status) && WTERMSIG(status) == SIGSEGV;
}

static void test_shmem_maps_unmaps_and_maps_again(void **state)
{
    struct gw_frontend_shmem *s;
    int fd = new_file();

    assert_int_equal(gw_frontend_shmem_new(&s, N_PAGES * PAGE), 0);
    assert_int_equal(gw_frontend_shmem_size(s), N_PAGES * PAGE);
    assert_int_equal(map(s, 10, 4, 3, fd), 0);
    assert_int_equal(map(s, 0, 10, 0, fd), 0);
    assert_int_equal(map(s, N_PAGES - 1, 1, FILE_PAGES - 1, fd), 0);
    assert_int_equal(gw_frontend_shmem_n_maps(s), 3);
    for (unsigned i = 0; i < 10; i++)
        assert_int_equal(at_page(s, i), i);
    for (unsigned i = 0; i < 4; i++)
        assert_int_equal(at_page(s, 10 + i), 3 + i);
    assert_int_equal(at_page(s, N_PAGES - 1), FILE_PAGES - 1);
    assert_true(is_reserved(s, 14));
    assert_true(is_reserved(s, N_PAGES - 2));

    assert_int_equal(unmap(s, 10, 4), 0);
    assert_true(is_reserved(s, 10));
    assert_int_equal(at_page(s, 9), 9);
    assert_int_equal(map(s, 12, 2, 7, fd), 0);
    assert_int_equal(at_page(s, 12), 7);
    assert_true(is_reserved(s, 11));

    assert_int_equal(gw_frontend_shmem_reset(s), 0);
    assert_int_equal(gw_frontend_shmem_n_maps(s), 0);
    assert_true(is_reserved(s, 0));
    assert_int_equal(map(s, 0, 1, 5, fd), 0);
    assert_int_equal(at_page(s, 0), 5);
    gw_frontend_shmem_free(s);
    gw_frontend_shmem_free(NULL);
    close(fd);
}

static void test_shmem_writes_reach_the_file_only_if_writable(void **state)
{
    struct gw_frontend_shmem_range range = pages(0, 1, 1);
    struct gw_frontend_shmem *s;
    char path[64];
    int fd = new_file(), readable;
    uint8_t byte;

    assert_int_equal(gw_frontend_shmem_new(&s, N_PAGES * PAGE), 0);
    snprintf(path, sizeof(path), "/proc/self/fd/%d", fd);
    readable = open(path, O_RDONLY | O_CLOEXEC);
    assert_int_equal(gw_frontend_shmem_map(s, &range, readable), -EACCES);
    assert_true(is_reserved(s, 0)); /* also after mmap(2) has failed */
    range.writable = false;
    assert_int_equal(gw_frontend_shmem_map(s, &range, readable), 0);
    assert_int_equal(at_page(s, 0), 1);
    assert_int_equal(unmap(s, 0, 1), 0);
    range.writable = true;
    assert_int_equal(gw_frontend_shmem_map(s, &range, fd), 0);
    *(uint8_t *)gw_frontend_shmem_base(s) = 99;
    assert_int_equal(pread(fd, &byte, 1, PAGE), 1);
    assert_int_equal(byte, 99);
    gw_frontend_shmem_free(s);
    close(readable);
    close(fd);
}

static void test_shmem_bad_ranges_are_refused(void **state)
{
    static const struct {
        uint64_t shm_offset, len, fd_offset;
        int result;
    } cases[] = {
        {0, 0, 0, -EINVAL},
        {0, PAGE - 1, 0, -EINVAL},
        {1, PAGE, 0, -EINVAL},
        {0, PAGE, 1, -EINVAL},
        {N_PAGES * PAGE, PAGE, 0, -EINVAL},
        {(N_PAGES + 1) * PAGE, PAGE, 0, -EINVAL},
        {(N_PAGES - 1) * PAGE, 2 * PAGE, 0, -EINVAL},
        {0, UINT64_MAX - PAGE + 1, 0, -EINVAL},
        {UINT64_MAX - PAGE + 1, 2 * PAGE, 0, -EINVAL},
        {0, PAGE, FILE_PAGES * PAGE, -EINVAL}, /* beyond the file */
        {0, 2 * PAGE, (FILE_PAGES - 1) * PAGE, -EINVAL},
        {0, PAGE, UINT64_MAX - PAGE + 1, -EINVAL},
        {20 * PAGE, PAGE, 0, -EEXIST}, /* exactly, around, the ends of 20 to 24 */
        {20 * PAGE, 4 * PAGE, 0, -EEXIST},
        {19 * PAGE, 6 * PAGE, 0, -EEXIST},
        {19 * PAGE, 2 * PAGE, 0, -EEXIST},
        {23 * PAGE, 2 * PAGE, 0, -EEXIST},
        {21 * PAGE, PAGE, 0, -EEXIST},
    };
    struct gw_frontend_shmem *s;
    int fd = new_file(), pipes[2];

    assert_int_equal(gw_frontend_shmem_new(&s, 0), -EINVAL);
    assert_int_equal(gw_frontend_shmem_new(&s, PAGE + 1), -EINVAL);
    assert_int_equal(gw_frontend_shmem_new(&s, UINT64_MAX - PAGE + 1), -ENOMEM);
    assert_int_equal(gw_frontend_shmem_new(&s, N_PAGES * PAGE), 0);
    assert_int_equal(map(s, 20, 4, 0, fd), 0);
    for (unsigned i = 0; i < GW_ARRAY_SIZE(cases); i++) {
        struct gw_frontend_shmem_range range = {.shm_offset = cases[i].shm_offset,
                                                .len = cases[i].len,
                                                .fd_offset = cases[i].fd_offset};

        assert_int_equal(gw_frontend_shmem_map(s, &range, fd), cases[i].result);
        assert_true(gw_frontend_last_error()[0] != '\0');
        assert_int_equal(gw_frontend_shmem_unmap(s, &range),
                         range.shm_offset == 20 * PAGE && range.len == 4 * PAGE ? 0 : -ENOENT);
        if (gw_frontend_shmem_n_maps(s) == 0)
            assert_int_equal(map(s, 20, 4, 0, fd), 0);
    }
    assert_int_equal(pipe2(pipes, O_CLOEXEC), 0);
    assert_int_equal(map(s, 0, 1, 0, pipes[0]), -EINVAL);
    assert_int_equal(map(s, 0, 1, 0, -1), -EINVAL);
    assert_int_equal(gw_frontend_shmem_n_maps(s), 1);
    close(pipes[0]);
    close(pipes[1]);
    gw_frontend_shmem_free(s);
    close(fd);
}

static void test_shmem_number_of_mappings_is_limited(void **state)
{
    struct gw_frontend_shmem *s;
    int fd = new_file();

    assert_int_equal(
        gw_frontend_shmem_new(&s, (2 * GW_FRONTEND_SHMEM_MAPS_MAX + 2) * (uint64_t)PAGE), 0);
    for (unsigned i = 0; i < GW_FRONTEND_SHMEM_MAPS_MAX; i++)
        assert_int_equal(map(s, 2 * (GW_FRONTEND_SHMEM_MAPS_MAX - i), 1, i % FILE_PAGES, fd), 0);
    assert_int_equal(map(s, 0, 1, 0, fd), -ENOSPC);
    for (unsigned i = 0; i < GW_FRONTEND_SHMEM_MAPS_MAX; i++)
        assert_int_equal(at_page(s, 2 * (GW_FRONTEND_SHMEM_MAPS_MAX - i)), i % FILE_PAGES);
    assert_int_equal(unmap(s, 2, 1), 0);
    assert_int_equal(map(s, 0, 1, 0, fd), 0);
    gw_frontend_shmem_free(s);
    close(fd);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        FDCHECK_TEST(test_shmem_maps_unmaps_and_maps_again),
        FDCHECK_TEST(test_shmem_writes_reach_the_file_only_if_writable),
        FDCHECK_TEST(test_shmem_bad_ranges_are_refused),
        FDCHECK_TEST(test_shmem_number_of_mappings_is_limited),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
