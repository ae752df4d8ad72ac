/* SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause */
/*
 * Threads and processes that may sleep for ever in a file of a peer. They hold no lock while they
 * are in the file, and nothing but gw_sacrifice_flush waits for them.
 *
 * Threads make the calls that a fatal signal interrupts. There are up to 8, detached, and a thread
 * exists only while it has work. Up to 65,536 descriptors wait for a thread; processes close
 * further ones.
 *
 * close(2) of a FUSE file is not such a call: it sleeps until the server answers. A process with a
 * thread in it cannot be killed, and a process that exits with such a file open never finishes. So
 * a separate process closes the file; it shares our descriptor table and nothing else. While it
 * sleeps, it holds the descriptors that our process leaves open on exit, so our exit does not wait
 * for the server. It also holds a copy of our private memory, but no memory of a front-end: those
 * mappings are MADV_DONTFORK (core/memory/mapping.c). There are up to 16 such processes, each for
 * one file; further files stay open.
 */
#pragma once

#include <stdbool.h>

enum gw_sacrifice {
    GW_SACRIFICE_CLOSE,  /* close the file, without lingering */
    GW_SACRIFICE_SIGNAL, /* add 1 to the eventfd, then close it */
};

/*
 * Do `what` to `fd` on a sacrificial thread, which takes ownership of `fd`.
 * Returns: false if the queue is full; the caller then still owns `fd`.
 */
bool gw_sacrifice(int fd, enum gw_sacrifice what);

/* Returns: how many descriptors wait for a thread. */
unsigned gw_sacrifice_backlog(void);

/* Close a file that another process may serve, in a process of its own. */
void gw_sacrifice_process(int fd);

/*
 * Wait up to `timeout_ms` until the threads have no work left, then up to `timeout_ms` until the
 * processes have exited. For tests, which count descriptors afterwards.
 * Returns: true if all work is done, false if a thread or a process is stuck.
 */
bool gw_sacrifice_flush(unsigned timeout_ms);
