/* SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause */
/*
 * A child process in its own process group, reaped together with the group. A thread reads its
 * stdout and stderr and keeps the last lines, so a child can write any amount without blocking. Its
 * stdin is empty.
 *
 * children_end ends all children when a signal ends this process.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <sys/types.h>

struct child;

/*
 * Start `argv`. `fd` (-1: none) is inherited under its own number, although it is close-on-exec
 * here. With `echo` (a name) the child's output is passed on to stderr. Free with child_free, which
 * kills. Returns: 0; -ENOMEM; the negative errno of pipe, fork or execvp.
 */
int child_new(struct child **ret, char **argv, int fd, const char *echo);
void child_free(struct child *c);

pid_t child_pid(const struct child *c);

/* If the child has ended: kill its group, reap it, and return its waitpid status. */
bool child_has_ended(struct child *c, int *ret_status);

/*
 * SIGTERM to the group, SIGKILL after `grace_ms`; reap. Returns: whether SIGTERM was sufficient.
 */
bool child_end(struct child *c, unsigned grace_ms, int *ret_status);

/* Send SIGKILL to the group without waiting. Context: any thread. */
void child_kill(struct child *c);
/* Wait until the child has ended, and reap it. */
void child_wait(struct child *c, int *ret_status);

/*
 * After reaping the child and killing its group: wait up to `ms` until all of the group have
 * ended. A process that left the group but kept the output pipe delays this to the full time.
 */
void child_await_group(struct child *c, unsigned ms);

/* The last lines of output, at most `n`, each with its newline; free it. NULL: out of memory. */
char *child_last_lines(struct child *c, unsigned n);

/* End all children, in at most `grace_ms`. No child can be started afterwards. */
void children_end(unsigned grace_ms);
