/* SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause */
/*
 * The thread that receives answers, and what it shares with the control worker. The front-end can
 * make the thread sleep until the front-end itself ends. The control worker does not wait for that:
 * the thread keeps its duplicate of the channel, and frees the structure when it ends.
 */
#include "answer_reader.h"

#include "base/cleanup.h"
#include "base/clock.h"
#include "base/log_i.h"
#include "fd/detached.h"
#include "fd/peer_fd.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>

enum {
    STACK_SIZE = 256 * 1024
};

struct gw_answer_reader {
    pthread_mutex_t lock;
    pthread_cond_t end;
    bool has_ended;  /* [lock] */
    unsigned n_refs; /* [lock] the control worker and the thread */
    int error;       /* atomic: why the thread received no more */
    int fd;          /* the control worker's end of the pair */
    struct gw_rx answer;

    /* The thread's. */
    int channel;
    int out; /* its end of the pair */
    struct gw_rx rx;
};

static void unref(struct gw_answer_reader *a)
{
    bool is_last;

    pthread_mutex_lock(&a->lock);
    is_last = --a->n_refs == 0;
    pthread_mutex_unlock(&a->lock);
    if (!is_last)
        return;
    pthread_cond_destroy(&a->end);
    pthread_mutex_destroy(&a->lock);
    free(a);
}

/* ---- the thread ---- */

/* Wait for `events` of a socket, or the end. Returns: false if the control worker has hung up. */
static bool wait_for(const struct gw_answer_reader *a, int fd, short events)
{
    struct pollfd p[] = {{.fd = a->out}, {.fd = fd, .events = events}};

    while (poll(p, 2, -1) < 0)
        if (errno != EINTR)
            return false;
    return !(p[0].revents & (POLLHUP | POLLERR));
}

/* Returns: 0; a negative errno after which nothing can be passed on. */
static int pass_on(struct gw_answer_reader *a)
{
    const struct gw_msg *msg = &a->rx.msg;
    struct gw_tx tx;
    int r;

    if (msg->fds_error < 0 || msg->n_fds > 1)
        return msg->fds_error < 0 ? msg->fds_error : -E2BIG;
    gw_tx_init(&tx, &msg->header, msg->payload, msg->n_fds ? msg->fds[0] : -1);
    do
        r = gw_tx_pump(&tx, a->out);
    while (r == -EAGAIN && wait_for(a, a->out, POLLOUT));
    gw_rx_reset(&a->rx);
    return r;
}

static void *reader_main(void *arg)
{
    struct gw_answer_reader *a = arg;
    int r = 0;

    (void)pthread_setname_np(pthread_self(), "gw-answers");
    while (r >= 0 && wait_for(a, a->channel, POLLIN)) {
        r = gw_rx_pump(&a->rx, a->channel);
        if (r == 1)
            r = pass_on(a);
    }
    __atomic_store_n(&a->error, r, __ATOMIC_RELEASE);
    gw_rx_reset(&a->rx);
    gw_close(&a->out);
    gw_peer_fd_close(&a->channel);
    pthread_mutex_lock(&a->lock);
    a->has_ended = true;
    pthread_cond_broadcast(&a->end);
    pthread_mutex_unlock(&a->lock);
    unref(a);
    return NULL;
}

/* ---- the control worker ---- */

static void init(struct gw_answer_reader *a)
{
    pthread_condattr_t attr;

    pthread_mutex_init(&a->lock, NULL);
    pthread_condattr_init(&attr);
    pthread_condattr_setclock(&attr, CLOCK_MONOTONIC);
    pthread_cond_init(&a->end, &attr);
    pthread_condattr_destroy(&attr);
    a->n_refs = 1;
    a->fd = a->out = a->channel = -1;
}

int gw_answer_reader_new(struct gw_answer_reader **ret, int fd)
{
    struct gw_answer_reader *a = calloc(1, sizeof(*a));
    int pair[2], r;

    if (!a)
        return gw_fail(-ENOMEM, "no memory for the answers of a back-end channel");
    init(a);
    a->channel = fcntl(fd, F_DUPFD_CLOEXEC, 0);
    r = a->channel < 0 ? -errno : 0;
    if (r == 0 && socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair) < 0)
        r = -errno;
    if (r == 0) {
        a->fd = pair[0];
        a->out = pair[1];
        a->n_refs = 2;
        r = gw_detached_start(reader_main, a,
                              STACK_SIZE); /* from here on, the thread may be the last to use it */
        if (r < 0)
            a->n_refs = 1;
    }
    if (r < 0) {
        gw_close(&a->fd);
        gw_close(&a->out);
        gw_peer_fd_close(&a->channel);
        unref(a);
        return gw_fail(r, "the answers of a back-end channel cannot be received: %s", strerror(-r));
    }
    *ret = a;
    return 0;
}

int gw_answer_reader_fd(const struct gw_answer_reader *a)
{
    return a->fd;
}

int gw_answer_reader_receive(struct gw_answer_reader *a, struct gw_msg **ret)
{
    int r = gw_rx_pump(&a->answer, a->fd);
    int error = __atomic_load_n(&a->error, __ATOMIC_ACQUIRE);

    if (r == 1)
        *ret = &a->answer.msg;
    return r < 0 && error < 0 ? error : r;
}

void gw_answer_reader_next(struct gw_answer_reader *a)
{
    gw_rx_reset(&a->answer);
}

void gw_answer_reader_stop(struct gw_answer_reader *a)
{
    gw_rx_reset(&a->answer);
    gw_socket_hang_up(&a->fd);
}

bool gw_answer_reader_has_ended(struct gw_answer_reader *a)
{
    bool has_ended;

    pthread_mutex_lock(&a->lock);
    has_ended = a->has_ended;
    pthread_mutex_unlock(&a->lock);
    return has_ended;
}

void gw_answer_reader_wait(struct gw_answer_reader *a, unsigned timeout_ms)
{
    struct timespec end = gw_clock_timespec(gw_clock_ns() + timeout_ms * GW_NS_PER_MS);
    int r = 0;

    pthread_mutex_lock(&a->lock);
    while (!a->has_ended && r == 0)
        r = pthread_cond_timedwait(&a->end, &a->lock, &end);
    pthread_mutex_unlock(&a->lock);
}

void gw_answer_reader_free(struct gw_answer_reader *a)
{
    if (!a)
        return;
    gw_answer_reader_stop(a);
    unref(a);
}
