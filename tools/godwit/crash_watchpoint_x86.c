/* SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause */
/* Watchpoints of x86: four debug registers with addresses, and one that says what they are for. */
#include "crash_watchpoint.h"

#include <stddef.h>
#include <sys/ptrace.h>
#include <sys/user.h>

#define REGISTERS 4
#define CONTROL   7
#define ENABLE(i) (UINT64_C(1) << (2 * (i)))
#define WRITES_4  UINT64_C(0xd) /* four bytes, when written to */
#define KIND(i)   (WRITES_4 << (16 + 4 * (i)))

static bool poke(pid_t thread, unsigned reg, uint64_t value)
{
    size_t at = offsetof(struct user, u_debugreg) + reg * sizeof(((struct user *)0)->u_debugreg[0]);

    return ptrace(PTRACE_POKEUSER, thread, (void *)at, (void *)(uintptr_t)value) == 0;
}

bool crash_watchpoint_set(pid_t thread, const uint64_t *addresses, unsigned n)
{
    uint64_t control = 0;

    for (unsigned i = 0; i < n && i < REGISTERS; i++) {
        if (!poke(thread, i, addresses[i]))
            return false;
        control |= ENABLE(i) | KIND(i);
    }
    return control && poke(thread, CONTROL, control);
}
