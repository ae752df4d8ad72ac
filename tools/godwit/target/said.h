/* SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause */
/* The output of a child: a thread reads it from a pipe and keeps the last lines. */
#pragma once

#include <stdbool.h>

struct said;

/* Read `fd` (consumed, also on failure) to its end. Returns: 0; -ENOMEM; -EAGAIN: no thread. */
int said_new(struct said **ret, int fd, const char *echo);
/* Does not wait for processes that still hold the pipe. */
void said_free(struct said *s);

/* Whether all writers have closed the pipe, as they do at their end. */
bool said_has_ended(struct said *s);

/*
 * The last lines, at most `n` including an incomplete one, each with a newline; free it. Includes
 * everything written before the call. NULL: out of memory.
 */
char *said_last_lines(struct said *s, unsigned n);
