/* SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause */
/* The output of a child: a thread reads it from a pipe and keeps the last lines. */
#pragma once

#include <stdbool.h>

struct child_output;

/* Read `fd` (consumed, also on failure) to its end. Returns: 0; -ENOMEM; -EAGAIN: no thread. */
int child_output_new(struct child_output **ret, int fd, const char *echo);
/* Does not wait for processes that still hold the pipe. */
void child_output_free(struct child_output *s);

/* Whether all writers have closed the pipe, as they do at their end. */
bool child_output_has_ended(struct child_output *s);

/*
 * The last lines, at most `n` including an incomplete one, each with a newline; free it. Includes
 * everything written before the call. NULL: out of memory.
 */
char *child_output_last_lines(struct child_output *s, unsigned n);
