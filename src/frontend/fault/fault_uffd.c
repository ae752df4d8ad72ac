/* SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause */
/*
 * userfaultfd(2) for the fault server: the only file that calls its ioctls.
 *
 * An ioctl that fails with EAGAIN is repeated a limited number of times. The kernel returns EAGAIN
 * briefly while it replaces a page table, but also while an event other than a fault is pending in
 * the descriptor, and the thread that repeats the ioctl may be the one that must read the event.
 * Our own descriptor does not request such events; a client's may (fork, mremap, madvise, munmap).
 *
 * UFFD_USER_MODE_ONLY would need no privilege, but with it a system call such as read(2) into a
 * missing page of guest memory fails, and a VMM's threads make such calls.
 */
#include "fault_i.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <linux/userfaultfd.h>
#include <stdio.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <unistd.h>

#define FLAGS        (O_CLOEXEC | O_NONBLOCK)
#define BIT(n)       (UINT64_C(1) << (n))
#define ATTEMPTS_MAX 16

static int open_any(void)
{
    int dev = open("/dev/userfaultfd", O_RDWR | O_CLOEXEC);
    int fd = -1;

    if (dev >= 0) {
        fd = ioctl(dev, USERFAULTFD_IOC_NEW, FLAGS);
        close(dev);
    }
    if (fd < 0)
        fd = (int)syscall(SYS_userfaultfd, FLAGS);
    if (fd >= 0)
        return fd;
    if (errno == EPERM)
        return gw_frontend_fail(-EPERM, "userfaultfd is not permitted: it requires access to"
                                        " /dev/userfaultfd, the capability CAP_SYS_PTRACE, or the"
                                        " sysctl vm.unprivileged_userfaultfd=1");
    if (errno == ENOSYS)
        return gw_frontend_fail(-EOPNOTSUPP, "this kernel has no userfaultfd (CONFIG_USERFAULTFD)");
    return gw_frontend_fail(-errno, "userfaultfd: %s", strerror(errno));
}

int gw_fault_uffd_open(enum gw_fault_fill fill)
{
    struct uffdio_api api = {
        .api = UFFD_API,
        .features = UFFD_FEATURE_MISSING_SHMEM | UFFD_FEATURE_MISSING_HUGETLBFS,
    };
    int fd = open_any(), r;

    if (fd < 0)
        return fd;
    if (fill == GW_FAULT_CONTINUE)
        api.features |= UFFD_FEATURE_MINOR_SHMEM | UFFD_FEATURE_MINOR_HUGETLBFS;
    if (ioctl(fd, UFFDIO_API, &api) == 0)
        return fd;
    r = errno == EINVAL ? -EOPNOTSUPP : -errno;
    close(fd);
    return gw_frontend_fail(r, "userfaultfd: this kernel does not serve %s of shared memory (%s)",
                            fill == GW_FAULT_CONTINUE ? "minor faults" : "missing pages",
                            strerror(-r));
}

int gw_fault_uffd_check(int uffd)
{
    struct uffdio_range range = {.start = BIT(20), .len = (uint64_t)sysconf(_SC_PAGESIZE)};
    char path[32], target[64] = "";
    ssize_t n;

    /* A client's fd could be anything, even a file that answers every ioctl. */
    snprintf(path, sizeof(path), "/proc/self/fd/%d", uffd);
    n = readlink(path, target, sizeof(target) - 1);
    if (n < 0 || strcmp(target, "anon_inode:[userfaultfd]") != 0)
        return gw_frontend_fail(-EINVAL, "fd %d is not a userfaultfd but \"%s\"", uffd, target);
    /* No thread waits at this address; before UFFDIO_API the kernel rejects the ioctl. */
    if (ioctl(uffd, UFFDIO_WAKE, &range) < 0)
        return gw_frontend_fail(-EINVAL, "the userfaultfd is not ready for use: %s",
                                strerror(errno));
    if (fcntl(uffd, F_SETFL, O_NONBLOCK) < 0)
        return gw_frontend_fail(-EINVAL, "the userfaultfd cannot be made non-blocking: %s",
                                strerror(errno));
    return 0;
}

int gw_fault_uffd_register(int uffd, struct gw_fault_region *g, enum gw_fault_fill fill)
{
    struct uffdio_register reg = {
        .range = {.start = (uintptr_t)g->map, .len = g->n_pages * g->page_size},
        .mode = UFFDIO_REGISTER_MODE_MISSING,
    };
    uint64_t needed = BIT(_UFFDIO_COPY) | BIT(_UFFDIO_WAKE);

    if (fill == GW_FAULT_CONTINUE) {
        reg.mode |= UFFDIO_REGISTER_MODE_MINOR;
        needed |= BIT(_UFFDIO_CONTINUE);
    }
    /* Collapsing small pages into a huge page would fill the missing ones with zeros. */
    if (madvise(g->map, reg.range.len, MADV_NOHUGEPAGE) < 0 && errno != EINVAL)
        return gw_frontend_fail(-errno, "the region at 0x%" PRIx64 ": madvise: %s", g->gpa,
                                strerror(errno));
    if (ioctl(uffd, UFFDIO_REGISTER, &reg) < 0)
        return gw_frontend_fail(-errno, "the region at 0x%" PRIx64 ": UFFDIO_REGISTER: %s", g->gpa,
                                strerror(errno));
    g->is_registered = true;
    g->can_zero = reg.ioctls & BIT(_UFFDIO_ZEROPAGE);
    if ((reg.ioctls & needed) != needed) {
        gw_fault_uffd_unregister(uffd, g);
        return gw_frontend_fail(-EOPNOTSUPP,
                                "the region at 0x%" PRIx64 ": this kernel cannot place pages there"
                                " (0x%" PRIx64 ")",
                                g->gpa, (uint64_t)reg.ioctls);
    }
    return 0;
}

void gw_fault_uffd_unregister(int uffd, struct gw_fault_region *g)
{
    struct uffdio_range range = {.start = (uintptr_t)g->map, .len = g->n_pages * g->page_size};

    if (g->is_registered) {
        (void)ioctl(uffd, UFFDIO_UNREGISTER, &range);
        /* Unregistering can miss a thread that was about to sleep; no other can follow. */
        (void)ioctl(uffd, UFFDIO_WAKE, &range);
    }
    g->is_registered = false;
}

/*
 * The client shares the open file and may clear O_NONBLOCK, so the read itself requests not to
 * wait. On kernels without that (before 6.10), the flag is set again.
 */
ssize_t gw_fault_uffd_read(int uffd, void *buf, size_t len)
{
    struct iovec iov = {.iov_base = buf, .iov_len = len};
    ssize_t n = preadv2(uffd, &iov, 1, -1, RWF_NOWAIT);

    if (n < 0 && (errno == EOPNOTSUPP || errno == ENOSYS || errno == EINVAL)) {
        (void)fcntl(uffd, F_SETFL, O_NONBLOCK);
        n = read(uffd, buf, len);
    }
    return n < 0 ? -errno : n;
}

/* Place zeros if the kernel has no ioctl for them, from a temporary mapping of zeros. */
static int copy_zeros(int uffd, struct gw_fault_region *g, uint64_t page)
{
    void *zeros =
        mmap(NULL, g->page_size, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    int r;

    if (zeros == MAP_FAILED)
        return -errno;
    r = gw_fault_uffd_copy(uffd, g, page, zeros);
    munmap(zeros, g->page_size);
    return r;
}

int gw_fault_uffd_copy(int uffd, struct gw_fault_region *g, uint64_t page, const void *data)
{
    uint64_t to = (uintptr_t)g->map + page * g->page_size;
    struct uffdio_copy copy = {.dst = to, .src = (uintptr_t)data, .len = g->page_size};
    struct uffdio_zeropage zero = {.range = {.start = to, .len = g->page_size}};
    int r;

    if (!data && !g->can_zero)
        return copy_zeros(uffd, g, page);
    for (int i = 0; i < ATTEMPTS_MAX; i++) {
        r = data ? ioctl(uffd, UFFDIO_COPY, &copy) : ioctl(uffd, UFFDIO_ZEROPAGE, &zero);
        r = r < 0 ? -errno : 0;
        if (r != -EAGAIN)
            break;
    }
    return r;
}

int gw_fault_uffd_fill(int uffd, struct gw_fault_region *g, uint64_t page, const void *data)
{
    char *to = g->fill + page * g->page_size;
    unsigned char is_there = 0;

    /* Detects small pages. For huge pages, CONTINUE fails with EEXIST. */
    if (mincore(to, 1, &is_there) == 0 && is_there & 1)
        return -EEXIST;
    if (data)
        memcpy(to, data, g->page_size);
    else
        memset(to, 0, g->page_size);
    return gw_fault_uffd_continue(uffd, (uintptr_t)g->map + page * g->page_size, g->page_size);
}

int gw_fault_uffd_continue(int uffd, gw_bva_t address, uint64_t len)
{
    int r = -EAGAIN;

    for (int i = 0; i < ATTEMPTS_MAX && len > 0 && r == -EAGAIN; i++) {
        struct uffdio_continue map = {.range = {.start = address, .len = len}};

        r = ioctl(uffd, UFFDIO_CONTINUE, &map) < 0 ? -errno : 0;
        if (r == -EAGAIN && map.mapped > 0) {
            address += (uint64_t)map.mapped;
            len -= (uint64_t)map.mapped;
        }
    }
    return r;
}

int gw_fault_uffd_wake(int uffd, gw_bva_t address, uint64_t len)
{
    struct uffdio_range range = {.start = address, .len = len};

    return ioctl(uffd, UFFDIO_WAKE, &range) < 0 ? -errno : 0;
}
