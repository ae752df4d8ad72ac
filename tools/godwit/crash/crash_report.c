/* SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause */
/* What the crashes proved, and the report of it. */
#include "crash_report.h"

#include "format.h"
#include "report/json.h"
#include "report/report_backend.h"
#include "report/rules.h"

#include <inttypes.h>
#include <stdarg.h>

static const struct {
    const char *name, *title;
} kinds[CRASH_N_CHECKS] = {
    [CRASH_CHECK_RESTARTS] = {"restarts", "every restart succeeded"},
    [CRASH_CHECK_REGION] = {"region", "the inflight region listed exactly the requests taken"},
    [CRASH_CHECK_ORDER] = {"order", "the region's counters followed the order of the rings"},
    [CRASH_CHECK_ONCE] = {"answered-once", "no request completed twice, or before it was executed"},
    [CRASH_CHECK_ALL] = {"answered-all", "every request completed"},
    [CRASH_CHECK_WRITES] = {"writes-kept", "no acknowledged write was lost"},
    [CRASH_CHECK_TIME] = {"recovery-time", "recovery stayed within the limit"},
};

/* Why a check did not run; NULL if it did. */
static const char *skipped_because(const struct crash_report *r, enum crash_check check)
{
    const struct crash_result *x = r->result;
    bool has_kills = x->n_kills != 0 || x->n_handovers != 0;

    if (check == CRASH_CHECK_TIME && r->options->max_recovery_ns == 0)
        return "no limit was given";
    if (x->has_fault && x->verdict == CRASH_COULD_NOT)
        return "the test could not be completed";
    if (!has_kills)
        return "not reached: no back-end was killed";
    switch (check) {
    case CRASH_CHECK_REGION:
    case CRASH_CHECK_ORDER:
        return x->n_taken == 0 ? "no request was taken when a back-end was killed" : NULL;
    case CRASH_CHECK_ONCE:
        return x->requests == 0 ? "no request was completed" : NULL;
    case CRASH_CHECK_ALL:
        return x->n_in_flight == 0 ? "no request was in flight when a back-end was killed"
               : x->n_drains == 0  ? "the requests in flight were never drained"
                                   : NULL;
    case CRASH_CHECK_WRITES:
        return x->verified + x->disk_blocks == 0 ? "no block was read" : NULL;
    case CRASH_CHECK_TIME:
        return x->n_recovered == 0 ? "no request was completed" : NULL;
    default:
        return NULL;
    }
}

void crash_report_sentence(const struct crash_report *r, char *buf, size_t size)
{
    const struct crash_result *result = r->result;
    const struct crash_fault *f = &result->fault;
    const char *reason = skipped_because(r, CRASH_CHECK_ALL);

    if (result->has_fault && f->is_first)
        snprintf(buf, size, "before the first kill: %s", f->text);
    else if (result->has_fault)
        snprintf(buf, size, "after kill %u (%s): %s", f->n_kills, crash_moment_name(f->moment),
                 f->text);
    else if (reason != NULL)
        snprintf(buf, size, "%s", reason);
    else
        snprintf(buf, size, "%s kills and %s handovers, nothing lost, nothing completed twice",
                 format_count(result->n_kills).text, format_count(result->n_handovers).text);
}

/* Describe the finding of a check that passed. */
static void describe(const struct crash_report *r, enum crash_check check, char *buf, size_t size)
{
    const struct crash_result *x = r->result;

    switch (check) {
    case CRASH_CHECK_RESTARTS:
        snprintf(buf, size, "%u starts, %u with a new region", x->n_starts, x->n_fresh);
        break;
    case CRASH_CHECK_REGION:
        snprintf(buf, size, "%s of %s requests in flight were taken; interrupted batches: %s",
                 format_count(x->n_taken).text, format_count(x->n_in_flight).text,
                 format_count(x->n_torn).text);
        break;
    case CRASH_CHECK_ORDER:
        snprintf(buf, size, "%s requests%s", format_count(x->n_taken).text,
                 r->options->is_in_order ? ", also their completions with IN_ORDER" : "");
        break;
    case CRASH_CHECK_ONCE:
        snprintf(buf, size, "%s requests", format_count(x->requests).text);
        break;
    case CRASH_CHECK_ALL:
        snprintf(buf, size, "drained %u times", x->n_drains);
        break;
    case CRASH_CHECK_WRITES:
        snprintf(
            buf, size,
            "%s writes and %s flushes; %s blocks read by the load, %s after restarts, %s at the "
            "end",
            format_count(x->writes).text, format_count(x->flushes).text,
            format_count(x->verified).text, format_count(x->looked_at).text,
            format_count(x->disk_blocks).text);
        break;
    default:
        snprintf(buf, size, "p50 %s, p99 %s, max %s after %s connections",
                 format_time(x->recovery_p50).text, format_time(x->recovery_p99).text,
                 format_time(x->recovery_max).text, format_count(x->n_recovered).text);
        break;
    }
}

void crash_report_checks(const struct crash_report *r, struct report_check *checks)
{
    const struct crash_result *x = r->result;

    for (unsigned i = 0; i < CRASH_N_CHECKS; i++) {
        const char *reason = skipped_because(r, (enum crash_check)i);
        struct report_check *check = &checks[i];

        *check = (struct report_check){.name = kinds[i].name,
                                       .title = kinds[i].title,
                                       .is_core = i == CRASH_CHECK_ALL,
                                       .rule = rule_of(kinds[i].name)};
        if (x->verdict == CRASH_FAILED && x->fault.check == i) {
            check->outcome = REPORT_FAILED;
            snprintf(check->text, sizeof(check->text), "%s", x->fault.text);
        } else if (reason != NULL) {
            check->outcome = REPORT_SKIPPED;
            snprintf(check->text, sizeof(check->text), "%s", reason);
        } else {
            describe(r, (enum crash_check)i, check->text, sizeof(check->text));
        }
    }
}

enum verdict crash_report_verdict(const struct crash_report *r)
{
    struct report_check checks[CRASH_N_CHECKS];

    crash_report_checks(r, checks);
    return verdict_of(checks, CRASH_N_CHECKS, r->result->verdict != CRASH_PASSED);
}

/* ---- Forms ---- */

void crash_report_text(const struct crash_report *r, FILE *out)
{
    const struct crash_result *x = r->result;
    struct report_check checks[CRASH_N_CHECKS];
    char sentence[640], recovery[512];

    fprintf(out, "repeat      %s\n", r->command_line);
    report_print_backends(&x->backend, x->backend.name != NULL, features_device("blk"), out);
    fprintf(out, "kills       %s, seed %" PRIu64 ":", format_count(x->n_kills).text,
            r->options->seed);
    for (unsigned i = 0; i < CRASH_N_MOMENTS; i++)
        fprintf(out, "%s %s %u", i > 0 ? "," : "", crash_moment_name((enum crash_moment)i),
                x->n_kills_at[i]);
    fprintf(out, "; %u of them exact; %u handovers\n", x->n_exact, x->n_handovers);
    fprintf(out, "load        %s requests (%s reads, %s writes, %s flushes)\n",
            format_count(x->requests).text, format_count(x->reads).text,
            format_count(x->writes).text, format_count(x->flushes).text);
    describe(r, CRASH_CHECK_TIME, recovery, sizeof(recovery));
    fprintf(out, "recovery    from connection to first completion: %s\n", recovery);
    if (x->has_fault)
        report_print_evidence(&x->fault.evidence, out);
    crash_report_checks(r, checks);
    report_print_checks(checks, CRASH_N_CHECKS, out);
    crash_report_sentence(r, sentence, sizeof(sentence));
    fprintf(out, "%s after %s: %s\n", verdict_name(crash_report_verdict(r)),
            format_time(x->duration_ns).text, sentence);
}

static struct json_object *json_options(const struct crash_options *o)
{
    struct json_object *json = json_object_new_object();

    json_add_number(json, "kills", o->kills);
    json_add_bool(json, "packed", o->is_packed);
    json_add_bool(json, "in_order", o->is_in_order);
    json_add_number(json, "queues", o->n_queues);
    json_add_number(json, "queue_size", o->queue_size);
    json_add_number(json, "depth", o->depth);
    json_add_number(json, "block_size", o->block_size);
    json_add_number(json, "write_percent", o->write_percent);
    json_add_number(json, "flush_percent", o->flush_percent);
    json_add_number(json, "disk_bytes", o->disk_bytes);
    json_add_number(json, "exact_percent", o->exact_percent);
    json_add_number(json, "handover_percent", o->handover_percent);
    json_add_number(json, "timeout_ms", o->timeout_ms);
    json_add_number(json, "request_ms", o->request_ms);
    json_add_number(json, "max_recovery_ns", o->max_recovery_ns);
    return json;
}

static struct json_object *json_fault(const struct crash_fault *f, bool is_blame)
{
    struct json_object *json = json_object_new_object();

    json_add_bool(json, "is_blame", is_blame);
    json_add_text(json, "check", is_blame ? kinds[f->check].name : NULL);
    json_add_text(json, "killed_at", f->is_first ? NULL : crash_moment_name(f->moment));
    json_add_number(json, "kills", f->n_kills);
    json_add_number(json, "errno", (uint64_t)-f->error);
    json_add_text(json, "text", f->text);
    json_object_object_add(json, "evidence", report_json_evidence(&f->evidence));
    return json;
}

static struct json_object *json_kills(const struct crash_result *x)
{
    struct json_object *json = json_object_new_object();

    for (unsigned i = 0; i < CRASH_N_MOMENTS; i++)
        json_add_number(json, crash_moment_name((enum crash_moment)i), x->n_kills_at[i]);
    return json;
}

static struct json_object *json_counts(const struct crash_result *x)
{
    struct json_object *json = json_object_new_object();

    json_add_number(json, "exact_kills", x->n_exact);
    json_add_number(json, "starts", x->n_starts);
    json_add_number(json, "handovers", x->n_handovers);
    json_add_number(json, "drains", x->n_drains);
    json_add_number(json, "new_regions", x->n_fresh);
    json_add_number(json, "in_flight", x->n_in_flight);
    json_add_number(json, "taken", x->n_taken);
    json_add_number(json, "half_done_batches", x->n_torn);
    json_add_number(json, "requests", x->requests);
    json_add_number(json, "reads", x->reads);
    json_add_number(json, "writes", x->writes);
    json_add_number(json, "flushes", x->flushes);
    json_add_number(json, "bytes", x->bytes);
    json_add_number(json, "verified_blocks", x->verified);
    json_add_number(json, "blocks_read_after_restarts", x->looked_at);
    json_add_number(json, "disk_blocks_read_back", x->disk_blocks);
    json_add_number(json, "recoveries", x->n_recovered);
    json_add_number(json, "recovery_p50_ns", x->recovery_p50);
    json_add_number(json, "recovery_p99_ns", x->recovery_p99);
    json_add_number(json, "recovery_max_ns", x->recovery_max);
    return json;
}

void crash_report_json(const struct crash_report *r, FILE *out)
{
    const struct crash_result *x = r->result;
    struct report_check checks[CRASH_N_CHECKS];
    struct json_object *json = json_new("crash");
    char text[640];

    json_add_text(json, "command_line", r->command_line);
    strftime(text, sizeof(text), "%Y-%m-%dT%H:%M:%SZ", gmtime(&r->began));
    json_add_text(json, "began", text);
    json_add_text(json, "verdict", verdict_name(crash_report_verdict(r)));
    crash_report_sentence(r, text, sizeof(text));
    json_add_text(json, "reason", text);
    json_add_number(json, "exit_status", (uint64_t)verdict_status(crash_report_verdict(r), false));
    json_add_number(json, "seed", r->options->seed);
    json_add_text(json, "target", r->target);
    json_add_number(json, "duration_ns", x->duration_ns);
    json_object_object_add(
        json, "backends",
        report_json_backends(&x->backend, x->backend.name != NULL, features_device("blk")));
    json_object_object_add(json, "options", json_options(r->options));
    crash_report_checks(r, checks);
    json_object_object_add(json, "checks", report_json_checks(checks, CRASH_N_CHECKS));
    json_object_object_add(json, "fault",
                           x->has_fault ? json_fault(&x->fault, x->verdict == CRASH_FAILED) : NULL);
    json_add_number(json, "kills", x->n_kills);
    json_object_object_add(json, "kills_at", json_kills(x));
    json_object_object_add(json, "counts", json_counts(x));
    json_print(json, out);
    json_object_put(json);
}

void crash_report_junit(const struct crash_report *r, FILE *out)
{
    struct report_check checks[CRASH_N_CHECKS];
    char sentence[640];
    struct report_suite s = {
        .name = "godwit.crash",
        .command_line = r->command_line,
        .sentence = sentence,
        .checks = checks,
        .n_checks = CRASH_N_CHECKS,
        .backends = &r->result->backend,
        .n_backends = r->result->backend.name != NULL,
        .device = features_device("blk"),
        .evidence = &r->result->fault.evidence,
        .n_evidence = r->result->has_fault,
        .verdict = crash_report_verdict(r),
        .seed = r->options->seed,
        .duration_ns = r->result->duration_ns,
        .began = r->began,
    };

    crash_report_checks(r, checks);
    crash_report_sentence(r, sentence, sizeof(sentence));
    report_print_suite(&s, out);
}
