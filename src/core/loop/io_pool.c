/* SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause */
/*
 * A few threads for blocking file operations: those that io_uring lacks, or all of them if io_uring
 * is unavailable. One lock protects two lists, operations to do and operations done. An eventfd
 * signals that the second list is not empty.
 */
#include "io_pool.h"

#include "base/cleanup.h"
#include "loop.h"

#include <fcntl.h>
#include <linux/fs.h>
#include <pthread.h>
#include <stdbool.h>
#include <sys/eventfd.h>
#include <sys/ioctl.h>

enum {
    POOL_THREADS = 8
};

struct io_list {
    struct gw_io_i *first;
    struct gw_io_i **end; /* where the next one is linked */
};

struct gw_io_pool {
    pthread_mutex_t lock; /* protects all below except event_fd */
    pthread_cond_t work;
    struct io_list todo;
    struct io_list done;
    bool ending;
    int event_fd;
    unsigned n_threads;
    unsigned n_idle; /* threads that wait, or have been woken and not yet run */
    unsigned n_todo;
    pthread_t threads[POOL_THREADS];
};

static void io_list_init(struct io_list *l)
{
    l->first = NULL;
    l->end = &l->first;
}

static void io_list_append(struct io_list *l, struct gw_io_i *io)
{
    io->next = NULL;
    *l->end = io;
    l->end = &io->next;
}

static struct gw_io_i *io_list_take(struct io_list *l)
{
    struct gw_io_i *io = l->first;

    l->first = io->next;
    if (!l->first)
        l->end = &l->first;
    return io;
}

/* Callers that cancel many operations start with the oldest, near the front. Returns: found it? */
static bool io_list_remove(struct io_list *l, const struct gw_io_i *io)
{
    struct gw_io_i **at = &l->first;

    while (*at && *at != io)
        at = &(*at)->next;
    if (!*at)
        return false;
    *at = io->next;
    if (!*at)
        l->end = at;
    return true;
}

/*
 * In postcopy, pages of the data may be missing. A write that waits for a page holds the lock of
 * its file, so all other writes to the file wait, too. Touching the pages first prevents this.
 */
static void fetch(const struct gw_io_i *io)
{
    const size_t page = (size_t)sysconf(_SC_PAGESIZE);

    for (unsigned i = 0; i < io->n_iov; i++) {
        const volatile char *at = io->iov[i].iov_base;
        size_t len = io->iov[i].iov_len;

        for (size_t k = 0; k < len; k += page)
            (void)at[k];
        if (len)
            (void)at[len - 1];
    }
}

static int perform(const struct gw_io_i *io)
{
    uint64_t range[] = {(uint64_t)io->offset, (uint64_t)io->length};
    ssize_t n = -1;

    switch ((enum gw_io_op)io->op) {
    case GW_IO_PREADV:
        n = preadv2(io->fd, io->iov, (int)io->n_iov, io->offset, 0);
        break;
    case GW_IO_PWRITEV:
        fetch(io);
        n = pwritev2(io->fd, io->iov, (int)io->n_iov, io->offset, io->flags);
        break;
    case GW_IO_FDATASYNC:
        n = fdatasync(io->fd);
        break;
    case GW_IO_FALLOCATE:
        n = fallocate(io->fd, io->flags, io->offset, io->length);
        break;
    case GW_IO_DISCARD:
        n = ioctl(io->fd, BLKDISCARD, range);
        break;
    case GW_IO_BOUNCED:
        break;
    }
    return n < 0 ? -errno : (int)n;
}

/* [lock] */
static void finished(struct gw_io_pool *pool, struct gw_io_i *io)
{
    bool first = !pool->done.first;

    io_list_append(&pool->done, io);
    if (first)
        (void)eventfd_write(pool->event_fd, 1);
}

static void *pool_thread(void *arg)
{
    struct gw_io_pool *pool = arg;

    pthread_mutex_lock(&pool->lock);
    for (;;) {
        struct gw_io_i *io;

        pool->n_idle++;
        while (!pool->todo.first && !pool->ending)
            pthread_cond_wait(&pool->work, &pool->lock);
        pool->n_idle--;
        if (!pool->todo.first)
            break;
        io = io_list_take(&pool->todo);
        pool->n_todo--;
        pthread_mutex_unlock(&pool->lock);

        do
            io->res = perform(io);
        while (io->res == -EINTR);

        pthread_mutex_lock(&pool->lock);
        finished(pool, io);
    }
    pthread_mutex_unlock(&pool->lock);
    return NULL;
}

int gw_io_pool_new(struct gw_io_pool **ret)
{
    struct gw_io_pool *pool = calloc(1, sizeof(*pool));

    if (!pool)
        return -ENOMEM;
    pthread_mutex_init(&pool->lock, NULL);
    pthread_cond_init(&pool->work, NULL);
    io_list_init(&pool->todo);
    io_list_init(&pool->done);
    pool->event_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    if (pool->event_fd < 0) {
        int r = -errno;
        gw_io_pool_free(pool);
        return r;
    }
    *ret = pool;
    return 0;
}

void gw_io_pool_free(struct gw_io_pool *pool)
{
    if (!pool)
        return;
    pthread_mutex_lock(&pool->lock);
    pool->ending = true;
    pthread_cond_broadcast(&pool->work);
    pthread_mutex_unlock(&pool->lock);
    for (unsigned i = 0; i < pool->n_threads; i++)
        pthread_join(pool->threads[i], NULL);
    gw_close(&pool->event_fd);
    pthread_cond_destroy(&pool->work);
    pthread_mutex_destroy(&pool->lock);
    free(pool);
}

int gw_io_pool_fd(const struct gw_io_pool *pool)
{
    return pool->event_fd;
}

/* [lock] Starts a thread unless one is idle. If this fails, the existing threads do the work. */
static int grow(struct gw_io_pool *pool)
{
    int r;

    if (pool->n_idle > pool->n_todo || pool->n_threads == POOL_THREADS)
        return 0;
    r = pthread_create(&pool->threads[pool->n_threads], NULL, pool_thread, pool);
    if (r == 0)
        pool->n_threads++;
    return pool->n_threads > 0 ? 0 : -r;
}

void gw_io_pool_start(struct gw_io_pool *pool, struct gw_io_i *io)
{
    pthread_mutex_lock(&pool->lock);
    io->res = grow(pool);
    if (io->res == 0) {
        io_list_append(&pool->todo, io);
        pool->n_todo++;
        pthread_cond_signal(&pool->work);
    } else {
        finished(pool, io);
    }
    pthread_mutex_unlock(&pool->lock);
}

void gw_io_pool_cancel(struct gw_io_pool *pool, struct gw_io_i *io)
{
    pthread_mutex_lock(&pool->lock);
    if (io_list_remove(&pool->todo, io)) {
        pool->n_todo--;
        io->res = -ECANCELED;
        finished(pool, io);
    }
    pthread_mutex_unlock(&pool->lock);
}

void gw_io_pool_reap(struct gw_io_pool *pool)
{
    struct gw_io_i *io;
    eventfd_t count;

    pthread_mutex_lock(&pool->lock);
    (void)eventfd_read(pool->event_fd, &count);
    io = pool->done.first;
    io_list_init(&pool->done);
    pthread_mutex_unlock(&pool->lock);

    while (io) {
        struct gw_io_i *next = io->next;
        gw_io_done(io, io->res);
        io = next;
    }
}
