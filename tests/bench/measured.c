/* SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause */
/* Start the back-end to measure. */
#include "measured.h"

#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

void measured_pin_to(int cpu)
{
    cpu_set_t set;

    CPU_ZERO(&set);
    CPU_SET(cpu, &set);
    (void)sched_setaffinity(0, sizeof(set), &set);
}

static void replace_socket(char **argv, const char *path)
{
    for (; *argv; argv++) {
        char *at = strstr(*argv, "{socket}"), *joined;

        if (at && asprintf(&joined, "%.*s%s%s", (int)(at - *argv), *argv, path, at + 8) > 0)
            *argv = joined;
    }
}

pid_t measured_start(char **argv, const char *path)
{
    pid_t pid;

    replace_socket(argv, path);
    pid = fork();
    if (pid == 0) {
        measured_pin_to(1);
        execvp(argv[0], argv);
        perror(argv[0]);
        _exit(127);
    }
    return pid;
}

static int ascending(const void *a, const void *b)
{
    double x = *(const double *)a, y = *(const double *)b;

    return x < y ? -1 : x > y;
}

double measured_median(double *values, unsigned n)
{
    qsort(values, n, sizeof(*values), ascending);
    return values[n / 2];
}
