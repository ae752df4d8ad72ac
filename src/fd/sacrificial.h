/* SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause */
/*
 * Threads and processes that may sleep for ever in a file of a peer. No lock is held while they are
 * in the file, and no thread waits for them without a time limit.
 *
 * Threads are for calls from which a fatal signal wakes them. There are up to 8, detached, and a
 * thread exists only while it has something to do. When all are stuck, up to 1024 descriptors wait
 * for one; further ones stay open.
 *
 * close(2) of a file on FUSE is not such a call: it sleeps until the server answers, and a process
 * with a thread in it cannot be killed; one that ends while it has such a file open never ends. So
 * a process that shares our descriptors and nothing else closes it. While it sleeps it also keeps
 * the descriptors that our process leaves open at its end, which therefore does not wait for the
 * server, and a copy of our private memory. What a front-end shares is not in it: such mappings are
 * MADV_DONTFORK (core/memory/mapping.c). There are up to 16, each for one file; others stay open.
 */
#pragma once

#include <stdbool.h>

enum gw_sacrifice {
    GW_SACRIFICE_CLOSE,  /* close it, without lingering */
    GW_SACRIFICE_SIGNAL, /* an eventfd: add 1 to it, then close it */
};

/*
 * Do it with `fd` on one of the threads, which owns `fd` from here on.
 * Returns: false when too many wait already; then `fd` stays the caller's.
 */
bool gw_sacrifice(int fd, enum gw_sacrifice what);

/* Have a process close a file that another process may serve. */
void gw_sacrifice_process(int fd);

/* Wait for the threads for up to a second, but not while one is known to be stuck. */
void gw_sacrifice_settle(void);

/*
 * Wait until the threads have nothing left to do, for up to `timeout_ms`, and then until the
 * processes have ended, for up to as long again. For tests: they count descriptors afterwards.
 * Returns: true when everything is done, false when a thread or a process is stuck.
 */
bool gw_sacrifice_flush(unsigned timeout_ms);
