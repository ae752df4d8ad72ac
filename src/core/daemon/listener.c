/* SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause */
/*
 * Listening at a path: the lock file, the socket, and removing both at the end.
 *
 * The kernel releases a flock(2) lock when its process ends, so a lock file that a killed process
 * left behind blocks no other process. The owner removes the lock file while it holds the lock.
 * Another process may have opened the file before that, and then locks a file that no longer has a
 * name. So every process compares the file that it locked with the file at the path, and starts
 * again if they differ. The owner makes the same comparison before it removes a file: if the
 * directory was cleaned up, the path may belong to another process.
 */
#include "listener.h"

#include "base/cleanup.h"
#include "base/log_i.h"
#include "core/session/socket.h"
#include "fd/peer_fd.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/file.h>
#include <sys/socket.h>
#include <sys/stat.h>

enum {
    LISTEN_BACKLOG = 4,
};

/*
 * An existing file is opened without O_CREAT: in a directory like /tmp the kernel refuses O_CREAT
 * for a file of another user (sysctl fs.protected_regular). Read access is enough for flock(2).
 */
static int open_lock(const char *path)
{
    int fd;

    do {
        fd = open(path, O_RDONLY | O_NOFOLLOW | O_NONBLOCK | O_CLOEXEC);
        if (fd < 0 && errno == ENOENT)
            fd = open(path, O_RDONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0644);
    } while (fd < 0 && errno == EEXIST);
    return fd < 0 ? gw_fail(-errno, "lock file %s: %s", path, strerror(errno)) : fd;
}

static bool is_at(int fd, const char *path)
{
    struct stat opened, there;

    return fstat(fd, &opened) == 0 && lstat(path, &there) == 0 && opened.st_dev == there.st_dev &&
           opened.st_ino == there.st_ino;
}

static int take_lock(const char *path, const char *lock_path)
{
    for (;;) {
        gw_cleanup_fd int fd = open_lock(lock_path);

        if (fd < 0)
            return fd;
        if (flock(fd, LOCK_EX | LOCK_NB) < 0)
            return errno == EWOULDBLOCK
                       ? gw_fail(-EADDRINUSE, "another process already listens on %s", path)
                       : gw_fail(-errno, "lock file %s: flock: %s", lock_path, strerror(errno));
        if (is_at(fd, lock_path))
            return gw_steal_fd(&fd);
    }
}

/*
 * Remove a socket that no process listens on; any other file stays. We hold the lock, so only a
 * program that does not use our locks can be listening. Only connect(2) detects such a program.
 */
static int remove_stale(const struct sockaddr_un *addr)
{
    gw_cleanup_fd int fd = -1;
    struct stat st;

    if (lstat(addr->sun_path, &st) < 0)
        return errno == ENOENT ? 0 : gw_fail(-errno, "%s: %s", addr->sun_path, strerror(errno));
    if (!S_ISSOCK(st.st_mode))
        return gw_fail(-EADDRINUSE, "%s is there and is no socket", addr->sun_path);
    fd = gw_socket_new(SOCK_NONBLOCK); /* its backlog may be full */
    if (fd < 0)
        return fd;
    if (connect(fd, (const struct sockaddr *)addr, sizeof(*addr)) == 0 || errno != ECONNREFUSED)
        return gw_fail(-EADDRINUSE, "another process already listens on %s", addr->sun_path);
    if (unlink(addr->sun_path) < 0 && errno != ENOENT)
        return gw_fail(-errno, "%s cannot be replaced: %s", addr->sun_path, strerror(errno));
    return 0;
}

/* The caller holds the lock, so lstat(2) finds the socket that bind(2) made. */
static int bind_at(struct gw_listener *l, const struct sockaddr_un *addr)
{
    struct stat st;

    l->fd = gw_socket_new(SOCK_NONBLOCK); /* a connection may be gone before accept(2) */
    if (l->fd < 0)
        return l->fd;
    if (bind(l->fd, (const struct sockaddr *)addr, sizeof(*addr)) < 0 ||
        lstat(addr->sun_path, &st) < 0)
        return gw_fail(-errno, "cannot listen on %s: %s", addr->sun_path, strerror(errno));
    l->dev = st.st_dev;
    l->ino = st.st_ino;
    l->path = strdup(addr->sun_path);
    if (l->path)
        return 0;
    (void)unlink(addr->sun_path);
    return gw_fail(-ENOMEM, "no memory for a path");
}

/* On failure, gw_listener_close undoes the steps that succeeded. */
static int listener_init(struct gw_listener *l, const char *path)
{
    struct sockaddr_un addr;
    char *lock_path;
    int r = gw_socket_address(&addr, path);

    if (r < 0)
        return r;
    if (asprintf(&lock_path, "%s.lock", path) < 0)
        return gw_fail(-ENOMEM, "no memory for a path");
    l->lock_path = lock_path;
    l->lock_fd = take_lock(path, lock_path);
    if (l->lock_fd < 0)
        return l->lock_fd;
    r = remove_stale(&addr);
    if (r == 0)
        r = bind_at(l, &addr);
    if (r == 0 && listen(l->fd, LISTEN_BACKLOG) < 0)
        r = gw_fail(-errno, "cannot listen on %s: %s", path, strerror(errno));
    return r;
}

int gw_listener_open(struct gw_listener *ret, const char *path)
{
    struct gw_listener l = {.fd = -1, .lock_fd = -1};
    int r = listener_init(&l, path);

    if (r < 0)
        gw_listener_close(&l);
    else
        *ret = l;
    return r;
}

/*
 * Compare before the socket is closed. As long as it is open, the file system does not reuse its
 * inode number, and a program without our locks does not replace a socket that accepts connections.
 */
static void remove_socket(const struct gw_listener *l)
{
    struct stat st;

    if (lstat(l->path, &st) == 0 && st.st_dev == l->dev && st.st_ino == l->ino)
        (void)unlink(l->path);
}

void gw_listener_close(struct gw_listener *l)
{
    if (l->path)
        remove_socket(l);
    gw_peer_fd_close(&l->fd); /* also closes descriptors that waiting clients have sent */
    if (l->lock_fd >= 0 && is_at(l->lock_fd, l->lock_path))
        (void)unlink(l->lock_path);
    gw_close(&l->lock_fd);
    free(l->path);
    free(l->lock_path);
    l->path = NULL;
    l->lock_path = NULL;
}
