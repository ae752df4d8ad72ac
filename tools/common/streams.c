/* SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause */
#include "streams.h"

#include <errno.h>
#include <fcntl.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

static int unwritten;
static bool has_ended;

/* For example, argp calls exit(0) after printing --help. */
static void at_exit(void)
{
    int status = has_ended ? 0 : streams_end(0);

    if (status != 0)
        _exit(status);
}

int streams_begin(int status_unwritten)
{
    int fd;

    unwritten = status_unwritten;
    do
        fd = open("/dev/null", O_RDWR); /* gets the lowest free number */
    while (fd >= 0 && fd <= STDERR_FILENO);
    if (fd < 0)
        return -errno;
    close(fd);
    return atexit(at_exit) == 0 ? 0 : -ENOMEM;
}

int streams_end(int status)
{
    has_ended = true;
    if (fflush(stdout) == 0 && !ferror(stdout))
        return status;
    fprintf(stderr, "%s: the output cannot be written to stdout\n", program_invocation_short_name);
    return status == 0 ? unwritten : status;
}
