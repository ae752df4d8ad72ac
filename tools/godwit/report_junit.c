/* SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause */
/* Checks as a JUnit test suite: each is a test case. Where it could not run, an error. */
#include "report.h"
#include "utf8.h"

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
    element(out,
            check->outcome == REPORT_SKIPPED ? "skipped"
            : s->could_not                   ? "error"
                                             : "failure",
            check->text);
    fputs("    </testcase>\n", out);
}

static void test_run(FILE *out, const struct report_suite *s)
{
    fputs("    <testcase", out);
    attribute(out, "classname", s->name);
    fputs(" name=\"run\">\n", out);
    element(out, "error", s->sentence);
    fputs("    </testcase>\n", out);
}

void report_print_suite(const struct report_suite *s, FILE *out)
{
    unsigned counts[3] = {0};
    char began[32];

    for (unsigned i = 0; i < s->n_checks; i++)
        counts[s->checks[i].outcome]++;
    strftime(began, sizeof(began), "%Y-%m-%dT%H:%M:%S", gmtime(&s->began));

    fputs("<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n<testsuites>\n  <testsuite", out);
    attribute(out, "name", s->name);
    fprintf(out,
            " tests=\"%u\" failures=\"%u\" errors=\"%u\" skipped=\"%u\" time=\"%.3f\" "
            "timestamp=\"%s\">\n    <properties>\n",
            s->n_checks + s->could_not, s->could_not ? 0 : counts[REPORT_FAILED],
            s->could_not ? counts[REPORT_FAILED] + 1 : 0, counts[REPORT_SKIPPED],
            (double)s->duration_ns / 1e9, began);
    fprintf(out, "      <property name=\"seed\" value=\"%" PRIu64 "\"/>\n", s->seed);
    fputs("      <property name=\"command\"", out);
    attribute(out, "value", s->command_line);
    fputs("/>\n    </properties>\n", out);
    for (unsigned i = 0; i < s->n_checks; i++)
        test_case(out, s, &s->checks[i]);
    if (s->could_not)
        test_run(out, s);
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
        .could_not = report_status(r) == 2,
        .seed = r->result->seed,
        .duration_ns = r->result->duration_ns,
        .began = r->began,
    };

    report_sentence(r, sentence, sizeof(sentence));
    report_print_suite(&s, out);
}
