/* SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause */
/*
 * What a migration proved: a list of checks, each passed, failed or skipped. The verdict of the
 * engine takes precedence; the limit of the downtime is checked here in addition.
 */
#include "report.h"

#include "command.h"
#include "format.h"
#include "html/page.h"
#include "output.h"
#include "rules.h"

#include <errno.h>
#include <stdarg.h>
#include <string.h>

/* Sums over all hops, for the checks. */
struct sums {
    uint64_t lost, hint, late, old_log, compared, in_flight, in_flight_stopped;
    uint64_t logged, after, watched, rest, downtime;
    uint64_t sent, faults, early, stray;
    unsigned logs_replaced, n_done, n_compared, n_logged, n_after, n_arrived;
    bool has_begun; /* the dirty log was enabled */
};

static void sum_up_arrival(const struct migration_hop *hop, struct sums *s)
{
    const struct migration_arrival *a = &hop->arrival;

    s->rest += a->pages_compared;
    s->sent += a->pages_sent;
    s->faults += a->faults;
    s->early += a->pages_early;
    s->stray += a->pages_stray;
    /* The link sends all pages, even to a destination that never starts. */
    s->n_arrived += a->end_ns != 0 && hop->end_ns != 0 && hop->requests_after != 0;
}

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
        s->in_flight += hop->in_flight;
        s->in_flight_stopped += hop->in_flight_stopped;
        s->logged += hop->requests_logged;
        s->after += hop->requests_after;
        s->watched += hop->pages_watched;
        s->logs_replaced += hop->logs_replaced;
        s->n_done += hop->end_ns != 0;
        s->n_compared += hop->compare_bytes != 0;
        s->n_logged += hop->compare_bytes != 0 && hop->requests_logged != 0;
        s->n_after += hop->requests_after != 0;
        s->has_begun |= hop->begin_ns != 0;
        if (hop->downtime_ns > s->downtime)
            s->downtime = hop->downtime_ns;
        sum_up_arrival(hop, s);
    }
}

/* Which check a fault belongs to. */
enum topic {
    TOPIC_START, /* connecting, negotiating */
    TOPIC_PAGES,
    TOPIC_QUIET, /* the source wrote after its stop; the check counts pages */
    TOPIC_DATA,
    TOPIC_ARRIVAL, /* a page that was present too early, or never arrived */
    TOPIC_STRAY,   /* the memories differ where nothing should have written */
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

/* The first blame of a back-end that belongs to a topic. */
static const struct migration_fault *first_blame(const struct report *r, enum topic topic)
{
    for (unsigned i = 0; i < r->result->n_faults; i++) {
        const struct migration_fault *f = &r->result->faults[i];

        if (f->is_blame && topic_of(f) == topic)
            return f;
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

const char *report_device_name(const struct report *r)
{
    static const char *const names[] = {"blk", "rng", "generic"};

    return names[r->options->device];
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
        snprintf(buf, size, "%s: no data lost, at worst a notification is late or superfluous",
                 hint);
    else if (s.hint == 0)
        snprintf(buf, size, "data loss: the guest is corrupt");
    else
        snprintf(buf, size, "data loss: the guest is corrupt (%s page%s; %s more: %s)",
                 format_count(data).text, data == 1 ? "" : "s", format_count(s.hint).text, hint);
}

/* ---- The checks ---- */

struct checks {
    const struct report *report;
    struct sums sums;
    struct report_check *list;
    unsigned n;
};

__attribute__((format(printf, 5, 6))) static struct report_check *add(struct checks *c,
                                                                      const char *name,
                                                                      const char *title,
                                                                      enum report_outcome outcome,
                                                                      const char *format, ...)
{
    struct report_check *check = &c->list[c->n++];
    va_list args;

    *check = (struct report_check){
        .name = name, .title = title, .outcome = outcome, .rule = rule_of(name)};
    va_start(args, format);
    vsnprintf(check->text, sizeof(check->text), format, args);
    va_end(args);
    return check;
}

/* A check that did not run: the run ended early, or `reason`. */
static struct report_check *add_skipped(struct checks *c, const char *name, const char *title,
                                        const char *reason)
{
    const struct migration_result *result = c->report->result;

    if (result->phase != MIGRATION_PHASE_DONE)
        return add(c, name, title, REPORT_SKIPPED, "not reached: the run ended in phase \"%s\"",
                   migration_phase_name(result->phase));
    return add(c, name, title, REPORT_SKIPPED, "%s", reason);
}

/* A check that only a fault can fail. `ran`: the run exercised it. */
static struct report_check *add_by_fault(struct checks *c, const char *name, const char *title,
                                         enum topic topic, bool ran, const char *text,
                                         const char *reason)
{
    const struct migration_fault *f = first_blame(c->report, topic);
    char what[480];

    if (f != NULL) {
        report_fault(c->report, f, what, sizeof(what));
        return add(c, name, title, REPORT_FAILED, "%s", what);
    }
    return ran ? add(c, name, title, REPORT_PASSED, "%s", text)
               : add_skipped(c, name, title, reason);
}

/* Why the back-ends were idle. */
static const char *no_requests(const struct checks *c, const char *otherwise)
{
    return c->report->options->device == MIGRATION_DEVICE_GENERIC
               ? "--device=generic makes no requests, so the back-end wrote nothing"
               : otherwise;
}

static void check_start(struct checks *c)
{
    const struct migration_result *result = c->report->result;
    const struct sums *s = &c->sums;
    char text[160], reason[480];

    /* If the test could not be run, the first fault is the reason. */
    snprintf(reason, sizeof(reason), "the dirty log was never enabled");
    if (result->n_faults != 0)
        report_fault(c->report, &result->faults[0], reason, sizeof(reason));
    if (!s->has_begun && first_blame(c->report, TOPIC_START) == NULL)
        add(c, "start", "both back-ends connected and offer the required features", REPORT_SKIPPED,
            "%s", reason);
    else
        add_by_fault(c, "start", "both back-ends connected and offer the required features",
                     TOPIC_START, true, "connected and negotiated", "");
    snprintf(text, sizeof(text), "%u of %u migrations, %s requests", s->n_done, result->n_hops,
             format_count(result->requests).text);
    add_by_fault(c, "session",
                 "both back-ends replied to every message and completed every request",
                 TOPIC_SESSION, s->n_done != 0 && result->requests != 0, text,
                 no_requests(c, "no request was completed"));
}

static struct report_check *add_pages(struct checks *c)
{
    static const char name[] = "pages-marked", title[] = "every page written was marked";
    const struct migration_fault *f = first_blame(c->report, TOPIC_PAGES);
    const struct sums *s = &c->sums;
    char severity[200], what[480] = "";

    report_severity(c->report, severity, sizeof(severity));
    if (f != NULL)
        report_fault(c->report, f, what, sizeof(what));
    if (s->lost != 0)
        return add(c, name, title, s->lost > s->hint || f != NULL ? REPORT_FAILED : REPORT_HINT,
                   "%s page%s not marked in %s compared; %s", format_count(s->lost).text,
                   s->lost == 1 ? "" : "s", format_bytes(s->compared).text, severity);
    if (f != NULL)
        return add(c, name, title, REPORT_FAILED, "%s", what);
    if (c->report->options->listen != NULL)
        return add_skipped(c, name, title, "the half with --to compares the memories");
    if (s->compared == 0)
        return add_skipped(c, name, title, "the memories were not compared");
    if (s->n_logged < s->n_compared)
        return add_skipped(c, name, title,
                           no_requests(c, s->n_compared == 1
                                              ? "no request was completed while the log was on"
                                              : "in one of the migrations no request was "
                                                "completed while the log was on"));
    return add(c, name, title, REPORT_PASSED,
               "%s requests completed with the log on, no page lost in %s compared",
               format_count(s->logged).text, format_bytes(s->compared).text);
}

static void check_pages(struct checks *c)
{
    static const char quiet[] = "nothing was written after the reply to the stop";
    static const char replaced[] = "no page was marked in a replaced dirty log";
    const struct migration_options *o = c->report->options;
    const struct sums *s = &c->sums;

    add_pages(c)->is_core = o->listen == NULL;
    if (s->late != 0 || first_blame(c->report, TOPIC_QUIET) != NULL)
        add(c, "quiet-after-stop", quiet, REPORT_FAILED, "%s pages written too late",
            format_count(s->late).text);
    else if (s->watched == 0 || s->logged == 0)
        add_skipped(c, "quiet-after-stop", quiet,
                    s->logged == 0 && o->listen == NULL
                        ? no_requests(c, "no request was completed while the log was on")
                        : "the stopped source was not watched here");
    else
        add(c, "quiet-after-stop", quiet, REPORT_PASSED,
            "%s pages of the stopped source, none written too late", format_count(s->watched).text);
    if (s->old_log != 0)
        add(c, "log-replaced", replaced, REPORT_FAILED,
            "%u logs replaced, %s pages marked in an "
            "old one",
            s->logs_replaced, format_count(s->old_log).text);
    else if (s->logs_replaced == 0 || s->logged == 0)
        add_skipped(c, "log-replaced", replaced,
                    s->logs_replaced == 0 ? "no log was replaced"
                                          : no_requests(c, "no request was completed while the "
                                                           "log was on"));
    else
        add(c, "log-replaced", replaced, REPORT_PASSED,
            "%u logs replaced, no page marked in an old one", s->logs_replaced);
}

static void check_arrival(struct checks *c)
{
    const struct migration_options *o = c->report->options;
    const struct sums *s = &c->sums;
    const char *reason;
    char text[160];

    if (!o->postcopy.is_on && s->n_arrived == 0)
        return;
    reason = s->after == 0  ? no_requests(c, "the guest never ran at the destination")
             : s->sent == 0 ? "no page was sent after the switch"
                            : "not all pages were sent";
    snprintf(text, sizeof(text), "%s pages after the switch, %s faults, %s pages present too early",
             format_count(s->sent).text, format_count(s->faults).text, format_count(s->early).text);
    add_by_fault(c, "pages-arrived", "every page arrived before it was read", TOPIC_ARRIVAL,
                 s->n_arrived > 0 && s->n_arrived == s->n_done && s->sent > 0, text, reason)
        ->is_core = true;
    if (o->to != NULL || o->listen != NULL)
        return; /* the halves compare the pages that are sent, at both ends */
    snprintf(text, sizeof(text), "%s pages compared, %s differ where the guest did not write",
             format_count(s->rest).text, format_count(s->stray).text);
    add_by_fault(c, "memories-equal", "the memories are equal where the guest did not write",
                 TOPIC_STRAY, s->rest > 0 && s->n_arrived > 0, text, reason);
}

static void check_kills(struct checks *c)
{
    const struct migration_result *result = c->report->result;
    static const char title[] = "a killed back-end resumed its requests in flight";

    if (c->report->options->kill == MIGRATION_KILL_NEVER)
        return;
    if (first_blame(c->report, TOPIC_SESSION) != NULL)
        add(c, "resumed", title, REPORT_SKIPPED, "the session failed");
    else if (result->in_flight_killed == 0)
        add_skipped(c, "resumed", title,
                    result->kills == 0 ? "no back-end was killed"
                                       : "no request was in flight when a back-end was killed");
    else
        add(c, "resumed", title, REPORT_PASSED, "%u kills with %s requests in flight",
            result->kills, format_count(result->in_flight_killed).text);
}

static void check_drained(struct checks *c)
{
    static const char title[] = "no request was in flight after the reply to the stop";
    const struct sums *s = &c->sums;

    if (s->in_flight_stopped != 0)
        add(c, "drained", title, REPORT_FAILED, "%s requests in flight",
            format_count(s->in_flight_stopped).text);
    else if (s->n_done == 0 || s->in_flight == 0)
        add_skipped(c, "drained", title,
                    c->report->options->listen != NULL
                        ? "the half with --to stops the source"
                        : no_requests(c, "no request was in flight when the guest stopped"));
    else
        add(c, "drained", title, REPORT_PASSED,
            "%s requests in flight when the guest stopped, none afterwards",
            format_count(s->in_flight).text);
}

static void check_data(struct checks *c)
{
    const struct migration_result *result = c->report->result;
    char text[200];

    snprintf(text, sizeof(text),
             "%s blocks verified, %s of them after the switch, %s read back "
             "through the device at the end",
             format_count(result->verified).text, format_count(result->held).text,
             format_count(result->disk_blocks).text);
    add_by_fault(c, "data", "every block read was as last written", TOPIC_DATA,
                 result->verified > 0 || result->disk_blocks > 0, text,
                 c->report->options->to != NULL ? "the half with --listen reads the data"
                                                : no_requests(c, "no block was read"))
        ->is_core = c->report->options->listen != NULL;
}

static bool is_slow(const struct report *r, const struct sums *s)
{
    return r->max_downtime_ns != 0 && r->result->requests != 0 && s->downtime > r->max_downtime_ns;
}

static void check_downtime(struct checks *c)
{
    static const char title[] = "the downtime stayed within the limit";
    const struct report *r = c->report;

    if (r->max_downtime_ns == 0)
        add(c, "downtime", title, REPORT_SKIPPED, "no limit was given");
    else if (c->sums.n_done == 0 || r->result->requests == 0)
        add_skipped(c, "downtime", title,
                    no_requests(c, "no request was completed at the destination"));
    else
        add(c, "downtime", title, is_slow(r, &c->sums) ? REPORT_FAILED : REPORT_PASSED,
            "%s at most, %s allowed", format_time(c->sums.downtime).text,
            format_time(r->max_downtime_ns).text);
}

/* Between two hosts: the verdict of the other half. */
static void check_other_half(struct checks *c)
{
    static const char name[] = "other-half", title[] = "the other half found nothing wrong";
    const struct migration_result *result = c->report->result;
    const struct migration_options *o = c->report->options;

    if (o->to == NULL && o->listen == NULL)
        return;
    switch (result->other_half) {
    case MIGRATION_OTHER_PASSED:
        add(c, name, title, REPORT_PASSED, "it passed");
        break;
    case MIGRATION_OTHER_HINTS:
        add(c, name, title, REPORT_HINT,
            "it passed, with hints: words that cannot lose data were "
            "not marked");
        break;
    case MIGRATION_OTHER_NOT_TESTED:
        add(c, name, title, REPORT_SKIPPED, "none of its core checks ran");
        break;
    case MIGRATION_OTHER_FAILED:
        add(c, name, title, REPORT_FAILED, "it found a back-end at fault");
        break;
    default:
        add_skipped(c, name, title, "its verdict is unknown");
        break;
    }
}

/* Ensure that a fault of a back-end fails a check, regardless of its topic. */
static void fail_one(struct checks *c)
{
    const struct migration_result *result = c->report->result;
    struct report_check *session = NULL;

    for (unsigned i = 0; i < c->n; i++) {
        if (c->list[i].outcome == REPORT_FAILED)
            return;
        if (strcmp(c->list[i].name, "session") == 0)
            session = &c->list[i];
    }
    for (unsigned i = 0; i < result->n_faults; i++) {
        if (!result->faults[i].is_blame)
            continue;
        session->outcome = REPORT_FAILED;
        report_fault(c->report, &result->faults[i], session->text, sizeof(session->text));
        return;
    }
}

unsigned report_checks(const struct report *r, struct report_check *checks)
{
    struct checks c = {.report = r, .list = checks};

    sum_up(r->result, &c.sums);
    check_start(&c);
    check_pages(&c);
    check_arrival(&c);
    check_kills(&c);
    check_drained(&c);
    check_data(&c);
    check_downtime(&c);
    check_other_half(&c);
    fail_one(&c);
    return c.n;
}

/* ---- The verdict ---- */

enum verdict report_verdict(const struct report *r)
{
    struct report_check checks[REPORT_CHECKS_MAX];
    unsigned n = report_checks(r, checks);
    enum verdict verdict = verdict_of(checks, n, r->result->verdict != MIGRATION_PASSED);

    /* Both halves end with the combined verdict. */
    if (verdict < VERDICT_NOT_TESTED && r->result->other_half == MIGRATION_OTHER_NOT_TESTED)
        return VERDICT_NOT_TESTED;
    return verdict;
}

int report_status(const struct report *r)
{
    return verdict_status(report_verdict(r), r->is_strict);
}

static const struct report_check *find(const struct report_check *checks, unsigned n,
                                       const char *name)
{
    for (unsigned i = 0; i < n; i++) {
        if (strcmp(checks[i].name, name) == 0)
            return &checks[i];
    }
    return NULL;
}

/* Claim only what was exercised. */
static void tell_passed(const struct report_check *checks, unsigned n, char *buf, size_t size)
{
    static const char *const claims[][2] = {
        {"pages-marked", "every page written was marked"},
        {"pages-arrived", "every page arrived before it was read"},
        {"data", "every block read was as last written"},
    };
    size_t used = 0;

    buf[0] = '\0';
    for (size_t i = 0; i < sizeof(claims) / sizeof(claims[0]); i++) {
        const struct report_check *check = find(checks, n, claims[i][0]);

        if (check != NULL && check->outcome == REPORT_PASSED && used < size)
            used += (size_t)snprintf(buf + used, size - used, "%s%s", used != 0 ? ", " : "",
                                     claims[i][1]);
    }
}

/* Explain why no core check ran. */
static void tell_not_tested(const struct report_check *checks, unsigned n, char *buf, size_t size)
{
    snprintf(buf, size, "no core check of the other half ran");
    for (unsigned i = 0; i < n; i++) {
        if (checks[i].is_core && checks[i].outcome == REPORT_SKIPPED) {
            snprintf(buf, size, "%s", checks[i].text);
            return;
        }
    }
}

void report_sentence(const struct report *r, char *buf, size_t size)
{
    struct report_check checks[REPORT_CHECKS_MAX];
    unsigned n = report_checks(r, checks);
    const struct migration_result *result = r->result;
    enum verdict verdict = report_verdict(r);
    struct sums s;

    sum_up(result, &s);
    if (s.lost > 0)
        snprintf(buf, size, "%s page%s written and not marked in the dirty log%s",
                 format_count(s.lost).text, s.lost == 1 ? " was" : "s were",
                 s.hint == s.lost ? ", hint words only" : "");
    else if (result->n_faults > 0)
        report_fault(r, &result->faults[0], buf, size);
    else if (is_slow(r, &s))
        snprintf(buf, size, "the guest was down for %s, limit %s", format_time(s.downtime).text,
                 format_time(r->max_downtime_ns).text);
    else if (verdict == VERDICT_NOT_TESTED)
        tell_not_tested(checks, n, buf, size);
    else if (verdict == VERDICT_PASSED || verdict == VERDICT_HINTS)
        tell_passed(checks, n, buf, size);
    else
        snprintf(buf, size, "no reason was recorded");
}

int report_write(const struct report *r, report_form *form, const char *path)
{
    struct output o;

    if (output_begin(&o) != NULL)
        form(r, o.file);
    return output_end(&o, path);
}

int report_write_html(const struct report *r, const char *path)
{
    struct output json;

    if (output_begin(&json) != NULL)
        report_json(r, json.file);
    return page_write(&json, NULL, path);
}
