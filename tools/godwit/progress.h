/* SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause */
/* The progress of a command: a line on stderr that is kept up to date, or a line now and then. */
#pragma once

#include <stdbool.h>
#include <stdint.h>

struct progress {
    bool is_terminal, has_line;
    uint64_t last_ns; /* when something was said */
};

void progress_init(struct progress *p);
/* Show a line, `elapsed_ns` after the begin. */
void progress_show(struct progress *p, uint64_t elapsed_ns, const char *line);
/* Take the line away. */
void progress_done(struct progress *p);
