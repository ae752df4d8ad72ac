/* SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause */
/* Pin the benchmark to a core, start the back-end to measure on another, and take medians. */
#pragma once

#include <sys/types.h>

/* Pin this process to one core. */
void measured_pin_to(int cpu);

/* Start a command on core 1; `path` replaces {socket} in its arguments. */
pid_t measured_start(char **argv, const char *path);

/* Sorts the `n` values. Returns: their median. */
double measured_median(double *values, unsigned n);
