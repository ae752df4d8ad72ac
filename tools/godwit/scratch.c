/* SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause */
/*
 * The private directory: in TMPDIR, unless that is so long that the path of a socket in it would
 * not fit into a socket address; then in /tmp. It is flat: only files are made in it.
 */
#include "scratch.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#define TMPDIR_MAX 64

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static char *dir; /* under `lock` */

static int make_dir(void)
{
    const char *parent = getenv("TMPDIR");
    char *path;
    int r = 0;

    if (parent == NULL || parent[0] != '/' || strlen(parent) > TMPDIR_MAX)
        parent = "/tmp";
    if (asprintf(&path, "%s/godwit-XXXXXX", parent) < 0)
        return -ENOMEM;
    if (mkdtemp(path) == NULL)
        r = -errno;
    if (r < 0)
        free(path);
    else
        dir = path;
    return r;
}

int scratch_path(char **ret, const char *name)
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

/* A new file of that size; what could not be made as it should is not left behind. */
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

int scratch_disk(char **ret, const char *path, uint64_t size)
{
    static unsigned count;
    char name[32], *own = NULL, *absolute = NULL;
    int r = 0;

    if (path == NULL) {
        snprintf(name, sizeof(name), "disk%u.img", __atomic_fetch_add(&count, 1, __ATOMIC_RELAXED));
        r = scratch_path(&own, name);
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

void scratch_remove(void)
{
    struct dirent *entry;
    DIR *stream;

    pthread_mutex_lock(&lock);
    stream = dir == NULL ? NULL : opendir(dir);
    while (stream != NULL && (entry = readdir(stream)) != NULL) {
        if (strcmp(entry->d_name, ".") != 0 && strcmp(entry->d_name, "..") != 0)
            unlinkat(dirfd(stream), entry->d_name, 0);
    }
    if (stream != NULL)
        closedir(stream);
    if (dir != NULL)
        rmdir(dir);
    free(dir);
    dir = NULL;
    pthread_mutex_unlock(&lock);
}
