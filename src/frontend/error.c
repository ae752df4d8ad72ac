/* SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause */
/* The reason of the last error of each thread. */
#include "error.h"

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>

static _Thread_local const char *last_error = ""; /* `formatted`, or a constant */
static _Thread_local char formatted[256];

const char *gw_frontend_last_error(void)
{
    return last_error;
}

int gw_frontend_fail(int r, const char *format, ...)
{
    va_list args;

    va_start(args, format);
    vsnprintf(formatted, sizeof(formatted), format, args);
    va_end(args);
    return gw_frontend_fail_fixed(r, formatted);
}

int gw_frontend_fail_fixed(int r, const char *text)
{
    last_error = text;
    return r;
}
