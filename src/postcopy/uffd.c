/* SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause */
/*
 * userfaultfd(2), the side that registers memory; another process provides the pages.
 *
 * UFFD_USER_MODE_ONLY would need no privilege, but with it a read(2) or an io_uring request into a
 * missing page fails with EFAULT, and back-ends issue these all the time.
 */
#include "uffd.h"

#include "base/cleanup.h"
#include "base/log_i.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <linux/userfaultfd.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <unistd.h>

#define FLAGS (O_CLOEXEC | O_NONBLOCK)
/* Required to register shared memory. */
#define FEATURES (UFFD_FEATURE_MISSING_SHMEM | UFFD_FEATURE_MISSING_HUGETLBFS)
/* The ioctls with which the front-end resolves a fault. */
#define IOCTLS (UINT64_C(1) << _UFFDIO_COPY | UINT64_C(1) << _UFFDIO_WAKE)

/* The device (since Linux 6.1) needs no capability, only permission to open it. */
static int open_device(void)
{
    gw_cleanup_fd int dev = open("/dev/userfaultfd", O_RDWR | O_CLOEXEC);
    int fd;

    if (dev < 0)
        return -errno;
    fd = ioctl(dev, USERFAULTFD_IOC_NEW, FLAGS);
    return fd < 0 ? -errno : fd;
}

static int open_any(void)
{
    int fd = open_device(), r;

    if (fd >= 0)
        return fd;
    fd = (int)syscall(SYS_userfaultfd, FLAGS);
    if (fd >= 0)
        return fd;
    r = -errno;
    if (r == -EPERM)
        return gw_fail(r, "userfaultfd not permitted: grant access to /dev/userfaultfd or the"
                          " capability CAP_SYS_PTRACE, or set vm.unprivileged_userfaultfd=1 (and"
                          " allow it in the seccomp filter)");
    if (r == -ENOSYS)
        return gw_fail(-EOPNOTSUPP, "this kernel has no userfaultfd (CONFIG_USERFAULTFD)");
    return gw_fail(r, "userfaultfd: %s", strerror(-r));
}

int gw_uffd_open(void)
{
    struct uffdio_api api = {.api = UFFD_API, .features = FEATURES};
    gw_cleanup_fd int fd = open_any();
    int r;

    if (fd < 0)
        return gw_steal_fd(&fd);
    if (ioctl(fd, UFFDIO_API, &api) == 0)
        return gw_steal_fd(&fd);
    r = errno == EINVAL ? -EOPNOTSUPP : -errno;
    return gw_fail(r, "userfaultfd: this kernel does not support shared memory (%s)", strerror(-r));
}

int gw_uffd_register(int uffd, uintptr_t base, size_t length, const char *what)
{
    struct uffdio_register reg = {
        .range = {.start = base, .len = length},
        .mode = UFFDIO_REGISTER_MODE_MISSING,
    };
    int r;

    /* Unmap the pages that are present: the front-end replaces them. */
    if (madvise((void *)base, length, MADV_DONTNEED) < 0)
        return gw_fail(-errno, "%s: madvise(DONTNEED): %s", what, strerror(errno));
    /* Collapsing single pages into a huge page would fill the missing ones with zeroes. */
    if (madvise((void *)base, length, MADV_NOHUGEPAGE) < 0 && errno != EINVAL)
        return gw_fail(-errno, "%s: madvise(NOHUGEPAGE): %s", what, strerror(errno));
    if (ioctl(uffd, UFFDIO_REGISTER, &reg) < 0) {
        r = -errno;
        return gw_fail(r, "%s: cannot register with userfaultfd: %s%s", what, strerror(-r),
                       r == -EINVAL ? " (postcopy needs memory of a memfd, tmpfs or hugetlbfs)"
                                    : "");
    }
    if ((reg.ioctls & IOCTLS) != IOCTLS) {
        gw_uffd_unregister(uffd, base, length);
        return gw_fail(-EOPNOTSUPP, "%s: this kernel cannot fill pages (%#" PRIx64 ")", what,
                       (uint64_t)reg.ioctls);
    }
    return 0;
}

/*
 * UFFDIO_UNREGISTER is documented to wake all waiting threads. But where faults are handled under
 * the per-VMA lock (seen on Linux 6.18), it wakes them before it excludes threads that are about to
 * sleep. Those sleep on when it returns and need the explicit wake-up; no new fault can start then.
 */
void gw_uffd_unregister(int uffd, uintptr_t base, size_t length)
{
    struct uffdio_range range = {.start = base, .len = length};

    (void)ioctl(uffd, UFFDIO_UNREGISTER, &range);
    (void)ioctl(uffd, UFFDIO_WAKE, &range);
}
