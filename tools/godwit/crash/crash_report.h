/* SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause */
/* The report of a run: text, JSON and JUnit, all from the same checks. */
#pragma once

#include "crash.h"
#include "report/report_check.h"

struct crash_report {
    const struct crash_options *options;
    const struct crash_result *result;
    const char *target;       /* command line of the target */
    const char *command_line; /* repeats the run, seed included */
    time_t began;
};

/* Fill in all CRASH_N_CHECKS checks. */
void crash_report_checks(const struct crash_report *r, struct report_check *checks);
/* The verdict that follows from the checks. */
enum verdict crash_report_verdict(const struct crash_report *r);
/* One sentence on the verdict. */
void crash_report_sentence(const struct crash_report *r, char *buf, size_t size);

typedef void crash_report_form(const struct crash_report *r, FILE *out);
crash_report_form crash_report_text, crash_report_json, crash_report_junit;
