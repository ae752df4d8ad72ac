/* SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause */
/*
 * Descriptors that came from a peer. Sockets carry descriptors of any file: the peer may serve that
 * file itself (FUSE), may have filled it (a pipe, an eventfd), and shares its flags (O_NONBLOCK,
 * SO_LINGER) with us. So almost every system call on such a descriptor sleeps for as long as the
 * peer likes, even fstat(2), poll(2) and close(2).
 *
 * The functions here never sleep in a file of the peer. Only threads that may be lost do
 * (sacrificial.h). Both ends of the wire use them.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>

enum gw_peer_fd_kind {
    GW_PEER_FD_OTHER = 0, /* anything: no system call on it is safe but those of this file */
    GW_PEER_FD_EVENTFD,   /* poll, read without waiting and close are safe; write is not */
    GW_PEER_FD_MEMORY, /* a file of the kernel's memory (memfd, tmpfs, hugetlbfs): all are safe */
};

/*
 * What `fd` is, without a call into the file. The answer holds for as long as `fd` is open.
 * Context: any thread.
 */
enum gw_peer_fd_kind gw_peer_fd_kind(int fd);

/*
 * Close `*fd` and set it to -1; nothing happens with -1. A file whose close may sleep is closed on
 * a sacrificial thread. It is closed on return, unless a sacrificial thread has been sleeping for a
 * second: until that ends, no caller waits for them. A regular file that another process may serve
 * is closed by a sacrificial process, without waiting. errno survives. Context: any thread.
 */
void gw_peer_fd_close(int *fd);
void gw_peer_fd_close_all(int *fds, unsigned n_fds);

/* What a variable marked so owns is closed when it goes out of scope. */
#define gw_cleanup_peer_fd __attribute__((cleanup(gw_peer_fd_close)))

/*
 * May `fd` be mapped, and its pages be touched by threads that must not sleep for a peer? If so,
 * fstat(2), fstatfs(2), mmap(2) and close(2) are safe, too; see peer_file.c for the files that may.
 * Returns: 0; a negative errno for any other file, with a reason and a remedy in `why`.
 * Context: any thread.
 */
int gw_peer_fd_check_memory(int fd, char *why, size_t size);

/*
 * Add 1 to an eventfd that the peer shares, without sleeping, whatever the peer does to its counter
 * and flags concurrently. A full counter stays full. What is not an eventfd is left alone.
 * errno survives. Context: any thread.
 */
void gw_eventfd_signal(int fd);

/*
 * Read and clear the counter of an eventfd that the peer shares, without sleeping, whatever the
 * peer does to its flags. Returns: was it above 0? Context: any thread.
 */
bool gw_eventfd_take(int fd);
