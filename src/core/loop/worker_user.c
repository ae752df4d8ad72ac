/* SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause */
/*
 * What embedders use a worker for in addition to queues and posts: timers, fds, file operations.
 */
#include "base/checked.h"
#include "base/clock.h"
#include "bounce.h"
#include "worker.h"

#include <errno.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

/* ---- timers ---- */

struct gw_timer {
    struct gw_list link; /* in worker.timers while it runs */
    struct gw_worker *worker;
    gw_timer_cb *cb;
    void *arg;
    uint64_t expires_ns;
    uint64_t period_ns;
};

int gw_timer_new(struct gw_timer **ret, struct gw_worker *w, gw_timer_cb *cb, void *arg)
{
    struct gw_timer *t = calloc(1, sizeof(*t));

    if (!t)
        return gw_fail(-ENOMEM, "no memory for a timer");
    gw_list_init(&t->link);
    t->worker = w;
    t->cb = cb;
    t->arg = arg;
    *ret = t;
    return 0;
}

/* A sorted list, because few timers are expected. */
static void timer_insert(struct gw_timer *t)
{
    struct gw_list *pos = &t->worker->timers;

    while (pos->prev != &t->worker->timers &&
           gw_container_of(pos->prev, struct gw_timer, link)->expires_ns > t->expires_ns)
        pos = pos->prev;
    gw_list_append(pos, &t->link);
    gw_worker_touch(t->worker);
}

void gw_timer_start(struct gw_timer *t, uint64_t delay_ns, uint64_t period_ns)
{
    gw_timer_stop(t);
    t->expires_ns = gw_clock_ns() + delay_ns;
    if (t->expires_ns < delay_ns)
        t->expires_ns = UINT64_MAX; /* never, rather than at once */
    t->period_ns = period_ns;
    timer_insert(t);
}

void gw_timer_stop(struct gw_timer *t)
{
    gw_list_remove(&t->link);
}

void gw_timer_free(struct gw_timer *t)
{
    if (!t)
        return;
    gw_timer_stop(t);
    free(t);
}

static struct gw_timer *first_timer(struct gw_worker *w)
{
    return gw_list_is_empty(&w->timers) ? NULL
                                        : gw_container_of(w->timers.next, struct gw_timer, link);
}

void gw_worker_run_timers(struct gw_worker *w)
{
    struct gw_timer *t = first_timer(w);
    uint64_t now;

    if (!t)
        return;
    now = gw_clock_ns();
    while ((t = first_timer(w)) && t->expires_ns <= now) {
        gw_list_remove(&t->link);
        if (t->period_ns) {
            t->expires_ns = now + t->period_ns;
            timer_insert(t);
        }
        t->cb(t->arg);
    }
}

int64_t gw_worker_next_timer_ns(struct gw_worker *w)
{
    const struct gw_timer *t = first_timer(w);
    uint64_t now;

    if (!t)
        return -1;
    now = gw_clock_ns();
    if (t->expires_ns <= now)
        return 0;
    return t->expires_ns - now < INT64_MAX ? (int64_t)(t->expires_ns - now) : INT64_MAX;
}

/* ---- fds of the embedder ---- */

struct user_fd {
    struct gw_source source;
    struct gw_list link;
    gw_fd_cb *cb;
    void *arg;
};

static void user_fd_ready(struct gw_source *source, uint32_t events)
{
    struct user_fd *u = gw_container_of(source, struct user_fd, source);

    u->cb(u->arg, source->fd, events);
}

static struct user_fd *find_fd(struct gw_worker *w, int fd)
{
    struct gw_list *pos, *next;

    gw_list_for_each_safe (pos, next, &w->fds) {
        struct user_fd *u = gw_container_of(pos, struct user_fd, link);
        if (u->source.fd == fd)
            return u;
    }
    return NULL;
}

static int add_fd(struct gw_worker *w, int fd, uint32_t events, gw_fd_cb *cb, void *arg)
{
    struct user_fd *u;
    int r;

    if (find_fd(w, fd))
        return -EEXIST;
    u = calloc(1, sizeof(*u));
    if (!u)
        return -ENOMEM;
    u->source = (struct gw_source){
        .fd = fd,
        .events = events,
        .cb = user_fd_ready,
    };
    u->cb = cb;
    u->arg = arg;
    r = w->loop->ops->add(w->loop, &u->source);
    if (r < 0) {
        free(u);
        return r;
    }
    gw_list_append(&w->fds, &u->link);
    gw_worker_touch(w);
    return 0;
}

int gw_worker_add_fd(struct gw_worker *w, int fd, uint32_t events, gw_fd_cb *cb, void *arg)
{
    struct pollfd probe = {.fd = fd};
    struct stat st;
    int r;

    if (!gw_worker_is_current(w))
        return gw_fail(-EINVAL, "gw_worker_add_fd: called on another thread than the worker's");
    if (!cb || events == 0 || (events & ~(uint32_t)(POLLIN | POLLOUT | POLLPRI)))
        return gw_fail(-EINVAL, "gw_worker_add_fd: bad callback or events %#x", events);
    /* io_uring would report later what epoll reports at once. */
    if (poll(&probe, 1, 0) < 0 || (probe.revents & POLLNVAL))
        return gw_fail(-EBADF, "gw_worker_add_fd: fd %d is not open", fd);
    if (fstat(fd, &st) == 0 && (S_ISREG(st.st_mode) || S_ISDIR(st.st_mode)))
        return gw_fail(-EPERM, "gw_worker_add_fd: fd %d is a file and always ready", fd);
    r = add_fd(w, fd, events, cb, arg);
    return r < 0 ? gw_fail(r, "gw_worker_add_fd: fd %d: %s", fd, strerror(-r)) : 0;
}

int gw_worker_remove_fd(struct gw_worker *w, int fd)
{
    struct user_fd *u;

    if (!gw_worker_is_current(w))
        return gw_fail(-EINVAL, "gw_worker_remove_fd: called on another thread than the worker's");
    u = find_fd(w, fd);
    if (!u)
        return gw_fail(-ENOENT, "gw_worker_remove_fd: fd %d was not added", fd);
    w->loop->ops->remove(w->loop, &u->source);
    gw_list_remove(&u->link);
    free(u);
    return 0;
}

/* ---- file operations ---- */

static void io_start(struct gw_worker *w, struct gw_io_i *io)
{
    io->worker = w;
    gw_worker_touch(w);
    if (__atomic_load_n(&w->loop->n_unpinnable, __ATOMIC_RELAXED) > 0 &&
        gw_bounce_start(w->loop, io))
        return;
    w->loop->ops->io(w->loop, io);
}

void gw_io_preadv(struct gw_worker *w, struct gw_io *pub, int fd, const struct iovec *iov,
                  unsigned n_iov, int64_t offset)
{
    struct gw_io_i *io = gw_io_inside(pub);

    io->op = GW_IO_PREADV;
    io->fd = fd;
    io->iov = iov;
    io->n_iov = n_iov;
    io->offset = offset;
    io_start(w, io);
}

void gw_io_pwritev(struct gw_worker *w, struct gw_io *pub, int fd, const struct iovec *iov,
                   unsigned n_iov, int64_t offset, int rwf_flags)
{
    struct gw_io_i *io = gw_io_inside(pub);

    io->op = GW_IO_PWRITEV;
    io->fd = fd;
    io->iov = iov;
    io->n_iov = n_iov;
    io->offset = offset;
    io->flags = rwf_flags;
    io_start(w, io);
}

void gw_io_fdatasync(struct gw_worker *w, struct gw_io *pub, int fd)
{
    struct gw_io_i *io = gw_io_inside(pub);

    io->op = GW_IO_FDATASYNC;
    io->fd = fd;
    io_start(w, io);
}

void gw_io_fallocate(struct gw_worker *w, struct gw_io *pub, int fd, int mode, int64_t offset,
                     int64_t length)
{
    struct gw_io_i *io = gw_io_inside(pub);

    io->op = GW_IO_FALLOCATE;
    io->fd = fd;
    io->flags = mode;
    io->offset = offset;
    io->length = length;
    io_start(w, io);
}

void gw_io_discard(struct gw_worker *w, struct gw_io *pub, int fd, int64_t offset, int64_t length)
{
    struct gw_io_i *io = gw_io_inside(pub);

    io->op = GW_IO_DISCARD;
    io->fd = fd;
    io->offset = offset;
    io->length = length;
    io_start(w, io);
}

void gw_io_cancel(struct gw_io *pub)
{
    struct gw_io_i *io = gw_io_inside(pub);
    struct gw_loop *loop = io->worker->loop;

    gw_worker_touch(io->worker);
    loop->ops->cancel(loop, io->op == GW_IO_BOUNCED ? io->next : io);
}

void gw_worker_drop_fds(struct gw_worker *w)
{
    struct gw_list *pos, *next;

    gw_list_for_each_safe (pos, next, &w->fds) {
        struct user_fd *u = gw_container_of(pos, struct user_fd, link);
        w->loop->ops->remove(w->loop, &u->source);
        free(u);
    }
    gw_list_init(&w->fds);
}
