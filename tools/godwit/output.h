/* SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause */
/* A report is generated completely before it is written, so that no partial file is left behind. */
#pragma once

#include <stddef.h>
#include <stdio.h>

struct output {
    FILE *file; /* to print to */
    char *text;
    size_t len;
};

/* Returns: the stream to print to; NULL without memory, which output_end reports. */
FILE *output_begin(struct output *o);
/*
 * Write the printed text to a file, "-" for stdout. Errors are reported. Returns: 0; -ENOMEM; the
 * negative errno of open or write.
 */
int output_end(struct output *o, const char *path);
/* Check in advance whether output_end can write there; leaves no file. Returns: as above. */
int output_try(const char *path);
