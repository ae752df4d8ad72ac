/* SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause */
/*
 * Threads that may sleep for ever in a file of a peer. They are detached, no lock is held while
 * they are in the file, and nobody waits for them without a time limit. There are up to 8 of them;
 * a thread exists only while it has something to do, so that a process without a hostile peer has
 * none. When all are stuck, up to 1024 descriptors wait for one; further ones stay open.
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

/* Wait for the threads for up to a second, but not while one is known to be stuck. */
void gw_sacrifice_settle(void);

/* As gw_peer_fd_flush. */
bool gw_sacrifice_flush(unsigned timeout_ms);
