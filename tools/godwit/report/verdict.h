/* SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause */
/*
 * The verdict of a command and its checks. All forms of a report and the exit status follow from
 * the same list of checks, so they cannot disagree.
 */
#pragma once

#include <stdbool.h>

enum verdict {
    VERDICT_PASSED = 0,   /* all checks that ran held, and at least one core check ran */
    VERDICT_HINTS,        /* as above, but words that cannot lose data were not marked */
    VERDICT_NOT_TESTED,   /* nothing exercised the property */
    VERDICT_FAILED,       /* the back-end is at fault */
    VERDICT_INCONCLUSIVE, /* the test could not be run */
    N_VERDICTS,
};

/* The name in reports, such as "PASSED, with hints". */
const char *verdict_name(enum verdict verdict);
/* The exit status. With `is_strict`, hints count as faults. */
int verdict_status(enum verdict verdict, bool is_strict);

enum report_outcome {
    REPORT_PASSED = 0,
    REPORT_HINT,    /* passed, except for words that cannot lose data */
    REPORT_FAILED,  /* the back-end is at fault */
    REPORT_SKIPPED, /* the check did not run; its text says why */
    N_REPORT_OUTCOMES,
};

struct report_check {
    const char *name;  /* "pages-marked" */
    const char *title; /* "every page written was marked" */
    enum report_outcome outcome;
    bool is_core;     /* the verdict is NOT TESTED unless a core check ran */
    const char *rule; /* that it tests; NULL: a limit of the user's own */
    char text[640];   /* the finding, or why the check was skipped */
};

/* "passed", "hint", "failed" or "skipped". */
const char *report_outcome_name(enum report_outcome outcome);

/* `could_not`: the test could not be completed, through no fault of the back-end. */
enum verdict verdict_of(const struct report_check *checks, unsigned n, bool could_not);
