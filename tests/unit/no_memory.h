/* SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause */
/*
 * Allocations that fail, one at a time: the linker leads those of the library through no_memory.c
 * (--wrap). A test repeats an operation until every allocation of it has failed once.
 */
#pragma once

#include <stdbool.h>

enum no_memory_of {
    NO_MEMORY_OF_ALL = 0,
    NO_MEMORY_OF_CALLER, /* of the thread that has called no_memory_begin */
    NO_MEMORY_OF_OTHERS,
};

/* Let the n-th allocation from now on fail, counted from 1. */
void no_memory_begin(enum no_memory_of of, unsigned n);
/* Let none fail any more. Returns: has one? */
bool no_memory_end(void);

/*
 * Repeat the operation until no allocation fails any more. It must return -ENOMEM if one has, else
 * 0, and leave no file open. Returns: how many have.
 */
unsigned no_memory_each(enum no_memory_of of, int (*operation)(void *arg), void *arg);
