/* SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause */
/* Frames over a socket. See link_channel.h. */
#include "link_channel.h"

#include <errno.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#define IN_ROOM (64u << 10)

void link_channel_init(struct link_channel *c, int fd)
{
    *c = (struct link_channel){.fd = fd};
}

void link_channel_done(struct link_channel *c)
{
    if (c->fd >= 0)
        close(c->fd);
    c->fd = -1;
    link_out_done(&c->out);
    free(c->in);
    c->in = NULL;
    c->sent = c->in_at = c->in_len = c->in_room = c->in_used = 0;
}

size_t link_channel_pending(const struct link_channel *c)
{
    return c->out.len - c->sent;
}

int link_channel_flush(struct link_channel *c)
{
    if (c->out.failed)
        return -ENOMEM;
    if (c->fd < 0)
        return -ENOTCONN;
    while (c->sent < c->out.len) {
        ssize_t n = send(c->fd, c->out.data + c->sent, c->out.len - c->sent, MSG_NOSIGNAL);

        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0)
            return errno == EAGAIN ? 0 : -errno;
        c->sent += (size_t)n;
        c->n_sent += (uint64_t)n;
    }
    c->out.len = c->sent = 0;
    return 0;
}

/* Make room for `len` bytes from in_at on. */
static int make_room(struct link_channel *c, size_t len)
{
    uint8_t *grown;

    if (len <= c->in_room - c->in_at)
        return 0;
    if (c->in_len > c->in_at)
        memmove(c->in, c->in + c->in_at, c->in_len - c->in_at);
    c->in_len -= c->in_at;
    c->in_at = 0;
    if (len <= c->in_room)
        return 0;
    grown = realloc(c->in, len);
    if (!grown)
        return -ENOMEM;
    c->in = grown;
    c->in_room = len;
    return 0;
}

static int read_some(struct link_channel *c)
{
    ssize_t n;

    do
        n = recv(c->fd, c->in + c->in_len, c->in_room - c->in_len, 0);
    while (n < 0 && errno == EINTR);
    if (n < 0)
        return -errno;
    if (n == 0)
        return -ECONNRESET;
    c->in_len += (size_t)n;
    c->n_received += (uint64_t)n;
    return 0;
}

int link_channel_next(struct link_channel *c, struct link_frame *ret, struct link_in *ret_in,
                      char *why)
{
    size_t want = LINK_HEADER_LEN;
    int r;

    if (c->fd < 0)
        return -ENOTCONN;
    c->in_at += c->in_used;
    c->in_used = 0;
    if (c->in_at == c->in_len)
        c->in_at = c->in_len = 0;
    for (;;) {
        if (c->in_len - c->in_at >= LINK_HEADER_LEN) {
            r = link_parse_header(c->in + c->in_at, ret, why);
            if (r < 0)
                return r;
            if (c->length_max && ret->length > c->length_max) {
                snprintf(why, LINK_TEXT_MAX, "it sent an unexpected %s", link_type_name(ret->type));
                return -EPROTO;
            }
            want = LINK_HEADER_LEN + ret->length;
            if (c->in_len - c->in_at >= want)
                break;
        }
        r = make_room(c, want > IN_ROOM ? want : IN_ROOM);
        if (r == 0)
            r = read_some(c);
        if (r < 0)
            return r;
    }
    c->in_used = want;
    *ret_in = (struct link_in){.at = c->in + c->in_at + LINK_HEADER_LEN, .left = ret->length};
    return 0;
}

bool link_channel_wait(const struct link_channel *c, int fd, int wake_fd, unsigned timeout_ms)
{
    struct pollfd p[3] = {{.fd = c->fd, .events = POLLIN},
                          {.fd = fd, .events = POLLIN},
                          {.fd = wake_fd, .events = POLLIN}};

    if (link_channel_pending(c))
        p[0].events |= POLLOUT;
    return poll(p, 3, (int)timeout_ms) > 0 && p[1].revents;
}

bool link_is_lost(int r)
{
    return r < 0 && r != -EAGAIN && r != -EPROTO && r != -ENOMEM;
}
