/* SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause */
/* The interface of the godwit commands, and their messages and exit statuses. */
#pragma once

#include "target/target.h"

/* Exit statuses. An invalid command line exits with EX_USAGE (64). */
enum command_status {
    COMMAND_OK = 0,
    COMMAND_FAULT = 1,     /* the back-end is at fault */
    COMMAND_COULD_NOT = 2, /* nothing was tested, or the test could not be run */
};

struct command {
    const char *name;
    const char *summary;
    int (*run)(int argc, char **argv); /* argv[0] is "godwit NAME" */
};

int command_probe(int argc, char **argv);
int command_bench(int argc, char **argv);
int command_migrate(int argc, char **argv);
int command_crash(int argc, char **argv);
int command_report(int argc, char **argv);

/* message.c: set the message prefix "godwit COMMAND" and the start time. Returns: the prefix. */
char *message_init(const char *command);
/* The time of message_init (CLOCK_MONOTONIC), to which message times are relative. */
uint64_t message_start_ns(void);
/* Print one line on stderr. */
void message_print(const char *format, ...) __attribute__((format(printf, 1, 2)));

/*
 * Report why an operation on a target failed: the end of its process with its last output, or
 * `why` (NULL: strerror of r); and its last messages. Returns: COMMAND_FAULT.
 */
int message_report_failure(struct target *t, const struct gw_frontend *fe, int r, const char *what,
                           const char *why);
/* Report that the target could not be reached, with its last output. Returns: COMMAND_COULD_NOT. */
int message_report_unreachable(struct target *t);
