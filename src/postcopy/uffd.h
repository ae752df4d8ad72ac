/* SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause */
/* The system calls of userfaultfd(2), with reasons for people where they fail. */
#pragma once

#include <stddef.h>
#include <stdint.h>

/*
 * A userfaultfd for missing pages of shared memory, which also catches what the kernel does on our
 * behalf (a read(2) into such a page). Non-blocking, as its reader wants it.
 * Returns: an fd; -EPERM; -EOPNOTSUPP; another errno; with gw_last_error.
 */
int gw_uffd_open(void);

/* Returns: 0; a negative errno with gw_last_error, in which the memory is called `what`. */
int gw_uffd_register(int uffd, uintptr_t base, size_t length, const char *what);

/* Whoever waits there comes back. */
void gw_uffd_unregister(int uffd, uintptr_t base, size_t length);
