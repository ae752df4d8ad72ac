/* SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause */
/*
 * Reports of made-up migrations: one that passed, one that lost pages, one that could not run. A
 * path as argument receives the report of the second one, for inspection.
 */
#include "base/histogram.h"
#include "fdcheck.h"
#include "format.h"
#include "output.h"
#include "probe/feature_names.h"
#include "report/report.h"
#include "utf8.h"

#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#include "page_of.h"

#define MS          1000000u
#define N_SAMPLES   200
#define N_ROUNDS    80
#define N_EVENTS    120
#define SWITCH_MS   1400
#define DURATION_MS 2000

static struct migration_options options = {.n_queues = 2, .depth = 32, .hops = 1};
static struct migration_hop hop;
static struct migration_round rounds[N_ROUNDS];
static struct migration_sample samples[N_SAMPLES];
static struct migration_event events[N_EVENTS];
static struct migration_lost lost[3];
static struct backend_record backend = {.name = "source",
                                        .text = "prog --a '{socket}' <x>",
                                        .executable = "/usr/bin/prog",
                                        .build_id = "0123abcd",
                                        .features = 1u << 9,
                                        .protocol_features = 1u << 1};

static void fill_timeline(void)
{
    for (unsigned i = 0; i < N_SAMPLES; i++)
        samples[i] = (struct migration_sample){.at_ns = (uint64_t)(i + 1) * 10 * MS,
                                               .requests = i == 140 ? 0 : 900 + i * 37 % 200,
                                               .stall_ns = i == 140 ? 0 : 40000 + i % 13 * 20000,
                                               .latency_ns = 300000 + i % 7 * 90000};
    for (unsigned i = 0; i < N_ROUNDS; i++)
        rounds[i] = (struct migration_round){.at_ns = (300 + (uint64_t)i * 14) * MS,
                                             .duration_ns = (i == 0 ? 12 : 2) * MS,
                                             .number = i,
                                             .pages = i == 0 ? 16384 : 200 + i * 53 % 300,
                                             .pages_unchanged = 7,
                                             .is_final = i == N_ROUNDS - 1};
    for (unsigned i = 0; i < N_EVENTS; i++)
        events[i] = (struct migration_event){.at_ns = (300 + (uint64_t)i * 9) * MS,
                                             .kind = i % 10 == 9 ? MIGRATION_EVENT_REGION_ADDED
                                                                 : MIGRATION_EVENT_LOG_REPLACED,
                                             .phase = MIGRATION_PHASE_COPY};
}

static struct migration_result passed(void)
{
    fill_timeline();
    hop = (struct migration_hop){.begin_ns = 290 * MS,
                                 .stop_ns = (uint64_t)SWITCH_MS * MS,
                                 .end_ns = (uint64_t)(SWITCH_MS + 20) * MS,
                                 .downtime_ns = 9 * MS,
                                 .device_stop_ns = 2 * MS,
                                 .device_start_ns = 3 * MS,
                                 .compare_ns = 11 * MS,
                                 .compare_bytes = 64 << 20,
                                 .rounds = N_ROUNDS,
                                 .logs_replaced = 108,
                                 .in_flight = 32,
                                 .requests_logged = 90000,
                                 .requests_after = 40000,
                                 .pages_watched = 16384,
                                 .pages_marked = 20000,
                                 .pages_unchanged = 560,
                                 .source = "source",
                                 .destination = "destination"};
    return (struct migration_result){.phase = MIGRATION_PHASE_DONE,
                                     .seed = 42,
                                     .memory_bytes = 64 << 20,
                                     .log_bytes = 2048,
                                     .duration_ns = (uint64_t)DURATION_MS * MS,
                                     .hops = &hop,
                                     .n_hops = 1,
                                     .rounds = rounds,
                                     .n_rounds = N_ROUNDS,
                                     .samples = samples,
                                     .n_samples = N_SAMPLES,
                                     .events = events,
                                     .n_events = N_EVENTS,
                                     .requests = 180000,
                                     .reads = 90000,
                                     .writes = 90000,
                                     .verified = 90000,
                                     .rate_before = 95000,
                                     .rate_copy = 93000,
                                     .rate_after = 94000,
                                     .stall_copy_ns = 280000,
                                     .stall_before_ns = 260000};
}

/* The same with postcopy. */
static struct migration_result arrived(void)
{
    static struct migration_page_fault page_faults[200];
    struct migration_result result = passed();

    for (unsigned i = 0; i < 200; i++)
        page_faults[i] = (struct migration_page_fault){.at_ns = (SWITCH_MS + 10 + (uint64_t)i) * MS,
                                                       .latency_ns = 20000 + i % 50 * 1000};
    hop.arrival = (struct migration_arrival){.discard_ns = 50000,
                                             .begin_ns = (uint64_t)(SWITCH_MS + 9) * MS,
                                             .end_ns = (uint64_t)(SWITCH_MS + 309) * MS,
                                             .pages_stale = 1234,
                                             .pages_sent = 1300,
                                             .bytes_sent = 1300 * 4096,
                                             .faults = 200,
                                             .pages_asked = 150,
                                             .pages_compared = 16384,
                                             .latency_p50 = 45000,
                                             .latency_p90 = 66000,
                                             .latency_p99 = 68000,
                                             .latency_max = 69000,
                                             .stall_ns = 7 * MS,
                                             .cuts = 3,
                                             .cut_ns = 41 * MS};
    result.page_faults = page_faults;
    result.n_page_faults = 200;
    return result;
}

static void set_fault(struct migration_result *result, enum migration_phase phase, int error,
                      const char *text)
{
    struct migration_fault *f = &result->faults[result->n_faults++];

    *f = (struct migration_fault){.side = MIGRATION_SIDE_SOURCE,
                                  .phase = phase,
                                  .error = error,
                                  .is_blame = result->verdict == MIGRATION_FAILED,
                                  .at_ns = 5 * MS};
    snprintf(f->who, sizeof(f->who), "source");
    snprintf(f->text, sizeof(f->text), "%s", text);
}

static struct migration_result failed(void)
{
    struct migration_result result = passed();

    result.verdict = MIGRATION_FAILED;
    hop.pages_lost = 3;
    for (unsigned i = 0; i < 3; i++) {
        lost[i] = (struct migration_lost){.page = 0x10000 + i * 0x1000,
                                          .first = 0x10200 + i * 0x1000,
                                          .n_bytes = 512,
                                          .use = MIGRATION_USE_DATA,
                                          .uses = 1u << MIGRATION_USE_DATA};
        snprintf(lost[i].text, sizeof(lost[i].text), "data <buffer> of request %u & more", i);
    }
    result.backends = &backend;
    result.n_backends = 1;
    result.lost = lost;
    result.n_lost = 3;
    result.lost_by_use[MIGRATION_USE_DATA] = 3;
    set_fault(&result, MIGRATION_PHASE_COMPARE, -EBADMSG, "3 pages were \"lost\" <here> \x01\xff");
    return result;
}

static struct report report_of(const struct migration_result *result)
{
    return (struct report){.options = &options,
                           .result = result,
                           .source = "prog --a '{socket}' <x>",
                           .destination = "/run/b.sock",
                           .command_line = "godwit migrate --seed=42 a b",
                           .began = 1000000000};
}

static char *text_of(const struct report *r, report_form *form)
{
    char *text = NULL;
    size_t size = 0;
    FILE *out = open_memstream(&text, &size);

    assert_non_null(out);
    form(r, out);
    assert_int_equal(fclose(out), 0);
    assert_non_null(text);
    return text;
}

static void assert_has(const char *text, const char *part)
{
    if (text == NULL || strstr(text, part) == NULL)
        fail_msg("\"%s\" is not in:\n%s", part, text != NULL ? text : "nothing");
}

static void assert_has_not(const char *text, const char *part)
{
    if (strstr(text, part) != NULL)
        fail_msg("\"%s\" is in the report", part);
}

static enum report_outcome outcome_of(const struct report *r, const char *name)
{
    struct report_check checks[REPORT_CHECKS_MAX];
    unsigned n = report_checks(r, checks);

    assert_true(n <= REPORT_CHECKS_MAX);
    for (unsigned i = 0; i < n; i++) {
        if (strcmp(checks[i].name, name) == 0)
            return checks[i].outcome;
    }
    fail_msg("there is no check %s", name);
    return REPORT_SKIPPED;
}

static void test_passed_is_told(void **state)
{
    struct migration_result result = passed();
    struct report r = report_of(&result);
    char *text = text_of(&r, report_text);

    assert_int_equal(report_status(&r), 0);
    assert_has(text, "PASSED after 2.00 s: every page written was marked");
    assert_has(text, "downtime 9.00 ms");
    assert_has_not(text, "fault");
    assert_int_equal(outcome_of(&r, "pages-marked"), REPORT_PASSED);
    assert_int_equal(outcome_of(&r, "downtime"), REPORT_SKIPPED);
    free(text);
}

static void test_arrival_is_told(void **state)
{
    struct migration_result result = arrived();
    struct report r = report_of(&result);
    struct json_object *json, *part;
    char *text;

    options.postcopy.is_on = true;
    text = text_of(&r, report_text);
    assert_has(text, "postcopy: 1,234 pages stale at the switch, 5.08 MiB sent after it in 300 ms, "
                     "link cut 3 times for 41.0 ms; worst stall in this phase 7.00 ms");
    assert_has(text, "200 page faults, p50 45.0 us, p90 66.0 us, p99 68.0 us, max 69.0 us");
    assert_has(text, "every page arrived before it was read");
    free(text);
    assert_int_equal(outcome_of(&r, "pages-arrived"), REPORT_PASSED);
    assert_int_equal(outcome_of(&r, "memories-equal"), REPORT_PASSED);
    text = page_of(text_of(&r, report_json));
    assert_has(text, "<h2>Postcopy</h2>");
    assert_has(text, "<h3>Page faults</h3>");
    assert_has_not(text, "nan");
    free(text);
    text = text_of(&r, report_json);
    json = json_tokener_parse(text);
    assert_true(json_object_object_get_ex(json, "page_faults", &part));
    assert_true(json_object_object_get_ex(part, "latency_ns", &part));
    assert_int_equal(json_object_array_length(part), 200);
    json_object_put(json);
    free(text);
    options.postcopy.is_on = false;
}

static void test_arrival_that_failed_is_told(void **state)
{
    static const struct {
        int error;
        const char *check;
    } cases[] = {
        {-EEXIST, "pages-arrived"},
        {-EADDRNOTAVAIL, "pages-arrived"},
        {-ENOTUNIQ, "memories-equal"},
    };

    options.postcopy.is_on = true;
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        struct migration_result result = arrived();
        struct report r = report_of(&result);

        result.verdict = MIGRATION_FAILED;
        set_fault(&result, MIGRATION_PHASE_POSTCOPY, cases[i].error, "something");
        assert_int_equal(outcome_of(&r, cases[i].check), REPORT_FAILED);
        assert_int_equal(outcome_of(&r, "session"), REPORT_PASSED);
        assert_int_equal(outcome_of(&r, "pages-marked"), REPORT_PASSED);
    }
    options.postcopy.is_on = false;
}

static void test_longest_downtime_decides(void **state)
{
    struct migration_result result = passed();
    struct report r = report_of(&result);

    r.max_downtime_ns = 10 * MS;
    assert_int_equal(report_status(&r), 0);
    assert_int_equal(outcome_of(&r, "downtime"), REPORT_PASSED);
    r.max_downtime_ns = 8 * MS;
    assert_int_equal(report_status(&r), 1);
    assert_int_equal(outcome_of(&r, "downtime"), REPORT_FAILED);
    assert_int_equal(report_verdict(&r), VERDICT_FAILED);
}

static void test_lost_pages_are_told(void **state)
{
    struct migration_result result = failed();
    struct report r = report_of(&result);
    char *text = text_of(&r, report_text);

    assert_int_equal(report_status(&r), 1);
    assert_has(text, "FAILED after 2.00 s: 3 pages were written and not marked");
    assert_has(text, "page 0x11000: 512 bytes from 0x11200 on: data <buffer> of request 1");
    assert_has(text, "repeat      godwit migrate --seed=42 a b");
    assert_has(text, "build-id 0123abcd");
    assert_has(text, "features    of source: FLUSH; protocol: LOG_SHMFD\n");
    assert_has(text, "rule        vhost-user, \"Migration\": ");
    assert_int_equal(outcome_of(&r, "pages-marked"), REPORT_FAILED);
    assert_int_equal(outcome_of(&r, "session"), REPORT_PASSED);
    free(text);
}

static void test_severity_is_told(void **state)
{
    struct migration_result result = failed();
    struct report r = report_of(&result);
    char *text = text_of(&r, report_text);

    assert_has(text, "severity    data loss: the guest is corrupt\n");
    free(text);

    hop.pages_hint = 1;
    text = text_of(&r, report_junit);
    assert_has(text, "data loss: the guest is corrupt (2 pages; 1 more: harmless hint word");
    free(text);

    /* Only hint words were lost: no fault. */
    hop.pages_hint = 3;
    result.verdict = MIGRATION_PASSED;
    result.n_faults = 0;
    assert_int_equal(report_status(&r), 0);
    r.is_strict = true;
    assert_int_equal(report_status(&r), 1);
    assert_int_equal(outcome_of(&r, "pages-marked"), REPORT_HINT);
    text = text_of(&r, report_text);
    assert_has(
        text,
        "severity    harmless hint word (avail_event / used flags / device event): no data lost");
    assert_has(text, "PASSED, with hints after 2.00 s: 3 pages were written and not marked in the "
                     "dirty log, hint words only");
    assert_has_not(text, "corrupt");
    free(text);
    text = page_of(text_of(&r, report_json));
    assert_has(text, "harmless hint word");
    free(text);
}

static void test_fault_is_told_with_its_check(void **state)
{
    static const struct {
        int error;
        enum migration_phase phase;
        enum report_outcome pages, data;
    } cases[] = {
        {-ESTALE, MIGRATION_PHASE_COMPARE, REPORT_FAILED, REPORT_PASSED},
        {-ESTALE, MIGRATION_PHASE_COPY, REPORT_FAILED, REPORT_PASSED},
        {-EINPROGRESS, MIGRATION_PHASE_SETTLE, REPORT_PASSED, REPORT_PASSED},
        {-EILSEQ, MIGRATION_PHASE_SETTLE, REPORT_PASSED, REPORT_FAILED},
    };

    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        struct migration_result result = passed();
        struct report r = report_of(&result);

        result.verdict = MIGRATION_FAILED;
        set_fault(&result, cases[i].phase, cases[i].error, "something");
        assert_int_equal(outcome_of(&r, "pages-marked"), cases[i].pages);
        assert_int_equal(outcome_of(&r, "data"), cases[i].data);
        assert_int_equal(outcome_of(&r, "session"), REPORT_PASSED);
    }
}

static void test_could_not_run_is_told(void **state)
{
    struct migration_result result = {.verdict = MIGRATION_COULD_NOT, .seed = 1};
    struct report r = report_of(&result);
    char *text;

    set_fault(&result, MIGRATION_PHASE_CONNECT, -EOPNOTSUPP, "LOG_SHMFD is not offered");
    assert_int_equal(report_status(&r), 2);
    assert_int_equal(outcome_of(&r, "start"), REPORT_SKIPPED);
    assert_int_equal(outcome_of(&r, "pages-marked"), REPORT_SKIPPED);
    assert_int_equal(outcome_of(&r, "session"), REPORT_SKIPPED);
    text = text_of(&r, report_text);
    assert_has(text, "INCONCLUSIVE after");
    assert_has(text, "phase \"connect\": LOG_SHMFD is not offered");
    free(text);
    text = page_of(text_of(&r, report_json)); /* without any timeline */
    assert_has(text, "INCONCLUSIVE");
    free(text);
    text = text_of(&r, report_junit);
    assert_has(text, "errors=\"1\"");
    assert_has(text, "failures=\"0\"");
    free(text);
}

static void test_json_is_complete(void **state)
{
    struct migration_result result = failed();
    struct report r = report_of(&result);
    char *text = text_of(&r, report_json);
    struct json_object *json = json_tokener_parse(text), *part;

    assert_non_null(json);
    assert_true(json_object_object_get_ex(json, "verdict", &part));
    assert_string_equal(json_object_get_string(part), "FAILED");
    assert_true(json_object_object_get_ex(json, "rounds", &part));
    assert_int_equal(json_object_array_length(part), N_ROUNDS);
    assert_true(json_object_object_get_ex(json, "events", &part));
    assert_int_equal(json_object_array_length(part), N_EVENTS);
    assert_true(json_object_object_get_ex(json, "samples", &part));
    assert_true(json_object_object_get_ex(part, "requests", &part));
    assert_int_equal(json_object_array_length(part), N_SAMPLES);
    assert_true(json_object_object_get_ex(json, "faults", &part));
    part = json_object_array_get_idx(part, 0);
    assert_true(json_object_object_get_ex(part, "text", &part));
    assert_string_equal(json_object_get_string(part), "3 pages were \"lost\" <here> \?\?");
    json_object_put(json);
    free(text);
}

/* Entry `i` of a list in the report has this hop, counted from 1. */
static void check_hop(struct json_object *json, const char *list, unsigned i, int expected)
{
    struct json_object *part;

    assert_true(json_object_object_get_ex(json, list, &part));
    part = json_object_array_get_idx(part, i);
    assert_non_null(part);
    assert_true(json_object_object_get_ex(part, "hop", &part));
    assert_int_equal(json_object_get_int(part), expected);
}

/* Text and all lists in JSON count hops from 1. */
static void test_hops_are_numbered_alike(void **state)
{
    struct migration_result result = failed();
    struct migration_hop two[2] = {hop, hop};
    struct report r = report_of(&result);
    struct json_object *json;
    char *text;

    result.hops = two;
    result.n_hops = 2;
    rounds[1].hop = events[1].hop = lost[1].hop = result.faults[0].hop = 1;
    text = text_of(&r, report_text);
    assert_has(text, "\nhop 1       source -> destination: ");
    assert_has(text, "\nhop 2       source -> destination: ");
    assert_has_not(text, "\nhop 0 ");
    free(text);
    text = text_of(&r, report_json);
    json = json_tokener_parse(text);
    assert_non_null(json);
    for (unsigned i = 0; i < 2; i++) {
        check_hop(json, "hops", i, (int)i + 1);
        check_hop(json, "rounds", i, (int)i + 1);
        check_hop(json, "events", i, (int)i + 1);
        check_hop(json, "lost", i, (int)i + 1);
    }
    check_hop(json, "faults", 0, 2);
    json_object_put(json);
    free(text);
}

static void test_junit_is_escaped(void **state)
{
    struct migration_result result = failed();
    struct report r = report_of(&result);
    char *text;

    result.faults[0].phase = MIGRATION_PHASE_COPY; /* of the session now */
    text = text_of(&r, report_junit);
    assert_has(text, "failures=\"2\"");
    assert_has(text, "were &quot;lost&quot; &lt;here&gt; ??\">rule: vhost-user, "
                     "&quot;Communication&quot;: ");
    assert_has(text, "name=\"source build-id\" value=\"0123abcd\"");
    assert_has(text, "timestamp=\"2001-09-09T01:46:40\"");
    free(text);
}

static void test_html_needs_nothing_else(void **state)
{
    struct migration_result result = failed();
    struct report r = report_of(&result);
    char *text = page_of(text_of(&r, report_json));

    assert_has(text, "data &lt;buffer&gt; of request 2 &amp; more");
    assert_has(text, "<svg");
    assert_has(text, "prefers-color-scheme: dark");
    assert_has(text, "<h3>data buffer: 3 pages</h3>");
    assert_has(text, "Rule broken: vhost-user, &quot;Migration&quot;: ");
    assert_has(text, "<pre>godwit migrate --seed=42 a b</pre>");
    assert_has(text, "<code>0123abcd</code>");
    assert_has(text, "<span>FLUSH</span>");
    assert_has(text, "<span>LOG_SHMFD</span>");
    assert_has_not(text, "<script");
    assert_has_not(text, "http");
    assert_has_not(text, "src=");
    assert_has_not(text, "nan");
    free(text);
}

static void test_unwritable_report_is_an_error(void **state)
{
    struct migration_result result = passed();
    struct report r = report_of(&result);

    assert_int_equal(report_write(&r, report_json, "/dev/full"), -ENOSPC);
    assert_int_equal(report_write_html(&r, "/dev/full"), -ENOSPC);
    assert_int_equal(report_write_html(&r, "/nowhere/at/all"), -ENOENT);
    assert_int_equal(output_try("/nowhere/at/all"), -ENOENT);
    assert_int_equal(output_try("/dev/null"), 0);
    assert_int_equal(output_try("-"), 0);
}

static void test_utf8_clean_replaces_what_is_none(void **state)
{
    static const char *const pairs[][2] = {
        {"plain", "plain"},
        {"\xc3\xa4", "\xc3\xa4"},
        {"a\xffz", "a?z"},
        {"\xc3", "?"},
        {"\xc0\x80", "\?\?"},
        {"\xed\xa0\x80", "\?\?\?"},
        {"\xef\xbf\xbf", "\?\?\?"},
        {"a\nb", "a?b"},
        {"\xf4\x90\x80\x80", "\?\?\?\?"},
        {"", ""},
        {"\xe2\x82", "\?\?"},
    };

    for (size_t i = 0; i < sizeof(pairs) / sizeof(pairs[0]); i++) {
        char *text = utf8_clean(pairs[i][0]);

        assert_string_equal(text, pairs[i][1]);
        free(text);
    }
}

static void test_format_has_three_digits(void **state)
{
    assert_string_equal(format_time(999).text, "999 ns");
    assert_string_equal(format_time(3210000).text, "3.21 ms");
    assert_string_equal(format_time(61000000000).text, "61.0 s");
    assert_string_equal(format_bytes(64 << 20).text, "64 MiB");
    assert_string_equal(format_bytes(1).text, "1 bytes");
    assert_string_equal(format_count(1234567).text, "1,234,567");
    assert_string_equal(format_count(UINT64_MAX).text, "18446744073709551615");
    assert_string_equal(format_rate(45200).text, "45.2 k");
    assert_string_equal(format_byte_rate(1.2e9).text, "1.20 GB/s");
}

static void test_histogram_percentiles_are_within_its_classes(void **state)
{
    struct gw_histogram *h = calloc(1, sizeof(*h));

    assert_non_null(h);
    assert_int_equal(gw_histogram_at(h, 500000), 0);
    for (uint64_t i = 1; i <= 100000; i++)
        gw_histogram_add(h, i * 10);
    assert_in_range(gw_histogram_at(h, 500000), 500000, 520000);
    assert_in_range(gw_histogram_at(h, 999000), 999000, 1000000);
    assert_int_equal(gw_histogram_at(h, 1000000), 1000000);
    gw_histogram_add(h, UINT64_MAX);
    assert_true(h->max == UINT64_MAX);
    assert_true(gw_histogram_at(h, 1000000) == UINT64_MAX);
    free(h);
}

static void test_missing_features_are_named(void **state)
{
    char text[256];

    features_missing(NULL, 1ull << 26 | 1ull << 30, 1ull << 1, text, sizeof(text));
    assert_string_equal(text, "");
    features_missing(NULL, 1ull << 26 | 1ull << 30, 0, text, sizeof(text));
    assert_string_equal(text, "LOG_SHMFD (protocol bit 1)");
    features_missing(NULL, 0, 0, text, sizeof(text));
    assert_string_equal(text, "PROTOCOL_FEATURES (virtio bit 30), LOG_ALL (virtio bit 26) and "
                              "LOG_SHMFD (protocol bit 1)");
    features_missing(features_device("blk"), 1ull << 26 | 1ull << 30, 1ull << 1, text,
                     sizeof(text));
    assert_string_equal(text, "");
    features_missing(features_device("fs"), 1ull << 26 | 1ull << 30, 1ull << 1, text, sizeof(text));
    assert_string_equal(text, "DEVICE_STATE (protocol bit 19)");
    features_missing(features_device("fs"), 1ull << 26 | 1ull << 30, 1ull << 1 | 1ull << 19, text,
                     sizeof(text));
    assert_string_equal(text, "");
    features_text(features_device("blk"), 1ull << 9 | 1ull << 60, text, sizeof(text));
    assert_string_equal(text, "FLUSH (virtio bit 9) and virtio bit 60");
    assert_null(features_device("blkk"));
    features_text(features_device("net"), UINT64_MAX, text, 20);
    assert_true(strlen(text) < 20);
}

int main(int argc, char **argv)
{
    const struct CMUnitTest tests[] = {
        FDCHECK_TEST(test_passed_is_told),
        FDCHECK_TEST(test_arrival_is_told),
        FDCHECK_TEST(test_arrival_that_failed_is_told),
        FDCHECK_TEST(test_longest_downtime_decides),
        FDCHECK_TEST(test_lost_pages_are_told),
        FDCHECK_TEST(test_severity_is_told),
        FDCHECK_TEST(test_fault_is_told_with_its_check),
        FDCHECK_TEST(test_could_not_run_is_told),
        FDCHECK_TEST(test_json_is_complete),
        FDCHECK_TEST(test_hops_are_numbered_alike),
        FDCHECK_TEST(test_junit_is_escaped),
        FDCHECK_TEST(test_html_needs_nothing_else),
        FDCHECK_TEST(test_unwritable_report_is_an_error),
        FDCHECK_TEST(test_utf8_clean_replaces_what_is_none),
        FDCHECK_TEST(test_format_has_three_digits),
        FDCHECK_TEST(test_histogram_percentiles_are_within_its_classes),
        FDCHECK_TEST(test_missing_features_are_named),
    };

    if (argc > 1) {
        struct migration_result result = failed();
        struct report r = report_of(&result);

        return report_write_html(&r, argv[1]) < 0;
    }
    return cmocka_run_group_tests(tests, NULL, NULL);
}
