/* SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause */
/*
 * Values of command line options, for all programs with argp. An invalid value ends the program
 * through argp_error: a message with the option, the value and what is accepted, and EX_USAGE.
 * `option` is the long name without dashes.
 */
#pragma once

#include <argp.h>
#include <stdint.h>

/* A decimal number, or a hexadecimal one with 0x. */
uint64_t option_number(struct argp_state *state, const char *option, const char *text, uint64_t min,
                       uint64_t max);
/* A size in bytes, which may end in K, M, G or T (powers of 1024). */
uint64_t option_size(struct argp_state *state, const char *option, const char *text, uint64_t min,
                     uint64_t max);

/* A duration such as "10ms", "5s" or "0.5m"; without a unit in seconds. Returns: milliseconds. */
unsigned option_time(struct argp_state *state, const char *option, const char *text,
                     unsigned min_ms, unsigned max_ms);
/* A duration that may be shorter than a millisecond, such as "50us". Returns: nanoseconds. */
uint64_t option_short_time(struct argp_state *state, const char *option, const char *text,
                           uint64_t max_ns);

#define OPTION_LIST_MAX 16

struct option_list {
    unsigned values[OPTION_LIST_MAX];
    unsigned n;
};

/* A comma-separated list of sizes. */
void option_list(struct argp_state *state, const char *option, const char *text, unsigned min,
                 unsigned max, struct option_list *ret);

/* Returns: the index of `text` in the NULL-terminated `words`. */
int option_word(struct argp_state *state, const char *option, const char *text,
                const char *const *words);
