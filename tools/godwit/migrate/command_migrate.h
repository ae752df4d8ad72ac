/* SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause */
/* The command line of godwit migrate. */
#pragma once

#include "options.h"
#include "report/report.h"
#include "text.h"

struct migrate_command {
    struct target_options target;
    struct options_xen xen;
    struct migration_options migration;
    const char *texts[2];            /* source and destination */
    const char *backend;             /* the same for both; NULL: they were given one by one */
    const char *listen;              /* HOST:PORT, where this is the destination */
    const char *json, *junit, *html; /* files of the reports; NULL: none */
    unsigned max_downtime_ms;        /* 0: any */
    enum text_color color;
    bool has_seed, is_quiet, is_strict;
    bool has_postcopy_option; /* an option that only works with --postcopy was given */
    char *command_line;       /* repeats the run */
};

/*
 * Parse the command line into `c`, which holds the defaults. A usage error ends the program with
 * EX_USAGE. Returns: 0; an errno.
 */
int migrate_parse(struct migrate_command *c, int argc, char **argv);
