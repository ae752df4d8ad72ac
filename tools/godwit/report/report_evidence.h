/* SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause */
/* Evidence in the forms of the reports. */
#pragma once

#include "evidence.h"

#include <json-c/json.h>
#include <stdio.h>

/* Print some lines of text. */
void report_print_evidence(const struct evidence *e, FILE *out);
/* The same lines as the contents of an XML or HTML element. */
void report_xml_evidence(const struct evidence *e, FILE *out);
struct json_object *report_json_evidence(const struct evidence *e);
