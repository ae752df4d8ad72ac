/* SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause */
/* JSON helpers. json-c passes on any bytes of a text, so invalid UTF-8 is replaced here. */
#include "json.h"

#include "utf8.h"

#include <godwit/version.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/utsname.h>
#include <unistd.h>

struct json_object *json_text(const char *text)
{
    char *copy = utf8_clean(text);
    struct json_object *json = copy != NULL ? json_object_new_string(copy) : NULL;

    free(copy);
    return json;
}

/* The model name of the first processor; empty if unknown. */
static void read_processor(char *buf, size_t size)
{
    FILE *file = fopen("/proc/cpuinfo", "re");
    char line[256], *value;

    buf[0] = '\0';
    while (file != NULL && buf[0] == '\0' && fgets(line, sizeof(line), file) != NULL) {
        value = strstr(line, ": ");
        if (strncmp(line, "model name", 10) == 0 && value != NULL)
            snprintf(buf, size, "%.*s", (int)strcspn(value + 2, "\n"), value + 2);
    }
    if (file != NULL)
        fclose(file);
}

/* The machine that the command runs on. */
static struct json_object *json_host(void)
{
    struct json_object *json = json_object_new_object();
    struct utsname name;
    char text[256];

    if (uname(&name) == 0) {
        json_add_text(json, "name", name.nodename);
        snprintf(text, sizeof(text), "%s %s", name.sysname, name.release);
        json_add_text(json, "kernel", text);
        json_add_text(json, "machine", name.machine);
    }
    read_processor(text, sizeof(text));
    json_add_text(json, "processor", text[0] != '\0' ? text : NULL);
    json_add_number(json, "processors", (uint64_t)sysconf(_SC_NPROCESSORS_ONLN));
    json_add_number(json, "memory_bytes",
                    (uint64_t)sysconf(_SC_PHYS_PAGES) * (uint64_t)sysconf(_SC_PAGESIZE));
    return json;
}

struct json_object *json_new(const char *command)
{
    struct json_object *json = json_object_new_object();

    json_add_text(json, "godwit", GW_VERSION_STRING);
    json_add_text(json, "command", command);
    json_object_object_add(json, "host", json_host());
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
