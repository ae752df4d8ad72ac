/* SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause */
/*
 * cmocka sets the action of SIGBUS before each test and after it, and the library installs its
 * handler once in the life of a process. To be called in every test that loses pages, when the
 * first of them can be lost: the first call remembers the action, all others bring it back.
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
