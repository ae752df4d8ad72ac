/* SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause */
/* The back-ends and their features in the forms of the reports. */
#pragma once

#include "backend_record.h"
#include "probe/feature_names.h"

#include <json-c/json.h>
#include <stdio.h>

/* Feature bits with their names; protocol features if `is_protocol`. `device` may be NULL. */
struct json_object *report_json_features(uint64_t bits, const struct features_device *device,
                                         bool is_protocol);
struct json_object *report_json_backends(const struct backend_record *list, unsigned n,
                                         const struct features_device *device);
/* Print a line or two for each. */
void report_print_backends(const struct backend_record *list, unsigned n,
                           const struct features_device *device, FILE *out);
/* The names of feature bits, separated by blanks; bits without a name as numbers. */
void report_feature_names(uint64_t bits, const struct features_device *device, bool is_protocol,
                          char *buf, size_t size);
