/* SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause */
/* A back-end that answers as a script says, on a real socket, and keeps what it was sent. */
#pragma once

#include "base/proto.h"
#include "patience.h"

#include <godwit/frontend/frontend.h>

#include <fcntl.h>
#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include <cmocka.h>

#define PEER_TIMEOUT_MS   patience_ms()
#define PEER_REPLY_OK     (GW_MSG_VERSION | GW_MSG_REPLY)
#define PEER_MESSAGES_MAX 32
/* What the peer does after one message: an answer in pieces, fds, a hang-up. */
struct peer_step {
    struct gw_wire_header reply; /* request 0: no answer */
    uint8_t payload[256];
    size_t len;     /* bytes of payload sent, whatever the header says */
    size_t piece;   /* send so many bytes at a time; 0: all at once */
    unsigned n_fds; /* to go with it */
    int fd;         /* which; 0: of /dev/null */
    bool hang_up;   /* after the answer, or instead of it */
};

struct peer_seen {
    struct gw_wire_header h;
    uint8_t payload[1024];
    unsigned n_fds;
};

struct peer {
    int fd;
    pthread_t thread;
    const struct peer_step *steps;
    unsigned n_steps;
    struct peer_seen seen[PEER_MESSAGES_MAX];
    unsigned n_seen;
};

static inline bool peer_read_all(int fd, void *buf, size_t len)
{
    for (size_t got = 0; got < len;) {
        ssize_t n = read(fd, (char *)buf + got, len - got);

        if (n <= 0)
            return false;
        got += (size_t)n;
    }
    return true;
}

/* The header with one recvmsg, as back-ends do it: the fds must come with its first byte. */
static inline bool peer_receive(struct peer *p, struct peer_seen *s)
{
    char control[CMSG_SPACE(sizeof(int) * GW_MSG_FDS_MAX)];
    struct iovec iov = {.iov_base = &s->h, .iov_len = sizeof(s->h)};
    struct msghdr mh = {.msg_iov = &iov, .msg_iovlen = 1, .msg_control = control};
    struct cmsghdr *c;
    int fd;

    mh.msg_controllen = sizeof(control);
    if (recvmsg(p->fd, &mh, MSG_CMSG_CLOEXEC) != sizeof(s->h))
        return false;
    for (c = CMSG_FIRSTHDR(&mh); c; c = CMSG_NXTHDR(&mh, c)) {
        s->n_fds = (unsigned)((c->cmsg_len - CMSG_LEN(0)) / sizeof(int));
        for (unsigned i = 0; i < s->n_fds; i++) {
            memcpy(&fd, CMSG_DATA(c) + i * sizeof(int), sizeof(int));
            close(fd);
        }
    }
    return s->h.size <= sizeof(s->payload) && peer_read_all(p->fd, s->payload, s->h.size);
}

static inline void peer_answer(struct peer *p, const struct peer_step *step)
{
    char buf[sizeof(step->reply) + sizeof(step->payload)];
    char control[CMSG_SPACE(sizeof(int) * 16)] = {0};
    size_t len = sizeof(step->reply) + step->len;
    size_t piece = step->piece ? step->piece : len;
    struct iovec iov;
    struct msghdr mh = {.msg_iov = &iov, .msg_iovlen = 1};
    struct cmsghdr *c;
    int null = -1, fd = step->fd;

    memcpy(buf, &step->reply, sizeof(step->reply));
    memcpy(buf + sizeof(step->reply), step->payload, step->len);
    if (step->n_fds) {
        if (!fd)
            fd = null = open("/dev/null", O_RDONLY | O_CLOEXEC);
        mh.msg_control = control;
        mh.msg_controllen = CMSG_SPACE(sizeof(int) * step->n_fds);
        c = CMSG_FIRSTHDR(&mh);
        c->cmsg_level = SOL_SOCKET;
        c->cmsg_type = SCM_RIGHTS;
        c->cmsg_len = CMSG_LEN(sizeof(int) * step->n_fds);
        for (unsigned i = 0; i < step->n_fds; i++)
            memcpy(CMSG_DATA(c) + i * sizeof(int), &fd, sizeof(int));
    }
    for (size_t at = 0; at < len; at += piece) {
        iov = (struct iovec){.iov_base = buf + at, .iov_len = len - at < piece ? len - at : piece};
        if (sendmsg(p->fd, &mh, MSG_NOSIGNAL) < 0)
            break;
        mh.msg_control = NULL;
        mh.msg_controllen = 0;
        if (step->piece)
            usleep(500);
    }
    if (null >= 0)
        close(null);
}

static inline void *peer_main(void *arg)
{
    struct peer *p = arg;

    while (p->n_seen < PEER_MESSAGES_MAX) {
        struct peer_seen *s = &p->seen[p->n_seen];

        if (!peer_receive(p, s))
            break;
        if (p->n_seen < p->n_steps) {
            const struct peer_step *step = &p->steps[p->n_seen];

            if (step->reply.request)
                peer_answer(p, step);
            if (step->hang_up)
                shutdown(p->fd, SHUT_RDWR);
        }
        p->n_seen++;
    }
    return NULL;
}

/* A front-end and its scripted peer. Ends with `peer_finish`, after which `seen` may be looked at.
 */
static inline struct gw_frontend *peer_begin_with(struct peer *p, const struct peer_step *steps,
                                                  unsigned n_steps,
                                                  const struct gw_frontend_config *cfg)
{
    struct gw_frontend *fe;
    int pair[2];

    memset(p, 0, sizeof(*p));
    p->steps = steps;
    p->n_steps = n_steps;
    assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair), 0);
    p->fd = pair[1];
    assert_int_equal(gw_frontend_new(&fe, cfg), 0);
    assert_int_equal(gw_frontend_attach(fe, pair[0]), 0);
    assert_int_equal(pthread_create(&p->thread, NULL, peer_main, p), 0);
    return fe;
}

static inline struct gw_frontend *peer_begin(struct peer *p, const struct peer_step *steps,
                                             unsigned n_steps)
{
    const struct gw_frontend_config cfg = {
        .size = sizeof(cfg), .timeout_ms = PEER_TIMEOUT_MS, .no_gates = true};

    return peer_begin_with(p, steps, n_steps, &cfg);
}

static inline void peer_finish(struct peer *p, struct gw_frontend *fe)
{
    gw_frontend_free(fe);
    pthread_join(p->thread, NULL);
    close(p->fd);
}

static inline struct peer_step peer_answer_u64(uint32_t request, uint64_t value)
{
    struct peer_step s = {.reply = {.request = request, .flags = PEER_REPLY_OK, .size = 8},
                          .len = 8};

    memcpy(s.payload, &value, 8);
    return s;
}
