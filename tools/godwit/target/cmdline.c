/* SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause */
/*
 * Splits a command line into words and replaces placeholders. A shell could split it, but then the
 * shell would be our child instead of the back-end, and paths would need quoting.
 */
#include "cmdline.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define NAME_MAX_LEN 31

/* Copy one word from `*text` to `out`, which has room for the whole text, and advance. */
static int take_word(const char **text, char *out)
{
    const char *p = *text;
    char quote = 0;

    for (; *p != '\0'; p++) {
        if (quote == 0 && strchr(" \t\n", *p) != NULL)
            break;
        if (quote == 0 && (*p == '\'' || *p == '"')) {
            quote = *p;
        } else if (*p == quote) {
            quote = 0;
        } else {
            if (*p == '\\' && quote != '\'' && *++p == '\0')
                return -EINVAL;
            *out++ = *p;
        }
    }
    *out = '\0';
    *text = p;
    return quote == 0 ? 0 : -EINVAL;
}

int cmdline_split(const char *text, char ***ret)
{
    size_t len = strlen(text);
    char **words = calloc(len / 2 + 2, sizeof(*words)); /* a blank between words */
    char *buf = malloc(len + 1);
    int r = words == NULL || buf == NULL ? -ENOMEM : 0, n = 0;

    while (r == 0) {
        text += strspn(text, " \t\n");
        if (*text == '\0')
            break;
        r = take_word(&text, buf);
        if (r == 0 && (words[n++] = strdup(buf)) == NULL)
            r = -ENOMEM;
    }
    free(buf);
    if (r < 0) {
        cmdline_free(words);
        return r;
    }
    *ret = words;
    return n;
}

void cmdline_free(char **words)
{
    for (char **w = words; w != NULL && *w != NULL; w++)
        free(*w);
    free(words);
}

int cmdline_has(const char *text, const char *name)
{
    char braced[NAME_MAX_LEN + 3];

    snprintf(braced, sizeof(braced), "{%s}", name);
    return strstr(text, braced) != NULL;
}

/* The length of the placeholder at `p`, braces included; 0 if `p` is not one. */
static size_t placeholder(const char *word, const char *p)
{
    size_t n = p[0] == '{' ? strspn(p + 1, "abcdefghijklmnopqrstuvwxyz") : 0;

    if (n == 0 || n > NAME_MAX_LEN || p[1 + n] != '}' || (p > word && p[-1] == '$'))
        return 0;
    return n + 2;
}

bool cmdline_unknown(const char *text, const char *const *known, char *unknown)
{
    for (const char *p = text; *p != '\0'; p++) {
        size_t n = placeholder(text, p);
        bool is_known = n == 0;

        for (const char *const *name = known; !is_known && *name != NULL; name++)
            is_known = strlen(*name) == n - 2 && strncmp(p + 1, *name, n - 2) == 0;
        if (is_known)
            continue;
        snprintf(unknown, NAME_MAX_LEN + 1, "%.*s", (int)(n - 2), p + 1);
        return true;
    }
    return false;
}

static const char *value_of(const struct cmdline_value *values, const char *name, size_t len)
{
    for (; values->name != NULL; values++) {
        if (strlen(values->name) == len && strncmp(values->name, name, len) == 0)
            return values->value;
    }
    return NULL;
}

int cmdline_fill(char **ret, const char *word, const struct cmdline_value *values, char *unknown)
{
    char *text = NULL;
    size_t size = 0, n;
    FILE *out = open_memstream(&text, &size);
    int r = out == NULL ? -ENOMEM : 0;

    for (const char *p = word; r == 0 && *p != '\0'; p += n) {
        n = placeholder(word, p);
        const char *value = n == 0 ? NULL : value_of(values, p + 1, n - 2);

        if (n != 0 && value == NULL) {
            snprintf(unknown, NAME_MAX_LEN + 1, "%.*s", (int)(n - 2), p + 1);
            r = -ENOENT;
        } else if (n != 0) {
            fputs(value, out);
        } else {
            fputc(*p, out);
            n = 1;
        }
    }
    if (out != NULL && fclose(out) != 0 && r == 0)
        r = -ENOMEM;
    if (r < 0)
        free(text);
    else
        *ret = text;
    return r;
}
