/* SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause */
/*
 * Parts of the command line that the commands share: the options of a target, as an argp child
 * parser, and the parsing of option values. An invalid value ends the program through argp_error,
 * that is with the usage on stderr and EX_USAGE.
 */
#pragma once

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

uint64_t options_number(struct argp_state *state, const char *option, const char *text,
                        uint64_t min, uint64_t max);
/* A size, which may end in K, M, G or T (powers of 1024). */
uint64_t options_size(struct argp_state *state, const char *option, const char *text, uint64_t min,
                      uint64_t max);
/* --block-size of a disk load: a multiple of 512 of up to 1M. */
unsigned options_block_size(struct argp_state *state, const char *text);
/* A time in milliseconds, such as "10ms", "5s", "0.5m"; without a unit in seconds. */
unsigned options_time(struct argp_state *state, const char *option, const char *text,
                      unsigned min_ms, unsigned max_ms);

/* A time in nanoseconds; also accepts the units "us" and "ns". */
uint64_t options_short_time(struct argp_state *state, const char *option, const char *text,
                            uint64_t max_ns);

#define OPTIONS_LIST_MAX 16

struct options_list {
    unsigned values[OPTIONS_LIST_MAX];
    unsigned n;
};

/* A comma-separated list of sizes. */
void options_list(struct argp_state *state, const char *option, const char *text, unsigned min,
                  unsigned max, struct options_list *ret);
/* A seed for a run without --seed: short enough to type. */
uint64_t options_seed(void);
/*
 * The shell command line that repeats the run: the arguments, and `seed` (NULL if the arguments
 * include it). Free it. NULL: out of memory.
 */
char *options_again(int argc, char **argv, const uint64_t *seed);

/* Returns: the index of `text` in the NULL-terminated `words`. */
int options_word(struct argp_state *state, const char *option, const char *text,
                 const char *const *words);
