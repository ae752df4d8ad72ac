/* SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause */
/* The last messages and output lines of a back-end, as text and as JSON. */
#include "report_evidence.h"

#include "json.h"
#include "utf8.h"

#include <stdlib.h>
#include <string.h>

void report_print_evidence(const struct evidence *e, FILE *out)
{
    fprintf(out, "messages    the last %u with %s%s\n", e->n_messages, e->who,
            e->n_messages == 0 ? "" : ":");
    for (unsigned i = 0; i < e->n_messages; i++)
        fprintf(out, "    %12.6f s  %s\n", (double)e->messages[i].at_ns / 1e9, e->messages[i].text);
    if (!e->has_output) {
        fprintf(out, "output      of %s: not read, because godwit did not start it\n", e->who);
        return;
    }
    fprintf(out, "output      of %s: %s\n", e->who,
            e->n_lines == 0 ? "it wrote nothing" : "the last lines");
    for (unsigned i = 0; i < e->n_lines; i++)
        fprintf(out, "    %s: %s\n", e->who, e->lines[i]);
}

void report_xml_evidence(const struct evidence *e, FILE *out)
{
    char *text = NULL;
    size_t size = 0;
    FILE *lines = open_memstream(&text, &size);

    if (lines == NULL)
        return;
    report_print_evidence(e, lines);
    if (fclose(lines) == 0) {
        for (char *line = text, *end; (end = strchr(line, '\n')) != NULL; line = end + 1) {
            *end = '\0';
            utf8_print_xml(out, line);
            fputc('\n', out);
        }
    }
    free(text);
}

struct json_object *report_json_evidence(const struct evidence *e)
{
    struct json_object *json = json_object_new_object(), *messages = json_object_new_array();
    struct json_object *lines = e->has_output ? json_object_new_array() : NULL;

    json_add_text(json, "who", e->who);
    for (unsigned i = 0; i < e->n_messages; i++) {
        struct json_object *message = json_object_new_object();

        json_add_number(message, "at_ns", e->messages[i].at_ns);
        json_add_text(message, "text", e->messages[i].text);
        json_object_array_add(messages, message);
    }
    for (unsigned i = 0; lines != NULL && i < e->n_lines; i++)
        json_object_array_add(lines, json_text(e->lines[i]));
    json_object_object_add(json, "messages", messages);
    json_object_object_add(json, "output", lines); /* null: not read */
    return json;
}
