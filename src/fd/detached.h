/* SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause */
/* Threads that may sleep in an object of a peer for ever, so that no thread waits for their end. */
#pragma once

#include <stddef.h>

/*
 * Run `fn` on a detached thread, with a stack of `stack_size` bytes, 0: the default. All signals
 * are blocked there, also SIGPIPE, and left to threads that can act on them.
 * Returns: 0; the negative errno of pthread_create. Context: any thread.
 */
int gw_detached_start(void *(*fn)(void *arg), void *arg, size_t stack_size);
