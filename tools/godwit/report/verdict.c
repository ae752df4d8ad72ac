/* SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause */
/* The verdicts and exit statuses of godwit(1). */
#include "verdict.h"

#include "command.h"

static const struct {
    const char *name;
    int status;
} verdicts[N_VERDICTS] = {
    [VERDICT_PASSED] = {"PASSED", COMMAND_OK},
    [VERDICT_HINTS] = {"PASSED, with hints", COMMAND_OK},
    [VERDICT_NOT_TESTED] = {"NOT TESTED", COMMAND_COULD_NOT},
    [VERDICT_FAILED] = {"FAILED", COMMAND_FAULT},
    [VERDICT_INCONCLUSIVE] = {"INCONCLUSIVE", COMMAND_COULD_NOT},
};

const char *verdict_name(enum verdict verdict)
{
    return verdicts[verdict].name;
}

int verdict_status(enum verdict verdict, bool is_strict)
{
    return is_strict && verdict == VERDICT_HINTS ? COMMAND_FAULT : verdicts[verdict].status;
}

const char *report_outcome_name(enum report_outcome outcome)
{
    static const char *const names[N_REPORT_OUTCOMES] = {"passed", "hint", "failed", "skipped"};

    return names[outcome];
}

enum verdict verdict_of(const struct report_check *checks, unsigned n, bool could_not)
{
    bool has_hint = false, has_core = false;

    for (unsigned i = 0; i < n; i++) {
        if (checks[i].outcome == REPORT_FAILED)
            return VERDICT_FAILED;
        has_hint |= checks[i].outcome == REPORT_HINT;
        has_core |= checks[i].is_core && checks[i].outcome != REPORT_SKIPPED;
    }
    if (could_not)
        return VERDICT_INCONCLUSIVE;
    if (!has_core)
        return VERDICT_NOT_TESTED;
    return has_hint ? VERDICT_HINTS : VERDICT_PASSED;
}
