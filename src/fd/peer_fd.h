/* SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause */
/*
 * Descriptors received from a peer. A socket can carry a descriptor of any file: the peer may serve
 * that file itself (FUSE), may have filled it (a pipe, an eventfd), and shares its flags
 * (O_NONBLOCK, SO_LINGER) with us. So the peer can make almost every system call on it sleep for as
 * long as the peer likes, even fstat(2), poll(2) and close(2).
 *
 * The functions here never sleep in a file of the peer; only expendable threads and processes do
 * (sacrificial.h). Both the front-end and the back-end side use them.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>

enum gw_peer_fd_kind {
    GW_PEER_FD_OTHER = 0, /* any other file: only the functions of this header are safe */
    GW_PEER_FD_EVENTFD,   /* poll, read with RWF_NOWAIT and close are safe; write is not */
    GW_PEER_FD_MEMORY,    /* kernel memory (memfd, tmpfs, hugetlbfs): every system call is safe */
};

/*
 * Classify `fd` without a call into its file. The answer holds as long as `fd` is open.
 * Context: any thread.
 */
enum gw_peer_fd_kind gw_peer_fd_kind(int fd);

/*
 * Close `*fd` and set it to -1; no effect on -1. A sacrificial thread closes a file whose close may
 * sleep, a sacrificial process a regular file that another process may serve; the caller waits for
 * neither. Preserves errno. Context: any thread.
 */
void gw_peer_fd_close(int *fd);
void gw_peer_fd_close_all(int *fds, unsigned n_fds);

/*
 * How many descriptors are still open that gw_peer_fd_close has left to a thread, in the whole
 * process. A caller that gets descriptors from a peer takes no more while these are many.
 * Context: any thread.
 */
unsigned gw_peer_fd_backlog(void);

/* The descriptor in a variable with this attribute is closed when the variable leaves its scope. */
#define gw_cleanup_peer_fd __attribute__((cleanup(gw_peer_fd_close)))

/*
 * May `fd` be mapped and its pages be touched by threads that a peer must not block? If so,
 * fstat(2), fstatfs(2), mmap(2) and close(2) are safe, too. peer_file.c lists the accepted files.
 * Returns: 0; a negative errno for any other file, with a reason and a remedy in `why`.
 * Context: any thread.
 */
int gw_peer_fd_check_memory(int fd, char *why, size_t size);

/*
 * Add 1 to an eventfd shared with the peer, without sleeping, whatever the peer does to its counter
 * and flags concurrently. A full counter stays full. No effect if `fd` is not an eventfd.
 * Preserves errno. Context: any thread.
 */
void gw_eventfd_signal(int fd);

/*
 * Read and clear the counter of an eventfd shared with the peer, without sleeping, whatever the
 * peer does to its flags. Returns: was the counter above 0? Context: any thread.
 */
bool gw_eventfd_take(int fd);
