/* SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause */
/*
 * A target: the back-end that a command of godwit works on. Either the path of a socket at which
 * one listens, or a command line that godwit starts, watches and ends. A command line is a text
 * with
 * `{socket}` or `{fd}` in it: `{socket}` is the path the back-end shall listen at, `{fd}` the
 * number of a connected socket it inherits, `{file}` the file of the configuration. It is split
 * into words as a shell does (quotes and backslashes), but no shell runs it.
 *
 * The child leads a process group of its own, has its stdout and stderr read, and is killed by the
 * kernel should godwit be: whoever starts a target must be a thread that lives as long as the
 * target. Otherwise a target belongs to one thread at a time. Functions return 0 or a negative
 * errno, and target_error tells what went wrong as a sentence that names the target.
 */
#pragma once

#include <godwit/frontend.h>
#include <sys/types.h>

struct target;

struct target_config {
    const char *text;  /* socket path or command line */
    const char *name;  /* who it is in messages: "source", "back-end" */
    const char *file;  /* for {file}; NULL: none, and {file} is an error */
    unsigned start_ms; /* for the socket to appear; 0: 10 s for a command, 2 s for a path */
    bool is_verbose;   /* pass on what the child says, each line with the name in front */
};

/*
 * Make a target; nothing is started. Strings are copied. Free with target_free, which stops it.
 * Returns: 0; -EINVAL quotes that do not end, a placeholder nobody knows, {file} without a file,
 * or both {socket} and {fd}; -ENOMEM. The reason is in `error` (of `size` bytes) on failure.
 */
int target_new(struct target **ret, const struct target_config *cfg, char *error, size_t size);
void target_free(struct target *t);

const char *target_name(const struct target *t);
const char *target_text(const struct target *t);
bool target_is_command(const struct target *t);
/* Of the child, or of who listens at the path once connected; 0 when not known. */
pid_t target_pid(const struct target *t);

/* Who listened at the socket, which may be a child of the child; 0 when not connected yet. */
pid_t target_listener(const struct target *t);

/*
 * Start the command; nothing to do for a socket path, or when it runs. It can be started again
 * after target_stop. Returns: 0; -ENOENT, -EACCES and others of execvp; the errno of fork, pipe
 * or mkdtemp.
 */
int target_start(struct target *t);

/*
 * Start it unless it runs, and connect `fe` to it as soon as it listens. A target by {fd} can be
 * connected once per start: -EISCONN.
 * Returns: 0; -EHOSTDOWN the child ended before it listened; -ETIMEDOUT it does not listen; the
 * errno of connect (-ENOENT: no such socket; -ECONNREFUSED: nobody listens there; -EACCES).
 */
int target_connect(struct target *t, struct gw_frontend *fe);

/*
 * Whether it still runs. Of a socket path nothing is known: 0.
 * Returns: 0; -EHOSTDOWN it ended, and target_error tells with which status or signal and what it
 * said last.
 */
int target_check(struct target *t);

/*
 * End the child and all of its group: SIGTERM, and SIGKILL for who is still there after two
 * seconds. Returns: 0; -EHOSTDOWN it had ended before; -ETIMEDOUT it had to be killed; -EPROTO it
 * ended with a status other than 0 or by a signal other than the SIGTERM. All are told by
 * target_error.
 */
int target_stop(struct target *t);

/*
 * SIGKILL to a command and all of its group, in the middle of anything. Context: any thread, while
 * no other one starts or ends the target.
 */
void target_kill(struct target *t);
/*
 * What was killed is waited for until all of it is gone. Started again, it finds the socket of the
 * one before, as it would behind a VMM that connects again. Returns: 0; -EPROTO it had ended in
 * another way, told by target_error.
 */
int target_bury(struct target *t);

/* What the last failure was, as a sentence; "" when there was none. Valid until the next call. */
const char *target_error(const struct target *t);
/* The last lines it wrote to stdout or stderr, "" for none. Valid until the next call of this. */
const char *target_last_lines(struct target *t);

/*
 * CPU time used by the back-end so far. It is the one that listens at the socket, not the shell
 * or wrapper that may have started it. Returns: 0; -ENODATA not known (not connected, another pid
 * namespace); -ESRCH it has ended.
 */
int target_cpu_ns(const struct target *t, uint64_t *ret);

/*
 * Have SIGINT, SIGTERM and SIGHUP end all children and remove the scratch directory before they end
 * this process. Call it before any other thread exists.
 */
int target_guard(void);
