/* SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause */
/* Descriptors of all kinds that a front-end might pass, right and wrong. */
#include "bed.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#define KEPT_MAX 64

/* Other ends, and files that a descriptor was made from. */
static int kept[KEPT_MAX];
static unsigned n_kept;

static void keep(int fd)
{
    assert_true(n_kept < KEPT_MAX);
    kept[n_kept++] = fd;
}

void fds_done(void)
{
    while (n_kept > 0)
        close(kept[--n_kept]);
}

static int make_memfd(size_t length, bool read_only)
{
    int fd = memfd_create("region", MFD_CLOEXEC);
    char path[64];

    assert_true(fd >= 0);
    assert_int_equal(ftruncate(fd, (off_t)length), 0);
    if (!read_only)
        return fd;
    snprintf(path, sizeof(path), "/proc/self/fd/%d", fd);
    keep(fd);
    return open(path, O_RDONLY | O_CLOEXEC);
}

/* The end asked for; the other one is kept, or closed. */
static int make_pair(int r, const int *ends, unsigned which, bool close_other)
{
    assert_int_equal(r, 0);
    if (close_other)
        close(ends[!which]);
    else
        keep(ends[!which]);
    return ends[which];
}

static int make_pipe(unsigned which, bool close_other)
{
    int ends[2];
    int r = pipe2(ends, O_CLOEXEC | O_NONBLOCK);

    return make_pair(r, ends, which, close_other);
}

static int make_socket(bool close_other)
{
    int ends[2];
    int r = socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, ends);

    return make_pair(r, ends, 0, close_other);
}

/* At an abstract address the kernel chooses. */
static int make_listener(void)
{
    struct sockaddr_un addr = {.sun_family = AF_UNIX};
    int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);

    assert_true(fd >= 0);
    assert_int_equal(bind(fd, (struct sockaddr *)&addr, sizeof(addr.sun_family)), 0);
    assert_int_equal(listen(fd, 1), 0);
    return fd;
}

static int make_full_eventfd(void)
{
    int fd = eventfd(0, EFD_CLOEXEC);

    assert_true(fd >= 0);
    assert_int_equal(eventfd_write(fd, UINT64_MAX - 1), 0);
    return fd;
}

static int make_regular(void)
{
    char path[] = "/tmp/godwit-it-file-XXXXXX";
    int fd = mkostemp(path, O_CLOEXEC);

    assert_true(fd >= 0);
    (void)unlink(path);
    return fd;
}

int fd_make(enum fd_kind kind)
{
    switch (kind) {
    case FD_MEMFD:
        return make_memfd(GUEST_SIZE, false);
    case FD_MEMFD_SHORT:
        return make_memfd(GUEST_SIZE - 1, false);
    case FD_MEMFD_READ_ONLY:
        return make_memfd(GUEST_SIZE, true);
    case FD_EVENTFD:
        return eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    case FD_EVENTFD_FULL_BLOCKING:
        return make_full_eventfd();
    case FD_PIPE_READ:
        return make_pipe(0, false);
    case FD_PIPE_WRITE:
        return make_pipe(1, false);
    case FD_PIPE_WRITE_NO_READER:
        return make_pipe(1, true);
    case FD_PIPE_READ_NO_WRITER:
        return make_pipe(0, true);
    case FD_SOCKET:
        return make_socket(false);
    case FD_SOCKET_NO_PEER:
        return make_socket(true);
    case FD_SOCKET_LISTENING:
        return make_listener();
    case FD_DIRECTORY:
        return open("/", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    case FD_DEV_NULL:
        return open("/dev/null", O_RDWR | O_CLOEXEC);
    case FD_REGULAR:
        return make_regular();
    case N_FD_KINDS:
        break;
    }
    fail_msg("no such kind of descriptor");
    return -1;
}

const char *fd_kind_name(enum fd_kind kind)
{
    static const char *const names[N_FD_KINDS] = {
        [FD_MEMFD] = "memfd",
        [FD_MEMFD_SHORT] = "too short a memfd",
        [FD_MEMFD_READ_ONLY] = "read-only memfd",
        [FD_EVENTFD] = "eventfd",
        [FD_EVENTFD_FULL_BLOCKING] = "full eventfd that blocks",
        [FD_PIPE_READ] = "reading end of a pipe",
        [FD_PIPE_WRITE] = "writing end of a pipe",
        [FD_PIPE_WRITE_NO_READER] = "pipe without a reader",
        [FD_PIPE_READ_NO_WRITER] = "pipe without a writer",
        [FD_SOCKET] = "socket",
        [FD_SOCKET_NO_PEER] = "socket without a peer",
        [FD_SOCKET_LISTENING] = "listening socket",
        [FD_DIRECTORY] = "directory",
        [FD_DEV_NULL] = "/dev/null",
        [FD_REGULAR] = "regular file",
    };

    return names[kind];
}
