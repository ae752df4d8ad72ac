/* SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause */
/* Messages of a command on stderr, and the report of a failed back-end. */
#include "base/clock.h"
#include "command.h"
#include "report/report_evidence.h"

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <time.h>

#define DIES_MS 200

static char invocation[32] = "godwit"; /* prefix of messages, includes the command */

static uint64_t began_ns; /* CLOCK_MONOTONIC */

char *message_init(const char *command)
{
    snprintf(invocation, sizeof(invocation), "godwit %s", command);
    began_ns = gw_clock_ns();
    return invocation;
}

uint64_t message_start_ns(void)
{
    return began_ns;
}

void message_print(const char *format, ...)
{
    char text[1024];
    va_list args;

    va_start(args, format);
    vsnprintf(text, sizeof(text), format, args);
    va_end(args);
    fprintf(stderr, "%s: %s\n", invocation, text);
}

static void report_evidence(struct target *t, const struct gw_frontend *fe)
{
    struct evidence e = {.n_messages = 0};

    evidence_take_messages(&e, fe, began_ns);
    evidence_take_output(&e, t);
    report_print_evidence(&e, stderr);
}

/* After a hang-up, the process may end a moment later: wait for that. */
static bool has_ended(struct target *t, int r)
{
    for (unsigned ms = 0; ms < DIES_MS; ms += 5) {
        if (target_check(t) < 0)
            return true;
        if (r != -ECONNRESET)
            break;
        nanosleep(&(struct timespec){.tv_nsec = 5000000}, NULL);
    }
    return false;
}

int message_report_failure(struct target *t, const struct gw_frontend *fe, int r, const char *what,
                           const char *why)
{
    if (has_ended(t, r)) {
        message_print("%s: %s", what, target_error(t));
    } else {
        if (why == NULL || *why == '\0')
            why = strerror(-r);
        message_print("%s: %s: %s", what, target_name(t), why);
    }
    report_evidence(t, fe);
    return COMMAND_FAULT;
}

int message_report_unreachable(struct target *t)
{
    message_print("%s", target_error(t));
    report_evidence(t, NULL);
    return COMMAND_COULD_NOT;
}
