/* SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause */
/* Writes reports to files or stdout. Errors are reported with a remedy. */
#include "output.h"

#include "command.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static int cannot_write(const char *path, int r)
{
    const char *remedy = r == -ENOSPC   ? "; free some space, or write it elsewhere"
                         : r == -ENOENT ? "; create its directory first"
                                        : "";

    message_print("%s cannot be written: %s%s", path, strerror(-r), remedy);
    return r;
}

int output_try(const char *path)
{
    int fd, r;

    if (strcmp(path, "-") == 0)
        return 0;
    fd = open(path, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0666);
    if (fd >= 0) {
        close(fd);
        unlink(path);
        return 0;
    }
    if (errno == EEXIST) {
        fd = open(path, O_WRONLY | O_CLOEXEC | O_NONBLOCK);
        if (fd >= 0)
            return close(fd);
    }
    r = -errno;
    return cannot_write(path, r);
}

/* Write a whole text to a file, which is truncated first. */
static int write_file(const char *path, const char *text, size_t len)
{
    int fd = open(path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0666), r = 0;

    if (fd < 0)
        return -errno;
    while (len > 0) {
        ssize_t n = write(fd, text, len);

        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0) {
            r = -errno;
            break;
        }
        text += n;
        len -= (size_t)n;
    }
    if (close(fd) < 0 && r == 0) /* some file systems report a full disk only here */
        r = -errno;
    return r;
}

FILE *output_begin(struct output *o)
{
    *o = (struct output){.text = NULL};
    o->file = open_memstream(&o->text, &o->len);
    return o->file;
}

int output_end(struct output *o, const char *path)
{
    int r = o->file == NULL || fclose(o->file) != 0 ? -ENOMEM : 0;

    if (r == 0 && strcmp(path, "-") == 0) {
        if (fwrite(o->text, 1, o->len, stdout) != o->len || fflush(stdout) != 0)
            r = -errno;
    } else if (r == 0) {
        r = write_file(path, o->text, o->len);
    }
    free(o->text);
    return r < 0 ? cannot_write(path, r) : 0;
}
