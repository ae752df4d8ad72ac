/* SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause */
/* How functions of the front-end report errors. */
#pragma once

#include <godwit/frontend/error.h>

/* Set what gw_frontend_last_error returns on this thread. Returns: `r`, a negative errno. */
int gw_frontend_fail(int r, const char *format, ...) __attribute__((cold, format(printf, 2, 3)));

/* The same with a constant: nothing is formatted, for calls that may fail often. */
int gw_frontend_fail_fixed(int r, const char *text) __attribute__((cold));
