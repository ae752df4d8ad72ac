/* SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause */
/* The list of --targets: the path of a socket on each line. */
#include "bench.h"
#include "command.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>

#define LIST_MAX (16u << 20) /* bytes */

static int read_all(FILE *in, char **ret)
{
    char *text = malloc(LIST_MAX);
    size_t length;
    int r = 0;

    if (text == NULL)
        return -ENOMEM;
    errno = 0;
    length = fread(text, 1, LIST_MAX - 1, in);
    if (ferror(in))
        r = errno != 0 ? -errno : -EIO;
    else if (length == LIST_MAX - 1)
        r = -EFBIG;
    if (r < 0) {
        free(text);
        return r;
    }
    text[length] = '\0';
    *ret = text;
    return 0;
}

/* Find the paths in the text. Empty lines, and lines that begin with "#", are ignored. */
static int split(struct bench_sockets *sockets)
{
    char *save = NULL;

    for (char *line = strtok_r(sockets->text, "\r\n", &save); line != NULL;
         line = strtok_r(NULL, "\r\n", &save)) {
        char **paths;

        line += strspn(line, " \t");
        if (*line == '\0' || *line == '#')
            continue;
        paths = realloc(sockets->paths, (sockets->n + 1) * sizeof(*paths));
        if (paths == NULL)
            return -ENOMEM;
        sockets->paths = paths;
        paths[sockets->n++] = line;
    }
    return sockets->n == 0 ? -ENODATA : 0;
}

/* Each session needs some ten descriptors. */
static void raise_limit(void)
{
    struct rlimit limit;

    if (getrlimit(RLIMIT_NOFILE, &limit) < 0)
        return;
    limit.rlim_cur = limit.rlim_max;
    (void)setrlimit(RLIMIT_NOFILE, &limit);
}

int bench_list_read(const char *path, struct bench_sockets *ret)
{
    bool is_stdin = strcmp(path, "-") == 0;
    FILE *in = is_stdin ? stdin : fopen(path, "re");
    int r = in == NULL ? -errno : read_all(in, &ret->text);

    if (in != NULL && !is_stdin)
        fclose(in);
    if (r == 0)
        r = split(ret);
    if (r < 0)
        message_print("--targets=%s: %s", path, r == -ENODATA ? "no socket in it" : strerror(-r));
    raise_limit();
    return r;
}

void bench_list_free(struct bench_sockets *sockets)
{
    free(sockets->text);
    free(sockets->paths);
}
