/* SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause */
/* See no_memory.h. */
#include "no_memory.h"

#include "fdcheck.h"

#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#define MOST 1000u /* allocations of one operation */

void *__real_malloc(size_t size);
void *__real_calloc(size_t n, size_t size);
void *__real_realloc(void *p, size_t size);
void *__real_aligned_alloc(size_t align, size_t size);
int __real_posix_memalign(void **ret, size_t align, size_t size);
char *__real_strdup(const char *text);
/* The run-time library of a sanitizer finds them, too. */
#pragma GCC visibility push(default)
void *__wrap_malloc(size_t size);
void *__wrap_calloc(size_t n, size_t size);
void *__wrap_realloc(void *p, size_t size);
void *__wrap_aligned_alloc(size_t align, size_t size);
int __wrap_posix_memalign(void **ret, size_t align, size_t size);
char *__wrap_strdup(const char *text);
__attribute__((format(printf, 2, 3))) int __wrap_asprintf(char **ret, const char *format, ...);
#pragma GCC visibility pop

static atomic_bool has_failed;
static atomic_int left; /* until one fails; 0: none does */
static _Atomic(enum no_memory_of) whose;
static _Atomic(pid_t) caller;

void no_memory_begin(enum no_memory_of of, unsigned n)
{
    whose = of;
    caller = gettid();
    has_failed = false;
    left = (int)n;
}

bool no_memory_end(void)
{
    left = 0;
    return has_failed;
}

unsigned no_memory_each(enum no_memory_of of, int (*operation)(void *arg), void *arg)
{
    for (unsigned n = 1; n < MOST; n++) {
        struct fdcheck *check = fdcheck_begin();
        bool failed;
        int r;

        no_memory_begin(of, n);
        r = operation(arg);
        failed = no_memory_end();
        assert_int_equal(fdcheck_end(check), 0);
        assert_int_equal(r, failed ? -ENOMEM : 0);
        if (!failed)
            return n - 1;
    }
    fail();
    return 0;
}

static bool fails(void)
{
    if (left <= 0 ||
        (whose != NO_MEMORY_OF_ALL && (gettid() == caller) != (whose == NO_MEMORY_OF_CALLER)))
        return false;
    if (atomic_fetch_sub(&left, 1) != 1)
        return false;
    has_failed = true;
    errno = ENOMEM;
    return true;
}

void *__wrap_malloc(size_t size)
{
    return fails() ? NULL : __real_malloc(size);
}

void *__wrap_calloc(size_t n, size_t size)
{
    return fails() ? NULL : __real_calloc(n, size);
}

void *__wrap_realloc(void *p, size_t size)
{
    return fails() ? NULL : __real_realloc(p, size);
}

void *__wrap_aligned_alloc(size_t align, size_t size)
{
    return fails() ? NULL : __real_aligned_alloc(align, size);
}

int __wrap_posix_memalign(void **ret, size_t align, size_t size)
{
    return fails() ? ENOMEM : __real_posix_memalign(ret, align, size);
}

char *__wrap_strdup(const char *text)
{
    return fails() ? NULL : __real_strdup(text);
}

/* Where the compiler adds checks it is called by another name, and does not fail. */
int __wrap_asprintf(char **ret, const char *format, ...)
{
    va_list args;
    int n;

    if (fails())
        return -1;
    va_start(args, format);
    n = vasprintf(ret, format, args);
    va_end(args);
    return n;
}
