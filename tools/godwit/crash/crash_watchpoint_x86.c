/* SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause */
/*
 * x86 watchpoints: four debug registers with addresses, and a control register. Under some
 * hypervisors a guest can set the registers but never stops, so they are tested once.
 */
#include "crash_watchpoint.h"

#include <pthread.h>
#include <signal.h>
#include <stddef.h>
#include <sys/ptrace.h>
#include <sys/user.h>
#include <sys/wait.h>
#include <unistd.h>

#define REGISTERS 4
#define CONTROL   7
#define ENABLE(i) (UINT64_C(1) << (2 * (i)))
#define WRITES_4  UINT64_C(0xd) /* four bytes, on write */
#define KIND(i)   (WRITES_4 << (16 + 4 * (i)))

static bool poke(pid_t thread, unsigned reg, uint64_t value)
{
    size_t at = offsetof(struct user, u_debugreg) + reg * sizeof(((struct user *)0)->u_debugreg[0]);

    return ptrace(PTRACE_POKEUSER, thread, (void *)at, (void *)(uintptr_t)value) == 0;
}

static bool set(pid_t thread, const uint64_t *addresses, unsigned n)
{
    uint64_t control = 0;

    for (unsigned i = 0; i < n && i < REGISTERS; i++) {
        if (!poke(thread, i, addresses[i]))
            return false;
        control |= ENABLE(i) | KIND(i);
    }
    return control && poke(thread, CONTROL, control);
}

static bool do_they_stop;

/* A child that writes to a watched word either stops there or, without watchpoints, exits. */
static void try_once(void)
{
    static volatile uint32_t watched;
    uint64_t address = (uintptr_t)&watched;
    int status;
    pid_t child = fork();

    if (child == 0) {
        if (ptrace(PTRACE_TRACEME, 0, NULL, NULL) == 0)
            raise(SIGSTOP);
        watched = 1;
        _exit(0);
    }
    if (child < 0 || waitpid(child, &status, 0) != child || !WIFSTOPPED(status))
        return;
    if (set(child, &address, 1) && ptrace(PTRACE_CONT, child, NULL, NULL) == 0) {
        if (waitpid(child, &status, 0) != child || !WIFSTOPPED(status))
            return;
        do_they_stop = WSTOPSIG(status) == SIGTRAP;
    }
    kill(child, SIGKILL);
    (void)waitpid(child, &status, 0);
}

bool crash_watchpoint_set(pid_t thread, const uint64_t *addresses, unsigned n)
{
    static pthread_once_t once = PTHREAD_ONCE_INIT;

    pthread_once(&once, try_once);
    return do_they_stop && set(thread, addresses, n);
}
