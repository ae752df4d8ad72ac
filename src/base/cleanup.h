/* SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause */
/*
 * Scoped ownership: a variable with one of these attributes releases what it owns when it goes out
 * of scope. gw_steal and gw_steal_fd take the ownership from it.
 */
#pragma once

#include <errno.h>
#include <stdlib.h>
#include <unistd.h>

/*
 * Close `*fd` and set it to -1. Preserves errno. EINTR is not retried: Linux has already released
 * the descriptor, and another thread may have received its number.
 */
static inline void gw_close(int *fd)
{
    if (*fd >= 0) {
        int saved = errno;
        (void)close(*fd);
        errno = saved;
    }
    *fd = -1;
}

static inline int gw_steal_fd(int *fd)
{
    int stolen = *fd;
    *fd = -1;
    return stolen;
}

static inline void gw_free_ptr(void *p)
{
    free(*(void **)p);
}

#define gw_steal(ptr)                       \
    (__extension__({                        \
        __typeof__(ptr) gw_stolen_ = (ptr); \
        (ptr) = NULL;                       \
        gw_stolen_;                         \
    }))

#define gw_cleanup_fd   __attribute__((cleanup(gw_close)))
#define gw_cleanup_free __attribute__((cleanup(gw_free_ptr)))
