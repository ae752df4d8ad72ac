/* SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause */
/*
 * Requirements that a machine may not meet: the test skips (exit status 77) and prints the reason
 * on stderr. Call these at the start of main, not inside a cmocka test.
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
 * Is io_uring available? Containers and valgrind may refuse it although the kernel supports it. If
 * it is unavailable, the output lists a skipped case "io_uring", because many tests run their cases
 * on each loop.
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
 * Valgrind runs one thread at a time, cannot map terabytes and hides the real limit of open files.
 * Tests that depend on any of these are skipped.
 */
static inline int is_under_valgrind(void)
{
    const char *preload = getenv("LD_PRELOAD");

    return preload && strstr(preload, "vgpreload");
}

/* ThreadSanitizer maps memory at any time and fails if a mapping fails. */
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

/* AddressSanitizer ends the process if it cannot map memory. */
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

/* `path` must be a file or device that can be opened for reading and writing. */
static inline void requires_device(const char *path)
{
    int fd = open(path, O_RDWR | O_CLOEXEC);
    if (fd < 0)
        skip_test("%s: %s", path, strerror(errno));
    close(fd);
}
