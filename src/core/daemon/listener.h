/* SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause */
/*
 * A listening socket at a path. The file PATH.lock is locked for as long as the socket is served,
 * so two processes with this library never serve the same path. The lock shows whether a path is
 * free. A test connection could not: a program that serves a single session would take it for its
 * front-end.
 */
#pragma once

#include <sys/types.h>

struct gw_listener {
    int fd;      /* -1: none */
    int lock_fd; /* -1: the socket was inherited, so its path is not ours to remove */
    char *path;  /* NULL: we have bound no socket */
    char *lock_path;
    dev_t dev; /* of the socket file, to check that the file at the path is still ours */
    ino_t ino;
};

/*
 * Listen at `path`; replaces a socket that no process listens on.
 * Returns: 0; -EADDRINUSE if another process listens there, or if the file is not a socket;
 * -ENAMETOOLONG; -ENOMEM; the errno of open(2), bind(2) or listen(2); with gw_last_error.
 */
int gw_listener_open(struct gw_listener *ret, const char *path);

/*
 * Remove the socket file and the lock file, and close both. A file that another process has put at
 * either path stays. Also accepts a listener that has only an fd, and an empty one.
 */
void gw_listener_close(struct gw_listener *l);
