/* SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause */
/* JSON helpers. json-c passes on any bytes of a text, so invalid UTF-8 is replaced here. */
#include "json.h"

#include "utf8.h"

#include <godwit/version.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>

struct json_object *json_text(const char *text)
{
    char *copy = utf8_clean(text);
    struct json_object *json = copy != NULL ? json_object_new_string(copy) : NULL;

    free(copy);
    return json;
}

struct json_object *json_new(const char *command)
{
    struct json_object *json = json_object_new_object();

    json_add_text(json, "godwit", GW_VERSION_STRING);
    json_add_text(json, "command", command);
    return json;
}

void json_add_text(struct json_object *json, const char *key, const char *text)
{
    json_object_object_add(json, key, text != NULL ? json_text(text) : NULL);
}

void json_add_number(struct json_object *json, const char *key, uint64_t value)
{
    json_object_object_add(json, key, json_object_new_uint64(value));
}

void json_add_real(struct json_object *json, const char *key, double value)
{
    char text[40];

    if (!isfinite(value)) {
        json_object_object_add(json, key, NULL);
        return;
    }
    /* json-c would print 17 digits, most of them insignificant. */
    snprintf(text, sizeof(text), "%.6g", value);
    json_object_object_add(json, key, json_object_new_double_s(value, text));
}

void json_add_bool(struct json_object *json, const char *key, bool value)
{
    json_object_object_add(json, key, json_object_new_boolean(value));
}

void json_print(struct json_object *json, FILE *out)
{
    fprintf(out, "%s\n",
            json_object_to_json_string_ext(json, JSON_C_TO_STRING_PRETTY |
                                                     JSON_C_TO_STRING_NOSLASHESCAPE));
}
