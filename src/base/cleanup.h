/* SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause */
/*
 * Scoped ownership: what a variable marked so owns is released when it goes out of scope, and
 * leaves the function by gw_steal or gw_steal_fd.
 */
#pragma once

#include <errno.h>
#include <stdlib.h>
#include <unistd.h>

/*
 * Close and forget. errno survives. EINTR is not retried: Linux has released the descriptor by
 * then, and another thread may have got its number.
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
