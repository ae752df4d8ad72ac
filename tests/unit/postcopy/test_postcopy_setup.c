/* SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause */
/*
 * Postcopy if the system refuses one of the calls that set it up: the error is returned, nothing
 * stays open, and the next attempt works.
 */
#include "fdcheck.h"

#include "base/cleanup.h"
#include "base/log_i.h"
#include "core/memory/mapping.h"
#include "postcopy/postcopy.h"
#include "requires.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/userfaultfd.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <unistd.h>

#include <cmocka.h>

/* Calls that fail on demand. */
enum call {
    NONE,
    FCNTL,
    MADVISE,
    IOCTL,
};

/* What USERFAULTFD_IOC_NEW does the next time. */
static enum device {
    DEVICE_WORKS,
    DEVICE_REFUSES,
    DEVICE_FREES_0,
} device;

static enum call refused;
static unsigned n_until; /* calls that succeed first */
static int error;

static bool is_refused(enum call call)
{
    if (call != refused || n_until-- > 0)
        return false;
    refused = NONE;
    errno = error;
    return true;
}

int __real_fcntl64(int fd, int cmd, long arg);
int __wrap_fcntl64(int fd, int cmd, long arg);
int __real_madvise(void *at, size_t len, int advice);
int __wrap_madvise(void *at, size_t len, int advice);
int __real_ioctl(int fd, unsigned long request, void *arg);
int __wrap_ioctl(int fd, unsigned long request, void *arg);

int __wrap_fcntl64(int fd, int cmd, long arg)
{
    return is_refused(FCNTL) ? -1 : __real_fcntl64(fd, cmd, arg);
}

int __wrap_madvise(void *at, size_t len, int advice)
{
    return is_refused(MADVISE) ? -1 : __real_madvise(at, len, advice);
}

int __wrap_ioctl(int fd, unsigned long request, void *arg)
{
    if ((request == UFFDIO_API || request == UFFDIO_REGISTER) && is_refused(IOCTL))
        return -1;
    if (request == USERFAULTFD_IOC_NEW && device != DEVICE_WORKS) {
        bool refuses = device == DEVICE_REFUSES;

        device = DEVICE_WORKS;
        errno = EPERM;
        if (refuses)
            return -1;
        close(0);
    }
    return __real_ioctl(fd, request, arg);
}

static void refuse(enum call call, unsigned n, int with)
{
    refused = call;
    n_until = n;
    error = with;
}

static void expect_message(const char *text)
{
    assert_int_equal(refused, NONE); /* the call was made */
    if (!strstr(gw_last_error(), text))
        fail_msg("\"%s\" is not in \"%s\"", text, gw_last_error());
}

static void test_postcopy_setup_advise_reports_errors(void **state)
{
    struct gw_postcopy p;
    int fd = -1;

    gw_postcopy_init(&p);
    refuse(IOCTL, 0, ENOTTY);
    assert_int_equal(gw_postcopy_advise(&p, &fd), -ENOTTY);
    expect_message("does not support shared memory");
    refuse(IOCTL, 0, EINVAL); /* a kernel without these features */
    assert_int_equal(gw_postcopy_advise(&p, &fd), -EOPNOTSUPP);
    refuse(FCNTL, 0, EMFILE);
    assert_int_equal(gw_postcopy_advise(&p, &fd), -EMFILE);
    expect_message("no file descriptor for the front-end");
    assert_int_equal(fd, -1);
    assert_int_equal(gw_postcopy_end(&p), -EINVAL); /* not started */
    assert_int_equal(gw_postcopy_advise(&p, &fd), 0);
    gw_close(&fd);
    gw_postcopy_done(&p);
}

/* The userfaultfd may be 0: FDCHECK_TEST has closed it, or another thread closes it in between. */
static void test_postcopy_setup_works_with_descriptor_0(void **state)
{
    if (is_under_valgrind())
        skip(); /* it lacks userfaultfd(2) */
    for (enum device how = DEVICE_REFUSES; how <= DEVICE_FREES_0; how++) {
        int fd = -1, null = how == DEVICE_FREES_0 ? open("/dev/null", O_RDONLY | O_CLOEXEC) : -1;
        struct gw_postcopy p;

        gw_postcopy_init(&p);
        device = how;
        assert_int_equal(gw_postcopy_advise(&p, &fd), 0);
        if (device == DEVICE_WORKS) { /* not if there is no /dev/userfaultfd */
            assert_int_equal(p.uffd, 0);
            null = -1;
        }
        device = DEVICE_WORKS;
        gw_close(&fd);
        gw_close(&null);
        gw_postcopy_done(&p);
        assert_int_equal(fcntl(0, F_GETFD), -1);
    }
}

static void test_postcopy_setup_register_reports_errors(void **state)
{
    static const struct {
        enum call call;
        unsigned n;
        int error;
        const char *what;
    } cases[] = {
        {MADVISE, 0, EAGAIN, "madvise(DONTNEED)"},
        {MADVISE, 1, ENOMEM, "madvise(NOHUGEPAGE)"},
        {IOCTL, 0, EBUSY, "cannot register with userfaultfd"},
    };
    int mem_fd = memfd_create("guest", MFD_CLOEXEC), fd = -1;
    struct gw_mapping m;
    struct gw_postcopy_range range = {.owner = NULL};
    struct gw_postcopy p;

    assert_int_equal(ftruncate(mem_fd, 4096), 0);
    gw_postcopy_init(&p);
    assert_int_equal(gw_mapping_init(&m, "it", mem_fd, 0, 4096, 0), 0);
    range.base = m.range.base;
    range.length = m.range.length;
    assert_int_equal(gw_postcopy_advise(&p, &fd), 0);
    for (unsigned i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        refuse(cases[i].call, cases[i].n, cases[i].error);
        assert_int_equal(gw_postcopy_register(&p, &range, "the region"), -cases[i].error);
        expect_message(cases[i].what);
        assert_null(range.owner);
        assert_true(gw_list_is_empty(&p.ranges));
    }
    refuse(MADVISE, 1, EINVAL); /* a kernel without huge pages */
    assert_int_equal(gw_postcopy_register(&p, &range, "the region"), 0);
    assert_ptr_equal(range.owner, &p);
    gw_postcopy_unregister(&range);
    gw_postcopy_done(&p);
    gw_mapping_done(&m);
    gw_close(&fd);
    gw_close(&mem_fd);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        FDCHECK_TEST(test_postcopy_setup_advise_reports_errors),
        FDCHECK_TEST(test_postcopy_setup_works_with_descriptor_0),
        FDCHECK_TEST(test_postcopy_setup_register_reports_errors),
    };

    if (gw_postcopy_probe() < 0)
        skip_test("%s", gw_last_error());
    return cmocka_run_group_tests(tests, NULL, NULL);
}
