/* SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause */
/*
 * A child process in a process group of its own: started, listened to, reaped with all of its
 * group. What it writes to stdout and stderr is read by a thread, which keeps the last lines, so a
 * talkative child neither blocks nor fills anything. Its stdin is empty.
 *
 * Every child is known to children_end, for the end of the process by a signal.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <sys/types.h>

struct child;

/*
 * Start `argv`. `fd` (-1: none) is inherited under its own number, although it is close-on-exec
 * here. With `echo` (a name) what it says is passed on to stderr. Free with child_free, which
 * kills. Returns: 0; -ENOMEM; the errno of pipe, fork or execvp.
 */
int child_new(struct child **ret, char **argv, int fd, const char *echo);
void child_free(struct child *c);

pid_t child_pid(const struct child *c);

/* Has it ended? Then its group is killed, it is reaped, and the status of waitpid is told. */
bool child_has_ended(struct child *c, int *ret_status);

/*
 * SIGTERM to the group, SIGKILL after `grace_ms`; reap. Returns: whether it went without SIGKILL.
 */
bool child_end(struct child *c, unsigned grace_ms, int *ret_status);

/* SIGKILL to the group, and that is all. Context: any thread. */
void child_kill(struct child *c);
/* Wait until it has ended, and reap it. */
void child_wait(struct child *c, int *ret_status);

/*
 * It was reaped, its group killed: wait until the others of the group have ended, too, for `ms` at
 * most. Whoever left the group and kept its output is waited for in vain.
 */
void child_await_group(struct child *c, unsigned ms);

/* The last lines, each with its line end, at most `n` of them; free it. NULL: no memory. */
char *child_last_lines(struct child *c, unsigned n);

/* End all children there are, in at most `grace_ms`. No child can be started any more. */
void children_end(unsigned grace_ms);
