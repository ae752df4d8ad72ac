/* SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause */
/* Connections that wait for their first frame. See link_lobby.h. */
#include "link_lobby.h"

#include "base/clock.h"
#include "link_tcp.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <sys/epoll.h>
#include <unistd.h>

void link_lobby_init(struct link_lobby *l)
{
    l->listen_fd = l->epoll_fd = -1;
    l->n_callers = 0;
    l->pause_until_ns = 0;
    l->is_failing = false;
}

static int watch(const struct link_lobby *l, int fd)
{
    struct epoll_event event = {.events = EPOLLIN};

    return epoll_ctl(l->epoll_fd, EPOLL_CTL_ADD, fd, &event) < 0 ? -errno : 0;
}

int link_lobby_open(struct link_lobby *l, int listen_fd)
{
    l->listen_fd = listen_fd;
    l->epoll_fd = epoll_create1(EPOLL_CLOEXEC);
    return l->epoll_fd < 0 ? -errno : watch(l, listen_fd);
}

void link_lobby_done(struct link_lobby *l)
{
    for (unsigned i = 0; i < l->n_callers; i++)
        link_channel_done(&l->callers[i].channel);
    if (l->epoll_fd >= 0)
        close(l->epoll_fd);
    if (l->listen_fd >= 0)
        close(l->listen_fd);
    link_lobby_init(l);
}

/* Remove a caller from the lobby. */
static void hand_out(struct link_lobby *l, unsigned i, struct link_channel *ret)
{
    *ret = l->callers[i].channel;
    ret->length_max = 0;
    (void)epoll_ctl(l->epoll_fd, EPOLL_CTL_DEL, ret->fd, NULL);
    l->n_callers--;
    memmove(&l->callers[i], &l->callers[i + 1], (l->n_callers - i) * sizeof(l->callers[0]));
}

static void admit(struct link_lobby *l, int fd, uint64_t now_ns)
{
    struct link_caller *c = &l->callers[l->n_callers];

    if (watch(l, fd) < 0) {
        close(fd);
        return;
    }
    link_channel_init(&c->channel, fd);
    c->channel.length_max = LINK_HELLO_MAX;
    c->since_ns = now_ns;
    l->n_callers++;
}

/*
 * Without descriptors or memory, a connection stays in the backlog and keeps the listening socket
 * readable: the socket is not polled during a pause. MOD needs no memory, so it cannot fail.
 */
static void pause_until(struct link_lobby *l, uint64_t until_ns)
{
    struct epoll_event event = {.events = until_ns ? 0 : EPOLLIN};

    (void)epoll_ctl(l->epoll_fd, EPOLL_CTL_MOD, l->listen_fd, &event);
    l->pause_until_ns = until_ns;
}

/* Accept until the lobby is full. Returns: 0; a negative errno, once for failures in a row. */
static int accept_all(struct link_lobby *l, uint64_t now_ns)
{
    bool was_failing = l->is_failing;
    int fd, r = 0;

    if (now_ns < l->pause_until_ns)
        return 0;
    if (l->pause_until_ns)
        pause_until(l, 0);
    while (l->n_callers < LINK_LOBBY_MAX && (r = link_tcp_accept(l->listen_fd, 0, &fd)) == 0) {
        l->is_failing = false;
        admit(l, fd, now_ns);
    }
    if (r == 0 || r == -EAGAIN)
        return 0;
    pause_until(l, now_ns + LINK_LOBBY_PAUSE_MS * GW_NS_PER_MS);
    l->is_failing = true;
    return was_failing ? 0 : r;
}

int link_lobby_next(struct link_lobby *l, uint64_t now_ns, struct link_channel *ret,
                    struct link_frame *ret_frame, struct link_in *ret_in, char *why)
{
    int failure = accept_all(l, now_ns);

    if (failure < 0)
        return failure;
    for (unsigned i = 0; i < l->n_callers; i++) {
        struct link_caller *c = &l->callers[i];
        int r = link_channel_next(&c->channel, ret_frame, ret_in, why);

        if (r == -EAGAIN && now_ns - c->since_ns < LINK_LOBBY_MS * GW_NS_PER_MS)
            continue;
        if (r == -EAGAIN)
            snprintf(why, LINK_TEXT_MAX, "it sent nothing");
        else if (r == 0 && ret_frame->type != LINK_HELLO && ret_frame->type != LINK_RESUME)
            snprintf(why, LINK_TEXT_MAX, "it sent an unexpected %s",
                     link_type_name(ret_frame->type));
        else if (r < 0 && r != -EPROTO)
            snprintf(why, LINK_TEXT_MAX, "it hung up");
        hand_out(l, i, ret);
        return r == 0 && (ret_frame->type == LINK_HELLO || ret_frame->type == LINK_RESUME)
                   ? 0
                   : -EPROTO;
    }
    if (l->n_callers < LINK_LOBBY_MAX)
        return -EAGAIN;
    snprintf(why, LINK_TEXT_MAX, "it sent nothing, and other connections are waiting");
    hand_out(l, 0, ret);
    return -EPROTO;
}

void link_refuse(struct link_channel *c, const char *why)
{
    if (c->fd >= 0) {
        link_begin(&c->out, LINK_ERROR);
        link_put_text(&c->out, why[0] ? why : "an error");
        link_end(&c->out);
        (void)link_channel_flush(c);
    }
    link_channel_done(c);
}
