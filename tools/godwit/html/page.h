/* SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause */
/*
 * A report as one HTML page, made from the JSON report and nothing else, so that a page can be made
 * later and on another host. The page needs no scripts, files or network.
 */
#pragma once

#include "output.h"

#include <json-c/json.h>
#include <stdio.h>

#define PAGE_INPUT_MAX  (256u << 20) /* bytes of JSON */
#define PAGE_VALUES_MAX 8000000      /* an estimate of its values, which limits the memory needed */

/*
 * Make the page from untrusted JSON text. Returns: 0; -EINVAL: not a JSON report of godwit; -EFBIG:
 * beyond a limit; -ENOMEM. On failure `why` says what is wrong and what to do.
 */
int page_make(const char *json, size_t len, FILE *out, char *why, size_t size);
/*
 * Make the page from the printed JSON and write it to a file, "-" for stdout. Ends `json`. `source`
 * is the file of the JSON, NULL if it has none. Errors are reported. Returns: as page_make and
 * output_end.
 */
int page_write(struct output *json, const char *source, const char *path);

/* The template, embedded at build time. NUL-terminated. */
extern const char page_template[];

/* page_view.c: add the values that follow from others, as the member "view". */
void page_add_view(struct json_object *document);
/* page_charts.c: the charts of a migration by name. A template_chart; the argument is a report. */
void page_chart(const char *name, const void *timeline, FILE *out);
