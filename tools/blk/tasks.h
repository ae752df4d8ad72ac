/* SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause */
/*
 * Threads for work that may block: opening a file on a server that does not answer, closing it. A
 * few tasks run at a time. One that takes long is no longer counted, so that it
 * does not delay the others, whatever it waits for.
 */
#pragma once

#include <stdbool.h>
#include <stdint.h>

struct task {
    void (*run)(struct task *task); /* on a thread of its own; may free the task */
    struct task *next;              /* while it waits */
};

/* Start the first thread. Returns: 0 or a negative errno. */
int tasks_init(void);

/* Run a task later. It must stay at its address until it runs. Context: any thread. */
void tasks_add(struct task *task);

/*
 * Start a thread for the waiting tasks if all running ones take long. Returns: whether tasks wait;
 * then call this again after TASKS_SLOW_MS.
 */
bool tasks_check(void);

enum {
    TASKS_SLOW_MS = 100
};
