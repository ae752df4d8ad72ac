/* SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause */
/* Progress on stderr: one line that is updated in place, or without a terminal, a line now and
 * then. */
#pragma once

#include <stdbool.h>
#include <stdint.h>

struct progress {
    bool is_terminal, has_line;
    uint64_t last_ns; /* when the last line was printed */
};

void progress_init(struct progress *p);
/* Show a line, `elapsed_ns` after the start. */
void progress_show(struct progress *p, uint64_t elapsed_ns, const char *line);
/* Erase the line. */
void progress_done(struct progress *p);
