/* SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause */
/*
 * cmocka sets the SIGBUS action before and after each test, but the library installs its handler
 * only once per process. Every test that loses pages must call this after the handler was installed
 * and before it loses the first page: the first call saves the current action, later calls restore
 * it.
 */
#pragma once

#include <signal.h>
#include <stdbool.h>

static inline void hold_sigbus(void)
{
    static struct sigaction held;
    static bool is_held;

    (void)sigaction(SIGBUS, is_held ? &held : NULL, is_held ? NULL : &held);
    is_held = true;
}
