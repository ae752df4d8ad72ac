/* SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause */
/*
 * Reading events of a userfaultfd without waiting, on kernels that have RWF_NOWAIT for the fd and
 * on those that do not. The kernel decides this for each kind of fd, so an eventfd replaces the
 * userfaultfd. Also, mapping pages while the kernel interrupts it.
 */
#include "frontend/fault/fault_i.h"

#include "fdcheck.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/userfaultfd.h>
#include <setjmp.h>
#include <stdarg.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/ioctl.h>
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

/* What UFFDIO_CONTINUE does, call by call. */
static struct {
    struct {
        int error;
        int64_t mapped;
    } results[4];
    struct uffdio_range ranges[4];
    unsigned n; /* calls; the last result repeats */
} mapping;

int __wrap_ioctl(int fd, unsigned long request, void *arg);

int __wrap_ioctl(int fd, unsigned long request, void *arg)
{
    struct uffdio_continue *map = arg;
    unsigned i = mapping.n < 3 ? mapping.n : 3;

    assert_int_equal(request, UFFDIO_CONTINUE);
    mapping.ranges[i] = map->range;
    map->mapped = mapping.results[i].mapped;
    errno = mapping.results[i].error;
    mapping.n++;
    return errno ? -1 : 0;
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

/* After an interruption the rest is mapped, and only the rest. */
static void test_fault_uffd_continue_maps_the_rest_after_an_interruption(void **state)
{
    memset(&mapping, 0, sizeof(mapping));
    mapping.results[0].error = EAGAIN; /* at once */
    mapping.results[0].mapped = -EAGAIN;
    mapping.results[1].error = EAGAIN;
    mapping.results[1].mapped = 0x1000;
    mapping.results[2].mapped = 0x3000;
    assert_int_equal(gw_fault_uffd_continue(0, 0x10000, 0x4000), 0);
    assert_int_equal(mapping.n, 3);
    for (unsigned i = 0; i < 3; i++) {
        assert_int_equal(mapping.ranges[i].start, i < 2 ? 0x10000 : 0x11000);
        assert_int_equal(mapping.ranges[i].len, i < 2 ? 0x4000 : 0x3000);
    }
}

static void test_fault_uffd_continue_ends(void **state)
{
    /* All is mapped, though the kernel was interrupted after it. */
    memset(&mapping, 0, sizeof(mapping));
    mapping.results[0].error = EAGAIN;
    mapping.results[0].mapped = 0x4000;
    (void)gw_fault_uffd_continue(0, 0x10000, 0x4000);
    assert_int_equal(mapping.n, 1);

    /* Another error is final. */
    memset(&mapping, 0, sizeof(mapping));
    mapping.results[0].error = EEXIST;
    mapping.results[0].mapped = 0x1000;
    assert_int_equal(gw_fault_uffd_continue(0, 0x10000, 0x4000), -EEXIST);
    assert_int_equal(mapping.n, 1);

    /* No progress, again and again. */
    memset(&mapping, 0, sizeof(mapping));
    for (unsigned i = 0; i < 4; i++)
        mapping.results[i].error = EAGAIN;
    assert_int_equal(gw_fault_uffd_continue(0, 0x10000, 0x4000), -EAGAIN);
    assert_true(mapping.n > 1);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        FDCHECK_TEST(test_fault_uffd_read_without_nowait_sets_the_flag_again),
        FDCHECK_TEST(test_fault_uffd_read_passes_other_errors_on),
        FDCHECK_TEST(test_fault_uffd_read_of_nothing_is_no_error),
        FDCHECK_TEST(test_fault_uffd_read_ignores_an_earlier_errno),
        FDCHECK_TEST(test_fault_uffd_continue_maps_the_rest_after_an_interruption),
        FDCHECK_TEST(test_fault_uffd_continue_ends),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
