/* SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause */
/*
 * Shorthands for building JSON with json-c. Where memory runs out a member is missing or null, and
 * nothing else happens.
 */
#pragma once

#include <json-c/json.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>

/* An object that begins with the version of godwit and the command. */
struct json_object *json_new(const char *command);

/* A string, cleaned of what is not UTF-8. NULL: no memory. */
struct json_object *json_text(const char *text);
void json_add_text(struct json_object *json, const char *key, const char *text); /* NULL: null */
void json_add_number(struct json_object *json, const char *key, uint64_t value);
void json_add_real(struct json_object *json, const char *key, double value);
void json_add_bool(struct json_object *json, const char *key, bool value);

/* All of it, as a text for people as well. */
void json_print(struct json_object *json, FILE *out);
