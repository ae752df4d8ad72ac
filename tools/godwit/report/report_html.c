/* SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause */
/*
 * A migration as one HTML page without scripts or external resources, light or dark as the reader
 * prefers. The style sheet is here; the plots are in report_plot.c.
 */
#include "format.h"
#include "report.h"
#include "utf8.h"

#include <godwit/version.h>
#include <inttypes.h>

static const char style[] =
    ":root{color-scheme:light dark;--page:#fcfcfb;--ink:#1a1a19;--soft:#5f5e5a;--line:#dddbd5;"
    "--card:#f3f2ee;--blue:#2a78d6;--orange:#d9591f;--green:#1b8a4c;--violet:#7257c8;"
    "--gray:#a3a19a;--red:#c92a2a;--amber:#b06a00;--band:#f6d9a8}\n"
    "@media(prefers-color-scheme:dark){:root{--page:#1a1a19;--ink:#f0efec;--soft:#a9a79f;"
    "--line:#3a3936;--card:#252523;--blue:#4a94ee;--orange:#ec7a3f;--green:#3fb573;"
    "--violet:#9d86ea;--gray:#75736c;--red:#f06a6a;--amber:#e0a030;--band:#5a4520}}\n"
    "body{margin:2rem auto;max-width:62rem;padding:0 1rem;background:var(--page);color:var(--ink);"
    "font:15px/1.5 system-ui,sans-serif}\n"
    "h1{font-size:1.4rem;margin:0 0 .2rem}h2{font-size:1.1rem;margin:2.2rem 0 .6rem;border-bottom:"
    "1px solid var(--line);padding-bottom:.2rem}h3{font-size:1rem;margin:1.4rem 0 0}\n"
    "pre{overflow-x:auto;font:13px/1.5 "
    "ui-monospace,monospace;background:var(--card);padding:.5rem}\n"
    "p{margin:.3rem 0}code{font:13px/1.5 ui-monospace,monospace;overflow-wrap:anywhere}\n"
    ".verdict{border-left:.4rem solid var(--gray);background:var(--card);padding:.8rem 1rem;"
    "margin:1rem "
    "0}.verdict.passed{border-color:var(--green)}.verdict.failed{border-color:var(--red)}"
    ".verdict.hints{border-color:var(--amber)}.verdict b{font-size:1.15rem}.passed b{color:"
    "var(--green)}.failed b{color:var(--red)}.hints b{color:var(--amber)}\n"
    ".tiles{display:grid;grid-template-columns:repeat(auto-fill,minmax(9.5rem,1fr));gap:.6rem}"
    ".tiles div{background:var(--card);padding:.5rem .8rem}.tiles span{display:block;"
    "color:var(--soft);font-size:.85rem}.tiles b{font-size:1.2rem;font-weight:600}\n"
    ".legend{color:var(--soft);font-size:.85rem}.legend i{display:inline-block;width:.8em;"
    "height:.8em;margin:0 .35em 0 .8em}.legend i:first-child{margin-left:0}\n"
    "svg{display:block;width:100%;height:auto}svg text{font:11px system-ui,sans-serif;"
    "fill:var(--soft)}.end{text-anchor:end}.middle{text-anchor:middle}\n"
    ".axis{stroke:var(--soft);stroke-width:1}.grid{stroke:var(--line);stroke-width:1}\n"
    "rect.band{fill:var(--band)}rect.first{fill:var(--gray)}rect.round{fill:var(--blue)}"
    "rect.final{fill:var(--orange)}rect.stop{fill:var(--orange)}rect.start{fill:var(--green)}\n"
    "i.band{background:var(--band)}i.first{background:var(--gray)}i.round,i.rate,i.latency"
    "{background:var(--blue)}i.final,i.stop,i.stall{background:var(--orange)}"
    "i.start{background:var(--green)}\n"
    "polyline{fill:none;stroke-width:1.5;stroke-linejoin:round}.rate,.latency{stroke:var(--blue)}"
    ".stall{stroke:var(--orange)}\n"
    "line.log{stroke:var(--blue)}line.memory{stroke:var(--green)}line.call{stroke:var(--violet)}"
    "line.cut{stroke:var(--red)}\n"
    ".wide{overflow-x:auto}table{border-collapse:collapse;font-size:.9rem;width:100%}th,td"
    "{text-align:left;vertical-align:top;padding:.25rem .7rem .25rem 0;border-bottom:1px solid "
    "var(--line)}th{color:var(--soft);font-weight:500}.number{text-align:right;"
    "font-variant-numeric:tabular-nums}td.failed{color:var(--red);font-weight:600}"
    "td.passed{color:var(--green)}td.hint{color:var(--amber);font-weight:600}"
    "td.skipped{color:var(--soft)}\n";

static void cell(FILE *out, const char *class, const char *text)
{
    fprintf(out, class != NULL ? "<td class=\"%s\">" : "<td>", class);
    utf8_print_xml(out, text);
    fputs("</td>", out);
}

static void number_cell(FILE *out, uint64_t n)
{
    cell(out, "number", format_count(n).text);
}

static void row(FILE *out, const char *name, const char *value)
{
    fputs("<tr>", out);
    cell(out, NULL, name);
    cell(out, NULL, value);
    fputs("</tr>\n", out);
}

static void tile(FILE *out, const char *name, const char *value)
{
    fprintf(out, "<div><span>%s</span><b>%s</b></div>\n", name, value);
}

static void html_verdict(const struct report *r, FILE *out)
{
    enum verdict verdict = report_verdict(r);
    char sentence[512], began[40];

    report_sentence(r, sentence, sizeof(sentence));
    strftime(began, sizeof(began), "%Y-%m-%d %H:%M:%S UTC", gmtime(&r->began));
    fprintf(out, "<h1>godwit migrate</h1>\n<p>%s, %s, seed %" PRIu64 "</p>\n", began,
            format_time(r->result->duration_ns).text, r->result->seed);
    fprintf(out, "<div class=\"verdict %s\"><b>%s</b> (exit status %d)<br>", verdict_class(verdict),
            verdict_name(verdict), report_status(r));
    utf8_print_xml(out, sentence);
    fputs("</div>\n", out);
}

static void html_tiles(const struct report *r, FILE *out)
{
    const struct migration_result *result = r->result;
    uint64_t lost = 0, marked = 0, unchanged = 0, downtime = 0;
    unsigned rounds = 0, logs = 0;
    char text[32];

    for (unsigned i = 0; i < result->n_hops; i++) {
        const struct migration_hop *hop = &result->hops[i];

        lost += hop->pages_lost;
        marked += hop->pages_marked;
        unchanged += hop->pages_unchanged;
        rounds += hop->rounds;
        logs += hop->logs_replaced;
        downtime = hop->downtime_ns > downtime ? hop->downtime_ns : downtime;
    }
    fputs("<div class=\"tiles\">\n", out);
    tile(out, "pages lost", format_count(lost).text);
    tile(out, "longest downtime", downtime != 0 ? format_time(downtime).text : "no switch");
    tile(out, "worst stall, log on", format_time(result->stall_copy_ns).text);
    tile(out, "worst stall, log off", format_time(result->stall_before_ns).text);
    tile(out, "pages marked", format_count(marked).text);
    snprintf(text, sizeof(text), "%.1f %%",
             marked != 0 ? 100.0 * (double)unchanged / (double)marked : 0.0);
    tile(out, "of them unchanged", text);
    tile(out, "rounds", format_count(rounds).text);
    tile(out, "logs replaced", format_count(logs).text);
    tile(out, "blocks verified", format_count(result->verified + result->disk_blocks).text);
    tile(out, "requests", format_count(result->requests).text);
    fputs("</div>\n", out);
}

static void html_checks(const struct report *r, FILE *out)
{
    struct report_check checks[REPORT_CHECKS_MAX];
    unsigned n = report_checks(r, checks);

    fputs("<h2>Checks</h2>\n<div class=\"wide\"><table>\n", out);
    for (unsigned i = 0; i < n; i++) {
        fputs("<tr>", out);
        cell(out, report_outcome_name(checks[i].outcome), report_outcome_name(checks[i].outcome));
        cell(out, NULL, checks[i].title);
        cell(out, NULL, checks[i].text);
        fputs("</tr>\n", out);
    }
    fputs("</table></div>\n", out);
}

static void html_faults(const struct report *r, FILE *out)
{
    char text[512];

    if (r->result->n_faults == 0)
        return;
    fputs("<h2>Faults</h2>\n<div class=\"wide\"><table>\n", out);
    for (unsigned i = 0; i < r->result->n_faults; i++) {
        report_fault(r, &r->result->faults[i], text, sizeof(text));
        row(out, format_time(r->result->faults[i].at_ns).text, text);
    }
    fputs("</table></div>\n", out);
    for (unsigned i = 0; i < r->result->n_evidence; i++) {
        fputs("<pre>", out);
        report_xml_evidence(&r->result->evidence[i], out);
        fputs("</pre>\n", out);
    }
}

static void html_lost_by_use(const struct migration_result *result, FILE *out)
{
    fputs("<p>They held (a page may hold several):</p>\n<div class=\"wide\"><table>\n", out);
    for (unsigned use = 0; use < MIGRATION_N_USES; use++) {
        if (result->lost_by_use[use] != 0)
            row(out, migration_use_name((enum migration_use)use),
                format_count(result->lost_by_use[use]).text);
    }
    fputs("</table></div>\n", out);
}

static void html_lost(const struct report *r, FILE *out)
{
    const struct migration_result *result = r->result;
    char text[48], severity[200];

    if (result->n_lost == 0)
        return;
    report_severity(r, severity, sizeof(severity));
    fputs("<h2>Pages lost</h2>\n<p>", out);
    utf8_print_xml(out, severity);
    fputs("</p>\n", out);
    html_lost_by_use(result, out);
    fputs("<div class=\"wide\"><table>\n<tr><th>page</th><th>first byte</th><th>bytes</th>"
          "<th>hop</th><th>what it held</th></tr>\n",
          out);
    for (unsigned i = 0; i < result->n_lost; i++) {
        const struct migration_lost *lost = &result->lost[i];

        fputs("<tr>", out);
        snprintf(text, sizeof(text), "0x%" PRIx64 "%s", lost->page,
                 lost->is_late ? " (marked late)" : "");
        cell(out, NULL, text);
        snprintf(text, sizeof(text), "0x%" PRIx64, lost->first);
        cell(out, NULL, text);
        number_cell(out, lost->n_bytes);
        number_cell(out, lost->hop + 1);
        cell(out, NULL, lost->text);
        fputs("</tr>\n", out);
    }
    fputs("</table></div>\n", out);
    if (result->n_lost == MIGRATION_LOST_MAX)
        fprintf(out, "<p>Only the first %d are listed; the counts are complete.</p>\n",
                MIGRATION_LOST_MAX);
}

static void html_hop(const struct migration_hop *hop, unsigned number, FILE *out)
{
    fputs("<tr>", out);
    number_cell(out, number);
    cell(out, NULL, hop->source);
    cell(out, NULL, hop->destination);
    cell(out, NULL, migration_order_name(hop->order));
    number_cell(out, hop->rounds);
    number_cell(out, hop->logs_replaced);
    number_cell(out, hop->regions_added + hop->regions_removed);
    number_cell(out, hop->call_fds_swapped);
    number_cell(out, hop->in_flight);
    number_cell(out, hop->pages_marked);
    number_cell(out, hop->pages_unchanged);
    number_cell(out, hop->pages_lost);
    number_cell(out, hop->pages_late);
    number_cell(out, hop->pages_old_log);
    cell(out, "number", hop->end_ns != 0 ? format_time(hop->downtime_ns).text : "-");
    fputs("</tr>\n", out);
}

static void html_arrival(const struct migration_hop *hop, unsigned number, FILE *out)
{
    const struct migration_arrival *a = &hop->arrival;

    fputs("<tr>", out);
    number_cell(out, number);
    cell(out, "number", format_time(hop->downtime_ns).text);
    cell(out, "number", format_time(a->discard_ns).text);
    number_cell(out, a->pages_stale);
    cell(out, "number", format_bytes(a->bytes_sent).text);
    cell(out, "number", a->end_ns != 0 ? format_time(a->end_ns - a->begin_ns).text : "-");
    number_cell(out, a->faults);
    cell(out, "number", format_time(a->latency_p50).text);
    cell(out, "number", format_time(a->latency_p90).text);
    cell(out, "number", format_time(a->latency_p99).text);
    cell(out, "number", format_time(a->latency_max).text);
    cell(out, "number", format_time(a->stall_ns).text);
    number_cell(out, a->cuts);
    cell(out, "number", format_time(a->cut_ns).text);
    number_cell(out, a->pages_early);
    number_cell(out, a->pages_stray);
    fputs("</tr>\n", out);
}

static void html_arrivals(const struct report *r, FILE *out)
{
    static const char *const names[] = {
        "hop",
        "downtime",
        "discarding pages",
        "pages stale",
        "sent after the switch",
        "in",
        "faults",
        "p50",
        "p90",
        "p99",
        "longest wait",
        "stall",
        "cuts",
        "cut for",
        "present too early",
        "differ",
    };

    if (!r->options->postcopy.is_on || r->result->n_hops == 0)
        return;
    fputs("<h2>Postcopy</h2>\n<div class=\"wide\"><table>\n<tr>", out);
    for (size_t i = 0; i < sizeof(names) / sizeof(names[0]); i++)
        fprintf(out, "<th class=\"number\">%s</th>", names[i]);
    fputs("</tr>\n", out);
    for (unsigned i = 0; i < r->result->n_hops; i++) {
        if (r->result->hops[i].arrival.begin_ns != 0 && r->result->hops[i].end_ns != 0)
            html_arrival(&r->result->hops[i], i + 1, out);
    }
    fputs("</table></div>\n", out);
}

static void html_hops(const struct migration_result *result, FILE *out)
{
    static const char *const names[] = {
        "hop",       "source", "destination", "order",         "rounds",
        "logs",      "memory", "call fds",    "in flight",     "pages marked",
        "unchanged", "lost",   "late",        "in an old log", "downtime",
    };

    if (result->n_hops == 0)
        return;
    fputs("<h2>Migrations</h2>\n<div class=\"wide\"><table>\n<tr>", out);
    for (size_t i = 0; i < sizeof(names) / sizeof(names[0]); i++)
        fprintf(out, i == 0 || i > 3 ? "<th class=\"number\">%s</th>" : "<th>%s</th>", names[i]);
    fputs("</tr>\n", out);
    for (unsigned i = 0; i < result->n_hops; i++)
        html_hop(&result->hops[i], i + 1, out);
    fputs("</table></div>\n", out);
}

static void number_row(FILE *out, const char *name, uint64_t n, const char *unit)
{
    char text[48];

    if (n == 0)
        snprintf(text, sizeof(text), "default");
    else
        snprintf(text, sizeof(text), "%s%s", format_count(n).text, unit);
    row(out, name, text);
}

static void html_postcopy_options(const struct migration_postcopy_options *o, FILE *out)
{
    char at[48] = "after the copy time";

    if (o->has_round)
        snprintf(at, sizeof(at), "after %u rounds", o->round);
    else if (o->at_ms != 0)
        snprintf(at, sizeof(at), "after %u ms", o->at_ms);
    row(out, "switch to postcopy", at);
    row(out, "link rate per second",
        o->link_rate != 0 ? format_bytes(o->link_rate).text : "unlimited");
    row(out, "added latency of page requests", format_time(o->fault_delay_ns).text);
    row(out, "order of pages", o->is_random ? "random" : "address");
    if (o->cut_ms != 0)
        number_row(out, "link cut every", o->cut_ms, " ms");
}

static void html_options(const struct report *r, FILE *out)
{
    static const char *const devices[] = {"blk", "rng", "generic"};
    const struct migration_options *o = r->options;

    fputs("<h2>Options</h2>\n<div class=\"wide\"><table>\n", out);
    row(out, "repeat with", r->command_line);
    row(out, "source", r->source);
    row(out, "destination", r->destination);
    row(out, "device", devices[o->device]);
    row(out, "order of the log messages", migration_order_name(o->order));
    row(out, "guest memory", format_bytes(r->result->memory_bytes).text);
    row(out, "dirty log", format_bytes(r->result->log_bytes).text);
    number_row(out, "seed", r->result->seed, "");
    number_row(out, "devices", o->n_devices, "");
    number_row(out, "queues per device", o->n_queues, "");
    number_row(out, "requests in flight per queue", o->depth, "");
    number_row(out, "block size", o->block_size, " bytes");
    number_row(out, "writes", o->write_percent, " %");
    number_row(out, "migrations", o->hops, "");
    number_row(out, "cancelled before", o->cancels, "");
    number_row(out, "log replaced every", o->replace_log_ms, " ms");
    number_row(out, "memory added or removed every", o->region_ms, " ms");
    number_row(out, "call fds swapped every", o->call_fd_ms, " ms");
    if (o->postcopy.is_on)
        html_postcopy_options(&o->postcopy, out);
    fputs("</table></div>\n", out);
}

static void html_load(const struct migration_result *result, FILE *out)
{
    if (result->requests == 0)
        return;
    fputs("<h2>Load</h2>\n<div class=\"wide\"><table>\n", out);
    row(out, "requests per second, log off", format_rate(result->rate_before).text);
    row(out, "requests per second, log on", format_rate(result->rate_copy).text);
    row(out, "requests per second, at the destination", format_rate(result->rate_after).text);
    row(out, "latency, median", format_time(result->latency_p50).text);
    row(out, "latency, 99 %", format_time(result->latency_p99).text);
    row(out, "latency, worst", format_time(result->latency_max).text);
    row(out, "reads", format_count(result->reads).text);
    row(out, "writes", format_count(result->writes).text);
    row(out, "blocks checked only after the switch", format_count(result->held).text);
    row(out, "blocks read back through the device at the end",
        format_count(result->disk_blocks).text);
    if (result->copy_rate > 0) {
        row(out, "copying of pages", format_byte_rate(result->copy_rate).text);
        row(out, "plain memcpy", format_byte_rate(result->memcpy_rate).text);
    }
    fputs("</table></div>\n", out);
}

void report_html(const struct report *r, FILE *out)
{
    fprintf(out,
            "<!DOCTYPE html>\n<html lang=\"en\"><head><meta charset=\"utf-8\">\n"
            "<meta name=\"viewport\" content=\"width=device-width\">\n"
            "<meta name=\"generator\" content=\"godwit " GW_VERSION_STRING "\">\n"
            "<title>godwit migrate: %s</title>\n<style>\n%s</style></head><body>\n",
            verdict_name(report_verdict(r)), style);
    html_verdict(r, out);
    html_tiles(r, out);
    html_faults(r, out);
    fputs("<h2>Timeline</h2>\n", out);
    report_plots(r, out);
    html_lost(r, out);
    html_checks(r, out);
    html_hops(r->result, out);
    html_arrivals(r, out);
    html_load(r->result, out);
    html_options(r, out);
    fputs("</body></html>\n", out);
}
