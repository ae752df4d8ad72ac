/* SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause */
/*
 * The private directory: in TMPDIR, or in /tmp if TMPDIR is too long for the path of a socket in
 * it. It contains only files, no subdirectories.
 *
 * The process holds a flock(2) on a file in it, MARKER, while it lives. A directory of this user
 * with an unlocked marker was left by a killed process, and the next process that creates such a
 * directory removes it. A directory without a marker is never touched.
 */
#include "tmpdir.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#define TMPDIR_MAX 64
#define PREFIX     "godwit-"
#define MARKER     "godwit-scratch.lock"

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static char *dir;         /* under `lock` */
static int dir_lock = -1; /* under `lock`: the locked marker of `dir` */

static bool is_same(const struct stat *a, const struct stat *b)
{
    return a->st_dev == b->st_dev && a->st_ino == b->st_ino;
}

/* Remove the files of a directory. Returns: whether only the marker is left. */
static bool remove_files(DIR *stream)
{
    struct dirent *entry;
    bool is_empty = true;

    while ((entry = readdir(stream)) != NULL) {
        if (strcmp(entry->d_name, ".") == 0 || strcmp(entry->d_name, "..") == 0 ||
            strcmp(entry->d_name, MARKER) == 0)
            continue;
        is_empty &= unlinkat(dirfd(stream), entry->d_name, 0) == 0;
    }
    return is_empty;
}

/*
 * Remove a directory whose marker this process has locked; the marker last, so that another process
 * can complete an interrupted removal. If the path now has another marker, or none, a different
 * directory has taken its name and stays. Returns: whether it was removed.
 */
static bool remove_dir(const char *path, int marker)
{
    int fd = open(path, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
    DIR *stream = fd < 0 ? NULL : fdopendir(fd);
    struct stat held, there;
    bool is_gone = false;

    if (stream == NULL) {
        if (fd >= 0)
            close(fd);
        return false;
    }
    if (fstat(marker, &held) == 0 && fstatat(fd, MARKER, &there, AT_SYMLINK_NOFOLLOW) == 0 &&
        is_same(&held, &there) && remove_files(stream) && fstat(fd, &held) == 0 &&
        lstat(path, &there) == 0 && is_same(&held, &there))
        is_gone = unlinkat(fd, MARKER, 0) == 0 && rmdir(path) == 0;
    closedir(stream);
    return is_gone;
}

/*
 * Open and lock the marker of a directory of this user. A new one (O_CREAT) may stay unlocked if
 * the file system has no locks: then no other process can lock it. Returns: its descriptor;
 * -EAGAIN: its owner lives, or another process is removing it; the negative errno of open(2).
 */
static int lock_marker(const char *path, int flags)
{
    struct stat st;
    char *name;
    int fd;

    if (asprintf(&name, "%s/" MARKER, path) < 0)
        return -ENOMEM;
    fd = open(name, O_RDWR | O_NOFOLLOW | O_NONBLOCK | O_CLOEXEC | flags, 0600);
    free(name);
    if (fd < 0)
        return -errno;
    if ((flock(fd, LOCK_EX | LOCK_NB) == 0 || (errno != EWOULDBLOCK && flags != 0)) &&
        fstat(fd, &st) == 0 && S_ISREG(st.st_mode) && st.st_uid == geteuid() && st.st_nlink > 0)
        return fd;
    close(fd);
    return -EAGAIN;
}

/* Remove the directories that killed processes have left. */
static void sweep(const char *parent)
{
    DIR *stream = opendir(parent);
    struct dirent *entry;

    while (stream != NULL && (entry = readdir(stream)) != NULL) {
        char *path;
        int marker;

        if (strncmp(entry->d_name, PREFIX, strlen(PREFIX)) != 0 ||
            asprintf(&path, "%s/%s", parent, entry->d_name) < 0)
            continue;
        marker = lock_marker(path, 0);
        if (marker >= 0) {
            if (remove_dir(path, marker))
                fprintf(stderr, "godwit: removed %s, left by a killed process\n", path);
            close(marker);
        }
        free(path);
    }
    if (stream != NULL)
        closedir(stream);
}

static int make_dir(void)
{
    const char *parent = getenv("TMPDIR");
    char *path;
    int r;

    if (parent == NULL || parent[0] != '/' || strlen(parent) > TMPDIR_MAX)
        parent = "/tmp";
    sweep(parent);
    do {
        if (asprintf(&path, "%s/" PREFIX "XXXXXX", parent) < 0)
            return -ENOMEM;
        r = mkdtemp(path) == NULL ? -errno : lock_marker(path, O_CREAT | O_EXCL);
        if (r >= 0) {
            dir = path;
            dir_lock = r;
            return 0;
        }
        if (r != -EAGAIN) /* -EAGAIN: the process with the marker removes it */
            (void)rmdir(path);
        free(path);
    } while (r == -EAGAIN);
    return r;
}

int tmpdir_path(char **ret, const char *name)
{
    int r = 0;

    pthread_mutex_lock(&lock);
    if (dir == NULL)
        r = make_dir();
    if (r == 0 && asprintf(ret, "%s/%s", dir, name) < 0)
        r = -ENOMEM;
    pthread_mutex_unlock(&lock);
    return r;
}

/* Create a file of that size; on failure remove it again. */
static int make_disk(const char *path, uint64_t size)
{
    int fd = open(path, O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC, 0600), r = 0;

    if (fd < 0)
        return errno == EEXIST ? 0 : -errno;
    if (ftruncate(fd, (off_t)size) < 0) {
        r = -errno;
        unlink(path);
    }
    close(fd);
    return r;
}

int tmpdir_disk(char **ret, const char *path, uint64_t size)
{
    static unsigned count;
    char name[32], *own = NULL, *absolute = NULL;
    int r = 0;

    if (path == NULL) {
        snprintf(name, sizeof(name), "disk%u.img", __atomic_fetch_add(&count, 1, __ATOMIC_RELAXED));
        r = tmpdir_path(&own, name);
        path = own;
    }
    if (r == 0 && access(path, F_OK) < 0)
        r = errno == ENOENT ? make_disk(path, size) : -errno;
    if (r == 0 && (absolute = realpath(path, NULL)) == NULL)
        r = -errno;
    free(own);
    if (r == 0)
        *ret = absolute;
    return r;
}

void tmpdir_remove(void)
{
    pthread_mutex_lock(&lock);
    if (dir != NULL) {
        (void)remove_dir(dir, dir_lock);
        close(dir_lock);
        free(dir);
    }
    dir = NULL;
    dir_lock = -1;
    pthread_mutex_unlock(&lock);
}
