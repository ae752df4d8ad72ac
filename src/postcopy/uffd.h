/* SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause */
/* The system calls of userfaultfd(2), with an explanation in gw_last_error if they fail. */
#pragma once

#include <stddef.h>
#include <stdint.h>

/*
 * Open a userfaultfd for missing pages of shared memory. It also handles accesses by the kernel on
 * our behalf (a read(2) into such a page). Non-blocking, as the front-end expects.
 * Returns: an fd; -EPERM; -EOPNOTSUPP; another errno; with gw_last_error.
 */
int gw_uffd_open(void);

/* Returns: 0; a negative errno with gw_last_error, which names the memory as `what`. */
int gw_uffd_register(int uffd, uintptr_t base, size_t length, const char *what);

/* Wakes all threads that wait for a page of the range. */
void gw_uffd_unregister(int uffd, uintptr_t base, size_t length);
