/* SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause */
/*
 * A back-end that supports postcopy, but does not register its memory: a thread that touches a
 * missing page gets zeros, and the real page is refused when it arrives later.
 */
#include "postcopy/uffd.h"

int __wrap_gw_uffd_register(int uffd, uintptr_t base, size_t length, const char *what);

int __wrap_gw_uffd_register(int uffd, uintptr_t base, size_t length, const char *what)
{
    return 0;
}
