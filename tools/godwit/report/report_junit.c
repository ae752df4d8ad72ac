/* SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause */
/* Checks as a JUnit test suite with one test case each. A run without a result is an error. */
#include "report.h"
#include "utf8.h"

#include <godwit/version.h>
#include <inttypes.h>

static void attribute(FILE *out, const char *name, const char *value)
{
    fprintf(out, " %s=\"", name);
    utf8_print_xml(out, value);
    fputc('"', out);
}

static void element(FILE *out, const char *name, const char *message)
{
    fprintf(out, "      <%s", name);
    attribute(out, "message", message);
    fputs("/>\n", out);
}

/* The contents of the element are the rule that was broken. */
static void failure(FILE *out, const struct report_check *check)
{
    if (check->rule == NULL) {
        element(out, "failure", check->text);
        return;
    }
    fputs("      <failure", out);
    attribute(out, "message", check->text);
    fputs(">rule: ", out);
    utf8_print_xml(out, check->rule);
    fputs("</failure>\n", out);
}

static bool is_failure(const struct report_suite *s, const struct report_check *check)
{
    return check->outcome == REPORT_FAILED || (check->outcome == REPORT_HINT && s->is_strict);
}

static void test_case(FILE *out, const struct report_suite *s, const struct report_check *check)
{
    fputs("    <testcase", out);
    attribute(out, "classname", s->name);
    attribute(out, "name", check->name);
    if (check->outcome == REPORT_PASSED) {
        fputs("/>\n", out);
        return;
    }
    fputs(">\n", out);
    if (is_failure(s, check)) {
        failure(out, check);
    } else if (check->outcome == REPORT_SKIPPED) {
        element(out, "skipped", check->text);
    } else {
        fputs("      <system-out>hint: ", out);
        utf8_print_xml(out, check->text);
        fputs("</system-out>\n", out);
    }
    fputs("    </testcase>\n", out);
}

/* JUnit has no verdicts: a run that neither passed nor failed is reported as an error. */
static bool has_error(const struct report_suite *s)
{
    return s->verdict == VERDICT_NOT_TESTED || s->verdict == VERDICT_INCONCLUSIVE;
}

static void test_run(FILE *out, const struct report_suite *s)
{
    char message[768];

    snprintf(message, sizeof(message), "%s: %s", verdict_name(s->verdict), s->sentence);
    fputs("    <testcase", out);
    attribute(out, "classname", s->name);
    fputs(" name=\"run\">\n", out);
    element(out, "error", message);
    fputs("    </testcase>\n", out);
}

static void property(FILE *out, const char *name, const char *value)
{
    fputs("      <property", out);
    attribute(out, "name", name);
    attribute(out, "value", value);
    fputs("/>\n", out);
}

static void backend_property(FILE *out, const struct backend_record *b, const char *name,
                             const char *value)
{
    char full[96];

    snprintf(full, sizeof(full), "%s %s", b->name, name);
    if (value[0] != '\0')
        property(out, full, value);
}

static void backend_properties(FILE *out, const struct report_suite *s,
                               const struct backend_record *b)
{
    char names[512];

    backend_property(out, b, "target", b->text);
    backend_property(out, b, "executable", b->executable);
    backend_property(out, b, "build-id", b->build_id);
    report_feature_names(b->features, s->device, false, names, sizeof(names));
    backend_property(out, b, "features", names);
    report_feature_names(b->protocol_features, NULL, true, names, sizeof(names));
    backend_property(out, b, "protocol features", names);
}

static void properties(FILE *out, const struct report_suite *s)
{
    char number[24];

    fputs("    <properties>\n", out);
    snprintf(number, sizeof(number), "%" PRIu64, s->seed);
    property(out, "seed", number);
    property(out, "command", s->command_line);
    property(out, "verdict", verdict_name(s->verdict));
    property(out, "reason", s->sentence);
    snprintf(number, sizeof(number), "%d", verdict_status(s->verdict, s->is_strict));
    property(out, "exit_status", number);
    property(out, "godwit", GW_VERSION_STRING);
    for (unsigned i = 0; i < s->n_backends; i++)
        backend_properties(out, s, &s->backends[i]);
    fputs("    </properties>\n", out);
}

void report_print_suite(const struct report_suite *s, FILE *out)
{
    unsigned n_failed = 0, n_skipped = 0;
    char began[32];

    for (unsigned i = 0; i < s->n_checks; i++) {
        n_failed += is_failure(s, &s->checks[i]);
        n_skipped += s->checks[i].outcome == REPORT_SKIPPED;
    }
    strftime(began, sizeof(began), "%Y-%m-%dT%H:%M:%S", gmtime(&s->began));

    fputs("<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n<testsuites>\n  <testsuite", out);
    attribute(out, "name", s->name);
    fprintf(out,
            " tests=\"%u\" failures=\"%u\" errors=\"%u\" skipped=\"%u\" time=\"%.3f\" "
            "timestamp=\"%s\">\n",
            s->n_checks + has_error(s), n_failed, (unsigned)has_error(s), n_skipped,
            (double)s->duration_ns / 1e9, began);
    properties(out, s);
    for (unsigned i = 0; i < s->n_checks; i++)
        test_case(out, s, &s->checks[i]);
    if (has_error(s))
        test_run(out, s);
    if (s->n_evidence > 0) {
        fputs("    <system-err>", out);
        for (unsigned i = 0; i < s->n_evidence; i++)
            report_xml_evidence(&s->evidence[i], out);
        fputs("</system-err>\n", out);
    }
    fputs("  </testsuite>\n</testsuites>\n", out);
}

void report_junit(const struct report *r, FILE *out)
{
    struct report_check checks[REPORT_CHECKS_MAX];
    char sentence[512];
    struct report_suite s = {
        .name = "godwit.migrate",
        .command_line = r->command_line,
        .sentence = sentence,
        .checks = checks,
        .n_checks = report_checks(r, checks),
        .backends = r->result->backends,
        .n_backends = r->result->n_backends,
        .device = features_device(report_device_name(r)),
        .evidence = r->result->evidence,
        .n_evidence = r->result->n_evidence,
        .verdict = report_verdict(r),
        .is_strict = r->is_strict,
        .seed = r->result->seed,
        .duration_ns = r->result->duration_ns,
        .began = r->began,
    };

    report_sentence(r, sentence, sizeof(sentence));
    report_print_suite(&s, out);
}
