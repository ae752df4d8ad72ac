/* SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause */
/* Lists of checks in the forms that all reports share. */
#pragma once

#include "report_backend.h"
#include "report_evidence.h"
#include "verdict.h"

#include <json-c/json.h>
#include <stdint.h>
#include <stdio.h>
#include <time.h>

/* Print one line for each check. */
void report_print_checks(const struct report_check *checks, unsigned n, FILE *out);
/* The checks as a JSON array. */
struct json_object *report_json_checks(const struct report_check *checks, unsigned n);

/* report_junit.c: a test suite with one test case for each check. */
struct report_suite {
    const char *name;         /* "godwit.migrate" */
    const char *command_line; /* repeats the run */
    const char *sentence;     /* explains the verdict */
    const struct report_check *checks;
    unsigned n_checks;
    const struct backend_record *backends;
    unsigned n_backends;
    const struct features_device *device; /* names their features */
    const struct evidence *evidence;      /* evidence about the back-ends at fault */
    unsigned n_evidence;
    enum verdict verdict;
    bool is_strict;
    uint64_t seed;
    uint64_t duration_ns;
    time_t began;
};

void report_print_suite(const struct report_suite *s, FILE *out);
