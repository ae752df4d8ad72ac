/* SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause */
/*
 * Parts of the command line that the commands share: the options of a target, as an argp child
 * parser, and what repeats a run. Values are parsed in tools/common/option_value.c.
 */
#pragma once

#include "common/option_value.h"
#include "target/target.h"

#include <argp.h>

#define OPTIONS_FILES_MAX 16

/* How to create targets: the input of the child parser. Initialize with zeros. */
struct target_options {
    const char *file; /* NULL: not given */
    unsigned n_file;  /* number of the file: 0 is FILE, 1 is FILE.2, 2 is FILE.3 ... */
    uint64_t file_size;
    unsigned start_ms;
    bool is_verbose;
};

extern const struct argp options_target_argp;

/* An unknown placeholder, such as a mistyped {sock}, ends the program with EX_USAGE. */
void options_check_target(struct argp_state *state, const char *text);
/*
 * Create the target for a command's argument. If {file} occurs in it and no file was given, create
 * a sparse one. Errors are reported. Returns: 0; a negative errno.
 */
int options_target(struct target **ret, const struct target_options *o, const char *text,
                   const char *name);
/* The file for {file}: the given one, or a new one. Reports a failure and returns NULL. */
const char *options_file(struct target_options *o);

/* A Xen domain's memory as guest memory: the input of the child parser. Initialize with zeros. */
struct options_xen {
    uint32_t domid;  /* 0: use the tool's own memory */
    unsigned memory; /* as in enum xen_form */
    bool has_events; /* the back-end binds the event channels */
};

extern const struct argp options_xen_argp;

/* A seed for a run without --seed: short enough to type. */
uint64_t options_seed(void);
/*
 * The shell command line that repeats the run: the arguments, and `seed` (NULL if the arguments
 * include it). Free it. NULL: out of memory.
 */
char *options_again(int argc, char **argv, const uint64_t *seed);
