/* SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause */
/*
 * Reports of a migration: on the terminal while it runs, and as text, JSON, JUnit and HTML
 * afterwards. All forms use the same list of checks, so that they cannot disagree.
 */
#pragma once

#include "migrate/migrate.h"
#include "report_check.h"
#include "report_evidence.h"

#include <json-c/json.h>
#include <stdio.h>
#include <time.h>

struct report {
    const struct migration_options *options;
    const struct migration_result *result;
    const char *source, *destination; /* socket paths or command lines */
    const char *command_line;         /* repeats the run, seed included */
    uint64_t max_downtime_ns;         /* 0: no limit */
    bool is_strict;                   /* hints count as faults */
    time_t began;
};

/* ---- report.c: the checks ---- */

#define REPORT_CHECKS_MAX 16

/* Returns: the number of checks. */
unsigned report_checks(const struct report *r, struct report_check *checks);
/* The verdict that follows from the checks, and its exit status. */
enum verdict report_verdict(const struct report *r);
int report_status(const struct report *r);
/* One sentence on the verdict. */
void report_sentence(const struct report *r, char *buf, size_t size);
/* The severity of lost pages as a sentence; empty if no page was lost. */
void report_severity(const struct report *r, char *buf, size_t size);
/* The name of the device type: "blk", "rng" or "generic". */
const char *report_device_name(const struct report *r);
/* A fault as a sentence: back-end, phase and description. */
void report_fault(const struct report *r, const struct migration_fault *f, char *buf, size_t size);

/* ---- The forms ---- */

void report_text(const struct report *r, FILE *out);
void report_json(const struct report *r, FILE *out);
void report_junit(const struct report *r, FILE *out);

typedef void report_form(const struct report *r, FILE *out);

/* Write a form to a file. Returns: as output_end. */
int report_write(const struct report *r, report_form *form, const char *path);
/* Write the HTML page, which is made from the JSON form. Returns: as page_write. */
int report_write_html(const struct report *r, const char *path);

/* Show the progress of a migration; the argument is a struct progress. */
migration_progress_cb progress_tell;
