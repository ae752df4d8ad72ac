/* SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause */
/* The back-end that is measured: a process on the other core; and what its turns came to. */
#pragma once

#include <sys/types.h>

/* This process runs on that core only. */
void measured_pin_to(int cpu);

/* Start a command on core 1; `path` takes the place of {socket} in its arguments. */
pid_t measured_start(char **argv, const char *path);

/* The median of `n` values, which are sorted. */
double measured_median(double *values, unsigned n);
