/* SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause */
/* One thing that a command proved, or not; and lists of them, which all forms of a report have. */
#pragma once

#include <json-c/json.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <time.h>

enum report_outcome {
    REPORT_PASSED = 0,
    REPORT_FAILED,
    REPORT_SKIPPED, /* it did not come to that */
};

struct report_check {
    const char *name;  /* "pages-marked" */
    const char *title; /* "every page written was marked" */
    enum report_outcome outcome;
    char text[512]; /* what was seen */
};

/* A line of text for each that was not skipped. */
void report_print_checks(const struct report_check *checks, unsigned n, FILE *out);
/* A JSON array of them. */
struct json_object *report_json_checks(const struct report_check *checks, unsigned n);

/* report_junit.c: a test suite of which each check is a test case. */
struct report_suite {
    const char *name;         /* "godwit.migrate" */
    const char *command_line; /* with which it can be run again */
    const char *sentence;     /* on the verdict */
    const struct report_check *checks;
    unsigned n_checks;
    bool could_not; /* run: an error, and no failure of the back-end */
    uint64_t seed;
    uint64_t duration_ns;
    time_t began;
};

void report_print_suite(const struct report_suite *s, FILE *out);
