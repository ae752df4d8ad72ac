/* SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause */
/* Sanitizes untrusted texts for JSON, XML and HTML. */
#pragma once

#include <stddef.h>
#include <stdio.h>

/*
 * A copy in which each byte that is not UTF-8, or not printable on one line, is replaced by a
 * question mark. Free it. NULL: out of memory.
 */
char *utf8_clean(const char *text);

/* Print as the contents of an XML or HTML element or attribute, sanitized and escaped. */
void utf8_print_xml(FILE *out, const char *text);
/* The same for `len` bytes that a NUL follows, and that may include NUL. */
void utf8_print_xml_len(FILE *out, const char *text, size_t len);
