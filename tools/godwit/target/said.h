/* SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause */
/* What a child says: read from a pipe by a thread of its own, the last lines are kept. */
#pragma once

#include <stdbool.h>

struct said;

/* Read `fd` (consumed, also on failure) until it ends. Returns: 0; -ENOMEM; -EAGAIN no thread. */
int said_new(struct said **ret, int fd, const char *echo);
/* Does not wait for writers that still have the pipe. */
void said_free(struct said *s);

/* Have all writers closed the pipe, as they do when they end? */
bool said_has_ended(struct said *s);

/*
 * The last lines, at most `n` and one that has not ended yet, each with its line end; free it. All
 * that was written before the call is among them. NULL: no memory.
 */
char *said_last_lines(struct said *s, unsigned n);
