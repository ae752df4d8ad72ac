/* SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause */
/* See page.h. */
#include "page.h"

#include "command.h"
#include "template.h"
#include "timeline.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#define NESTING_MAX 16

/* Every value but the first follows a comma, a colon or an opening bracket. */
static bool has_too_many(const char *json, size_t len)
{
    size_t n = 0;

    for (size_t i = 0; i < len; i++)
        n += json[i] == ',' || json[i] == ':' || json[i] == '[';
    return n > PAGE_VALUES_MAX;
}

/* Only blanks may follow the document. */
static bool ends_after(const char *json, size_t len, size_t at)
{
    while (at < len && strchr(" \t\r\n", json[at]) != NULL && json[at] != '\0')
        at++;
    return at == len;
}

static int parse(const char *json, size_t len, struct json_object **ret, char *why, size_t size)
{
    struct json_tokener *tokener = json_tokener_new_ex(NESTING_MAX);
    enum json_tokener_error error;
    size_t at;

    if (tokener == NULL) {
        snprintf(why, size, "%s", strerror(ENOMEM));
        return -ENOMEM;
    }
    json_tokener_set_flags(tokener, JSON_TOKENER_STRICT | JSON_TOKENER_ALLOW_TRAILING_CHARS |
                                        JSON_TOKENER_VALIDATE_UTF8);
    *ret = json_tokener_parse_ex(tokener, json, (int)len);
    error = json_tokener_get_error(tokener);
    at = json_tokener_get_parse_end(tokener);
    json_tokener_free(tokener);
    if (error == json_tokener_success && ends_after(json, len, at))
        return 0;
    json_object_put(*ret);
    *ret = NULL;
    if (error == json_tokener_continue && at == len)
        snprintf(why, size, "the JSON is incomplete: it ends after %zu bytes; copy the whole file",
                 len);
    else
        snprintf(why, size, "not JSON at byte %zu: %s; give a file that --json has written", at + 1,
                 at < len && json[at] == '\0'    ? "a NUL byte"
                 : error == json_tokener_success ? "more after its end"
                                                 : json_tokener_error_desc(error));
    return -EINVAL;
}

static bool is_report(struct json_object *document)
{
    static const char *const commands[] = {"migrate", "crash", "bench", "probe"};
    struct json_object *command = NULL, *version = NULL;

    if (!json_object_is_type(document, json_type_object))
        return false;
    json_object_object_get_ex(document, "godwit", &version);
    json_object_object_get_ex(document, "command", &command);
    for (size_t i = 0; i < sizeof(commands) / sizeof(commands[0]); i++) {
        if (json_object_is_type(version, json_type_string) &&
            json_object_is_type(command, json_type_string) &&
            strcmp(json_object_get_string(command), commands[i]) == 0)
            return true;
    }
    return false;
}

static int fill(struct json_object *document, FILE *out, char *why, size_t size)
{
    struct timeline *timeline;
    int r = timeline_new(&timeline, document);

    if (r == 0) {
        page_add_view(document);
        r = template_fill(page_template, document, page_chart, timeline, out);
        timeline_free(timeline);
    }
    if (r == -EFBIG)
        snprintf(why, size, "the page would exceed %d MiB; was the file written by godwit?",
                 TEMPLATE_OUTPUT_MAX >> 20);
    else if (r < 0)
        snprintf(why, size, "%s", strerror(-r));
    return r;
}

int page_make(const char *json, size_t len, FILE *out, char *why, size_t size)
{
    struct json_object *document;
    int r;

    if (len > PAGE_INPUT_MAX || has_too_many(json, len)) {
        snprintf(why, size,
                 "more than %u MiB or %u million values of JSON; a shorter run gives fewer samples",
                 PAGE_INPUT_MAX >> 20, PAGE_VALUES_MAX / 1000000);
        return -EFBIG;
    }
    r = parse(json, len, &document, why, size);
    if (r < 0)
        return r;
    if (is_report(document)) {
        r = fill(document, out, why, size);
    } else {
        snprintf(
            why, size,
            "JSON, but not a report: \"godwit\" and \"command\" are missing or unknown; give a "
            "file that --json has written");
        r = -EINVAL;
    }
    json_object_put(document);
    return r;
}

int page_write(struct output *json, const char *source, const char *path)
{
    struct output page = {.text = NULL};
    char why[256] = "";
    int r = json->file == NULL || fclose(json->file) != 0 ? -ENOMEM : 0;

    snprintf(why, sizeof(why), "%s", strerror(ENOMEM));
    if (r == 0 && output_begin(&page) != NULL)
        r = page_make(json->text, json->len, page.file, why, sizeof(why));
    free(json->text);
    if (r == 0)
        return output_end(&page, path);
    if (source != NULL)
        message_print("%s: %s", strcmp(source, "-") == 0 ? "stdin" : source, why);
    else
        message_print("%s cannot be made: %s", path, why);
    if (page.file != NULL)
        fclose(page.file);
    free(page.text);
    return r;
}
