/* SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause */
/*
 * Snapshots of /proc/self/fd and /proc/self/maps, as sorted lists of lines. Lines that only the
 * second snapshot has are leaks; so are additional copies of a line.
 */
#include "fdcheck.h"

#include "patience.h"

#include <dirent.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#define LINE_MAX_LENGTH 512
#define LATE_TRIES      (patience_ms() / 10) /* of 10 ms */

struct fdcheck {
    char **lines;
    size_t n_lines;
};

static bool add(struct fdcheck *check, const char *text)
{
    char **lines = realloc(check->lines, (check->n_lines + 1) * sizeof(*lines));
    if (!lines)
        return false;
    check->lines = lines;
    lines[check->n_lines] = strdup(text);
    return lines[check->n_lines++] != NULL;
}

/* Objects that the library creates once and keeps until the process exits (fd/peer_signal.c). */
static bool is_kept(const char *text)
{
    return strstr(text, "/memfd:godwit-signal ") || strstr(text, "/[aio] ");
}

static bool add_fds(struct fdcheck *check)
{
    DIR *dir = opendir("/proc/self/fd");
    bool good = dir != NULL;

    for (struct dirent *entry; good && (entry = readdir(dir));) {
        char path[LINE_MAX_LENGTH], target[LINE_MAX_LENGTH], line[2 * LINE_MAX_LENGTH];
        if (entry->d_name[0] == '.' || atoi(entry->d_name) == dirfd(dir))
            continue;
        snprintf(path, sizeof(path), "/proc/self/fd/%s", entry->d_name);
        ssize_t length = readlink(path, target, sizeof(target) - 1);
        if (length < 0)
            continue; /* already closed */
        target[length] = '\0';
        snprintf(line, sizeof(line), "fd %s: %s", entry->d_name, target);
        good = is_kept(line) || add(check, line);
    }
    if (dir)
        closedir(dir);
    return good;
}

static bool add_maps(struct fdcheck *check)
{
    FILE *maps = fopen("/proc/self/maps", "re");
    char text[LINE_MAX_LENGTH];
    bool good = maps != NULL;

    while (good && fgets(text, sizeof(text), maps)) {
        char permissions[5] = "";
        text[strcspn(text, "\n")] = '\0';
        if (sscanf(text, "%*s %4s", permissions) == 1 && permissions[3] == 's')
            good = is_kept(text) || add(check, text);
    }
    if (maps)
        fclose(maps);
    return good;
}

static int compare(const void *a, const void *b)
{
    return strcmp(*(char *const *)a, *(char *const *)b);
}

void fdcheck_discard(struct fdcheck *check)
{
    for (size_t i = 0; check && i < check->n_lines; i++)
        free(check->lines[i]);
    if (check)
        free(check->lines);
    free(check);
}

struct fdcheck *fdcheck_begin(void)
{
    struct fdcheck *check = calloc(1, sizeof(*check));
    if (!check || !add_fds(check) || !add_maps(check)) {
        fdcheck_discard(check);
        return NULL;
    }
    qsort(check->lines, check->n_lines, sizeof(*check->lines), compare);
    return check;
}

/* Returns: the number of lines of `after` that are not in `before`. */
static int count_new(const struct fdcheck *before, const struct fdcheck *after, bool is_told)
{
    int found = 0;

    for (size_t i = 0, j = 0; after && i < after->n_lines; i++) {
        while (j < before->n_lines && strcmp(before->lines[j], after->lines[i]) < 0)
            j++;
        if (j < before->n_lines && strcmp(before->lines[j], after->lines[i]) == 0) {
            j++;
        } else {
            if (is_told)
                fprintf(stderr, "left behind: %s\n", after->lines[i]);
            found++;
        }
    }
    return found;
}

/* Another thread may close the fds of a peer a little later, so retry. */
int fdcheck_end(struct fdcheck *before)
{
    const struct timespec pause = {.tv_nsec = 10000000};
    int found = 0;

    for (unsigned i = 0; before && i <= LATE_TRIES; i++) {
        struct fdcheck *after = fdcheck_begin();

        found = count_new(before, after, i == LATE_TRIES);
        fdcheck_discard(after);
        if (found == 0)
            break;
        nanosleep(&pause, NULL);
    }
    fdcheck_discard(before);
    return found;
}

static struct fdcheck *current;
static bool is_running; /* fdcheck_run has not returned */

int fdcheck_setup(void **state)
{
    (void)state;
    /* The first fd that the test opens is then 0. Code that mistakes 0 for "no fd" leaks it. */
    (void)close(STDIN_FILENO);
    current = fdcheck_begin();
    return current ? 0 : -1;
}

int fdcheck_teardown(void **state)
{
    (void)state;
    struct fdcheck *check = current;
    current = NULL;
    if (is_running) {
        is_running = false;
        fdcheck_discard(check);
        return 0;
    }
    return fdcheck_end(check) ? -1 : 0;
}

void fdcheck_run(void **state)
{
    const struct fdcheck_test *test = *state;

    is_running = true;
    test->run(state);
    is_running = false;
}
