/* SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause */
/*
 * Reading events of a userfaultfd without waiting, on kernels that have RWF_NOWAIT for the fd and
 * on those that do not. The kernel decides this for each kind of fd, so an eventfd replaces the
 * userfaultfd.
 */
#include "frontend/fault/fault_i.h"

#include "fdcheck.h"

#include <errno.h>
#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <sys/eventfd.h>
#include <sys/uio.h>
#include <unistd.h>

#include <cmocka.h>

static int refusal; /* the errno of preadv2; 0: ask the kernel */
static bool is_at_end;

ssize_t __real_preadv64v2(int fd, const struct iovec *iov, int n, off_t offset, int flags);
ssize_t __wrap_preadv64v2(int fd, const struct iovec *iov, int n, off_t offset, int flags);

ssize_t __wrap_preadv64v2(int fd, const struct iovec *iov, int n, off_t offset, int flags)
{
    assert_true(flags & RWF_NOWAIT);
    if (is_at_end)
        return 0;
    if (refusal == 0)
        return __real_preadv64v2(fd, iov, n, offset, flags);
    errno = refusal;
    return -1;
}

static void expect_event(int fd)
{
    eventfd_t value = 0;

    assert_int_equal(eventfd_write(fd, 7), 0);
    assert_int_equal(gw_fault_uffd_read(fd, &value, sizeof(value)), sizeof(value));
    assert_int_equal(value, 7);
}

static void test_fault_uffd_read_without_nowait_sets_the_flag_again(void **state)
{
    static const int refusals[] = {EOPNOTSUPP, ENOSYS, EINVAL};

    for (unsigned i = 0; i < sizeof(refusals) / sizeof(refusals[0]); i++) {
        int fd = eventfd(0, EFD_CLOEXEC);
        eventfd_t value;

        refusal = refusals[i];
        expect_event(fd);
        assert_true(fcntl(fd, F_GETFL) & O_NONBLOCK);
        assert_int_equal(fcntl(fd, F_SETFL, 0), 0); /* as the client may */
        assert_int_equal(gw_fault_uffd_read(fd, &value, sizeof(value)), -EAGAIN);
        close(fd);
    }
}

static void test_fault_uffd_read_passes_other_errors_on(void **state)
{
    int fd = eventfd(0, EFD_CLOEXEC);
    eventfd_t value;

    assert_int_equal(eventfd_write(fd, 7), 0);
    for (unsigned i = 0; i < 2; i++) {
        refusal = i ? EAGAIN : EBADF;
        assert_int_equal(gw_fault_uffd_read(fd, &value, sizeof(value)), -refusal);
    }
    assert_false(fcntl(fd, F_GETFL) & O_NONBLOCK);
    close(fd);
}

/* errno is only valid after an error. */
static void test_fault_uffd_read_ignores_an_earlier_errno(void **state)
{
    static const int earlier[] = {EOPNOTSUPP, ENOSYS, EINVAL};
    int fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);

    refusal = 0;
    for (unsigned i = 0; i < sizeof(earlier) / sizeof(earlier[0]); i++) {
        errno = earlier[i];
        expect_event(fd);
    }
    close(fd);
}

static void test_fault_uffd_read_of_nothing_is_no_error(void **state)
{
    eventfd_t value;

    is_at_end = true;
    errno = EXDEV;
    assert_int_equal(gw_fault_uffd_read(0, &value, sizeof(value)), 0);
    errno = EINVAL;
    assert_int_equal(gw_fault_uffd_read(0, &value, sizeof(value)), 0);
    is_at_end = false;
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        FDCHECK_TEST(test_fault_uffd_read_without_nowait_sets_the_flag_again),
        FDCHECK_TEST(test_fault_uffd_read_passes_other_errors_on),
        FDCHECK_TEST(test_fault_uffd_read_of_nothing_is_no_error),
        FDCHECK_TEST(test_fault_uffd_read_ignores_an_earlier_errno),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
