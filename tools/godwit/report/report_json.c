/* SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause */
/* A migration as complete JSON: options, verdict, checks, and everything that was recorded. */
#include "json.h"
#include "report.h"
#include "report_backend.h"

#include <inttypes.h>

static const char *const memory_forms[] = {"auto", "table", "slots"};

static struct json_object *json_postcopy_options(const struct migration_postcopy_options *o)
{
    struct json_object *json;

    if (!o->is_on)
        return NULL;
    json = json_object_new_object();
    if (o->has_round)
        json_add_number(json, "at_round", o->round);
    json_add_number(json, "at_ms", o->at_ms);
    json_add_number(json, "link_rate", o->link_rate);
    json_add_number(json, "fault_delay_ns", o->fault_delay_ns);
    json_add_text(json, "page_order", o->is_random ? "random" : "address");
    json_add_number(json, "cut_link_ms", o->cut_ms);
    json_add_number(json, "cut_link_for_ms", o->cut_for_ms);
    return json;
}

static struct json_object *json_options(const struct report *r)
{
    const struct migration_options *o = r->options;
    struct json_object *json = json_object_new_object();

    json_add_text(json, "device", report_device_name(r));
    json_add_text(json, "order", migration_order_name(o->order));
    json_add_number(json, "memory", o->memory);
    json_add_number(json, "memory_top", o->memory_top);
    json_add_text(json, "memory_form", memory_forms[o->mem_form]);
    json_add_bool(json, "hugetlb", o->hugetlb);
    json_add_number(json, "devices", o->n_devices);
    json_add_number(json, "queues", o->n_queues);
    json_add_number(json, "queue_size", o->queue_size);
    json_add_bool(json, "packed", o->packed);
    json_add_bool(json, "in_order", o->in_order);
    json_add_number(json, "depth", o->depth);
    json_add_number(json, "block_size", o->block_size);
    json_add_number(json, "write_percent", o->write_percent);
    json_add_number(json, "flush_percent", o->flush_percent);
    json_add_bool(json, "read_only", o->read_only);
    json_add_number(json, "disk_bytes", o->disk_bytes);
    json_add_number(json, "hops", o->hops);
    json_add_number(json, "cancels", o->cancels);
    json_add_number(json, "warm_up_ms", o->warm_up_ms);
    json_add_number(json, "copy_ms", o->copy_ms);
    json_add_number(json, "settle_ms", o->settle_ms);
    json_add_number(json, "round_ms", o->round_ms);
    json_add_number(json, "replace_log_ms", o->replace_log_ms);
    json_add_number(json, "log_offset", o->log_offset);
    json_add_bool(json, "log_offset_random", o->log_offset_random);
    json_add_number(json, "region_ms", o->region_ms);
    json_add_number(json, "call_fd_ms", o->call_fd_ms);
    json_add_number(json, "timeout_ms", o->timeout_ms);
    json_add_number(json, "request_ms", o->request_ms);
    json_object_object_add(json, "postcopy", json_postcopy_options(&o->postcopy));
    json_add_text(json, "kill_at", migration_kill_name(o->kill));
    json_add_bool(json, "keep_backends", o->keep_backends);
    json_add_text(json, "to", o->to);
    json_add_text(json, "listen", o->listen);
    json_add_number(json, "reconnect_ms", o->reconnect_ms);
    json_add_number(json, "max_downtime_ns", r->max_downtime_ns);
    json_add_bool(json, "strict", r->is_strict);
    return json;
}

struct json_object *report_json_checks(const struct report_check *checks, unsigned n)
{
    struct json_object *list = json_object_new_array();

    for (unsigned i = 0; i < n; i++) {
        struct json_object *json = json_object_new_object();

        json_add_text(json, "name", checks[i].name);
        json_add_text(json, "title", checks[i].title);
        json_add_text(json, "outcome", report_outcome_name(checks[i].outcome));
        json_add_text(json, "text", checks[i].text);
        json_add_text(json, "rule", checks[i].rule);
        json_object_array_add(list, json);
    }
    return list;
}

static struct json_object *json_faults(const struct migration_result *result)
{
    struct json_object *list = json_object_new_array();

    for (unsigned i = 0; i < result->n_faults; i++) {
        const struct migration_fault *f = &result->faults[i];
        struct json_object *json = json_object_new_object(), *evidence = json_object_new_array();

        json_add_number(json, "at_ns", f->at_ns);
        json_add_number(json, "hop", f->hop + 1);
        json_add_bool(json, "is_blame", f->is_blame);
        json_add_text(json, "side", migration_side_name(f->side));
        json_add_text(json, "who", f->who);
        json_add_text(json, "phase", migration_phase_name(f->phase));
        json_object_object_add(json, "errno", json_object_new_int(-f->error));
        json_add_text(json, "text", f->text);
        for (unsigned k = 0; k < f->n_evidence; k++)
            json_object_array_add(evidence,
                                  report_json_evidence(&result->evidence[f->first_evidence + k]));
        json_object_object_add(json, "evidence", evidence);
        json_object_array_add(list, json);
    }
    return list;
}

static struct json_object *json_arrival(const struct migration_arrival *a)
{
    struct json_object *json = json_object_new_object();

    json_add_number(json, "discard_ns", a->discard_ns);
    json_add_number(json, "begin_ns", a->begin_ns);
    json_add_number(json, "end_ns", a->end_ns);
    json_add_number(json, "pages_stale", a->pages_stale);
    json_add_number(json, "pages_sent", a->pages_sent);
    json_add_number(json, "bytes_sent", a->bytes_sent);
    json_add_number(json, "faults", a->faults);
    json_add_number(json, "pages_asked", a->pages_asked);
    json_add_number(json, "pages_early", a->pages_early);
    json_add_number(json, "pages_compared", a->pages_compared);
    json_add_number(json, "pages_stray", a->pages_stray);
    json_add_number(json, "latency_p50_ns", a->latency_p50);
    json_add_number(json, "latency_p90_ns", a->latency_p90);
    json_add_number(json, "latency_p99_ns", a->latency_p99);
    json_add_number(json, "latency_max_ns", a->latency_max);
    json_add_number(json, "worst_stall_ns", a->stall_ns);
    json_add_number(json, "cuts", a->cuts);
    json_add_number(json, "cut_ns", a->cut_ns);
    return json;
}

static struct json_object *json_hop(const struct migration_hop *hop, unsigned number)
{
    struct json_object *json = json_object_new_object();

    json_add_number(json, "hop", number);
    json_add_text(json, "source", hop->source);
    json_add_text(json, "destination", hop->destination);
    json_add_text(json, "order", migration_order_name(hop->order));
    json_add_number(json, "begin_ns", hop->begin_ns);
    json_add_number(json, "stop_ns", hop->stop_ns);
    json_add_number(json, "end_ns", hop->end_ns);
    json_add_number(json, "downtime_ns", hop->downtime_ns);
    json_add_number(json, "device_stop_ns", hop->device_stop_ns);
    json_add_number(json, "device_start_ns", hop->device_start_ns);
    json_add_number(json, "device_state_bytes", hop->device_state_bytes);
    json_add_number(json, "compare_ns", hop->compare_ns);
    json_add_number(json, "compare_bytes", hop->compare_bytes);
    json_add_number(json, "copy_ns", hop->copy_ns);
    json_add_number(json, "copy_bytes", hop->copy_bytes);
    json_add_number(json, "rounds", hop->rounds);
    json_add_number(json, "logs_replaced", hop->logs_replaced);
    json_add_number(json, "regions_added", hop->regions_added);
    json_add_number(json, "regions_removed", hop->regions_removed);
    json_add_number(json, "call_fds_swapped", hop->call_fds_swapped);
    json_add_number(json, "in_flight", hop->in_flight);
    json_add_number(json, "in_flight_stopped", hop->in_flight_stopped);
    json_add_number(json, "requests_log_on", hop->requests_logged);
    json_add_number(json, "requests_afterwards", hop->requests_after);
    json_add_number(json, "pages_watched", hop->pages_watched);
    json_add_number(json, "pages_marked", hop->pages_marked);
    json_add_number(json, "pages_unchanged", hop->pages_unchanged);
    json_add_number(json, "pages_lost", hop->pages_lost);
    json_add_number(json, "pages_hint", hop->pages_hint);
    json_add_number(json, "pages_late", hop->pages_late);
    json_add_number(json, "pages_old_log", hop->pages_old_log);
    json_add_number(json, "reconnects", hop->reconnects);
    json_object_object_add(json, "postcopy",
                           hop->arrival.begin_ns != 0 ? json_arrival(&hop->arrival) : NULL);
    return json;
}

static struct json_object *json_hops(const struct migration_result *result)
{
    struct json_object *list = json_object_new_array();

    for (unsigned i = 0; i < result->n_hops; i++)
        json_object_array_add(list, json_hop(&result->hops[i], i + 1));
    return list;
}

static struct json_object *json_rounds(const struct migration_result *result)
{
    struct json_object *list = json_object_new_array();

    for (unsigned i = 0; i < result->n_rounds; i++) {
        const struct migration_round *round = &result->rounds[i];
        struct json_object *json = json_object_new_object();

        json_add_number(json, "hop", round->hop + 1);
        json_add_number(json, "number", round->number);
        json_add_number(json, "at_ns", round->at_ns);
        json_add_number(json, "duration_ns", round->duration_ns);
        json_add_number(json, "copy_ns", round->copy_ns);
        json_add_number(json, "scan_ns", round->scan_ns);
        json_add_number(json, "pages", round->pages);
        json_add_number(json, "pages_unchanged", round->pages_unchanged);
        json_add_number(json, "pages_outside", round->pages_outside);
        json_add_number(json, "bytes", round->bytes);
        json_add_number(json, "bytes_driver", round->bytes_driver);
        json_add_bool(json, "is_final", round->is_final);
        json_add_bool(json, "is_cancelled", round->is_cancelled);
        json_object_array_add(list, json);
    }
    return list;
}

/* As columns, because there are a hundred samples per second. */
static struct json_object *json_samples(const struct migration_result *result)
{
    static const char *const names[] = {"at_ns", "requests", "bytes", "worst_stall_ns",
                                        "worst_latency_ns"};
    struct json_object *json = json_object_new_object(), *columns[5];

    for (unsigned c = 0; c < 5; c++) {
        columns[c] = json_object_new_array();
        json_object_object_add(json, names[c], columns[c]);
    }
    for (unsigned i = 0; i < result->n_samples; i++) {
        const struct migration_sample *s = &result->samples[i];
        const uint64_t values[] = {s->at_ns, s->requests, s->bytes, s->stall_ns, s->latency_ns};

        for (unsigned c = 0; c < 5; c++)
            json_object_array_add(columns[c], json_object_new_uint64(values[c]));
    }
    return json;
}

static struct json_object *json_page_faults(const struct migration_result *result)
{
    struct json_object *json = json_object_new_object();
    struct json_object *times = json_object_new_array(), *latencies = json_object_new_array();

    for (unsigned i = 0; i < result->n_page_faults; i++) {
        json_object_array_add(times, json_object_new_uint64(result->page_faults[i].at_ns));
        json_object_array_add(latencies, json_object_new_uint64(result->page_faults[i].latency_ns));
    }
    json_object_object_add(json, "at_ns", times);
    json_object_object_add(json, "latency_ns", latencies);
    return json;
}

static struct json_object *json_events(const struct migration_result *result)
{
    struct json_object *list = json_object_new_array();

    for (unsigned i = 0; i < result->n_events; i++) {
        const struct migration_event *e = &result->events[i];
        struct json_object *json = json_object_new_object();

        json_add_number(json, "at_ns", e->at_ns);
        json_add_number(json, "duration_ns", e->duration_ns);
        json_add_number(json, "hop", e->hop + 1);
        json_add_text(json, "kind", migration_event_name(e->kind));
        json_add_text(json, "phase", migration_phase_name(e->phase));
        json_add_text(json, "text", e->text);
        json_object_array_add(list, json);
    }
    return list;
}

static struct json_object *json_lost(const struct migration_result *result)
{
    struct json_object *list = json_object_new_array();
    char address[20];

    for (unsigned i = 0; i < result->n_lost; i++) {
        const struct migration_lost *lost = &result->lost[i];
        struct json_object *json = json_object_new_object(), *uses = json_object_new_array();

        snprintf(address, sizeof(address), "0x%" PRIx64, lost->page);
        json_add_text(json, "page", address);
        snprintf(address, sizeof(address), "0x%" PRIx64, lost->first);
        json_add_text(json, "first", address);
        json_add_number(json, "bytes", lost->n_bytes);
        json_add_number(json, "hop", lost->hop + 1);
        json_add_text(json, "use", migration_use_name(lost->use));
        for (unsigned use = 0; use < MIGRATION_N_USES; use++) {
            if (lost->uses & 1u << use)
                json_object_array_add(
                    uses, json_object_new_string(migration_use_name((enum migration_use)use)));
        }
        json_object_object_add(json, "uses", uses);
        json_add_bool(json, "is_late", lost->is_late);
        json_add_bool(json, "is_hint", !lost->is_late && !(lost->uses & ~MIGRATION_USES_HINT));
        json_add_text(json, "text", lost->text);
        json_object_array_add(list, json);
    }
    return list;
}

static struct json_object *json_load(const struct migration_result *result)
{
    struct json_object *json = json_object_new_object();

    json_add_number(json, "requests", result->requests);
    json_add_number(json, "reads", result->reads);
    json_add_number(json, "writes", result->writes);
    json_add_number(json, "flushes", result->flushes);
    json_add_number(json, "bytes", result->bytes);
    json_add_number(json, "verified_blocks", result->verified);
    json_add_number(json, "held_blocks", result->held);
    json_add_number(json, "disk_blocks_read_back", result->disk_blocks);
    json_add_number(json, "latency_p50_ns", result->latency_p50);
    json_add_number(json, "latency_p99_ns", result->latency_p99);
    json_add_number(json, "latency_max_ns", result->latency_max);
    json_add_number(json, "worst_stall_log_off_ns", result->stall_before_ns);
    json_add_number(json, "worst_stall_log_on_ns", result->stall_copy_ns);
    json_add_number(json, "worst_stall_ns", result->stall_ns);
    json_add_real(json, "requests_per_second_log_off", result->rate_before);
    json_add_real(json, "requests_per_second_log_on", result->rate_copy);
    json_add_real(json, "requests_per_second_afterwards", result->rate_after);
    return json;
}

static struct json_object *json_lost_by_use(const struct migration_result *result)
{
    struct json_object *json = json_object_new_object();

    for (unsigned use = 0; use < MIGRATION_N_USES; use++)
        json_add_number(json, migration_use_name((enum migration_use)use),
                        result->lost_by_use[use]);
    return json;
}

void report_json(const struct report *r, FILE *out)
{
    const struct migration_result *result = r->result;
    struct json_object *json = json_new("migrate");
    struct report_check checks[REPORT_CHECKS_MAX];
    char text[512];

    json_add_text(json, "command_line", r->command_line);
    strftime(text, sizeof(text), "%Y-%m-%dT%H:%M:%SZ", gmtime(&r->began));
    json_add_text(json, "began", text);
    json_add_text(json, "verdict", verdict_name(report_verdict(r)));
    report_sentence(r, text, sizeof(text));
    json_add_text(json, "reason", text);
    report_severity(r, text, sizeof(text));
    json_add_text(json, "severity", text[0] != '\0' ? text : NULL);
    json_object_object_add(json, "exit_status", json_object_new_int(report_status(r)));
    json_add_number(json, "seed", result->seed);
    json_add_text(json, "source", r->source);
    json_add_text(json, "destination", r->destination);
    json_add_number(json, "duration_ns", result->duration_ns);
    json_add_number(json, "kills", result->kills);
    json_add_number(json, "memory_bytes", result->memory_bytes);
    json_add_number(json, "log_bytes", result->log_bytes);
    json_add_real(json, "copy_bytes_per_second", result->copy_rate);
    json_object_object_add(json, "backends",
                           report_json_backends(result->backends, result->n_backends,
                                                features_device(report_device_name(r))));
    json_object_object_add(json, "options", json_options(r));
    json_object_object_add(json, "checks", report_json_checks(checks, report_checks(r, checks)));
    json_object_object_add(json, "faults", json_faults(result));
    json_object_object_add(json, "load", json_load(result));
    json_object_object_add(json, "hops", json_hops(result));
    json_object_object_add(json, "rounds", json_rounds(result));
    json_object_object_add(json, "lost_by_use", json_lost_by_use(result));
    json_object_object_add(json, "lost", json_lost(result));
    json_object_object_add(json, "events", json_events(result));
    json_object_object_add(json, "page_faults", json_page_faults(result));
    json_object_object_add(json, "samples", json_samples(result));
    json_print(json, out);
    json_object_put(json);
}
