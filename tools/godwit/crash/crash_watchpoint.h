/* SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause */
/* Watchpoints of the processor, where this machine's are known: a file for each, chosen by meson.
 */
#pragma once

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

/*
 * Have a traced and stopped thread stop with SIGTRAP behind each store to one of `n` aligned words
 * of 4 bytes; to some of them, where there are too many. Returns: whether it will.
 */
bool crash_watchpoint_set(pid_t thread, const uint64_t *addresses, unsigned n);
