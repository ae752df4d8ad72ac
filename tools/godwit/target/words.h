/* SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause */
/* Command lines as texts: split into words as a shell does, without a shell, and filled in. */
#pragma once

#include <stdbool.h>
#include <stddef.h>

/*
 * Split at blanks; '...' and "..." hold blanks, a backslash takes the next character as it is
 * (within '...' it is nothing special). An array that ends with NULL; free with words_free.
 * Returns: how many words; -EINVAL quotes that do not end, or a backslash at the end; -ENOMEM.
 */
int words_split(const char *text, char ***ret);
void words_free(char **words);

/* What stands for `{name}`; a NULL value means that it may not be used. */
struct words_value {
    const char *name;
    const char *value;
};

/* Does `{name}` occur in a text? */
int words_has(const char *text, const char *name);

/*
 * The first placeholder of a text that is none of `known`, which ends with NULL; its name is copied
 * to `unknown` (of 32 bytes). Returns: whether there is one.
 */
bool words_unknown(const char *text, const char *const *known, char *unknown);

/*
 * A copy of `word` with the placeholders filled in; free it. A placeholder is a word of small
 * letters in braces without a `$` before them; all else in braces stays. `values` ends with a name
 * of NULL. Returns: 0; -ENOENT for a placeholder without a value, whose name is copied to `unknown`
 * (of 32 bytes); -ENOMEM.
 */
int words_fill(char **ret, const char *word, const struct words_value *values, char *unknown);
