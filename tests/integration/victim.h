/* SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause */
/*
 * A front-end in a process of its own, which does I/O on both queues until it is killed, or until
 * it has taken memory away from under its back-end and itself; or which lets the back-end wait. It
 * is the test program once more.
 */
#pragma once

#include "program.h"

enum victim_end {
    VICTIM_WAITS = 0, /* to be killed */
    VICTIM_TRUNCATES_MEMORY,
    VICTIM_TRUNCATES_LOG,
    VICTIM_SENDS_NO_PAGES, /* of postcopy; both queues have requests that wait for them */
};

/* To be called first in main. Returns: -1 when this is not a victim; its exit status. */
int victim_main(int argc, char **argv);

/* Connects to `path`; returns when its I/O has begun. End it with program_end. */
void victim_start(struct program *p, const char *path, enum victim_end end);
