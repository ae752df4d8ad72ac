/* SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause */
/*
 * A target: the back-end that a command of godwit tests. It is either the path of a socket on which
 * a back-end listens, or a command line that godwit starts, watches and ends. A command line
 * contains `{socket}`, the path to listen on, or `{fd}`, the number of an inherited connected
 * socket; `{file}` stands for the file of the configuration. It is split into words as by a shell
 * (quotes and backslashes), but no shell runs it.
 *
 * The child leads its own process group, and its stdout and stderr are read. The kernel kills it
 * when the thread that started it ends, so that thread must live as long as the target. A target
 * belongs to one thread at a time. Functions return 0 or a negative errno; target_error then
 * returns a sentence that names the target.
 */
#pragma once

#include <godwit/frontend/frontend.h>
#include <sys/types.h>

struct target;

struct target_config {
    const char *text;  /* socket path or command line */
    const char *name;  /* name in messages: "source", "back-end" */
    const char *file;  /* for {file}; NULL: none, and {file} is an error */
    unsigned start_ms; /* time for the socket to appear; 0: 10 s for a command, 2 s for a path */
    bool is_verbose;   /* pass on the child's output, each line prefixed with the name */
};

/*
 * Create a target without starting it. Strings are copied. Free with target_free, which stops it.
 * Returns: 0; -EINVAL: unbalanced quotes, an unknown placeholder, {file} without a file, or both
 * {socket} and {fd}; -ENOMEM. On failure `error` (of `size` bytes) describes the reason.
 */
int target_new(struct target **ret, const struct target_config *cfg, char *error, size_t size);
void target_free(struct target *t);

const char *target_name(const struct target *t);
const char *target_text(const struct target *t);
bool target_is_command(const struct target *t);
/* The pid of the child, or of the listening process once connected to a path; 0 if unknown. */
pid_t target_pid(const struct target *t);

/* The pid of the listening process, possibly a child of the child; 0 before connecting. */
pid_t target_listener(const struct target *t);

/*
 * The path of the back-end's executable, and its GNU build-id in hexadecimal, as of the first
 * connection; "" if unknown: not connected, a process of another user, or no build-id.
 */
const char *target_executable(const struct target *t);
const char *target_build_id(const struct target *t);

/*
 * Start the command; does nothing for a socket path or a running command. It can be started again
 * after target_stop. Returns: 0; the negative errno of execvp (-ENOENT, -EACCES), fork, pipe or
 * mkdtemp.
 */
int target_start(struct target *t);

/*
 * Start the target if it does not run, and connect `fe` as soon as it listens. A target with {fd}
 * can be connected once per start: -EISCONN.
 * Returns: 0; -EHOSTDOWN: the child ended before it listened; -ETIMEDOUT: it does not listen; the
 * negative errno of connect (-ENOENT: no socket; -ECONNREFUSED: nothing listens; -EACCES).
 */
int target_connect(struct target *t, struct gw_frontend *fe);

/*
 * Whether the target still runs. Always 0 for a socket path.
 * Returns: 0; -EHOSTDOWN: it ended; target_error names the status or signal and the last line of
 * its output.
 */
int target_check(struct target *t);

/*
 * End the child and all of its group: SIGTERM, then SIGKILL after two seconds. Returns: 0;
 * -EHOSTDOWN: it had ended before; -ETIMEDOUT: it had to be killed; -EPROTO: it ended with a status
 * other than 0 or a signal other than SIGTERM. target_error describes each.
 */
int target_stop(struct target *t);

/*
 * Send SIGKILL to a command and all of its group at any moment. Context: any thread, while no other
 * thread starts or ends the target.
 */
void target_kill(struct target *t);
/*
 * Wait until a killed target is completely gone. When started again, it finds the socket of its
 * predecessor, as it would behind a VMM that reconnects. Returns: 0; -EPROTO: it had ended in
 * another way; see target_error.
 */
int target_bury(struct target *t);

/* The last failure as a sentence; "" if none. Valid until the next call. */
const char *target_error(const struct target *t);
/* The last lines of its stdout and stderr; "" if none. Valid until the next call of this. */
const char *target_last_lines(struct target *t);

/*
 * CPU time used by the back-end so far: by the process that listens on the socket, not by a shell
 * or wrapper that started it. Returns: 0; -ENODATA: unknown (not connected, another pid namespace);
 * -ESRCH: it has ended.
 */
int target_cpu_ns(const struct target *t, uint64_t *ret);

/*
 * Make SIGINT, SIGTERM and SIGHUP end all children and remove the temporary directory before they
 * end this process. Call this before any other thread exists.
 */
int interrupt_start_thread(void);
