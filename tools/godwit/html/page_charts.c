/* SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause */
/*
 * The timeline of a migration: pages per round; throughput, with the changes to the device; stalls;
 * and the parts of each downtime. All plots share one time axis.
 */
#include "format.h"
#include "page.h"
#include "svg.h"
#include "timeline.h"

#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#define TITLES_MAX 3000 /* limit of tooltips, which slow the page down */
#define HOPS_DRAWN 24

/* Ticks are round numbers, so %g prints no insignificant digits. */
static void label_count(double value, char *buf, size_t size)
{
    snprintf(buf, size, "%g%s",
             value < 1e3   ? value
             : value < 1e6 ? value / 1e3
                           : value / 1e6,
             value < 1e3   ? ""
             : value < 1e6 ? " k"
                           : " M");
}

static void label_time(double ns, char *buf, size_t size)
{
    static const char *const units[] = {"ns", "us", "ms", "s"};
    unsigned i = 0;

    for (; ns >= 1e3 && i < 3; i++)
        ns /= 1e3;
    snprintf(buf, size, "%g %s", ns, units[i]);
}

static double power_of_ten_above(double value)
{
    double power = 10;

    while (power < value)
        power *= 10;
    return power;
}

/* Mark the times when the guest was stopped, including the comparison of the memories. */
static void draw_switches(const struct svg *s, const struct migration_result *result)
{
    char text[96];

    for (unsigned i = 0; i < result->n_hops; i++) {
        const struct migration_hop *hop = &result->hops[i];
        uint64_t end = hop->end_ns != 0 ? hop->end_ns : result->duration_ns;

        if (hop->stop_ns == 0)
            continue;
        snprintf(text, sizeof(text), "hop %u: stopped; downtime %s, comparison %s", i + 1,
                 format_time(hop->downtime_ns).text, format_time(hop->compare_ns).text);
        svg_band(s, hop->stop_ns, end, "band", text);
    }
}

/* ---- Rounds ---- */

static void draw_round(const struct svg *s, const struct migration_round *round, bool with_title)
{
    char text[160];

    snprintf(text, sizeof(text), "round %u%s of hop %u: %s pages, %s of them unchanged, %s copied",
             round->number, round->is_final ? " (final)" : "", round->hop + 1,
             format_count(round->pages).text, format_count(round->pages_unchanged).text,
             format_bytes(round->bytes).text);
    svg_bar(s, round->at_ns, round->duration_ns, (double)round->pages,
            round->number == 0 ? "first"
            : round->is_final  ? "final"
                               : "round",
            with_title ? text : NULL);
}

static void plot_rounds(const struct migration_result *result, FILE *out)
{
    struct svg s = {.out = out, .end_ns = result->duration_ns, .is_log = true, .low = 0.5};
    double max = 1;

    for (unsigned i = 0; i < result->n_rounds; i++)
        max = (double)result->rounds[i].pages > max ? (double)result->rounds[i].pages : max;
    s.high = power_of_ten_above(max);
    svg_begin(&s, "Dirty pages per round", 170, 0);
    svg_value_axis(&s, label_count);
    draw_switches(&s, result);
    for (unsigned i = 0; i < result->n_rounds; i++) {
        if (result->rounds[i].pages != 0)
            draw_round(&s, &result->rounds[i], result->n_rounds <= TITLES_MAX);
    }
    svg_time_axis(&s);
    svg_end(&s);
}

/* ---- Samples, combined to one column per pixel ---- */

struct column {
    uint64_t at_ns, stall_ns, latency_ns;
    double rate;
};

static struct column *make_columns(const struct migration_result *result, unsigned *ret_n)
{
    unsigned group = result->n_samples / SVG_COLUMN + 1, n = 0;
    struct column *columns = calloc(result->n_samples / group + 2, sizeof(*columns));
    uint64_t before = 0;

    for (unsigned i = 0; columns != NULL && i < result->n_samples; i += group) {
        struct column *c = &columns[n++];
        uint64_t requests = 0, span;

        for (unsigned j = i; j < i + group && j < result->n_samples; j++) {
            const struct migration_sample *sample = &result->samples[j];

            requests += sample->requests;
            c->at_ns = sample->at_ns;
            c->stall_ns = sample->stall_ns > c->stall_ns ? sample->stall_ns : c->stall_ns;
            c->latency_ns = sample->latency_ns > c->latency_ns ? sample->latency_ns : c->latency_ns;
        }
        span = c->at_ns > before && i > 0 ? c->at_ns - before : group * 10000000ull;
        c->rate = (double)requests * 1e9 / (double)span;
        before = c->at_ns;
    }
    *ret_n = n;
    return columns;
}

static double rate_of(const void *data, unsigned i, uint64_t *ret_ns)
{
    const struct column *c = (const struct column *)data + i;

    *ret_ns = c->at_ns;
    return c->rate;
}

static double stall_of(const void *data, unsigned i, uint64_t *ret_ns)
{
    const struct column *c = (const struct column *)data + i;

    *ret_ns = c->at_ns;
    return c->stall_ns != 0 ? (double)c->stall_ns : -1; /* no load */
}

static double latency_of(const void *data, unsigned i, uint64_t *ret_ns)
{
    const struct column *c = (const struct column *)data + i;

    *ret_ns = c->at_ns;
    return c->latency_ns != 0 ? (double)c->latency_ns : -1;
}

static const struct lane_kind {
    const char *name, *class;
    unsigned kinds; /* bit set of enum migration_event_kind */
} lane_kinds[] = {
    {"log replaced", "log", 1u << MIGRATION_EVENT_LOG_REPLACED},
    {"memory", "memory", 1u << MIGRATION_EVENT_REGION_ADDED | 1u << MIGRATION_EVENT_REGION_REMOVED},
    {"call fds", "call", 1u << MIGRATION_EVENT_CALL_FD},
    {"link cut", "cut", 1u << MIGRATION_EVENT_LINK_CUT},
};

#define N_LANES    (sizeof(lane_kinds) / sizeof(lane_kinds[0]))
#define LANE_PITCH 15

static void draw_lanes(const struct svg *s, const struct migration_result *result)
{
    for (size_t i = 0; i < N_LANES; i++) {
        struct svg_lane lane = {.y = s->bottom + 34 + (double)(LANE_PITCH * i), .last = -1};

        svg_text(s, SVG_LEFT - 6, lane.y, "tick end", lane_kinds[i].name);
        for (unsigned j = 0; j < result->n_events; j++) {
            if (lane_kinds[i].kinds & 1u << result->events[j].kind)
                svg_mark(s, &lane, result->events[j].at_ns, lane_kinds[i].class);
        }
    }
}

static void plot_rate(const struct migration_result *result, const struct column *columns,
                      unsigned n, FILE *out)
{
    struct svg s = {.out = out, .end_ns = result->duration_ns, .high = 1};

    for (unsigned i = 0; i < n; i++)
        s.high = columns[i].rate > s.high ? columns[i].rate : s.high;
    s.high *= 1.05;
    svg_begin(&s, "Requests per second over time", 190, LANE_PITCH * N_LANES);
    svg_value_axis(&s, label_count);
    draw_switches(&s, result);
    svg_line(&s, columns, n, rate_of, "rate");
    svg_time_axis(&s);
    draw_lanes(&s, result);
    svg_end(&s);
}

static void plot_stalls(const struct migration_result *result, const struct column *columns,
                        unsigned n, FILE *out)
{
    struct svg s = {.out = out, .end_ns = result->duration_ns, .is_log = true, .low = 1e3};
    double max = 1e5;

    for (unsigned i = 0; i < n; i++) {
        max = (double)columns[i].stall_ns > max ? (double)columns[i].stall_ns : max;
        max = (double)columns[i].latency_ns > max ? (double)columns[i].latency_ns : max;
    }
    s.high = power_of_ten_above(max);
    svg_begin(&s, "Stalls over time", 170, 0);
    svg_value_axis(&s, label_time);
    draw_switches(&s, result);
    svg_line(&s, columns, n, latency_of, "latency");
    svg_line(&s, columns, n, stall_of, "stall");
    svg_time_axis(&s);
    svg_end(&s);
}

/* ---- Page faults: median and maximum for each pixel ---- */

struct fault_column {
    uint64_t at_ns, median_ns, worst_ns;
};

static int compare_latencies(const void *a, const void *b)
{
    uint64_t x = *(const uint64_t *)a, y = *(const uint64_t *)b;

    return (x > y) - (x < y);
}

/* Combine the faults of one column, from `i` on. Returns: the first fault of the next column. */
static unsigned make_fault_column(const struct migration_result *result, unsigned i,
                                  uint64_t *latencies, struct fault_column *c)
{
    uint64_t width = result->duration_ns / SVG_COLUMN + 1;
    uint64_t end = (result->page_faults[i].at_ns / width + 1) * width;
    unsigned n = 0;

    c->at_ns = end - width / 2;
    for (; i < result->n_page_faults && result->page_faults[i].at_ns < end; i++)
        latencies[n++] = result->page_faults[i].latency_ns;
    qsort(latencies, n, sizeof(*latencies), compare_latencies);
    c->median_ns = latencies[n / 2];
    c->worst_ns = latencies[n - 1];
    return i;
}

static double worst_of(const void *data, unsigned i, uint64_t *ret_ns)
{
    const struct fault_column *c = (const struct fault_column *)data + i;

    *ret_ns = c->at_ns;
    return (double)c->worst_ns;
}

static double median_of(const void *data, unsigned i, uint64_t *ret_ns)
{
    const struct fault_column *c = (const struct fault_column *)data + i;

    *ret_ns = c->at_ns;
    return (double)c->median_ns;
}

static void draw_faults(struct svg *s, const struct migration_result *result,
                        const struct fault_column *columns, unsigned n)
{
    double max = 1e5;

    for (unsigned i = 0; i < n; i++)
        max = (double)columns[i].worst_ns > max ? (double)columns[i].worst_ns : max;
    s->high = power_of_ten_above(max);
    svg_begin(s, "Waits for pages over time", 170, 0);
    svg_value_axis(s, label_time);
    draw_switches(s, result);
    svg_line(s, columns, n, median_of, "latency");
    svg_line(s, columns, n, worst_of, "stall");
    svg_time_axis(s);
    svg_end(s);
}

static void plot_faults(const struct migration_result *result, FILE *out)
{
    struct svg s = {.out = out, .end_ns = result->duration_ns, .is_log = true, .low = 1e3};
    struct fault_column *columns = calloc(SVG_COLUMN + 2, sizeof(*columns));
    uint64_t *latencies = calloc(result->n_page_faults, sizeof(*latencies));
    unsigned n = 0;

    for (unsigned i = 0;
         columns != NULL && latencies != NULL && i < result->n_page_faults && n < SVG_COLUMN + 2;
         n++)
        i = make_fault_column(result, i, latencies, &columns[n]);
    if (n > 0)
        draw_faults(&s, result, columns, n);
    free(latencies);
    free(columns);
}

/* ---- Downtime ---- */

static void segment(FILE *out, double x, double width, double y, const char *class,
                    const char *what, uint64_t ns)
{
    fprintf(out,
            "<rect x=\"%.1f\" y=\"%.1f\" width=\"%.1f\" height=\"14\" class=\"%s\"><title>%s: "
            "%s</title></rect>\n",
            x, y, width, class, what, format_time(ns).text);
}

static void draw_downtime(const struct svg *s, const struct migration_hop *hop, unsigned number,
                          uint64_t max, double y)
{
    uint64_t stop = hop->device_stop_ns, start = hop->device_start_ns;
    uint64_t rest = hop->downtime_ns > stop + start ? hop->downtime_ns - stop - start : 0;
    double scale = (double)(SVG_COLUMN - 90) / (double)max, x = SVG_LEFT;
    char text[32];

    snprintf(text, sizeof(text), "hop %u", number);
    svg_text(s, SVG_LEFT - 6, y + 12, "tick end", text);
    segment(s->out, x, (double)stop * scale, y, "stop", "stopping the source", stop);
    x += (double)stop * scale;
    segment(s->out, x, (double)rest * scale, y, "round", "final round, first completion", rest);
    x += (double)rest * scale;
    segment(s->out, x, (double)start * scale, y, "start", "starting the destination", start);
    x += (double)start * scale;
    svg_text(s, x + 6, y + 12, "tick", format_time(hop->downtime_ns).text);
}

static void plot_downtime(const struct migration_result *result, FILE *out)
{
    struct svg s = {.out = out};
    unsigned n = 0, drawn = 0;
    uint64_t max = 0;

    for (unsigned i = 0; i < result->n_hops; i++) {
        n += result->hops[i].end_ns != 0;
        max = result->hops[i].downtime_ns > max ? result->hops[i].downtime_ns : max;
    }
    if (n == 0 || max == 0)
        return;
    svg_begin(&s, "Parts of the downtime of each hop", 20 * (n < HOPS_DRAWN ? n : HOPS_DRAWN), 0);
    for (unsigned i = 0; i < result->n_hops && drawn < HOPS_DRAWN; i++) {
        if (result->hops[i].end_ns != 0)
            draw_downtime(&s, &result->hops[i], i + 1, max, SVG_TOP + 20.0 * drawn++);
    }
    if (n > HOPS_DRAWN)
        svg_text(&s, SVG_LEFT, s.bottom + 17, "tick", "The table below lists the others.");
    svg_end(&s);
}

void page_chart(const char *name, const void *timeline, FILE *out)
{
    const struct migration_result *result = &((const struct timeline *)timeline)->result;
    unsigned n = 0;
    struct column *columns = make_columns(result, &n);

    if (strcmp(name, "rounds") == 0 && result->n_rounds > 0)
        plot_rounds(result, out);
    else if (strcmp(name, "rate") == 0 && n > 0)
        plot_rate(result, columns, n, out);
    else if (strcmp(name, "stalls") == 0 && n > 0)
        plot_stalls(result, columns, n, out);
    else if (strcmp(name, "faults") == 0 && result->n_page_faults > 0)
        plot_faults(result, out);
    else if (strcmp(name, "downtime") == 0)
        plot_downtime(result, out);
    free(columns);
}
