/* SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause */
/* What a command of godwit is, and how it ends. */
#pragma once

#include "target/target.h"

/* The exit statuses; a command line that makes no sense is EX_USAGE (64). */
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

/* say.c: messages begin with "godwit COMMAND" from now on. Returns: that. */
char *say_init(const char *command);
/* When that was, of CLOCK_MONOTONIC: the times of messages count from there. */
uint64_t say_began_ns(void);
/* A line on stderr. */
void say(const char *format, ...) __attribute__((format(printf, 1, 2)));

/*
 * Say why something with a target failed: that it ended, with its last words, if it did; `why`
 * otherwise (NULL: strerror of r); and the last messages with it. Returns: COMMAND_FAULT.
 */
int say_failure(struct target *t, const struct gw_frontend *fe, int r, const char *what,
                const char *why);
/* That it could not be reached, with its last words. Returns: COMMAND_COULD_NOT. */
int say_no_connection(struct target *t);
