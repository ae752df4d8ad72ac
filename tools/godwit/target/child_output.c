/* SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause */
/*
 * Reads the output of a child. Lines are cut at LINE_SIZE, and control characters become dots,
 * because the output of a failed program is shown on a terminal later.
 */
#include "child_output.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <pthread.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <time.h>
#include <unistd.h>

#define LINES     16
#define LINE_SIZE 240
#define DRAIN_MAX 65536
#define PAUSE_NS  200000

struct child_output {
    int fd, stop_fd;
    char *echo;
    pthread_t thread;
    pthread_mutex_t lock; /* protects reading `fd` and all fields below */
    char lines[LINES][LINE_SIZE];
    unsigned n_lines; /* total; the last LINES of them are kept */
    char line[LINE_SIZE];
    size_t len;
};

static void end_line(struct child_output *s)
{
    if (s->len == 0)
        return;
    s->line[s->len] = '\0';
    s->len = 0;
    memcpy(s->lines[s->n_lines++ % LINES], s->line, LINE_SIZE);
    if (s->echo != NULL)
        fprintf(stderr, "%s: %s\n", s->echo, s->line);
}

static void take(struct child_output *s, const char *buf, size_t n)
{
    for (size_t i = 0; i < n; i++) {
        unsigned char c = (unsigned char)buf[i];

        if (c == '\n')
            end_line(s);
        else if (c != '\r' && s->len < LINE_SIZE - 1)
            s->line[s->len++] = c == '\t' ? ' ' : (char)(c < 0x20 || c == 0x7f ? '.' : c);
    }
}

/*
 * Take the output written so far, up to DRAIN_MAX bytes, because a back-end may write without end.
 * Under the lock. Returns: whether more may come.
 */
static bool drain(struct child_output *s)
{
    char buf[4096];
    size_t taken = 0;
    ssize_t n = 1;

    while (taken < DRAIN_MAX) {
        n = read(s->fd, buf, sizeof(buf));
        if (n > 0) {
            take(s, buf, (size_t)n);
            taken += (size_t)n;
        } else if (n == 0 || errno != EINTR) {
            break;
        }
    }
    if (taken >= DRAIN_MAX || (n < 0 && errno == EAGAIN))
        return true;
    end_line(s);
    return false;
}

static void *reader(void *arg)
{
    struct child_output *s = arg;
    struct pollfd fds[] = {{.fd = s->fd, .events = POLLIN}, {.fd = s->stop_fd, .events = POLLIN}};
    bool may_come = true;

    while (may_come) {
        if (poll(fds, 2, -1) < 0 && errno != EINTR)
            break;
        if (fds[1].revents != 0)
            break;
        pthread_mutex_lock(&s->lock);
        may_come = drain(s);
        pthread_mutex_unlock(&s->lock);
        /* A mutex is not fair: give threads that wait for the lines a chance. */
        nanosleep(&(struct timespec){.tv_nsec = PAUSE_NS}, NULL);
    }
    return NULL;
}

int child_output_new(struct child_output **ret, int fd, const char *echo)
{
    struct child_output *s = calloc(1, sizeof(*s));
    int r = s == NULL ? -ENOMEM : 0;

    if (r == 0) {
        s->stop_fd = eventfd(0, EFD_CLOEXEC);
        r = s->stop_fd < 0 ? -errno : 0;
    }
    if (r == 0) {
        s->fd = fd;
        s->echo = echo != NULL ? strdup(echo) : NULL;
        pthread_mutex_init(&s->lock, NULL);
        fcntl(fd, F_SETFL, O_NONBLOCK);
        r = -pthread_create(&s->thread, NULL, reader, s);
        if (r < 0)
            close(s->stop_fd);
    }
    if (r == 0) {
        *ret = s;
        return 0;
    }
    close(fd);
    if (s != NULL)
        free(s->echo);
    free(s);
    return r;
}

void child_output_free(struct child_output *s)
{
    if (s == NULL)
        return;
    eventfd_write(s->stop_fd, 1);
    pthread_join(s->thread, NULL);
    close(s->fd);
    close(s->stop_fd);
    pthread_mutex_destroy(&s->lock);
    free(s->echo);
    free(s);
}

bool child_output_has_ended(struct child_output *s)
{
    bool has_ended;

    pthread_mutex_lock(&s->lock);
    has_ended = !drain(s);
    pthread_mutex_unlock(&s->lock);
    return has_ended;
}

char *child_output_last_lines(struct child_output *s, unsigned n)
{
    char *text = NULL;
    size_t size = 0;
    FILE *out = open_memstream(&text, &size);
    unsigned first;

    if (out == NULL)
        return NULL;
    pthread_mutex_lock(&s->lock);
    drain(s);
    if (n > LINES)
        n = LINES;
    if (s->len > 0 && n > 0)
        n--;
    first = s->n_lines > n ? s->n_lines - n : 0;
    for (unsigned i = first; i < s->n_lines; i++)
        fprintf(out, "%s\n", s->lines[i % LINES]);
    if (s->len > 0) /* an incomplete line */
        fprintf(out, "%.*s\n", (int)s->len, s->line);
    pthread_mutex_unlock(&s->lock);
    if (fclose(out) != 0) {
        free(text);
        return NULL;
    }
    return text;
}
