/* SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause */
/*
 * Fills an HTML template from a JSON document. The document is untrusted; the template is ours.
 *
 *   {{PATH}}             the value as text, escaped
 *   {{FORMAT PATH}}      the value in a format: time, bytes, count, rate, byterate, seconds, words
 *                        (blanks for underscores) or class (one word for a class attribute)
 *   {{#PATH}}...{{/}}    for each element of an array, or once for an object; paths inside are
 *                        relative to the element
 *   {{*PATH}}...{{/}}    for each member of an object; {{@key}} is its name
 *   {{?PATH}}...{{/}}    if the value is there and not false, 0 or empty; paths stay the same
 *   {{^PATH}}...{{/}}    if not
 *   {{=PATH TEXT}}...{{/}}  if the value is this text
 *   {{chart NAME}}       what the callback inserts
 *
 * A path is names with dots between, "." is the element itself, "@number" counts elements from 1.
 * A leading slash starts at the document instead of the element.
 */
#pragma once

#include <json-c/json.h>
#include <stdio.h>

#define TEMPLATE_OUTPUT_MAX (64 << 20) /* bytes */

typedef void template_chart(const char *name, const void *arg, FILE *out);

/*
 * Returns: 0; -EINVAL: the template is invalid; -EFBIG: the output exceeds TEMPLATE_OUTPUT_MAX,
 * because the document repeats something too often.
 */
int template_fill(const char *text, struct json_object *document, template_chart *chart,
                  const void *arg, FILE *out);
