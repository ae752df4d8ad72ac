/* SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause */
/*
 * Values of the page that follow from others in the report: sums over all hops, and the lost pages
 * grouped by what they held. The document is untrusted, as in page.h.
 */
#include "page.h"

#include "report/json.h"

#include <string.h>

#define GROUPS_MAX 32

static struct json_object *member(struct json_object *json, const char *name)
{
    struct json_object *value = NULL;

    if (json_object_is_type(json, json_type_object))
        json_object_object_get_ex(json, name, &value);
    return value;
}

static size_t length(struct json_object *list)
{
    return json_object_is_type(list, json_type_array) ? json_object_array_length(list) : 0;
}

static uint64_t number(struct json_object *json, const char *name)
{
    struct json_object *value = member(json, name);

    return json_object_is_type(value, json_type_int) ? json_object_get_uint64(value) : 0;
}

static void add_totals(struct json_object *document, struct json_object *view)
{
    static const char *const names[] = {"pages_lost", "pages_marked", "pages_unchanged", "rounds",
                                        "logs_replaced"};
    struct json_object *hops = member(document, "hops"), *load = member(document, "load");
    uint64_t sums[5] = {0}, downtime = 0;
    bool is_postcopy = false;
    char text[32];

    for (size_t i = 0; i < length(hops); i++) {
        struct json_object *hop = json_object_array_get_idx(hops, i);

        for (unsigned k = 0; k < 5; k++)
            sums[k] += number(hop, names[k]);
        if (number(hop, "downtime_ns") > downtime)
            downtime = number(hop, "downtime_ns");
        is_postcopy |= member(hop, "postcopy") != NULL;
    }
    for (unsigned k = 0; k < 5; k++)
        json_add_number(view, names[k], sums[k]);
    snprintf(text, sizeof(text), "%.1f %%",
             sums[1] != 0 ? 100.0 * (double)sums[2] / (double)sums[1] : 0.0);
    json_add_text(view, "unchanged", text);
    json_add_number(view, "downtime_ns", downtime);
    json_add_bool(view, "is_postcopy", is_postcopy);
    json_add_number(view, "blocks_verified",
                    number(load, "verified_blocks") + number(load, "disk_blocks_read_back"));
}

static bool is_text(struct json_object *value, const char *text)
{
    return json_object_is_type(value, json_type_string) &&
           strcmp(json_object_get_string(value), text) == 0;
}

/* The group of that cause; created if it is missing. NULL: too many, or no cause. */
static struct json_object *group_of(struct json_object *groups, const char *cause)
{
    struct json_object *group;

    if (cause == NULL)
        return NULL;
    for (size_t i = 0; i < length(groups); i++) {
        group = json_object_array_get_idx(groups, i);
        if (is_text(member(group, "cause"), cause))
            return group;
    }
    if (length(groups) >= GROUPS_MAX || (group = json_object_new_object()) == NULL)
        return NULL;
    json_add_text(group, "cause", cause);
    json_add_bool(group, "is_hint", true);
    json_object_object_add(group, "pages", json_object_new_array());
    json_object_array_add(groups, group);
    return group;
}

static void add_groups(struct json_object *document, struct json_object *view)
{
    struct json_object *lost = member(document, "lost"), *groups = json_object_new_array();
    struct json_object *counts = member(document, "lost_by_use");

    json_object_object_add(view, "lost_groups", groups);
    for (size_t i = 0; i < length(lost); i++) {
        struct json_object *page = json_object_array_get_idx(lost, i), *use = member(page, "use");
        const char *cause =
            json_object_is_type(use, json_type_string) ? json_object_get_string(use) : NULL;
        struct json_object *group = group_of(groups, cause);

        if (group == NULL)
            continue;
        json_object_array_add(member(group, "pages"), json_object_get(page));
        json_add_number(group, "listed", length(member(group, "pages")));
        /* Pages whose first byte is another part may hold this one as well. */
        json_add_number(group, "total", number(counts, cause));
        if (!json_object_get_boolean(member(page, "is_hint")))
            json_add_bool(group, "is_hint", false);
    }
}

/* The role of a back-end whose name is another, such as "A". */
static void add_roles(struct json_object *document)
{
    struct json_object *faults = member(document, "faults");

    for (size_t i = 0; i < length(faults); i++) {
        struct json_object *fault = json_object_array_get_idx(faults, i);
        struct json_object *side = member(fault, "side"), *who = member(fault, "who");

        if (json_object_is_type(side, json_type_string) &&
            !is_text(who, json_object_get_string(side)))
            json_object_object_add(fault, "role", json_object_get(side));
    }
}

void page_add_view(struct json_object *document)
{
    struct json_object *view = json_object_new_object();

    add_totals(document, view);
    add_groups(document, view);
    add_roles(document);
    json_object_object_add(document, "view", view);
}
