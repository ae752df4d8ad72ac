/* SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause */
/*
 * See template.h. Nothing from the document is printed without escaping, and a value of another
 * type than the template expects is printed as text, or not at all.
 */
#include "template.h"

#include "format.h"
#include "utf8.h"

#include <errno.h>
#include <inttypes.h>
#include <math.h>
#include <stdbool.h>
#include <string.h>

#define TAG_MAX   96
#define NAME_SIZE 48
#define DEPTH_MAX 16
#define CLASS_MAX 32

struct render {
    struct json_object *document;
    template_chart *chart;
    const void *arg;
    FILE *out;
    unsigned depth;
    int error;
};

/* The element to which paths are relative. */
struct scope {
    struct json_object *value;
    const char *key; /* NULL: not a member */
    size_t number;   /* from 1 */
};

/* ---- Values ---- */

/* Returns: the value at a path; NULL if a part is missing. */
static struct json_object *find(const struct render *r, const struct scope *s, const char *path)
{
    struct json_object *value = *path == '/' ? r->document : s->value;
    char name[NAME_SIZE];

    path += *path == '/';
    if (strcmp(path, ".") == 0)
        return value;
    while (*path != '\0') {
        size_t len = strcspn(path, ".");

        if (len >= sizeof(name) || !json_object_is_type(value, json_type_object))
            return NULL;
        memcpy(name, path, len);
        name[len] = '\0';
        value = json_object_object_get(value, name);
        path += len + (path[len] == '.');
    }
    return value;
}

static bool is_true(struct json_object *value)
{
    switch (json_object_get_type(value)) {
    case json_type_boolean:
        return json_object_get_boolean(value);
    case json_type_int:
    case json_type_double:
        return json_object_get_double(value) != 0;
    case json_type_string:
        return json_object_get_string_len(value) > 0;
    case json_type_array:
        return json_object_array_length(value) > 0;
    case json_type_object:
        return json_object_object_length(value) > 0;
    default:
        return false;
    }
}

static void print_text(struct render *r, struct json_object *value)
{
    const char *text;

    if (json_object_is_type(value, json_type_string))
        utf8_print_xml_len(r->out, json_object_get_string(value),
                           (size_t)json_object_get_string_len(value));
    else if (json_object_is_type(value, json_type_boolean))
        fputs(json_object_get_boolean(value) ? "yes" : "no", r->out);
    else if (value == NULL)
        fputs("none", r->out);
    else if ((text = json_object_to_json_string_ext(value, JSON_C_TO_STRING_SPACED)) != NULL)
        utf8_print_xml(r->out, text);
}

/* One word of lower-case letters, digits and dashes, so that it fits any class attribute. */
static void print_class(struct render *r, struct json_object *value)
{
    const char *text =
        json_object_is_type(value, json_type_string) ? json_object_get_string(value) : "";
    bool has_gap = false;

    for (unsigned n = 0; *text != '\0' && n < CLASS_MAX; text++) {
        char c = (char)(*text >= 'A' && *text <= 'Z' ? *text + 32 : *text);
        bool is_plain = (c >= 'a' && c <= 'z') || (c >= '0' && c <= '9');

        if (is_plain && has_gap && n > 0)
            fputc('-', r->out);
        if (is_plain) {
            fputc(c, r->out);
            n++;
        }
        has_gap = !is_plain;
    }
}

static void print_words(struct render *r, const char *text)
{
    char words[NAME_SIZE];

    snprintf(words, sizeof(words), "%s", text);
    for (char *c = words; *c != '\0'; c++)
        *c = (char)(*c == '_' ? ' ' : *c);
    utf8_print_xml(r->out, words);
}

static void print_number(struct render *r, const char *name, struct json_object *value)
{
    double real = json_object_get_double(value);
    uint64_t n = real >= 0 && real < 1.8e19 ? json_object_get_uint64(value) : 0;
    struct format f = {.text = "?"};

    if (!json_object_is_type(value, json_type_int) && !json_object_is_type(value, json_type_double))
        fputs(value == NULL ? "-" : "?", r->out);
    else if (!isfinite(real) || real < 0 || real >= 1.8e19)
        fputs("?", r->out);
    else if (strcmp(name, "seconds") == 0)
        fprintf(r->out, "%.6f s", real / 1e9);
    else {
        if (strcmp(name, "time") == 0)
            f = format_time(n);
        else if (strcmp(name, "bytes") == 0)
            f = format_bytes(n);
        else if (strcmp(name, "count") == 0)
            f = format_count(n);
        else if (strcmp(name, "rate") == 0)
            f = format_rate(real);
        else if (strcmp(name, "byterate") == 0)
            f = format_byte_rate(real);
        else
            r->error = -EINVAL;
        fputs(f.text, r->out);
    }
}

static void print(struct render *r, const struct scope *s, const char *tag)
{
    const char *blank = strchr(tag, ' '), *path = blank != NULL ? blank + 1 : tag;
    char name[NAME_SIZE] = "";

    if (blank != NULL)
        snprintf(name, sizeof(name), "%.*s", (int)(blank - tag), tag);
    if (strcmp(name, "chart") == 0) {
        r->chart(path, r->arg, r->out);
    } else if (strcmp(path, "@key") == 0) {
        print_words(r, s->key != NULL ? s->key : "");
    } else if (strcmp(path, "@number") == 0) {
        fprintf(r->out, "%zu", s->number);
    } else if (strcmp(name, "class") == 0) {
        print_class(r, find(r, s, path));
    } else if (strcmp(name, "words") == 0) {
        struct json_object *value = find(r, s, path);

        if (json_object_is_type(value, json_type_string))
            print_words(r, json_object_get_string(value));
    } else if (blank != NULL) {
        print_number(r, name, find(r, s, path));
    } else {
        print_text(r, find(r, s, path));
    }
}

/* ---- Sections ---- */

static const char *block(struct render *r, const char *at, const struct scope *s, bool is_shown);

static bool is_equal(struct render *r, const struct scope *s, const char *tag)
{
    const char *blank = strchr(tag, ' ');
    struct json_object *value;
    char path[TAG_MAX];

    if (blank == NULL) {
        r->error = -EINVAL;
        return false;
    }
    snprintf(path, sizeof(path), "%.*s", (int)(blank - tag), tag);
    value = find(r, s, path);
    return json_object_is_type(value, json_type_string) &&
           strcmp(json_object_get_string(value), blank + 1) == 0;
}

static void repeat_members(struct render *r, const char *at, struct json_object *value)
{
    struct scope inner = {.number = 0};

    if (!json_object_is_type(value, json_type_object))
        return;
    json_object_object_foreach(value, key, member)
    {
        inner = (struct scope){member, key, inner.number + 1};
        block(r, at, &inner, true);
    }
}

static void repeat_elements(struct render *r, const char *at, struct json_object *value)
{
    size_t n = json_object_is_type(value, json_type_array) ? json_object_array_length(value) : 0;
    struct scope inner = {.value = value, .number = 1};

    if (json_object_is_type(value, json_type_object))
        block(r, at, &inner, true);
    for (size_t i = 0; i < n && r->error == 0; i++) {
        inner = (struct scope){json_object_array_get_idx(value, i), NULL, i + 1};
        block(r, at, &inner, true);
    }
}

/* Show or skip the block at `at`, which `tag` opens. Returns: the end of the block. */
static const char *section(struct render *r, const char *at, const struct scope *s, const char *tag,
                           bool is_shown)
{
    const char *end = NULL;

    if (r->depth >= DEPTH_MAX)
        r->error = -EINVAL;
    if (r->error != 0)
        return at;
    r->depth++;
    if (is_shown && *tag == '#')
        repeat_elements(r, at, find(r, s, tag + 1));
    else if (is_shown && *tag == '*')
        repeat_members(r, at, find(r, s, tag + 1));
    else if (is_shown)
        end = block(r, at, s,
                    *tag == '=' ? is_equal(r, s, tag + 1)
                                : is_true(find(r, s, tag + 1)) == (*tag == '?'));
    if (end == NULL)
        end = block(r, at, s, false);
    r->depth--;
    return end;
}

/* Copy the tag at `at`, without its braces. Returns: what follows; NULL if it is invalid. */
static const char *read_tag(const char *at, char tag[TAG_MAX])
{
    const char *end = strstr(at, "}}");

    if (end == NULL || (size_t)(end - at - 2) >= TAG_MAX || end - at <= 2)
        return NULL;
    snprintf(tag, TAG_MAX, "%.*s", (int)(end - at - 2), at + 2);
    return end + 2;
}

/* Show a block up to its {{/}}, or the whole template. Returns: the end of the block. */
static const char *block(struct render *r, const char *at, const struct scope *s, bool is_shown)
{
    char tag[TAG_MAX];

    if (is_shown && ftello(r->out) > TEMPLATE_OUTPUT_MAX)
        r->error = -EFBIG;
    while (r->error == 0) {
        const char *next = strstr(at, "{{");
        size_t len = next != NULL ? (size_t)(next - at) : strlen(at);

        if (is_shown)
            fwrite(at, 1, len, r->out);
        if (next == NULL) {
            if (r->depth > 0)
                r->error = -EINVAL; /* no {{/}} */
            return at + len;
        }
        at = read_tag(next, tag);
        if (at == NULL) {
            r->error = -EINVAL;
            return next;
        }
        if (strcmp(tag, "/") == 0) {
            if (r->depth == 0)
                r->error = -EINVAL; /* nothing is open */
            return at;
        }
        if (strchr("#*?^=", tag[0]) != NULL)
            at = section(r, at, s, tag, is_shown);
        else if (is_shown)
            print(r, s, tag);
    }
    return at;
}

int template_fill(const char *text, struct json_object *document, template_chart *chart,
                  const void *arg, FILE *out)
{
    struct render r = {.document = document, .chart = chart, .arg = arg, .out = out};
    struct scope all = {.value = document, .number = 1};

    block(&r, text, &all, true);
    return r.error;
}
