/* SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause */
/* A report on its way to a file: all of it is made first, so that no half of one is left behind. */
#pragma once

#include <stddef.h>
#include <stdio.h>

struct output {
    FILE *file; /* to print to */
    char *text;
    size_t len;
};

/* Returns: its file; NULL without memory, which output_end tells. */
FILE *output_begin(struct output *o);
/*
 * Write what was printed to a file, "-" for stdout. What fails is said. Returns: 0; -ENOMEM; the
 * errno of open or write.
 */
int output_end(struct output *o, const char *path);
/* Whether that would work as far as can be told before; nothing is left behind. Returns: as above.
 */
int output_try(const char *path);
