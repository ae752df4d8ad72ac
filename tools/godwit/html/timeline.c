/* SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause */
/* See timeline.h. */
#include "timeline.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#define HOPS_MAX    8192
#define SAMPLES_MAX 2000000
#define VALUE_MAX   UINT64_C(1000000000000000000) /* sums and roundings stay within 64 bits */

static struct json_object *member(struct json_object *json, const char *name)
{
    struct json_object *value = NULL;

    if (json_object_is_type(json, json_type_object))
        json_object_object_get_ex(json, name, &value);
    return value;
}

static uint64_t to_number(struct json_object *value)
{
    uint64_t n = json_object_is_type(value, json_type_int) ? json_object_get_uint64(value) : 0;

    return n < VALUE_MAX ? n : VALUE_MAX;
}

static uint64_t number(struct json_object *json, const char *name)
{
    return to_number(member(json, name));
}

static uint64_t time_of(const struct timeline *t, struct json_object *json, const char *name)
{
    uint64_t ns = number(json, name);

    return ns < t->result.duration_ns ? ns : t->result.duration_ns;
}

static bool flag(struct json_object *json, const char *name)
{
    return json_object_get_boolean(member(json, name)) != 0;
}

/* The number of a hop, counted from 0 as in a result. */
static unsigned hop_of(struct json_object *json)
{
    uint64_t n = number(json, "hop");

    return n > 0 && n <= HOPS_MAX ? (unsigned)n - 1 : 0;
}

/* A zeroed array for a list, at most `max` elements. Returns: 0; -ENOMEM. */
static int make(struct json_object *list, unsigned max, size_t size, void *ret_array,
                unsigned *ret_n)
{
    size_t n = json_object_is_type(list, json_type_array) ? json_object_array_length(list) : 0;
    void *array = calloc(n + 1 < max ? n + 1 : max, size);

    if (array == NULL)
        return -ENOMEM;
    memcpy(ret_array, &array, sizeof(array));
    *ret_n = n < max ? (unsigned)n : max;
    return 0;
}

static int read_hops(struct timeline *t, struct json_object *list)
{
    struct migration_result *result = &t->result;
    int r = make(list, HOPS_MAX, sizeof(*result->hops), &result->hops, &result->n_hops);

    for (unsigned i = 0; r == 0 && i < result->n_hops; i++) {
        struct json_object *json = json_object_array_get_idx(list, i);
        struct migration_hop *hop = &result->hops[i];

        hop->stop_ns = time_of(t, json, "stop_ns");
        hop->end_ns = time_of(t, json, "end_ns");
        hop->downtime_ns = time_of(t, json, "downtime_ns");
        hop->device_stop_ns = time_of(t, json, "device_stop_ns");
        hop->device_start_ns = time_of(t, json, "device_start_ns");
        hop->compare_ns = time_of(t, json, "compare_ns");
        if (hop->device_stop_ns > hop->downtime_ns)
            hop->device_stop_ns = hop->downtime_ns;
        if (hop->device_start_ns > hop->downtime_ns - hop->device_stop_ns)
            hop->device_start_ns = hop->downtime_ns - hop->device_stop_ns;
    }
    return r;
}

static int read_rounds(struct timeline *t, struct json_object *list)
{
    struct migration_result *result = &t->result;
    int r = make(list, MIGRATION_ROUNDS_MAX, sizeof(*result->rounds), &result->rounds,
                 &result->n_rounds);

    for (unsigned i = 0; r == 0 && i < result->n_rounds; i++) {
        struct json_object *json = json_object_array_get_idx(list, i);

        result->rounds[i] = (struct migration_round){
            .at_ns = time_of(t, json, "at_ns"),
            .duration_ns = time_of(t, json, "duration_ns"),
            .pages = number(json, "pages"),
            .pages_unchanged = number(json, "pages_unchanged"),
            .bytes = number(json, "bytes"),
            .hop = hop_of(json),
            .number = (unsigned)number(json, "number"),
            .is_final = flag(json, "is_final"),
        };
    }
    return r;
}

static int read_events(struct timeline *t, struct json_object *list)
{
    struct migration_result *result = &t->result;
    int r = make(list, MIGRATION_EVENTS_MAX, sizeof(*result->events), &result->events,
                 &result->n_events);

    for (unsigned i = 0; r == 0 && i < result->n_events; i++) {
        struct json_object *json = json_object_array_get_idx(list, i);
        const char *kind = json_object_get_string(member(json, "kind"));

        result->events[i].at_ns = time_of(t, json, "at_ns");
        for (unsigned k = 0; kind != NULL && k <= MIGRATION_EVENT_HINT; k++) {
            if (strcmp(kind, migration_event_name((enum migration_event_kind)k)) == 0)
                result->events[i].kind = (enum migration_event_kind)k;
        }
    }
    return r;
}

/* The columns of samples and page faults have one length; a shorter one ends with zeros. */
static uint64_t cell(struct json_object *table, const char *column, unsigned i)
{
    struct json_object *list = member(table, column);

    return json_object_is_type(list, json_type_array) && i < json_object_array_length(list)
               ? to_number(json_object_array_get_idx(list, i))
               : 0;
}

static uint64_t time_cell(const struct timeline *t, struct json_object *table, unsigned i)
{
    uint64_t ns = cell(table, "at_ns", i);

    return ns < t->result.duration_ns ? ns : t->result.duration_ns;
}

static int read_samples(struct timeline *t, struct json_object *table)
{
    struct migration_result *result = &t->result;
    int r = make(member(table, "at_ns"), SAMPLES_MAX, sizeof(*result->samples), &result->samples,
                 &result->n_samples);

    for (unsigned i = 0; r == 0 && i < result->n_samples; i++)
        result->samples[i] = (struct migration_sample){
            .at_ns = time_cell(t, table, i),
            .requests = cell(table, "requests", i),
            .stall_ns = cell(table, "worst_stall_ns", i),
            .latency_ns = cell(table, "worst_latency_ns", i),
        };
    return r;
}

static int read_page_faults(struct timeline *t, struct json_object *table)
{
    struct migration_result *result = &t->result;
    int r = make(member(table, "at_ns"), MIGRATION_PAGE_FAULTS_MAX, sizeof(*result->page_faults),
                 &result->page_faults, &result->n_page_faults);

    for (unsigned i = 0; r == 0 && i < result->n_page_faults; i++)
        result->page_faults[i] = (struct migration_page_fault){
            .at_ns = time_cell(t, table, i), .latency_ns = cell(table, "latency_ns", i)};
    return r;
}

int timeline_new(struct timeline **ret, struct json_object *document)
{
    struct timeline *t = calloc(1, sizeof(*t));
    int r = t != NULL ? 0 : -ENOMEM;

    if (r == 0) {
        t->result.duration_ns = number(document, "duration_ns");
        r = read_hops(t, member(document, "hops"));
    }
    if (r == 0)
        r = read_rounds(t, member(document, "rounds"));
    if (r == 0)
        r = read_events(t, member(document, "events"));
    if (r == 0)
        r = read_samples(t, member(document, "samples"));
    if (r == 0)
        r = read_page_faults(t, member(document, "page_faults"));
    if (r == 0)
        *ret = t;
    else
        timeline_free(t);
    return r;
}

void timeline_free(struct timeline *t)
{
    if (t != NULL)
        migration_result_done(&t->result);
    free(t);
}
