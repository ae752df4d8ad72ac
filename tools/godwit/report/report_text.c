/* SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause */
/* A migration as text on the terminal: the verdict, the reasons, and how to repeat the run. */
#include "format.h"
#include "report.h"
#include "report_backend.h"

#include <inttypes.h>

#define LOST_SHOWN 12

static void text_faults(const struct report *r, FILE *out)
{
    char text[512];

    for (unsigned i = 0; i < r->result->n_faults; i++) {
        report_fault(r, &r->result->faults[i], text, sizeof(text));
        fprintf(out, "fault       %s\n", text);
    }
    for (unsigned i = 0; i < r->result->n_evidence; i++)
        report_print_evidence(&r->result->evidence[i], out);
}

static void text_lost(const struct report *r, FILE *out)
{
    const struct migration_result *result = r->result;
    uint64_t total = 0;
    char severity[200];

    for (unsigned i = 0; i < result->n_hops; i++)
        total += result->hops[i].pages_lost + result->hops[i].pages_late;
    if (total == 0)
        return;
    fprintf(out, "\n%s page%s differed when the source had stopped; they held:\n",
            format_count(total).text, total == 1 ? "" : "s");
    for (unsigned use = 0; use < MIGRATION_N_USES; use++) {
        if (result->lost_by_use[use] != 0)
            fprintf(out, "    %-20s %s\n", migration_use_name((enum migration_use)use),
                    format_count(result->lost_by_use[use]).text);
    }
    for (unsigned i = 0; i < result->n_lost && i < LOST_SHOWN; i++) {
        const struct migration_lost *lost = &result->lost[i];

        fprintf(out, "    page 0x%" PRIx64 "%s: %u bytes from 0x%" PRIx64 " on: %s\n", lost->page,
                lost->is_late ? " (marked, but too late)" : "", lost->n_bytes, lost->first,
                lost->text);
    }
    if (total > LOST_SHOWN)
        fprintf(out, "    ... and %s more; --json lists %u\n",
                format_count(total - LOST_SHOWN).text, result->n_lost);
    report_severity(r, severity, sizeof(severity));
    if (severity[0] != '\0')
        fprintf(out, "severity    %s\n", severity);
    fputc('\n', out);
}

static void text_hop(const struct migration_hop *hop, unsigned number, FILE *out)
{
    double over = hop->pages_marked != 0
                      ? 100.0 * (double)hop->pages_unchanged / (double)hop->pages_marked
                      : 0;

    fprintf(out,
            "hop %-7u %s -> %s: %u rounds, %u logs, %u regions added and %u removed, %u call fds\n",
            number, hop->source, hop->destination, hop->rounds, hop->logs_replaced,
            hop->regions_added, hop->regions_removed, hop->call_fds_swapped);
    fprintf(out, "            %s pages marked (%.1f %% of them unchanged%s%s)",
            format_count(hop->pages_marked).text, over, hop->begin_ns != 0 ? "; order " : "",
            hop->begin_ns != 0 ? migration_order_name(hop->order) : "");
    if (hop->end_ns != 0)
        fprintf(out, ", downtime %s (stop %s, start %s)\n", format_time(hop->downtime_ns).text,
                format_time(hop->device_stop_ns).text, format_time(hop->device_start_ns).text);
    else
        fprintf(out, ", no switch\n");
    if (hop->device_state_bytes != 0)
        fprintf(out, "            device state of %s bytes saved and loaded\n",
                format_count(hop->device_state_bytes).text);
}

static void text_arrival(const struct migration_hop *hop, FILE *out)
{
    const struct migration_arrival *a = &hop->arrival;

    if (a->begin_ns == 0)
        return;
    if (hop->end_ns == 0) {
        fprintf(out,
                "            postcopy: %s pages stale at the switch; the guest never ran at the "
                "destination\n",
                format_count(a->pages_stale).text);
        return;
    }
    fprintf(out, "            postcopy: %s pages stale at the switch, %s sent after it",
            format_count(a->pages_stale).text, format_bytes(a->bytes_sent).text);
    if (a->end_ns != 0)
        fprintf(out, " in %s", format_time(a->end_ns - a->begin_ns).text);
    if (a->cuts != 0)
        fprintf(out, ", link cut %u times for %s", a->cuts, format_time(a->cut_ns).text);
    fprintf(out, "; worst stall in this phase %s\n", format_time(a->stall_ns).text);
    if (a->faults == 0) {
        fprintf(out, "            no page faults: every page arrived before its first access\n");
        return;
    }
    fprintf(out, "            %s page faults, p50 %s, p90 %s, p99 %s, max %s\n",
            format_count(a->faults).text, format_time(a->latency_p50).text,
            format_time(a->latency_p90).text, format_time(a->latency_p99).text,
            format_time(a->latency_max).text);
}

static void text_load(const struct migration_result *result, FILE *out)
{
    if (result->requests == 0)
        return;
    fprintf(out,
            "load        %s requests (%s reads, %s writes), %s/s with the log off, %s/s with it "
            "on, %s/s afterwards\n",
            format_count(result->requests).text, format_count(result->reads).text,
            format_count(result->writes).text, format_rate(result->rate_before).text,
            format_rate(result->rate_copy).text, format_rate(result->rate_after).text);
    fprintf(out,
            "latency     p50 %s, p99 %s, max %s; worst stall %s with the log off, %s with it "
            "on\n",
            format_time(result->latency_p50).text, format_time(result->latency_p99).text,
            format_time(result->latency_max).text, format_time(result->stall_before_ns).text,
            format_time(result->stall_copy_ns).text);
    if (result->kills != 0)
        fprintf(out, "killed      %u back-end%s, restarted with %s requests in flight\n",
                result->kills, result->kills == 1 ? "" : "s", result->kills == 1 ? "its" : "their");
    fprintf(out,
            "verified    %s blocks, %s of them checked only after the switch, %s read back "
            "through the device at the end\n",
            format_count(result->verified).text, format_count(result->held).text,
            format_count(result->disk_blocks).text);
}

void report_print_checks(const struct report_check *checks, unsigned n, FILE *out)
{
    static const char *const words[N_REPORT_OUTCOMES] = {"passed", "hint", "FAILED", "skipped"};

    for (unsigned i = 0; i < n; i++) {
        fprintf(out, "%-11s %s: %s\n", words[checks[i].outcome], checks[i].title, checks[i].text);
        if (checks[i].outcome == REPORT_FAILED && checks[i].rule != NULL)
            fprintf(out, "%-11s %s\n", "rule", checks[i].rule);
    }
}

void report_text(const struct report *r, FILE *out)
{
    const struct migration_result *result = r->result;
    struct report_check checks[REPORT_CHECKS_MAX];
    char sentence[512];

    report_sentence(r, sentence, sizeof(sentence));
    fprintf(out, "repeat      %s\n", r->command_line);
    report_print_backends(result->backends, result->n_backends,
                          features_device(report_device_name(r)), out);
    fprintf(out, "memory      %s, dirty log of %s, seed %" PRIu64 "\n",
            format_bytes(result->memory_bytes).text, format_bytes(result->log_bytes).text,
            result->seed);
    for (unsigned i = 0; i < result->n_hops; i++) {
        text_hop(&result->hops[i], i + 1, out);
        text_arrival(&result->hops[i], out);
    }
    if (result->copy_rate > 0)
        fprintf(out, "copying     %s\n", format_byte_rate(result->copy_rate).text);
    text_load(result, out);
    text_lost(r, out);
    text_faults(r, out);
    report_print_checks(checks, report_checks(r, checks), out);
    fprintf(out, "%s after %s: %s\n", verdict_name(report_verdict(r)),
            format_time(result->duration_ns).text, sentence);
}
