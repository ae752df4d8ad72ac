/* SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause */
/*
 * What a test needs and a machine may lack: the test skips (exit 77) and says why on stderr. To be
 * called at the start of main, not inside of a cmocka test.
 */
#pragma once

#include <errno.h>
#include <fcntl.h>
#include <linux/io_uring.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>

#define SKIP 77

__attribute__((noreturn, format(printf, 1, 2))) static inline void skip_test(const char *why, ...)
{
    va_list args;
    va_start(args, why);
    fputs("skipped: ", stderr);
    vfprintf(stderr, why, args);
    fputc('\n', stderr);
    va_end(args);
    exit(SKIP);
}

/*
 * Is there io_uring? Containers and valgrind may refuse what the kernel has. If it is missing, the
 * test is reported to skip a case of this name, because many run their cases on each loop.
 */
static inline int has_io_uring(void)
{
    struct io_uring_params params = {0};
    int fd = (int)syscall(SYS_io_uring_setup, 1, &params);
    if (fd < 0) {
        fputs("[  SKIPPED ] io_uring\n", stderr);
        return 0;
    }
    close(fd);
    return 1;
}

/*
 * Valgrind runs one thread at a time, maps no terabytes and keeps the limit of open files to
 * itself. Tests of just that are skipped.
 */
static inline int is_under_valgrind(void)
{
    const char *preload = getenv("LD_PRELOAD");

    return preload && strstr(preload, "vgpreload");
}

/* ThreadSanitizer maps memory of its own at any time and cannot do without. */
static inline int is_under_tsan(void)
{
#if defined(__SANITIZE_THREAD__)
    return 1;
#elif defined(__has_feature)
    return __has_feature(thread_sanitizer);
#else
    return 0;
#endif
}

/* AddressSanitizer ends the process where it gets no mapping. */
static inline int is_under_asan(void)
{
#if defined(__SANITIZE_ADDRESS__)
    return 1;
#elif defined(__has_feature)
    return __has_feature(address_sanitizer);
#else
    return 0;
#endif
}

static inline void requires_io_uring(void)
{
    if (!has_io_uring())
        skip_test("the kernel gives no io_uring: %s", strerror(errno));
}

static inline void requires_root(void)
{
    if (geteuid() != 0)
        skip_test("needs root");
}

/* A file or device that can be opened for reading and writing. */
static inline void requires_device(const char *path)
{
    int fd = open(path, O_RDWR | O_CLOEXEC);
    if (fd < 0)
        skip_test("%s: %s", path, strerror(errno));
    close(fd);
}
