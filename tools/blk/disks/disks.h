/* SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause */
/*
 * The disks of the program: they are opened and closed while the others are served, and one that
 * fails is a state and a message.
 */
#pragma once

#include "disk_list.h"

struct disks_config {
    const char *program;
    const struct backend_options *options;
    /*
     * The only disk, from the command line: its end is the end of the program. NULL: those of
     * `given` and of the file `path`, which may be NULL.
     */
    struct disk_options *single;
    const struct disk_list *given;
    const char *path;
};

/*
 * Serve the disks until a signal arrives or, without a file, until the sessions of all disks have
 * ended. Consumes `single`. Returns: the exit status of the program. Every failure has been logged.
 */
int disks_run(const struct disks_config *cfg);
