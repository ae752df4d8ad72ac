/* SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause */
/* Hardware watchpoints, if supported on this machine: meson chooses the implementation. */
#pragma once

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

/*
 * Make a traced and stopped thread stop with SIGTRAP after each store to one of `n` aligned 4-byte
 * words; of too many words, only some are watched. Returns: whether it will stop.
 */
bool crash_watchpoint_set(pid_t thread, const uint64_t *addresses, unsigned n);
