/* SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause */
/*
 * What a migration proved and what not: a list of checks, each passed, failed or not come to. The
 * engine's verdict stands above them; what is asked for on top (the longest downtime) is decided
 * here.
 */
#include "report.h"

#include "command.h"
#include "format.h"
#include "output.h"

#include <errno.h>
#include <stdarg.h>
#include <string.h>

/* The sums over all hops that the checks ask for. */
struct sums {
    uint64_t lost, hint, late, old_log, compared, in_flight_stopped, marked, unchanged, downtime;
    uint64_t sent, faults, early, stray;
    unsigned logs_replaced, n_done, n_arrived;
    bool has_begun; /* the log was on */
};

static void sum_up(const struct migration_result *result, struct sums *s)
{
    *s = (struct sums){0};
    for (unsigned i = 0; i < result->n_hops; i++) {
        const struct migration_hop *hop = &result->hops[i];

        s->lost += hop->pages_lost;
        s->hint += hop->pages_hint;
        s->late += hop->pages_late;
        s->old_log += hop->pages_old_log;
        s->compared += hop->compare_bytes;
        s->in_flight_stopped += hop->in_flight_stopped;
        s->marked += hop->pages_marked;
        s->unchanged += hop->pages_unchanged;
        s->logs_replaced += hop->logs_replaced;
        s->n_done += hop->end_ns != 0;
        s->n_arrived += hop->arrival.end_ns != 0;
        s->sent += hop->arrival.pages_sent;
        s->faults += hop->arrival.faults;
        s->early += hop->arrival.pages_early;
        s->stray += hop->arrival.pages_stray;
        s->has_begun |= hop->begin_ns != 0;
        if (hop->downtime_ns > s->downtime)
            s->downtime = hop->downtime_ns;
    }
}

/* Which check a fault belongs to. */
enum topic {
    TOPIC_START, /* connecting, negotiating */
    TOPIC_PAGES,
    TOPIC_QUIET, /* it went on after the stop: its check counts pages */
    TOPIC_DATA,
    TOPIC_ARRIVAL, /* a page that was there too early, or never came */
    TOPIC_STRAY,   /* the memories differ where nobody had to write */
    TOPIC_SESSION,
};

static enum topic topic_of(const struct migration_fault *f)
{
    if (f->phase == MIGRATION_PHASE_CONNECT)
        return TOPIC_START;
    if (f->error == -EILSEQ)
        return TOPIC_DATA;
    if (f->error == -ESTALE)
        return TOPIC_PAGES;
    if (f->error == -EINPROGRESS)
        return TOPIC_QUIET;
    if (f->error == -EEXIST || f->error == -EADDRNOTAVAIL)
        return TOPIC_ARRIVAL;
    if (f->error == -ENOTUNIQ)
        return TOPIC_STRAY;
    return f->phase == MIGRATION_PHASE_COMPARE ? TOPIC_PAGES : TOPIC_SESSION;
}

static const struct migration_fault *first_fault(const struct report *r, enum topic topic)
{
    for (unsigned i = 0; i < r->result->n_faults; i++) {
        if (topic_of(&r->result->faults[i]) == topic)
            return &r->result->faults[i];
    }
    return NULL;
}

void report_fault(const struct report *r, const struct migration_fault *f, char *buf, size_t size)
{
    char hop[24] = "";

    if (r->result->n_hops > 1)
        snprintf(hop, sizeof(hop), " of hop %u", f->hop + 1);
    if (strcmp(f->who, migration_side_name(f->side)) == 0)
        snprintf(buf, size, "%s, phase \"%s\"%s: %s", f->who, migration_phase_name(f->phase), hop,
                 f->text);
    else
        snprintf(buf, size, "%s (%s), phase \"%s\"%s: %s", f->who, migration_side_name(f->side),
                 migration_phase_name(f->phase), hop, f->text);
}

static bool is_slow(const struct report *r)
{
    struct sums s;

    sum_up(r->result, &s);
    return r->max_downtime_ns != 0 && s.downtime > r->max_downtime_ns;
}

int report_status(const struct report *r)
{
    if (r->result->verdict == MIGRATION_FAILED)
        return COMMAND_FAULT;
    if (r->result->verdict != MIGRATION_PASSED)
        return COMMAND_COULD_NOT;
    return is_slow(r) ? COMMAND_FAULT : COMMAND_OK;
}

const char *report_verdict(const struct report *r)
{
    static const char *const words[] = {"PASSED", "FAILED", "COULD NOT RUN"};

    return words[report_status(r)];
}

void report_severity(const struct report *r, char *buf, size_t size)
{
    static const char *const hint = "harmless hint word (avail_event / used flags / device event)";
    uint64_t data;
    struct sums s;

    sum_up(r->result, &s);
    data = s.lost - s.hint;
    if (s.lost == 0)
        buf[0] = '\0';
    else if (data == 0)
        snprintf(buf, size, "%s: no data lost, at worst a notification is late or one too many",
                 hint);
    else if (s.hint == 0)
        snprintf(buf, size, "data loss: the guest is corrupt");
    else
        snprintf(buf, size, "data loss: the guest is corrupt (%s page%s; %s more: %s)",
                 format_count(data).text, data == 1 ? "" : "s", format_count(s.hint).text, hint);
}

void report_sentence(const struct report *r, char *buf, size_t size)
{
    const struct migration_result *result = r->result;
    struct sums s;

    sum_up(result, &s);
    if (s.lost > 0)
        snprintf(buf, size, "%s page%s written and not marked in the dirty log%s",
                 format_count(s.lost).text, s.lost == 1 ? " was" : "s were",
                 s.hint == s.lost ? ", hint words only" : "");
    else if (result->n_faults > 0)
        report_fault(r, &result->faults[0], buf, size);
    else if (is_slow(r))
        snprintf(buf, size, "the guest stood still for %s, and %s were allowed",
                 format_time(s.downtime).text, format_time(r->max_downtime_ns).text);
    else if (result->verdict == MIGRATION_PASSED)
        snprintf(buf, size, "every page written was marked%s%s",
                 s.n_arrived > 0 ? ", every page arrived before it was read" : "",
                 result->verified + result->disk_blocks > 0
                     ? ", every block read was as last written"
                     : "");
    else
        snprintf(buf, size, "no reason was recorded");
}

/* ---- The checks ---- */

struct checks {
    const struct report *report;
    struct sums sums;
    struct report_check *list;
    unsigned n;
};

__attribute__((format(printf, 5, 6))) static void add(struct checks *c, const char *name,
                                                      const char *title,
                                                      enum report_outcome outcome,
                                                      const char *format, ...)
{
    struct report_check *check = &c->list[c->n++];
    va_list args;

    *check = (struct report_check){.name = name, .title = title, .outcome = outcome};
    va_start(args, format);
    vsnprintf(check->text, sizeof(check->text), format, args);
    va_end(args);
}

/* A check that only a fault can fail. `seen`: it came to that. */
static void add_by_fault(struct checks *c, const char *name, const char *title, enum topic topic,
                         bool seen, const char *text)
{
    const struct migration_fault *f = first_fault(c->report, topic);
    char what[480];

    if (f != NULL) {
        report_fault(c->report, f, what, sizeof(what));
        add(c, name, title, f->side == MIGRATION_SIDE_TOOL ? REPORT_SKIPPED : REPORT_FAILED, "%s",
            what);
    } else {
        add(c, name, title, seen ? REPORT_PASSED : REPORT_SKIPPED, "%s",
            seen ? text : "it did not come to that");
    }
}

static void check_pages(struct checks *c)
{
    const struct sums *s = &c->sums;
    const char *not_compared = "the memories were not compared";
    char severity[200];

    report_severity(c->report, severity, sizeof(severity));
    if (s->compared == 0 && s->lost == 0)
        add_by_fault(c, "pages-marked", "every page written was marked", TOPIC_PAGES, false, "");
    else
        add(c, "pages-marked", "every page written was marked",
            s->lost == 0 && first_fault(c->report, TOPIC_PAGES) == NULL ? REPORT_PASSED
                                                                        : REPORT_FAILED,
            "%s page%s lost in %s compared%s%s", format_count(s->lost).text,
            s->lost == 1 ? "" : "s", format_bytes(s->compared).text,
            severity[0] != '\0' ? "; " : "", severity);
    add(c, "quiet-after-stop", "nothing was written after the stop was answered",
        s->compared == 0 ? REPORT_SKIPPED
        : s->late == 0   ? REPORT_PASSED
                         : REPORT_FAILED,
        "%s%s", s->compared == 0 ? not_compared : format_count(s->late).text,
        s->compared == 0 ? "" : " pages written too late");
    add(c, "log-replaced", "a log was left alone once its replacement was answered",
        s->logs_replaced == 0 ? REPORT_SKIPPED
        : s->old_log == 0     ? REPORT_PASSED
                              : REPORT_FAILED,
        "%u logs replaced, %s pages marked in an old one", s->logs_replaced,
        format_count(s->old_log).text);
}

static void check_arrival(struct checks *c)
{
    const struct sums *s = &c->sums;
    char text[160];

    if (!c->report->options->postcopy.is_on && s->n_arrived == 0)
        return;
    snprintf(text, sizeof(text), "%s pages after the switch, %s faults, %s pages there too early",
             format_count(s->sent).text, format_count(s->faults).text, format_count(s->early).text);
    add_by_fault(c, "pages-arrived", "every page arrived, and before anybody read it",
                 TOPIC_ARRIVAL, s->n_arrived > 0, text);
    if (c->report->options->to != NULL || c->report->options->listen != NULL)
        return; /* the halves compare what is sent, before the guest goes on and when it comes */
    snprintf(text, sizeof(text), "%s pages differ where the guest has nothing",
             format_count(s->stray).text);
    add_by_fault(c, "memories-equal", "the memories are equal where the guest did not write",
                 TOPIC_STRAY, s->n_arrived > 0, text);
}

static void check_downtime(struct checks *c)
{
    const struct report *r = c->report;

    if (r->max_downtime_ns == 0 || c->sums.n_done == 0)
        add(c, "downtime", "the guest stood still no longer than allowed", REPORT_SKIPPED,
            c->sums.n_done == 0 ? "there was no switch" : "no limit was given");
    else
        add(c, "downtime", "the guest stood still no longer than allowed",
            is_slow(r) ? REPORT_FAILED : REPORT_PASSED, "%s at most, %s allowed",
            format_time(c->sums.downtime).text, format_time(r->max_downtime_ns).text);
}

unsigned report_checks(const struct report *r, struct report_check *checks)
{
    const struct migration_result *result = r->result;
    struct checks c = {.report = r, .list = checks};
    char text[160];

    sum_up(result, &c.sums);
    add_by_fault(&c, "start", "both back-ends are there and offer what is needed", TOPIC_START,
                 c.sums.has_begun, "connected and negotiated");
    snprintf(text, sizeof(text), "%u of %u migrations, %s requests", c.sums.n_done, result->n_hops,
             format_count(result->requests).text);
    add_by_fault(&c, "session", "both back-ends answered, and went on serving", TOPIC_SESSION,
                 c.sums.has_begun, text);
    check_pages(&c);
    check_arrival(&c);
    add(&c, "drained", "no request was in flight once the stop was answered",
        c.sums.n_done == 0              ? REPORT_SKIPPED
        : c.sums.in_flight_stopped == 0 ? REPORT_PASSED
                                        : REPORT_FAILED,
        "%s requests in flight", format_count(c.sums.in_flight_stopped).text);
    snprintf(text, sizeof(text), "%s blocks verified, %s of them after the switch, %s at the end",
             format_count(result->verified).text, format_count(result->held).text,
             format_count(result->disk_blocks).text);
    add_by_fault(&c, "data", "every block read was as it was last written", TOPIC_DATA,
                 result->verified > 0 || result->disk_blocks > 0, text);
    check_downtime(&c);
    return c.n;
}

int report_write(const struct report *r, report_form *form, const char *path)
{
    struct output o;

    if (output_begin(&o) != NULL)
        form(r, o.file);
    return output_end(&o, path);
}
