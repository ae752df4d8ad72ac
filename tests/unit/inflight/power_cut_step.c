/* SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause */
/* See power_cut.h. */
#include "power_cut.h"

#include <errno.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>
#include <sys/ptrace.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

#define EXIT_UNTRACED 3

void power_cut_step_here(void)
{
    if (ptrace(PTRACE_TRACEME, 0, NULL, NULL) < 0)
        _exit(EXIT_UNTRACED);
    raise(SIGSTOP);
}

/* Returns: the thread that has stopped, or 0 and the exit status if the child has ended. */
static pid_t wait_stopped(pid_t pid, int *status)
{
    pid_t tid;

    do
        tid = waitpid(-1, status, __WALL);
    while (tid < 0 && errno == EINTR);
    if (tid < 0)
        fail_msg("waitpid: errno %d", errno);
    if (WIFSTOPPED(*status))
        return tid;
    return tid == pid ? 0 : wait_stopped(pid, status);
}

/* Run one instruction of the thread. */
static void go_on(pid_t tid, int signal)
{
    if (signal == SIGTRAP || signal == SIGSTOP)
        signal = 0;
    if (ptrace(PTRACE_SINGLESTEP, tid, NULL, (void *)(intptr_t)signal) < 0)
        fail_msg("PTRACE_SINGLESTEP: errno %d", errno);
}

long power_cut_step(void (*child)(void *arg), bool (*step)(void *arg), void *arg)
{
    pid_t pid = fork(), tid;
    bool killed = false;
    long n = 0;
    int status;

    assert_true(pid >= 0);
    if (pid == 0) {
        child(arg);
        _exit(EXIT_SUCCESS);
    }
    while ((tid = wait_stopped(pid, &status)) > 0) {
        if (WSTOPSIG(status) == SIGTRAP) {
            n++;
            killed = !step(arg);
        }
        if (killed)
            kill(pid, SIGKILL);
        else
            go_on(tid, WSTOPSIG(status));
    }
    if (killed)
        return n;
    if (WIFEXITED(status) && WEXITSTATUS(status) == EXIT_UNTRACED)
        return -1;
    if (!WIFEXITED(status) || WEXITSTATUS(status) != EXIT_SUCCESS)
        fail_msg("the child ended with status %#x", (unsigned)status);
    return n;
}
