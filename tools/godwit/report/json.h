/* SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause */
/*
 * Helpers to build JSON with json-c. When memory runs out, a member is missing or null, without
 * further effect.
 */
#pragma once

#include <json-c/json.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>

/* An object that starts with the version of godwit and the command. */
struct json_object *json_new(const char *command);

/* A string, with invalid UTF-8 replaced. NULL: out of memory. */
struct json_object *json_text(const char *text);
void json_add_text(struct json_object *json, const char *key, const char *text); /* NULL: null */
void json_add_number(struct json_object *json, const char *key, uint64_t value);
void json_add_real(struct json_object *json, const char *key, double value);
void json_add_bool(struct json_object *json, const char *key, bool value);

/* Print the whole object, indented for human readers. */
void json_print(struct json_object *json, FILE *out);
