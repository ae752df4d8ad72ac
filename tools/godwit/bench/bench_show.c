/* SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause */
/* The results of a benchmark: a table with one line for each run, and JSON. */
#include "bench.h"
#include "report/json.h"
#include "report/report_backend.h"

#include <inttypes.h>

static double per_second(uint64_t n, const struct bench_run *run)
{
    return run->run_ns != 0 ? (double)n * 1e9 / (double)run->run_ns : 0;
}

static double cpu_of_request(const struct bench_run *run)
{
    return run->requests != 0 ? (double)run->cpu_ns / (double)run->requests : 0;
}

/* How different the targets are. */
static void show_targets(const struct bench *b, FILE *out)
{
    fprintf(out, "\n%7s %5s  requests per s of one target    worst p99 of one\n", "block", "depth");
    for (const struct bench_run *r = b->runs; r < b->runs + b->n_runs; r++)
        fprintf(out, "%7u %5u  %8.0f to %8.0f           %8.1f us\n", r->block_size, r->depth,
                per_second(r->fewest, r), per_second(r->most, r), (double)r->worst_p99 / 1e3);
}

void bench_text(const struct bench *b, FILE *out)
{
    const struct bench_options *o = b->o;
    uint64_t verified = 0;

    if (o->list == NULL)
        fprintf(out, "back-end    %s\n", o->text);
    else
        fprintf(out, "back-ends   %u socket%s of %s, in %u process%s\n", b->n_sessions,
                b->n_sessions == 1 ? "" : "s", o->list, b->n_processes,
                b->n_processes == 1 ? "" : "es");
    if (o->device == BENCH_BLK)
        fprintf(out, "load        %u %% writes%s, %u queue%s, at random over %.0f MiB, %s\n",
                o->write_percent, o->flush_percent ? " and some flushes" : "", o->n_queues,
                o->n_queues == 1 ? "" : "s", (double)b->sessions->disk_bytes / 1048576,
                o->is_verified ? "every block read is checked" : "data is not checked");
    else
        fprintf(out, "load        entropy requests, %u queue%s\n", o->n_queues,
                o->n_queues == 1 ? "" : "s");
    fprintf(out, "\n%7s %5s %8s %6s %6s %6s %7s %7s %6s %6s %6s\n", "block", "depth", "requests",
            "MB", "p50", "p90", "p99", "p99.9", "max", "stall", "CPU/");
    fprintf(out, "%7s %5s %8s %6s %6s %6s %7s %7s %6s %6s %6s\n", "bytes", "", "per s", "per s",
            "us", "us", "us", "us", "us", "us", "req ns");
    for (const struct bench_run *r = b->runs; r < b->runs + b->n_runs; r++) {
        fprintf(out, "%7u %5u %8.0f %6.0f %6.1f %6.1f %7.1f %7.1f %6.0f %6.0f", r->block_size,
                r->depth, per_second(r->requests, r), per_second(r->bytes, r) / 1e6,
                (double)r->p50 / 1e3, (double)r->p90 / 1e3, (double)r->p99 / 1e3,
                (double)r->p999 / 1e3, (double)r->max / 1e3, (double)r->stall / 1e3);
        if (r->has_cpu)
            fprintf(out, " %6.0f\n", cpu_of_request(r));
        else
            fprintf(out, " %6s\n", "?");
        verified += r->verified;
    }
    if (b->n_sessions > 1 && b->n_runs > 0)
        show_targets(b, out);
    if (o->is_verified && verified > 0 && b->verdict == VERDICT_PASSED)
        fprintf(out, "\n%" PRIu64 " blocks read back, all as they were last written\n", verified);
}

static const char *device_name(const struct bench_options *o)
{
    return o->device == BENCH_BLK ? "blk" : "rng";
}

/* How different the targets are. */
static struct json_object *json_targets(const struct bench_run *r)
{
    struct json_object *json = json_object_new_object();

    json_add_real(json, "fewest_requests_per_second", per_second(r->fewest, r));
    json_add_real(json, "most_requests_per_second", per_second(r->most, r));
    json_add_number(json, "worst_p99_ns", r->worst_p99);
    return json;
}

static struct json_object *json_run(const struct bench_run *r, bool has_targets)
{
    struct json_object *json = json_object_new_object(), *latency = json_object_new_object();

    json_add_number(json, "block_size", r->block_size);
    json_add_number(json, "depth", r->depth);
    json_add_number(json, "requests", r->requests);
    json_add_number(json, "reads", r->reads);
    json_add_number(json, "writes", r->writes);
    json_add_number(json, "flushes", r->flushes);
    json_add_number(json, "bytes", r->bytes);
    json_add_number(json, "verified_blocks", r->verified);
    json_add_number(json, "duration_ns", r->run_ns);
    json_add_real(json, "requests_per_second", per_second(r->requests, r));
    json_add_real(json, "bytes_per_second", per_second(r->bytes, r));
    json_add_number(latency, "p50", r->p50);
    json_add_number(latency, "p90", r->p90);
    json_add_number(latency, "p99", r->p99);
    json_add_number(latency, "p99.9", r->p999);
    json_add_number(latency, "max", r->max);
    json_object_object_add(json, "latency_ns", latency);
    json_add_number(json, "worst_stall_ns", r->stall);
    json_add_number(json, "kicks", r->kicks);
    json_add_number(json, "sleeps", r->sleeps);
    json_object_object_add(json, "backend_cpu_ns",
                           r->has_cpu ? json_object_new_uint64(r->cpu_ns) : NULL);
    if (r->has_cpu)
        json_add_real(json, "backend_cpu_ns_per_request", cpu_of_request(r));
    else
        json_object_object_add(json, "backend_cpu_ns_per_request", NULL);
    if (has_targets)
        json_object_object_add(json, "per_target", json_targets(r));
    return json;
}

struct json_object *bench_json(const struct bench *b)
{
    const struct bench_options *o = b->o;
    struct json_object *json = json_new("bench"), *runs = json_object_new_array();

    json_add_text(json, "command_line", o->command_line);
    json_add_text(json, "verdict", verdict_name(b->verdict));
    json_add_number(json, "exit_status", (uint64_t)verdict_status(b->verdict, false));
    json_object_object_add(
        json, "evidence", b->verdict != VERDICT_PASSED ? report_json_evidence(&b->evidence) : NULL);
    json_add_text(json, "target", o->list != NULL ? o->list : o->text);
    if (o->list != NULL) {
        json_add_number(json, "sockets", b->n_sessions);
        json_add_number(json, "processes", b->n_processes);
    }
    json_object_object_add(json, "backends",
                           report_json_backends(&b->backend, b->backend.name != NULL,
                                                features_device(device_name(o))));
    json_add_text(json, "device", device_name(o));
    json_add_number(json, "queues", o->n_queues);
    json_add_number(json, "queue_size", o->queue_size);
    json_add_number(json, "write_percent", o->write_percent);
    json_add_number(json, "flush_percent", o->flush_percent);
    json_add_number(json, "segments", o->segments);
    json_add_number(json, "seed", o->seed);
    json_add_bool(json, "verified", o->is_verified);
    json_add_bool(json, "indirect", o->is_indirect);
    json_add_bool(json, "sleeping", o->is_sleeping);
    if (o->device == BENCH_BLK)
        json_add_number(json, "disk_bytes", b->sessions->disk_bytes);
    for (unsigned i = 0; i < b->n_runs; i++)
        json_object_array_add(runs, json_run(&b->runs[i], o->list != NULL));
    json_object_object_add(json, "runs", runs);
    return json;
}
