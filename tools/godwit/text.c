/* SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause */
/* See text.h. */
#include "text.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <unistd.h>

#define WIDTH_MIN   40
#define WIDTH_MAX   80
#define COLUMNS_MAX 10000 /* of the environment variable */
#define INDENT      4     /* of the continuation of a line without a label */
#define LABEL_MAX   24    /* columns of a label with its blanks */
#define RESET       "\033[0m"

/* ---- Options ---- */

static const struct argp_option options[] = {
    {NULL, 0, NULL, 0, "Output:", 60},
    {"color", 0x3000, "WHEN", 0,
     "colour the verdicts: auto (default; on a terminal, unless NO_COLOR is set), always or never",
     0},
    {0},
};

static error_t parse(int key, char *arg, struct argp_state *state)
{
    static const char *const words[] = {"auto", "always", "never"};
    enum text_color *color = state->input;

    if (key != 0x3000)
        return ARGP_ERR_UNKNOWN;
    for (unsigned i = 0; i < 3; i++) {
        if (strcmp(arg, words[i]) == 0) {
            *color = (enum text_color)i;
            return 0;
        }
    }
    argp_error(state, "--color=%s is not one of: auto, always, never", arg);
    return EINVAL;
}

const struct argp text_color_argp = {.options = options, .parser = parse};

static bool is_set(const char *name)
{
    const char *value = getenv(name);

    return value != NULL && value[0] != '\0';
}

struct text_style text_style_of(FILE *stream, enum text_color color)
{
    const char *columns = getenv("COLUMNS"), *term = getenv("TERM");
    unsigned long wanted = columns != NULL ? strtoul(columns, NULL, 10) : 0;
    struct text_style style = {.width = WIDTH_MAX, .has_color = color == TEXT_COLOR_ALWAYS};
    bool is_terminal = isatty(fileno(stream)) == 1;
    struct winsize size;

    if (wanted >= WIDTH_MIN && wanted <= COLUMNS_MAX)
        style.width = (unsigned)wanted;
    else if (is_terminal && ioctl(fileno(stream), TIOCGWINSZ, &size) == 0 && size.ws_col != 0)
        style.width = size.ws_col < WIDTH_MIN   ? WIDTH_MIN
                      : size.ws_col < WIDTH_MAX ? size.ws_col
                                                : WIDTH_MAX;
    if (color == TEXT_COLOR_AUTO)
        style.has_color =
            is_terminal && !is_set("NO_COLOR") && (term == NULL || strcmp(term, "dumb") != 0);
    return style;
}

/* ---- Colours ---- */

/* The colour of a line's first words; the longest match is first. */
static const struct {
    const char *words, *color;
} colors[] = {
    {"passed", "\033[32m"},         {"PASSED, with hints", "\033[1;33m"},
    {"PASSED", "\033[1;32m"},       {"hint", "\033[33m"},
    {"FAILED", "\033[1;31m"},       {"fault", "\033[31m"},
    {"skipped", "\033[2m"},         {"NOT TESTED", "\033[1;33m"},
    {"INCONCLUSIVE", "\033[1;33m"},
};

/* The length of the first words of a line that have a colour; 0: none. */
static size_t coloured(const char *line, const char **ret_color)
{
    for (size_t i = 0; i < sizeof(colors) / sizeof(colors[0]); i++) {
        size_t len = strlen(colors[i].words);

        if (strncmp(line, colors[i].words, len) == 0 && line[len] == ' ') {
            *ret_color = colors[i].color;
            return len;
        }
    }
    return 0;
}

/* ---- Lines ---- */

/* The columns of `len` bytes of UTF-8, one for each character. */
static size_t columns_of(const char *text, size_t len)
{
    size_t n = 0;

    for (size_t i = 0; i < len; i++)
        n += ((unsigned char)text[i] & 0xc0) != 0x80;
    return n;
}

static void print_bytes(const char *text, size_t len, FILE *out)
{
    for (size_t i = 0; i < len; i++)
        fputc((unsigned char)text[i] < 0x20 || text[i] == 0x7f ? '?' : text[i], out);
}

/* The column where the text of a line begins, behind its label or its own indent. */
static size_t indent_of(const char *line, size_t len)
{
    size_t start = 0, at, end;

    while (start < len && line[start] == ' ')
        start++;
    for (at = start; at + 1 < len && at < LABEL_MAX; at++) {
        if (line[at] == ' ' && line[at + 1] == ' ')
            break;
    }
    for (end = at; end < len && line[end] == ' '; end++)
        ;
    if (end > at + 1 && end <= LABEL_MAX && end < len)
        return end;
    return start >= 2 * INDENT ? start : start + INDENT;
}

static void print_line(const char *line, size_t len, struct text_style style, FILE *out)
{
    size_t indent = indent_of(line, len), column = 0, at = 0, width = style.width;
    bool is_whole = strncmp(line, "repeat ", 7) == 0 || columns_of(line, len) <= width;
    const char *color = NULL;

    if (style.has_color && (at = coloured(line, &color)) > 0) {
        fprintf(out, "%s%.*s" RESET, color, (int)at, line);
        column = at;
    }
    if (is_whole) {
        print_bytes(line + at, len - at, out);
        fputc('\n', out);
        return;
    }
    while (at < len) {
        size_t blanks = strspn(line + at, " "), word, n;

        if (at + blanks >= len)
            break;
        word = strcspn(line + at + blanks, " \n");
        n = columns_of(line + at + blanks, word);
        if (column + blanks > indent && column + blanks + n > width) {
            fprintf(out, "\n%*s", (int)indent, "");
            column = indent;
            blanks = 0;
            at += strspn(line + at, " ");
        }
        print_bytes(line + at, blanks + word, out);
        column += blanks + n;
        at += blanks + word;
    }
    fputc('\n', out);
}

void text_print(const char *text, struct text_style style, FILE *out)
{
    while (*text != '\0') {
        size_t len = strcspn(text, "\n");

        print_line(text, len, style, out);
        text += len + (text[len] == '\n');
    }
}

FILE *text_begin(struct text_report *t)
{
    *t = (struct text_report){.text = NULL};
    t->file = open_memstream(&t->text, &t->size);
    return t->file;
}

int text_end(struct text_report *t, enum text_color color, FILE *stream)
{
    int r = t->file == NULL || fclose(t->file) != 0 ? -ENOMEM : 0;

    if (r == 0)
        text_print(t->text, text_style_of(stream, color), stream);
    free(t->text);
    return r;
}
