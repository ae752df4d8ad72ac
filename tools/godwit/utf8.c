/* SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause */
/*
 * Texts come from command lines and from the output of failed programs, and may hold any bytes.
 * JSON and XML require UTF-8, and XML has no representation for control characters.
 */
#include "utf8.h"

#include <stdlib.h>
#include <string.h>

/* The length of a character that starts with byte `c`; 0 if none does. */
static size_t announced(unsigned char c)
{
    if (c < 0x80)
        return 1;
    if (c >= 0xc2 && c < 0xe0)
        return 2;
    if (c >= 0xe0 && c < 0xf0)
        return 3;
    return c >= 0xf0 && c < 0xf5 ? 4 : 0;
}

/* The length of the valid character at `s`; 0 if it is invalid. */
static size_t length(const unsigned char *s)
{
    size_t n = announced(s[0]);

    for (size_t i = 1; i < n; i++) {
        if ((s[i] & 0xc0) != 0x80)
            return 0;
    }
    /* Reject overlong forms, surrogates, code points beyond Unicode, and U+FFFE and U+FFFF (XML).
     */
    if (s[0] == 0xef && s[1] == 0xbf && s[2] >= 0xbe)
        return 0;
    if ((s[0] == 0xe0 && s[1] < 0xa0) || (s[0] == 0xed && s[1] > 0x9f) ||
        (s[0] == 0xf0 && s[1] < 0x90) || (s[0] == 0xf4 && s[1] > 0x8f))
        return 0;
    return n;
}

char *utf8_clean(const char *text)
{
    char *copy = strdup(text);

    for (unsigned char *c = (unsigned char *)copy; c != NULL && *c != '\0';) {
        size_t n = length(c);

        if (n == 0 || *c < 0x20 || *c == 0x7f)
            *c = '?';
        c += n == 0 ? 1 : n;
    }
    return copy;
}

static void print_escaped(FILE *out, const char *c)
{
    for (; *c != '\0'; c++) {
        if (*c == '&')
            fputs("&amp;", out);
        else if (*c == '<')
            fputs("&lt;", out);
        else if (*c == '>')
            fputs("&gt;", out);
        else if (*c == '"')
            fputs("&quot;", out);
        else
            fputc(*c, out);
    }
}

void utf8_print_xml(FILE *out, const char *text)
{
    char *copy = utf8_clean(text);

    if (copy != NULL)
        print_escaped(out, copy);
    free(copy);
}

void utf8_print_xml_len(FILE *out, const char *text, size_t len)
{
    while (len > 0) {
        size_t part = strnlen(text, len);

        utf8_print_xml(out, text); /* a string of json-c ends with NUL */
        if (part == len)
            return;
        fputc('?', out);
        text += part + 1;
        len -= part + 1;
    }
}
