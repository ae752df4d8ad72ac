/* SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause */
/*
 * Every outcome of a migration and of a crash test, in every form of its report: text, JSON, JUnit,
 * HTML and exit status must agree, and the report claims nothing that the run did not exercise.
 */
#include "base/clock.h"
#include "crash/crash_report.h"
#include "fdcheck.h"
#include "report/report.h"

#include <godwit/frontend/frontend.h>

#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#include <cmocka.h>

#include "page_of.h"

#define MS    1000000u
#define CLAIM "every page written was marked"

static struct migration_options options;
static struct migration_hop hops[2];
static struct migration_result result;
static struct evidence evidence;

/* Two hops in which everything was exercised and correct. */
static void pass(void)
{
    options = (struct migration_options){.n_queues = 1, .depth = 32, .hops = 2};
    for (unsigned i = 0; i < 2; i++)
        hops[i] = (struct migration_hop){.begin_ns = 290 * MS,
                                         .stop_ns = 1400 * (uint64_t)MS,
                                         .end_ns = 1420 * (uint64_t)MS,
                                         .downtime_ns = 9 * MS,
                                         .compare_bytes = 64 << 20,
                                         .rounds = 10,
                                         .logs_replaced = 3,
                                         .in_flight = 32,
                                         .requests_logged = 20000,
                                         .requests_after = 9000,
                                         .pages_watched = 16384,
                                         .pages_marked = 20000,
                                         .source = "A",
                                         .destination = "B"};
    result = (struct migration_result){.phase = MIGRATION_PHASE_DONE,
                                       .seed = 42,
                                       .hops = hops,
                                       .n_hops = 2,
                                       .requests = 90000,
                                       .verified = 40000,
                                       .disk_blocks = 4096};
}

static void fill_evidence(void)
{
    evidence = (struct evidence){
        .who = "source",
        .has_output = true,
        .n_messages = 2,
        .n_lines = 1,
        .messages = {{.at_ns = 5 * MS, .text = "-> SET_LOG_BASE of 16 bytes, 1 fd"},
                     {.at_ns = 1234567 * (uint64_t)1000, .text = "the back-end hung up"}},
        .lines = {"cannot map the log"},
    };
}

static void add_fault(enum migration_phase phase, bool is_blame, int error, const char *text)
{
    struct migration_fault *f = &result.faults[result.n_faults++];

    *f = (struct migration_fault){
        .side = MIGRATION_SIDE_SOURCE, .phase = phase, .error = error, .is_blame = is_blame};
    snprintf(f->who, sizeof(f->who), "source");
    snprintf(f->text, sizeof(f->text), "%s", text);
    fill_evidence();
    f->n_evidence = 1;
    result.evidence = &evidence;
    result.n_evidence = 1;
    if (is_blame)
        result.verdict = MIGRATION_FAILED;
    else if (result.verdict == MIGRATION_PASSED)
        result.verdict = MIGRATION_COULD_NOT;
}

static void lose_data(void)
{
    hops[1].pages_lost = 3;
    hops[1].pages_hint = 1;
    add_fault(MIGRATION_PHASE_COMPARE, true, -ESTALE, "3 pages were written and not marked");
}

static void lose_hints(void)
{
    hops[0].pages_lost = hops[0].pages_hint = 2;
}

/* Rings are started but not used, whatever the back-end marks or forgets to mark. */
static void leave_alone(void)
{
    options.device = MIGRATION_DEVICE_GENERIC;
    result.requests = result.verified = result.disk_blocks = 0;
    for (unsigned i = 0; i < 2; i++)
        hops[i].requests_logged = hops[i].requests_after = hops[i].in_flight = 0;
}

static void complete_nothing_in_one_hop(void)
{
    hops[1].requests_logged = 0;
}

static void lack_a_feature(void)
{
    hops[0] = (struct migration_hop){.source = "A", .destination = "B"};
    result.n_hops = 1;
    result.requests = result.verified = result.disk_blocks = 0;
    result.phase = MIGRATION_PHASE_CONNECT;
    add_fault(MIGRATION_PHASE_CONNECT, false, -EOPNOTSUPP, "LOG_SHMFD is not offered");
}

static void run_out_of_time(void)
{
    hops[1].end_ns = hops[1].compare_bytes = hops[1].pages_watched = hops[1].requests_after = 0;
    result.phase = MIGRATION_PHASE_COPY;
    add_fault(MIGRATION_PHASE_COPY, false, -ETIMEDOUT, "not done within the time limit");
}

static void end_in_the_middle(void)
{
    run_out_of_time();
    result.faults[0].is_blame = true;
    result.verdict = MIGRATION_FAILED;
}

/* All pages were sent, but the back-end refused to start. */
static void never_start(void)
{
    options.postcopy.is_on = true;
    result.n_hops = 1;
    hops[0].end_ns = hops[0].downtime_ns = hops[0].requests_after = 0;
    hops[0].arrival = (struct migration_arrival){
        .begin_ns = 1409 * (uint64_t)MS, .end_ns = 1500 * (uint64_t)MS, .pages_sent = 512};
    result.phase = MIGRATION_PHASE_COMPARE;
    add_fault(MIGRATION_PHASE_RESUME, true, -EREMOTEIO, "SET_FEATURES: the back-end refused");
}

static void arrive(void)
{
    options.postcopy.is_on = true;
    for (unsigned i = 0; i < 2; i++)
        hops[i].arrival = (struct migration_arrival){.begin_ns = 1409 * (uint64_t)MS,
                                                     .end_ns = 1500 * (uint64_t)MS,
                                                     .pages_sent = 512,
                                                     .pages_compared = 4096};
}

/* Nothing is copied before the switch: no log is tested, and all pages arrive after it. */
static void arrive_with_everything(void)
{
    arrive();
    hops[0].requests_logged = hops[1].requests_logged = 0;
}

static void stand_still(void)
{
    hops[1].downtime_ns = 900 * MS;
}

static void fail_beyond_all_checks(void)
{
    add_fault(MIGRATION_PHASE_SETTLE, true, -EEXIST, "something that no check is about");
}

/* The halves of a migration between two processes. */
static void be_destination(void)
{
    options.listen = "192.0.2.1:1";
    result.n_hops = 1;
    hops[0].compare_bytes = hops[0].requests_logged = hops[0].pages_watched = 0;
    hops[0].logs_replaced = 0;
    hops[0].in_flight = 0;
    result.other_half = MIGRATION_OTHER_PASSED;
}

static void be_destination_of_hints(void)
{
    be_destination();
    result.other_half = MIGRATION_OTHER_HINTS;
}

static void be_destination_of_nothing(void)
{
    be_destination();
    result.other_half = MIGRATION_OTHER_NOT_TESTED;
}

static const struct {
    void (*change)(void);
    enum verdict verdict;
    int status, strict;
    const char *failed;  /* NULL: no check failed */
    const char *skipped; /* a check that was skipped; or NULL */
    const char *reason;  /* part of its text */
} cases[] = {
    {pass, VERDICT_PASSED, 0, 0, NULL, "downtime", CLAIM ", every block read was as last written"},
    {lose_data, VERDICT_FAILED, 1, 1, "pages-marked", NULL, "3 pages were written and not marked"},
    {lose_hints, VERDICT_HINTS, 0, 1, NULL, NULL, "2 pages were written and not marked"},
    {leave_alone, VERDICT_NOT_TESTED, 2, 2, NULL, "pages-marked", "generic makes no requests"},
    {complete_nothing_in_one_hop, VERDICT_NOT_TESTED, 2, 2, NULL, "pages-marked",
     "no request was completed while the log was on"},
    {lack_a_feature, VERDICT_INCONCLUSIVE, 2, 2, NULL, "start", "LOG_SHMFD is not offered"},
    {run_out_of_time, VERDICT_INCONCLUSIVE, 2, 2, NULL, NULL, "within the time limit"},
    {end_in_the_middle, VERDICT_FAILED, 1, 1, "session", NULL, "within the time limit"},
    {never_start, VERDICT_FAILED, 1, 1, "session", "pages-arrived", "the back-end refused"},
    {arrive, VERDICT_PASSED, 0, 0, NULL, NULL, "every page arrived before it was read"},
    {arrive_with_everything, VERDICT_PASSED, 0, 0, NULL, "pages-marked", "every page arrived"},
    {stand_still, VERDICT_FAILED, 1, 1, "downtime", NULL, "down for 900 ms"},
    {fail_beyond_all_checks, VERDICT_FAILED, 1, 1, "session", NULL, "no check is about"},
    {be_destination, VERDICT_PASSED, 0, 0, NULL, "pages-marked", "every block read"},
    {be_destination_of_hints, VERDICT_HINTS, 0, 1, NULL, NULL, "every block read"},
    {be_destination_of_nothing, VERDICT_NOT_TESTED, 2, 2, NULL, "other-half", "other half"},
};

#define N_CASES (sizeof(cases) / sizeof(cases[0]))

static void assert_has(const char *text, const char *part)
{
    if (strstr(text, part) == NULL)
        fail_msg("\"%s\" is not in:\n%s", part, text);
}

static const struct report_check *check_of(const struct report_check *checks, unsigned n,
                                           const char *name)
{
    for (unsigned i = 0; i < n; i++) {
        if (strcmp(checks[i].name, name) == 0)
            return &checks[i];
    }
    fail_msg("there is no check %s", name);
    return NULL;
}

static unsigned number_of(const char *junit, const char *attribute)
{
    char what[32];
    const char *at;

    snprintf(what, sizeof(what), " %s=\"", attribute);
    at = strstr(junit, what);
    assert_non_null(at);
    return (unsigned)strtoul(at + strlen(what), NULL, 10);
}

/* Find a check in JUnit: failed, skipped, or neither. */
static void check_test_case(const char *junit, const struct report_check *check, bool is_failure)
{
    char name[64];
    const char *at, *end;

    snprintf(name, sizeof(name), "name=\"%s\"", check->name);
    at = strstr(junit, name);
    assert_non_null(at);
    end = strstr(at + 1, "<testcase");
    if (end == NULL)
        end = at + strlen(at);
    assert_int_equal((at = strstr(at, "<failure")) != NULL && at < end, is_failure);
    at = strstr(junit, name);
    assert_int_equal((at = strstr(at, "<skipped")) != NULL && at < end,
                     check->outcome == REPORT_SKIPPED);
}

/* Compare the forms of a report with its checks and its verdict. */
struct forms {
    enum verdict verdict;
    int status;
    bool is_strict;
    const struct report_check *checks;
    unsigned n;
    const char *sentence;
    char *text, *json, *junit, *html;
};

static void check_text(const struct forms *f)
{
    static const char *const words[] = {"passed", "hint", "FAILED", "skipped"};
    char line[1024];

    for (unsigned i = 0; i < f->n; i++) {
        snprintf(line, sizeof(line), "%-11s %s: %s\n", words[f->checks[i].outcome],
                 f->checks[i].title, f->checks[i].text);
        assert_has(f->text, line);
    }
    snprintf(line, sizeof(line), "\n%s after ", verdict_name(f->verdict));
    assert_has(f->text, line);
    assert_has(f->text, f->sentence);
}

static void check_json(const struct forms *f)
{
    struct json_object *json = json_tokener_parse(f->json), *part, *list;

    assert_non_null(json);
    assert_true(json_object_object_get_ex(json, "verdict", &part));
    assert_string_equal(json_object_get_string(part), verdict_name(f->verdict));
    assert_true(json_object_object_get_ex(json, "exit_status", &part));
    assert_int_equal(json_object_get_int(part), f->status);
    assert_true(json_object_object_get_ex(json, "reason", &part));
    assert_string_equal(json_object_get_string(part), f->sentence);
    assert_true(json_object_object_get_ex(json, "checks", &list));
    assert_int_equal(json_object_array_length(list), f->n);
    for (unsigned i = 0; i < f->n; i++) {
        assert_true(
            json_object_object_get_ex(json_object_array_get_idx(list, i), "outcome", &part));
        assert_string_equal(json_object_get_string(part),
                            report_outcome_name(f->checks[i].outcome));
    }
    json_object_put(json);
}

static void check_junit(const struct forms *f)
{
    unsigned n_failed = 0, n_skipped = 0, n_errors = f->status == 2;
    char property[80];

    for (unsigned i = 0; i < f->n; i++) {
        bool is_failure = f->checks[i].outcome == REPORT_FAILED ||
                          (f->is_strict && f->checks[i].outcome == REPORT_HINT);

        n_failed += is_failure;
        n_skipped += f->checks[i].outcome == REPORT_SKIPPED;
        check_test_case(f->junit, &f->checks[i], is_failure);
    }
    assert_int_equal(number_of(f->junit, "failures"), n_failed);
    assert_int_equal(number_of(f->junit, "errors"), n_errors);
    assert_int_equal(number_of(f->junit, "skipped"), n_skipped);
    assert_int_equal(number_of(f->junit, "tests"), f->n + n_errors);
    assert_int_equal(n_failed > 0, f->status == 1);
    snprintf(property, sizeof(property), "name=\"exit_status\" value=\"%d\"", f->status);
    assert_has(f->junit, property);
}

static void check_html(const struct forms *f)
{
    static const char *const classes[] = {"passed", "passed-with-hints", "not-tested", "failed",
                                          "inconclusive"};
    char part[160];

    snprintf(part, sizeof(part), "<div class=\"verdict %s\"><b>%s</b> (exit status %d)",
             classes[f->verdict], verdict_name(f->verdict), f->status);
    assert_has(f->html, part);
    for (unsigned i = 0; i < f->n; i++) {
        const char *outcome = report_outcome_name(f->checks[i].outcome);

        snprintf(part, sizeof(part), "<td class=\"%s\">%s</td><td>%s</td>", outcome, outcome,
                 f->checks[i].title);
        assert_has(f->html, part);
    }
}

/* Every form shows a fault with the last messages, their times, and the last lines of output. */
static void check_evidence(const struct forms *f)
{
    const char *const forms[] = {f->text, f->json, f->junit, f->html};

    for (size_t i = 0; i < 4; i++) {
        assert_has(forms[i], i == 0 || i == 1 ? "-> SET_LOG_BASE of 16 bytes, 1 fd"
                                              : "-&gt; SET_LOG_BASE of 16 bytes, 1 fd");
        assert_has(forms[i], "the back-end hung up");
        assert_has(forms[i], i == 1 ? "1234567000" : "1.234567 s");
        assert_has(forms[i], "cannot map the log");
    }
}

static void check_forms(const struct forms *f)
{
    assert_int_equal(f->status, verdict_status(f->verdict, f->is_strict));
    for (unsigned i = 0; i < f->n; i++)
        assert_true(f->checks[i].text[0] != '\0'); /* has at least a reason */
    check_text(f);
    check_json(f);
    check_junit(f);
    check_html(f);
}

static FILE *open_text(char **text, size_t *size)
{
    FILE *out = open_memstream(text, size);

    assert_non_null(out);
    return out;
}

static char *form_of(const struct report *r, report_form *form)
{
    char *text = NULL;
    size_t size;
    FILE *out = open_text(&text, &size);

    form(r, out);
    assert_int_equal(fclose(out), 0);
    return text;
}

static void free_forms(struct forms *f)
{
    free(f->text);
    free(f->json);
    free(f->junit);
    free(f->html);
}

static void check_case(size_t i, bool is_strict)
{
    struct report r = {.options = &options,
                       .result = &result,
                       .source = "a",
                       .destination = "b",
                       .command_line = "godwit migrate a b",
                       .max_downtime_ns = cases[i].change == stand_still ? 100 * MS : 0,
                       .is_strict = is_strict,
                       .began = 1000000000};
    struct report_check checks[REPORT_CHECKS_MAX];
    char sentence[512];
    struct forms f = {.checks = checks, .is_strict = is_strict, .sentence = sentence};

    pass();
    cases[i].change();
    f.n = report_checks(&r, checks);
    assert_true(f.n <= REPORT_CHECKS_MAX);
    f.verdict = report_verdict(&r);
    f.status = report_status(&r);
    report_sentence(&r, sentence, sizeof(sentence));
    f.text = form_of(&r, report_text);
    f.json = form_of(&r, report_json);
    f.junit = form_of(&r, report_junit);
    f.html = page_of(form_of(&r, report_json));
    check_forms(&f);
    if (result.n_faults > 0)
        check_evidence(&f);

    assert_string_equal(verdict_name(f.verdict), verdict_name(cases[i].verdict));
    assert_int_equal(f.status, is_strict ? cases[i].strict : cases[i].status);
    assert_has(sentence, cases[i].reason);
    if (cases[i].failed != NULL)
        assert_int_equal(check_of(checks, f.n, cases[i].failed)->outcome, REPORT_FAILED);
    if (cases[i].skipped != NULL)
        assert_int_equal(check_of(checks, f.n, cases[i].skipped)->outcome, REPORT_SKIPPED);
    if (check_of(checks, f.n, "pages-marked")->outcome != REPORT_PASSED)
        assert_null(strstr(sentence, CLAIM));
    free_forms(&f);
}

static void test_verdict_forms_of_migrate_agree(void **state)
{
    for (size_t i = 0; i < N_CASES; i++) {
        check_case(i, false);
        check_case(i, true);
    }
}

/* No check claims to hold without a request that exercised it. */
static void test_verdict_without_requests_claims_nothing(void **state)
{
    static const char *const names[] = {
        "pages-marked", "quiet-after-stop", "log-replaced", "drained", "data", "session"};
    struct report_check checks[REPORT_CHECKS_MAX];
    struct report r = {.options = &options, .result = &result, .max_downtime_ns = 1};
    unsigned n;

    pass();
    leave_alone();
    n = report_checks(&r, checks);
    for (size_t i = 0; i < sizeof(names) / sizeof(names[0]); i++)
        assert_int_equal(check_of(checks, n, names[i])->outcome, REPORT_SKIPPED);
    assert_int_equal(check_of(checks, n, "downtime")->outcome, REPORT_SKIPPED);
    options.kill = MIGRATION_KILL_COPY;
    n = report_checks(&r, checks);
    assert_int_equal(check_of(checks, n, "resumed")->outcome, REPORT_SKIPPED);
}

/*
 * The link sends all pages even if the destination never starts. They must not count as arrived,
 * and the memories are equal for the wrong reason.
 */
static void test_verdict_pages_for_a_guest_that_never_ran_did_not_arrive(void **state)
{
    static const char *const names[] = {"pages-arrived", "memories-equal"};
    struct report_check checks[REPORT_CHECKS_MAX];
    struct report r = {.options = &options, .result = &result};
    unsigned n;

    for (unsigned ran = 0; ran < 2; ran++) {
        pass();
        arrive();
        for (unsigned i = 0; i < 2; i++)
            hops[i].requests_after = ran;
        n = report_checks(&r, checks);
        for (size_t i = 0; i < sizeof(names) / sizeof(names[0]); i++)
            assert_int_equal(check_of(checks, n, names[i])->outcome,
                             ran ? REPORT_PASSED : REPORT_SKIPPED);
    }
}

/* Times of the last messages are relative to the run, like all others. */
static void test_verdict_messages_have_times_of_the_run(void **state)
{
    const uint64_t start = gw_clock_ns();
    struct gw_frontend *fe;
    uint64_t taken;
    int ends[2];

    assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, ends), 0);
    assert_int_equal(gw_frontend_new(&fe, NULL), 0);
    assert_int_equal(gw_frontend_attach(fe, ends[0]), 0);
    assert_int_equal(gw_frontend_set_owner(fe), 0);
    taken = gw_clock_ns() - start;
    evidence_take_messages(&evidence, fe, start);
    assert_int_equal(evidence.n_messages, 2);
    assert_string_equal(evidence.messages[0].text, "connected");
    assert_string_equal(evidence.messages[1].text, "-> SET_OWNER");
    assert_true(evidence.messages[0].at_ns <= evidence.messages[1].at_ns);
    assert_true(evidence.messages[0].at_ns > 0 && evidence.messages[1].at_ns <= taken);
    evidence_take_messages(&evidence, fe, gw_clock_ns());
    assert_int_equal(evidence.messages[1].at_ns, 0); /* before the run */
    gw_frontend_free(fe);
    close(ends[1]);
}

/* ---- crash ---- */

static struct crash_options crash_options;
static struct crash_result crash;

static void survive(void)
{
    crash_options = (struct crash_options){.seed = 1, .max_recovery_ns = 100 * MS};
    crash = (struct crash_result){.n_kills = 10,
                                  .n_starts = 12,
                                  .n_drains = 5,
                                  .n_in_flight = 320,
                                  .n_taken = 100,
                                  .n_recovered = 10,
                                  .recovery_max = MS,
                                  .requests = 10000,
                                  .verified = 3000,
                                  .disk_blocks = 4096};
}

static void lack_inflight(void)
{
    crash = (struct crash_result){.verdict = CRASH_COULD_NOT, .has_fault = true};
    crash.fault.is_first = true;
    snprintf(crash.fault.text, sizeof(crash.fault.text), "it does not offer INFLIGHT_SHMFD");
}

static void answer_twice(void)
{
    crash.verdict = CRASH_FAILED;
    crash.has_fault = true;
    crash.fault = (struct crash_fault){.check = CRASH_CHECK_ONCE, .error = -EPROTO, .n_kills = 10};
    snprintf(crash.fault.text, sizeof(crash.fault.text), "request 3 was answered twice");
    fill_evidence();
    crash.fault.evidence = evidence;
}

static void kill_while_idle(void)
{
    crash.n_in_flight = crash.n_taken = 0;
}

static void take_nothing(void)
{
    crash.n_taken = 0;
}

static const struct {
    void (*change)(void);
    enum verdict verdict;
    const char *failed, *skipped, *reason;
} crash_cases[] = {
    {survive, VERDICT_PASSED, NULL, NULL, "10 kills and 0 handovers, nothing lost"},
    {lack_inflight, VERDICT_INCONCLUSIVE, NULL, "restarts", "does not offer INFLIGHT_SHMFD"},
    {answer_twice, VERDICT_FAILED, "answered-once", NULL, "answered twice"},
    {kill_while_idle, VERDICT_NOT_TESTED, NULL, "answered-all", "no request was in flight"},
    {take_nothing, VERDICT_PASSED, NULL, "region", "nothing lost"},
};

static char *crash_form_of(const struct crash_report *r, crash_report_form *form)
{
    char *text = NULL;
    size_t size;
    FILE *out = open_text(&text, &size);

    form(r, out);
    assert_int_equal(fclose(out), 0);
    return text;
}

static void test_verdict_forms_of_crash_agree(void **state)
{
    for (size_t i = 0; i < sizeof(crash_cases) / sizeof(crash_cases[0]); i++) {
        struct crash_report r = {.options = &crash_options,
                                 .result = &crash,
                                 .target = "a",
                                 .command_line = "godwit crash a",
                                 .began = 1000000000};
        struct report_check checks[CRASH_N_CHECKS];
        char sentence[640];
        struct forms f = {.checks = checks, .n = CRASH_N_CHECKS, .sentence = sentence};

        survive();
        crash_cases[i].change();
        crash_report_checks(&r, checks);
        f.verdict = crash_report_verdict(&r);
        f.status = verdict_status(f.verdict, false);
        crash_report_sentence(&r, sentence, sizeof(sentence));
        f.text = crash_form_of(&r, crash_report_text);
        f.json = crash_form_of(&r, crash_report_json);
        f.junit = crash_form_of(&r, crash_report_junit);
        f.html = page_of(crash_form_of(&r, crash_report_json));
        check_forms(&f);
        if (crash_cases[i].change == answer_twice)
            check_evidence(&f);
        assert_string_equal(verdict_name(f.verdict), verdict_name(crash_cases[i].verdict));
        assert_has(sentence, crash_cases[i].reason);
        if (crash_cases[i].failed != NULL)
            assert_int_equal(check_of(checks, f.n, crash_cases[i].failed)->outcome, REPORT_FAILED);
        if (crash_cases[i].skipped != NULL)
            assert_int_equal(check_of(checks, f.n, crash_cases[i].skipped)->outcome,
                             REPORT_SKIPPED);
        free_forms(&f);
    }
}

static void test_verdict_statuses_are_those_of_the_table(void **state)
{
    static const struct {
        enum verdict verdict;
        int status, strict;
    } table[] = {
        {VERDICT_PASSED, 0, 0}, {VERDICT_HINTS, 0, 1},        {VERDICT_NOT_TESTED, 2, 2},
        {VERDICT_FAILED, 1, 1}, {VERDICT_INCONCLUSIVE, 2, 2},
    };

    for (size_t i = 0; i < N_VERDICTS; i++) {
        assert_int_equal(verdict_status(table[i].verdict, false), table[i].status);
        assert_int_equal(verdict_status(table[i].verdict, true), table[i].strict);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        FDCHECK_TEST(test_verdict_forms_of_migrate_agree),
        FDCHECK_TEST(test_verdict_without_requests_claims_nothing),
        FDCHECK_TEST(test_verdict_pages_for_a_guest_that_never_ran_did_not_arrive),
        FDCHECK_TEST(test_verdict_messages_have_times_of_the_run),
        FDCHECK_TEST(test_verdict_forms_of_crash_agree),
        FDCHECK_TEST(test_verdict_statuses_are_those_of_the_table),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
