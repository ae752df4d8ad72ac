/* SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause */
/*
 * How long a test waits for an event that must come. On a busy machine it may take minutes; an
 * event that was lost never comes, and only a test that fails anyway waits for all of that time.
 * Programs that are expected to fail (tests/mutants) set TEST_PATIENCE_MS to something shorter.
 */
#pragma once

#include <stdlib.h>

static inline unsigned patience_ms(void)
{
    const char *text = getenv("TEST_PATIENCE_MS");

    return text ? (unsigned)strtoul(text, NULL, 10) : 120000;
}
