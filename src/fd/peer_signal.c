/* SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause */
/*
 * Signals an eventfd that a peer can write to as well, and takes the signals of such an eventfd.
 *
 * write(2) on an eventfd sleeps while the counter is full, unless O_NONBLOCK is set. The peer
 * shares both the counter and the flag: between any check of ours and the write, it can fill the
 * one and clear the other. pwritev2(2) does not support RWF_NOWAIT on eventfds (up to Linux 6.18 at
 * least), and io_uring checks the same flag.
 *
 * The kernel's own eventfd_signal(), which KVM and asynchronous I/O use, never sleeps: it adds
 * under a spin lock and leaves a full counter full. Linux AIO gives access to it: with
 * IOCB_FLAG_RESFD the completion of a request signals an eventfd, and a zero-byte read of our own
 * memfd completes within io_submit(2). The kernel checks that the descriptor is an eventfd and
 * refuses every other file without calling into it. preadv2(2) does support RWF_NOWAIT on eventfds,
 * since Linux 5.8.
 *
 * If AIO is unavailable (CONFIG_AIO, a seccomp filter, fs.aio-max-nr), a sacrificial thread writes
 * to a duplicate of the descriptor, provided the counter has room.
 */
#include "peer_signal.h"

#include "peer_fd.h"
#include "sacrificial.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/aio_abi.h>
#include <poll.h>
#include <pthread.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <time.h>
#include <unistd.h>

enum {
    AIO_EVENTS = 64,
    ATTEMPTS_MAX = 4
};

/* A flag that no kernel knows. */
#define BAD_RWF (1 << 30)

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static pthread_once_t once = PTHREAD_ONCE_INIT;
static aio_context_t context; /* atomic; 0: none. Lives as long as the process. */
static bool is_missing;       /* [lock] AIO is unavailable */
static int empty_fd = -1;     /* [lock] until the context exists; an empty file */

/* The AIO context belongs to the parent's memory; a thread of the parent may hold the lock. */
static void after_fork(void)
{
    lock = (pthread_mutex_t)PTHREAD_MUTEX_INITIALIZER;
    context = 0;
}

static void init(void)
{
    (void)pthread_atfork(NULL, NULL, after_fork);
}

/* Submit a zero-byte read with `rw_flags` that signals `fd`. Returns: 0; a negative errno. */
static int submit_to(aio_context_t c, int fd, int rw_flags)
{
    struct iocb cb = {
        .aio_lio_opcode = IOCB_CMD_PREAD,
        .aio_fildes = (uint32_t)empty_fd,
        .aio_rw_flags = rw_flags,
        .aio_flags = IOCB_FLAG_RESFD,
        .aio_resfd = (uint32_t)fd,
    };
    struct iocb *list = &cb;
    struct io_event events[AIO_EVENTS];
    struct timespec no_time = {0};
    int r = -ENOSYS;

    for (int i = 0; i < ATTEMPTS_MAX; i++) {
        r = syscall(SYS_io_submit, c, 1L, &list) == 1 ? 0 : -errno;
        if (r != -EAGAIN)
            break;
        /* No other code reads the completions, so the context fills up from time to time. */
        (void)syscall(SYS_io_getevents, c, 0L, (long)AIO_EVENTS, events, &no_time);
    }
    return r;
}

/*
 * Returns: 0; -EMFILE, -ENFILE or -ENOMEM, which may be temporary; any other errno if this process
 * cannot use AIO, for example because a seccomp filter allows only some of its system calls.
 */
static int make_context(aio_context_t *ret)
{
    aio_context_t c = 0;
    int fd, r;

    if (empty_fd < 0)
        empty_fd = memfd_create("godwit-signal", MFD_CLOEXEC);
    if (empty_fd < 0)
        return -errno;
    fd = eventfd(0, EFD_CLOEXEC);
    if (fd < 0)
        return -errno;
    r = syscall(SYS_io_setup, AIO_EVENTS, &c) < 0 ? -errno : 0;
    if (r == 0) {
        r = submit_to(c, fd, BAD_RWF) == -EOPNOTSUPP ? 0 : -EPERM;
        if (r == 0)
            *ret = c;
        else
            (void)syscall(SYS_io_destroy, c);
    }
    (void)close(fd);
    return r;
}

static bool is_lasting(int error)
{
    return error != 0 && error != -EMFILE && error != -ENFILE && error != -ENOMEM;
}

/* Returns: 0 if AIO is unavailable. */
static aio_context_t get_context(void)
{
    aio_context_t c = __atomic_load_n(&context, __ATOMIC_ACQUIRE);

    if (c != 0)
        return c;
    pthread_once(&once, init);
    pthread_mutex_lock(&lock);
    if (context == 0 && !is_missing) {
        is_missing = is_lasting(make_context(&c));
        __atomic_store_n(&context, c, __ATOMIC_RELEASE);
    }
    c = context;
    pthread_mutex_unlock(&lock);
    return c;
}

/* As submit_to; -ENOSYS if AIO is unavailable. */
static int submit(int fd, int rw_flags)
{
    aio_context_t c = get_context();

    return c != 0 ? submit_to(c, fd, rw_flags) : -ENOSYS;
}

/* The peer may fill the counter after the check; then only a sacrificial thread sleeps. */
static void signal_elsewhere(int fd)
{
    struct pollfd p = {.fd = fd, .events = POLLOUT};
    int copy;

    if (poll(&p, 1, 0) != 1 || !(p.revents & POLLOUT))
        return;
    copy = fcntl(fd, F_DUPFD_CLOEXEC, 0);
    if (copy >= 0 && !gw_sacrifice(copy, GW_SACRIFICE_SIGNAL))
        (void)close(copy);
}

void gw_eventfd_signal(int fd)
{
    int saved = errno;
    int r = submit(fd, 0);

    if ((r == -ENOSYS || r == -EAGAIN) && gw_peer_is_eventfd(fd))
        signal_elsewhere(fd);
    errno = saved;
}

bool gw_eventfd_take(int fd)
{
    uint64_t value;
    struct iovec iov = {.iov_base = &value, .iov_len = sizeof(value)};
    int saved = errno;
    ssize_t n = preadv2(fd, &iov, 1, -1, RWF_NOWAIT);

    errno = saved;
    return n == sizeof(value);
}

static bool is_named_eventfd(int fd)
{
    static const char name[] = "anon_inode:[eventfd]";
    char path[32], target[sizeof(name)];

    snprintf(path, sizeof(path), "/proc/self/fd/%d", fd);
    return readlink(path, target, sizeof(target)) == sizeof(name) - 1 &&
           memcmp(target, name, sizeof(name) - 1) == 0;
}

bool gw_peer_is_eventfd(int fd)
{
    /*
     * io_submit(2) looks up the eventfd before it checks the flags: EINVAL for any other file. The
     * name in /proc is reliable, too: for a real file of that name, the link has a slash before it.
     */
    int r = submit(fd, BAD_RWF);

    return r == -ENOSYS || r == -EAGAIN ? is_named_eventfd(fd) : r == -EOPNOTSUPP;
}
