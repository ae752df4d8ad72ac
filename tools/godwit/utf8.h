/* SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause */
/* Texts from outside, on their way into JSON, XML and HTML. */
#pragma once

#include <stdio.h>

/*
 * A copy without anything that is not UTF-8 or not printable on one line: each such byte becomes a
 * question mark. Free it. NULL: no memory.
 */
char *utf8_clean(const char *text);

/* Print as the contents of an XML or HTML element or attribute, cleaned. */
void utf8_print_xml(FILE *out, const char *text);
