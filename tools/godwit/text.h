/* SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause */
/*
 * Reports for people on a stream: wrapped between words, and with coloured verdicts on a terminal.
 * Control characters become question marks, because texts of back-ends are untrusted.
 */
#pragma once

#include <argp.h>
#include <stdbool.h>
#include <stdio.h>

enum text_color {
    TEXT_COLOR_AUTO = 0, /* on a terminal, unless NO_COLOR is set */
    TEXT_COLOR_ALWAYS,
    TEXT_COLOR_NEVER,
};

/* --color: the child parser's input is an enum text_color. */
extern const struct argp text_color_argp;

struct text_style {
    unsigned width; /* columns */
    bool has_color;
};

/*
 * How to print on a stream: in the columns of COLUMNS if it is set, otherwise of the terminal, but
 * 40 at least and 80 at most.
 */
struct text_style text_style_of(FILE *stream, enum text_color color);

/*
 * Print lines in that style. A continuation is indented to the text behind the label of its line.
 * Lines with the label "repeat" are for a shell, and not wrapped.
 */
void text_print(const char *text, struct text_style style, FILE *out);

/* A report that is printed first and shown later. */
struct text_report {
    FILE *file; /* to print to; NULL: out of memory */
    char *text;
    size_t size;
};

FILE *text_begin(struct text_report *t);
/* Show it on a stream. Returns: 0; -ENOMEM. */
int text_end(struct text_report *t, enum text_color color, FILE *stream);
