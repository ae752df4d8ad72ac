/* SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause */
/*
 * userfaultfd(2), seen from who registers: pages come from another process.
 *
 * UFFD_USER_MODE_ONLY would need no privilege, but then a read(2) or an io_uring request into a
 * missing page fails with EFAULT, and that is what a back-end does all the time.
 */
#include "uffd.h"

#include "base/cleanup.h"
#include "base/diag_i.h"

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
/* Without them shared memory cannot be registered. */
#define FEATURES (UFFD_FEATURE_MISSING_SHMEM | UFFD_FEATURE_MISSING_HUGETLBFS)
/* What the front-end does to a missing page. */
#define IOCTLS (UINT64_C(1) << _UFFDIO_COPY | UINT64_C(1) << _UFFDIO_WAKE)

/* Who may open the device needs no capability (Linux 6.1); older kernels do not have it. */
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
        return gw_fail(r, "userfaultfd is not permitted: it takes access to /dev/userfaultfd, the"
                          " capability CAP_SYS_PTRACE, or the sysctl vm.unprivileged_userfaultfd=1"
                          " (and a seccomp filter that lets it pass)");
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
    return gw_fail(r, "userfaultfd: this kernel does not serve shared memory (%s)", strerror(-r));
}

int gw_uffd_register(int uffd, uintptr_t base, size_t length, const char *what)
{
    struct uffdio_register reg = {
        .range = {.start = base, .len = length},
        .mode = UFFDIO_REGISTER_MODE_MISSING,
    };
    int r;

    /* What we had mapped is not what will be there. */
    if (madvise((void *)base, length, MADV_DONTNEED) < 0)
        return gw_fail(-errno, "%s: madvise(DONTNEED): %s", what, strerror(errno));
    /* A huge page made of single ones would bring zeroes for those that are missing. */
    if (madvise((void *)base, length, MADV_NOHUGEPAGE) < 0 && errno != EINVAL)
        return gw_fail(-errno, "%s: madvise(NOHUGEPAGE): %s", what, strerror(errno));
    if (ioctl(uffd, UFFDIO_REGISTER, &reg) < 0) {
        r = -errno;
        return gw_fail(r, "%s: userfaultfd cannot be had for it: %s%s", what, strerror(-r),
                       r == -EINVAL ? " (postcopy needs memory of a memfd, tmpfs or hugetlbfs)"
                                    : "");
    }
    if ((reg.ioctls & IOCTLS) != IOCTLS) {
        gw_uffd_unregister(uffd, base, length);
        return gw_fail(-EOPNOTSUPP, "%s: this kernel cannot put pages there (%#" PRIx64 ")", what,
                       (uint64_t)reg.ioctls);
    }
    return 0;
}

/*
 * Unregistering is said to wake whoever waits. But it does so before it shuts out those who are on
 * their way to sleep, where faults are handled under the lock of one mapping (seen on Linux 6.18):
 * when it returns they sleep, and only another wake-up finds them. No new one can come by then.
 */
void gw_uffd_unregister(int uffd, uintptr_t base, size_t length)
{
    struct uffdio_range range = {.start = base, .len = length};

    (void)ioctl(uffd, UFFDIO_UNREGISTER, &range);
    (void)ioctl(uffd, UFFDIO_WAKE, &range);
}
