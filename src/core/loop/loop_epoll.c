/* SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause */
/*
 * The epoll loop, for kernels (and seccomp filters) without io_uring. File operations go to a pool
 * of threads.
 */
#include "base/checked.h"
#include "base/cleanup.h"
#include "fd/peer_fd.h"
#include "io_pool.h"
#include "loop.h"

#include <errno.h>
#include <limits.h>
#include <poll.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>

enum {
    EPOLL_BATCH = 64,
    EPOLL_BUSY_TURNS = 8
};

struct epoll_loop {
    struct gw_loop base;
    int epoll_fd;
    /* The events being handled. Removing a source clears its remaining events. */
    struct epoll_event events[EPOLL_BATCH];
    int n_events;
    unsigned n_asked;
    bool coarse; /* no epoll_pwait2: timeouts are in milliseconds */
    struct gw_io_pool *pool;
    struct gw_source pool_source;
};

static struct epoll_loop *epoll_of(struct gw_loop *loop)
{
    return gw_container_of(loop, struct epoll_loop, base);
}

static int epoll_loop_fd(struct gw_loop *loop)
{
    return epoll_of(loop)->epoll_fd;
}

static int epoll_loop_add(struct gw_loop *loop, struct gw_source *source)
{
    /* POLLIN, POLLOUT, POLLERR and POLLHUP have the values of their EPOLL namesakes. */
    struct epoll_event event = {
        .events = source->events | (source->edge ? (uint32_t)EPOLLET : 0),
        .data.ptr = source,
    };

    if (epoll_ctl(epoll_of(loop)->epoll_fd, EPOLL_CTL_ADD, source->fd, &event) < 0)
        return -errno;
    source->token = loop;
    return 0;
}

static void epoll_loop_remove(struct gw_loop *loop, struct gw_source *source)
{
    struct epoll_loop *e = epoll_of(loop);

    if (!source->token)
        return;
    source->token = NULL;
    (void)epoll_ctl(e->epoll_fd, EPOLL_CTL_DEL, source->fd, NULL);
    for (int i = 0; i < e->n_events; i++)
        if (e->events[i].data.ptr == source)
            e->events[i].data.ptr = NULL;
}

static void *epoll_loop_bell_new(struct gw_loop *loop, int fd)
{
    return NULL;
}

static void epoll_loop_bell_free(void *bell)
{
}

static void epoll_loop_signal(struct gw_loop *loop, int fd, void *bell)
{
    gw_eventfd_signal(fd);
}

static void pool_is_ready(struct gw_source *source, uint32_t events)
{
    gw_io_pool_reap(gw_container_of(source, struct epoll_loop, pool_source)->pool);
}

static void epoll_loop_io(struct gw_loop *loop, struct gw_io_i *io)
{
    gw_io_pool_start(epoll_of(loop)->pool, io);
}

static void epoll_loop_cancel(struct gw_loop *loop, struct gw_io_i *io)
{
    gw_io_pool_cancel(epoll_of(loop)->pool, io);
}

static void epoll_loop_submit(struct gw_loop *loop)
{
}

static bool epoll_loop_is_pending(struct gw_loop *loop)
{
    /* Finding out takes a system call. A busy worker makes it every few turns, an idle one always.
     */
    return ++epoll_of(loop)->n_asked % EPOLL_BUSY_TURNS == 0;
}

/* epoll_pwait2 exists since Linux 5.11, and older seccomp filters refuse it. */
static int wait_events(struct epoll_loop *e, int64_t timeout_ns)
{
    struct timespec ts = {
        .tv_sec = timeout_ns / 1000000000,
        .tv_nsec = timeout_ns % 1000000000,
    };
    int64_t ms = timeout_ns < 0 ? -1 : timeout_ns / 1000000 + (timeout_ns % 1000000 != 0);

    if (!e->coarse) {
        int n =
            epoll_pwait2(e->epoll_fd, e->events, EPOLL_BATCH, timeout_ns < 0 ? NULL : &ts, NULL);
        if (n >= 0 || (errno != ENOSYS && errno != EPERM))
            return n;
        e->coarse = true;
    }
    return epoll_wait(e->epoll_fd, e->events, EPOLL_BATCH, ms < INT_MAX ? (int)ms : INT_MAX);
}

static void epoll_loop_turn(struct gw_loop *loop, int64_t timeout_ns)
{
    struct epoll_loop *e = epoll_of(loop);

    e->n_events = wait_events(e, timeout_ns);
    for (int i = 0; i < e->n_events; i++) {
        struct gw_source *source = e->events[i].data.ptr;

        if (source)
            source->cb(source, e->events[i].events & ~(uint32_t)EPOLLET);
    }
    e->n_events = 0;
}

static void epoll_loop_free(struct gw_loop *loop)
{
    struct epoll_loop *e = epoll_of(loop);

    gw_io_pool_free(e->pool);
    gw_close(&e->epoll_fd);
    free(e);
}

static const struct gw_loop_ops epoll_ops = {
    .kind = GW_LOOP_EPOLL,
    .free = epoll_loop_free,
    .fd = epoll_loop_fd,
    .add = epoll_loop_add,
    .remove = epoll_loop_remove,
    .bell_new = epoll_loop_bell_new,
    .bell_free = epoll_loop_bell_free,
    .signal = epoll_loop_signal,
    .io = epoll_loop_io,
    .cancel = epoll_loop_cancel,
    .submit = epoll_loop_submit,
    .is_pending = epoll_loop_is_pending,
    .turn = epoll_loop_turn,
};

static int epoll_loop_init(struct epoll_loop *e)
{
    int r;

    e->epoll_fd = epoll_create1(EPOLL_CLOEXEC);
    if (e->epoll_fd < 0)
        return -errno;
    r = gw_io_pool_new(&e->pool);
    if (r < 0)
        return r;
    e->pool_source = (struct gw_source){
        .fd = gw_io_pool_fd(e->pool),
        .events = POLLIN,
        .cb = pool_is_ready,
    };
    return epoll_loop_add(&e->base, &e->pool_source);
}

int gw_loop_epoll_new(struct gw_loop **ret, struct gw_log *log)
{
    struct epoll_loop *e = calloc(1, sizeof(*e));
    int r;

    if (!e)
        return -ENOMEM;
    e->base.ops = &epoll_ops;
    e->base.log = log;
    r = epoll_loop_init(e);
    if (r < 0) {
        epoll_loop_free(&e->base);
        return r;
    }
    *ret = &e->base;
    return 0;
}
