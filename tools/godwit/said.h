/* SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause */
/* What a child says: read from a pipe by a thread of its own, the last lines are kept. */
#pragma once

struct said;

/* Read `fd` (consumed, also on failure) until it ends. Returns: 0; -ENOMEM; -EAGAIN no thread. */
int said_new(struct said **ret, int fd, const char *echo);
/* Does not wait for writers that still have the pipe. */
void said_free(struct said *s);

/*
 * The last lines, at most `n`, each with its line end; free it. NULL: no memory. Waits a moment for
 * what is on its way when the writer has just ended.
 */
char *said_last_lines(struct said *s, unsigned n);
