/* SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause */
/*
 * How long a test waits for an event that must happen. On a busy machine the event can take
 * minutes; only a test that fails anyway waits for the full time. Runs of programs that are
 * expected to fail (tests/mutants) set a shorter TEST_PATIENCE_MS.
 */
#pragma once

#include <stdlib.h>

static inline unsigned patience_ms(void)
{
    const char *text = getenv("TEST_PATIENCE_MS");

    return text ? (unsigned)strtoul(text, NULL, 10) : 120000;
}
