/* SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause */
/* Messages of a command on stderr, and the two ways in which a back-end lets it down. */
#include "command.h"

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <time.h>

#define DIES_MS 200

static char invocation[32] = "godwit"; /* with the command, in front of messages */

char *say_init(const char *command)
{
    snprintf(invocation, sizeof(invocation), "godwit %s", command);
    return invocation;
}

void say(const char *format, ...)
{
    char text[1024];
    va_list args;

    va_start(args, format);
    vsnprintf(text, sizeof(text), format, args);
    va_end(args);
    fprintf(stderr, "%s: %s\n", invocation, text);
}

/* What a child said, set off from what godwit says; a single line has been told already. */
static void say_last_lines(struct target *t)
{
    const char *line = target_last_lines(t), *end = strchr(line, '\n');

    if (target_check(t) < 0 && (end == NULL || end[1] == '\0'))
        return;
    while (*line != '\0') {
        size_t len = strcspn(line, "\n");

        fprintf(stderr, "    %s: %.*s\n", target_name(t), (int)len, line);
        line += len + (line[len] == '\n');
    }
}

/* It hung up: whether its process ends can be seen a moment later. */
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

int say_failure(struct target *t, int r, const char *what, const char *why)
{
    if (has_ended(t, r)) {
        say("%s: %s", what, target_error(t));
    } else {
        if (why == NULL || *why == '\0')
            why = strerror(-r);
        say("%s: %s: %s", what, target_name(t), why);
    }
    say_last_lines(t);
    return COMMAND_FAULT;
}

int say_no_connection(struct target *t)
{
    say("%s", target_error(t));
    say_last_lines(t);
    return COMMAND_COULD_NOT;
}
