/* SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause */
/* A migration as a JUnit test suite: each check is a test case. Where it could not run, an error.
 */
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

static void test_case(FILE *out, const struct report_check *check, bool could_not)
{
    fputs("    <testcase classname=\"godwit.migrate\"", out);
    attribute(out, "name", check->name);
    if (check->outcome == REPORT_PASSED) {
        fputs("/>\n", out);
        return;
    }
    fputs(">\n", out);
    element(out,
            check->outcome == REPORT_SKIPPED ? "skipped"
            : could_not                      ? "error"
                                             : "failure",
            check->text);
    fputs("    </testcase>\n", out);
}

void report_junit(const struct report *r, FILE *out)
{
    struct report_check checks[REPORT_CHECKS_MAX];
    unsigned n = report_checks(r, checks), counts[3] = {0};
    bool could_not = report_status(r) == 2;
    char began[32], sentence[512];

    for (unsigned i = 0; i < n; i++)
        counts[checks[i].outcome]++;
    strftime(began, sizeof(began), "%Y-%m-%dT%H:%M:%S", gmtime(&r->began));
    report_sentence(r, sentence, sizeof(sentence));

    fprintf(out,
            "<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n<testsuites>\n"
            "  <testsuite name=\"godwit.migrate\" tests=\"%u\" failures=\"%u\" errors=\"%u\" "
            "skipped=\"%u\" time=\"%.3f\" timestamp=\"%s\">\n    <properties>\n",
            n + could_not, could_not ? 0 : counts[REPORT_FAILED],
            could_not ? counts[REPORT_FAILED] + 1 : 0, counts[REPORT_SKIPPED],
            (double)r->result->duration_ns / 1e9, began);
    fprintf(out, "      <property name=\"seed\" value=\"%" PRIu64 "\"/>\n", r->result->seed);
    fputs("      <property name=\"command\"", out);
    attribute(out, "value", r->command_line);
    fputs("/>\n    </properties>\n", out);
    for (unsigned i = 0; i < n; i++)
        test_case(out, &checks[i], could_not);
    if (could_not) {
        fputs("    <testcase classname=\"godwit.migrate\" name=\"run\">\n", out);
        element(out, "error", sentence);
        fputs("    </testcase>\n", out);
    }
    fputs("  </testsuite>\n</testsuites>\n", out);
}
