/* SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause */
/*
 * Preloaded into a back-end that does its I/O with plain calls in threads: delays each read and
 * write at an offset by SLOW_IO_MS milliseconds.
 */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <stdlib.h>
#include <sys/types.h>
#include <sys/uio.h>
#include <unistd.h>

static void wait_a_little(void)
{
    const char *ms = getenv("SLOW_IO_MS");

    if (ms != NULL)
        usleep((useconds_t)atoi(ms) * 1000);
}

static void *real(const char *name)
{
    void *function = dlsym(RTLD_NEXT, name);

    if (function == NULL)
        abort();
    return function;
}

#define SLOW_BUFFER(NAME, BUFFER)                                      \
    ssize_t NAME(int fd, BUFFER *buffer, size_t n, off64_t offset)     \
    {                                                                  \
        ssize_t (*next)(int, BUFFER *, size_t, off64_t) = real(#NAME); \
                                                                       \
        wait_a_little();                                               \
        return next(fd, buffer, n, offset);                            \
    }

#define SLOW_VECTOR(NAME)                                                       \
    ssize_t NAME(int fd, const struct iovec *iov, int n_iov, off64_t offset)    \
    {                                                                           \
        ssize_t (*next)(int, const struct iovec *, int, off64_t) = real(#NAME); \
                                                                                \
        wait_a_little();                                                        \
        return next(fd, iov, n_iov, offset);                                    \
    }

SLOW_BUFFER(pread, void)
SLOW_BUFFER(pread64, void)
SLOW_BUFFER(pwrite, const void)
SLOW_BUFFER(pwrite64, const void)
SLOW_VECTOR(preadv)
SLOW_VECTOR(preadv64)
SLOW_VECTOR(pwritev)
SLOW_VECTOR(pwritev64)
