/* SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause */
/* The check around every other test finds what it is there to find, and nothing else. */
#include "fdcheck.h"

#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <unistd.h>

#include <cmocka.h>

static void test_nothing_left_is_silent(void **state)
{
    struct fdcheck *check = fdcheck_begin();
    assert_non_null(check);
    int fd = open("/dev/null", O_RDONLY | O_CLOEXEC);
    assert_true(fd >= 0);
    void *shared = mmap(NULL, 4096, PROT_READ, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    assert_true(shared != MAP_FAILED);
    munmap(shared, 4096);
    close(fd);
    void *memory = malloc(1 << 20);
    assert_non_null(memory);
    assert_int_equal(fdcheck_end(check), 0);
    free(memory);
}

static void test_open_fd_is_found(void **state)
{
    struct fdcheck *check = fdcheck_begin();
    assert_non_null(check);
    int fd = open("/dev/null", O_RDONLY | O_CLOEXEC);
    assert_true(fd >= 0);
    assert_int_equal(fdcheck_end(check), 1);
    close(fd);
}

static void test_shared_mapping_is_found(void **state)
{
    struct fdcheck *check = fdcheck_begin();
    assert_non_null(check);
    void *shared = mmap(NULL, 4096, PROT_READ, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    assert_true(shared != MAP_FAILED);
    assert_int_equal(fdcheck_end(check), 1);
    munmap(shared, 4096);
}

static void test_another_file_at_the_same_number_is_found(void **state)
{
    int fd = open("/dev/null", O_RDONLY | O_CLOEXEC);
    assert_true(fd >= 0);
    struct fdcheck *check = fdcheck_begin();
    assert_non_null(check);
    close(fd);
    int other = open("/dev/zero", O_RDONLY | O_CLOEXEC);
    assert_int_equal(other, fd);
    assert_int_equal(fdcheck_end(check), 1);
    close(other);
}

static void test_first_fd_of_a_test_is_0(void **state)
{
    assert_int_equal(fdcheck_setup(state), 0);
    int fd = open("/dev/null", O_RDONLY | O_CLOEXEC);
    assert_int_equal(fd, STDIN_FILENO);
    assert_int_equal(fdcheck_teardown(state), -1);
    close(fd);
}

static jmp_buf failure;

static void fail_at_once(void **state)
{
    longjmp(failure, 1);
}

static void succeed(void **state)
{
}

/* A failed test leaves its descriptors; the program does not wait for their end. */
static void test_failed_test_is_not_checked(void **state)
{
    struct fdcheck_test fails = {fail_at_once}, passes = {succeed};
    void *one = &fails, *other = &passes;

    for (unsigned i = 0; i < 2; i++) {
        assert_int_equal(fdcheck_setup(state), 0);
        assert_int_equal(open("/dev/null", O_RDONLY | O_CLOEXEC), STDIN_FILENO);
        if (i > 0)
            fdcheck_run(&other);
        else if (setjmp(failure) == 0)
            fdcheck_run(&one);
        assert_int_equal(fdcheck_teardown(state), i > 0 ? -1 : 0);
        close(STDIN_FILENO);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_nothing_left_is_silent),
        cmocka_unit_test(test_open_fd_is_found),
        cmocka_unit_test(test_shared_mapping_is_found),
        cmocka_unit_test(test_another_file_at_the_same_number_is_found),
        cmocka_unit_test(test_first_fd_of_a_test_is_0),
        cmocka_unit_test(test_failed_test_is_not_checked),
    };

    /* These tests leave descriptors behind on purpose, so do not wait long for their end. */
    setenv("TEST_PATIENCE_MS", "200", 1);
    return cmocka_run_group_tests(tests, NULL, NULL);
}
