/* SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause */
/*
 * Values of options, for all programs with argp.
 *
 * The value_* functions parse a value wherever it comes from. They return whether `text` is valid.
 * If it is not, `why` continues a sentence that begins with the option and its value: "is not a
 * number from 1 to 256".
 */
#pragma once

#include <argp.h>
#include <stdbool.h>
#include <stdint.h>

struct value_error {
    char text[192];
};

/* A decimal number, or a hexadecimal one with 0x. */
bool value_number(const char *text, uint64_t min, uint64_t max, uint64_t *ret,
                  struct value_error *why);
/* A size in bytes, which may end in K, M, G or T (powers of 1024). */
bool value_size(const char *text, uint64_t min, uint64_t max, uint64_t *ret,
                struct value_error *why);
/* The index of `text` in the NULL-terminated `words`. */
bool value_word(const char *text, const char *const *words, int *ret, struct value_error *why);

/*
 * The option_* functions parse the value of an option on the command line. An invalid value ends
 * the program through argp_error: a message with the option, the value and what is accepted, and
 * EX_USAGE. `option` is the long name without dashes.
 */
uint64_t option_number(struct argp_state *state, const char *option, const char *text, uint64_t min,
                       uint64_t max);
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

int option_word(struct argp_state *state, const char *option, const char *text,
                const char *const *words);
