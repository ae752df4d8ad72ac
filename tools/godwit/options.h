/* SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause */
/*
 * What the commands share on their command lines: the options of a target, as a child parser of
 * argp, and the values of options. A wrong value ends the program through argp_error, that is with
 * the usage on stderr and EX_USAGE.
 */
#pragma once

#include "target/target.h"

#include <argp.h>

#define OPTIONS_FILES_MAX 16

/* How targets are made. Zero it; the input of the child parser. */
struct target_options {
    const char *file; /* NULL: none was given */
    unsigned n_file;  /* which of the files: from 1 on, not FILE but FILE.2, FILE.3 ... */
    uint64_t file_size;
    unsigned start_ms;
    bool is_verbose;
};

extern const struct argp options_target_argp;

/* A placeholder that nobody knows, such as a mistyped {sock}, ends the program with EX_USAGE. */
void options_check_target(struct argp_state *state, const char *text);
/*
 * Make the target of a command's argument; with {file} in it and no file given, a sparse one is
 * made. Says what is wrong. Returns: 0; a negative errno.
 */
int options_target(struct target **ret, const struct target_options *o, const char *text,
                   const char *name);
/* The file to be had for {file}: the given one, or a new one. NULL, and said, when it fails. */
const char *options_file(struct target_options *o);

/* Guest memory that is a Xen domain's. Zero it; the input of the child parser. */
struct options_xen {
    uint32_t domid;  /* 0: the memory is the tool's own */
    unsigned memory; /* enum xen_form, in its order */
    bool has_events; /* event channels go to the back-end itself */
};

extern const struct argp options_xen_argp;

uint64_t options_number(struct argp_state *state, const char *option, const char *text,
                        uint64_t min, uint64_t max);
/* K, M, G and T (powers of 1024) may follow. */
uint64_t options_size(struct argp_state *state, const char *option, const char *text, uint64_t min,
                      uint64_t max);
/* A time in milliseconds: "10ms", "5s", "2m"; seconds without a unit; decimals are fine. */
unsigned options_time(struct argp_state *state, const char *option, const char *text,
                      unsigned min_ms, unsigned max_ms);

/* The same in nanoseconds, with "us" and "ns" as units besides. */
uint64_t options_short_time(struct argp_state *state, const char *option, const char *text,
                            uint64_t max_ns);

#define OPTIONS_LIST_MAX 16

struct options_list {
    unsigned values[OPTIONS_LIST_MAX];
    unsigned n;
};

/* Sizes with "," between them. */
void options_list(struct argp_state *state, const char *option, const char *text, unsigned min,
                  unsigned max, struct options_list *ret);
/* One to begin with where none was given: short enough to be typed. */
uint64_t options_seed(void);
/*
 * The command line with which all happens again, for a shell: the arguments, and a seed that was
 * not among them (NULL: it was). Free it. NULL: no memory.
 */
char *options_again(int argc, char **argv, const uint64_t *seed);

/* The index of `text` in `words`, which ends with NULL. */
int options_word(struct argp_state *state, const char *option, const char *text,
                 const char *const *words);
