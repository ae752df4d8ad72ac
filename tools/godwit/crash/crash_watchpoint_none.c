/* SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause */
/* Stub for machines without watchpoint support here. */
#include "crash_watchpoint.h"

bool crash_watchpoint_set(pid_t thread, const uint64_t *addresses, unsigned n)
{
    (void)thread, (void)addresses, (void)n;
    return false;
}
