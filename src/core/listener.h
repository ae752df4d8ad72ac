/* SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause */
/*
 * A listening socket at a path of its own, that nobody else of us listens at: beside it, at
 * PATH.lock, is a file that is locked as long as the socket is served. A path is free when the lock
 * is, so nobody has to connect to find out, which somebody who serves a single session would take
 * for his front-end.
 */
#pragma once

#include <sys/types.h>

struct gw_listener {
    int fd;      /* -1: none */
    int lock_fd; /* -1: the socket was inherited, and has no path of ours */
    char *path;  /* NULL: nothing of ours is there */
    char *lock_path;
    dev_t dev; /* of the socket file: whether it is still ours */
    ino_t ino;
};

/*
 * Listen at `path`; replaces a socket that nobody listens on.
 * Returns: 0; -EADDRINUSE when somebody listens there, or what is there is no socket;
 * -ENAMETOOLONG; -ENOMEM; the errno of open(2), bind(2) and listen(2); with gw_last_error.
 */
int gw_listener_open(struct gw_listener *ret, const char *path);

/*
 * Remove the socket and the lock file, and close. A file that another process has put in their
 * place stays. Fine on a listener that has only an fd, or nothing.
 */
void gw_listener_close(struct gw_listener *l);
