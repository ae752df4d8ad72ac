/* SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause */
/* The rules that the checks of all commands test. */
#pragma once

/* The rule behind a check, with its source; NULL if it is a limit of the user's own. */
const char *rule_of(const char *check);
