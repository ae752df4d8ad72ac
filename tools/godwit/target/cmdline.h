/* SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause */
/* Command lines as texts: split into words as by a shell, without a shell, and placeholders. */
#pragma once

#include <stdbool.h>
#include <stddef.h>

/*
 * Split at blanks. '...' and "..." may contain blanks; a backslash quotes the next character,
 * except within '...'. The array is NULL-terminated; free it with cmdline_free.
 * Returns: the number of words; -EINVAL: unbalanced quotes or a final backslash; -ENOMEM.
 */
int cmdline_split(const char *text, char ***ret);
void cmdline_free(char **words);

/* The value of `{name}`; NULL means that it must not occur. */
struct cmdline_value {
    const char *name;
    const char *value;
};

/* Whether `{name}` occurs in a text. */
int cmdline_has(const char *text, const char *name);

/*
 * Find the first placeholder of a text that is not in the NULL-terminated `known`, and copy its
 * name to `unknown` (32 bytes). Returns: whether there is one.
 */
bool cmdline_unknown(const char *text, const char *const *known, char *unknown);

/*
 * A copy of `word` with the placeholders replaced; free it. A placeholder is a word of lower-case
 * letters in braces without a preceding `$`; all other braces stay. `values` ends with a NULL name.
 * Returns: 0; -ENOENT: a placeholder has no value, its name is copied to `unknown` (32 bytes);
 * -ENOMEM.
 */
int cmdline_fill(char **ret, const char *word, const struct cmdline_value *values, char *unknown);
