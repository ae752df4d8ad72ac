/* SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause */
/*
 * Promises: flushes and durable changes, whose success means that data is on the medium.
 *
 * Linux reports a failed writeback to one fdatasync(2) of an open file description and drops the
 * data: every other fdatasync succeeds, no matter whether it runs later or concurrently.
 *
 * Later ones: sync_error keeps the first failure. Every later promise fails until the file is
 * opened again, because a success would say nothing about the data written before it.
 *
 * Concurrent ones: a successful sync may be processed here before the sync that got the error. So a
 * successful promise is held until all promises that were in flight at its end have ended. Promises
 * have increasing ids. Both lists are ordered by id, so the first promise in flight determines how
 * many of the held ones are released. Held promises do not wait for each other.
 */
#include "store_file.h"

#include <errno.h>
#include <stddef.h>
#include <string.h>
#include <unistd.h>

enum {
    PROMISE_NONE, /* its sync has not been started */
    PROMISE_IN_FLIGHT,
    PROMISE_HELD,
    PROMISE_RELEASED, /* its worker is about to complete it */
};

bool store_is_promise(const struct store_io *io)
{
    return io->op.kind == GW_BLK_FLUSH || (io->op.is_durable && io->op.kind != GW_BLK_READ);
}

bool store_has_lost_data(struct store_file *f)
{
    return atomic_load_explicit(&f->sync_error, memory_order_relaxed) != 0;
}

/* ---- the lists ---- */

static void list_init(struct store_promises *list)
{
    list->first = NULL;
    list->end = &list->first;
}

static void list_append(struct store_promises *list, struct store_io *io)
{
    io->promise.next = NULL;
    io->promise.link = list->end;
    *list->end = io;
    list->end = &io->promise.next;
}

static void list_remove(struct store_promises *list, struct store_io *io)
{
    struct store_promise *p = &io->promise;

    *p->link = p->next;
    if (p->next != NULL)
        p->next->promise.link = p->link;
    else
        list->end = p->link;
}

void store_sync_init(struct store_file *f)
{
    pthread_mutex_init(&f->promises_lock, NULL);
    list_init(&f->in_flight);
    list_init(&f->held);
}

void store_sync_done(struct store_file *f)
{
    pthread_mutex_destroy(&f->promises_lock);
}

/* ---- one promise ---- */

void store_promise_init(struct store_io *io)
{
    io->promise.state = PROMISE_NONE;
}

void store_promise_begin(struct store_io *io)
{
    struct store_file *f = file_of(io->store);

    pthread_mutex_lock(&f->promises_lock);
    io->promise.state = PROMISE_IN_FLIGHT;
    io->promise.id = ++f->last_promise;
    list_append(&f->in_flight, io);
    pthread_mutex_unlock(&f->promises_lock);
}

/*
 * A durable write that bypasses the page cache need not be held: the kernel reports its errors, and
 * those of the following cache flush, to that write alone. It still counts as in flight, because
 * its sync may get the error of pages that others wrote.
 */
static bool must_hold(const struct store_file *f, const struct store_io *io)
{
    return io->op.kind != GW_BLK_WRITE || f->must_hold_writes;
}

/* Remove the held promises that may complete from their list. The caller holds the lock. */
static struct store_promises take_released(struct store_file *f)
{
    struct store_promises released;

    list_init(&released);
    while (f->held.first != NULL && (f->in_flight.first == NULL ||
                                     f->in_flight.first->promise.id > f->held.first->promise.id)) {
        struct store_io *io = f->held.first;

        list_remove(&f->held, io);
        io->promise.state = PROMISE_RELEASED;
        list_append(&released, io);
    }
    return released;
}

static void run_posted(struct gw_post *post)
{
    struct store_io *io =
        (struct store_io *)(void *)((char *)post - offsetof(struct store_io, promise.post));

    store_file_complete(io, io->promise.res);
}

/*
 * Complete a released promise later, on its worker. If the worker has ended, the promise never
 * completes, as with file operations of the library.
 */
static void post_end(struct store_io *io, int res)
{
    io->promise.res = res;
    io->promise.post.run = run_posted;
    (void)gw_worker_post(io->op.worker, &io->promise.post);
}

static void complete_released(struct store_io *first, const struct gw_worker *here)
{
    struct store_promises own;
    struct store_io *io, *next;

    list_init(&own);
    for (io = first; io != NULL; io = next) {
        next = io->promise.next;
        if (io->op.worker == here)
            list_append(&own, io);
        else
            post_end(io, 0);
    }
    for (io = own.first; io != NULL; io = next) {
        next = io->promise.next;
        store_file_complete(io, 0);
    }
}

void store_promise_end(struct store_io *io, int res)
{
    const struct gw_worker *here = io->op.worker;
    struct store_file *f = file_of(io->store);
    struct store_promises released;
    bool is_held;

    if (io->promise.state == PROMISE_NONE) {
        store_file_complete(io, res);
        return;
    }
    pthread_mutex_lock(&f->promises_lock);
    list_remove(&f->in_flight, io);
    is_held = res == 0 && f->in_flight.first != NULL && must_hold(f, io) && !store_has_lost_data(f);
    if (is_held) {
        io->promise.state = PROMISE_HELD;
        io->promise.id = f->last_promise; /* the last promise to wait for */
        list_append(&f->held, io);
    } else {
        io->promise.state = PROMISE_RELEASED;
    }
    released = take_released(f);
    pthread_mutex_unlock(&f->promises_lock);
    complete_released(released.first, here);
    if (!is_held)
        store_file_complete(io, res);
}

void store_promise_cancel(struct store_io *io)
{
    struct store_file *f = file_of(io->store);
    int state;

    pthread_mutex_lock(&f->promises_lock);
    state = io->promise.state;
    if (state == PROMISE_HELD) {
        list_remove(&f->held, io);
        io->promise.state = PROMISE_RELEASED;
    }
    pthread_mutex_unlock(&f->promises_lock);
    if (state == PROMISE_HELD)
        post_end(io, -ECANCELED);
    else if (state != PROMISE_RELEASED)
        gw_io_cancel(&io->gw);
}

/* ---- syncs ---- */

static void keep_sync_error(struct store_file *f, int error)
{
    int none = 0;

    if (atomic_compare_exchange_strong(&f->sync_error, &none, error))
        backend_say(f->base.log, GW_LOG_ERROR,
                    "%s: the medium lost data that was written: %s; every flush fails from now on, "
                    "until the program is started again",
                    f->path, strerror(-error));
    else
        backend_say(f->base.log, GW_LOG_WARNING, "%s: the medium lost more data: %s", f->path,
                    strerror(-error));
}

void store_sync_failed(struct store_io *io, int error)
{
    keep_sync_error(file_of(io->store), error);
    store_promise_end(io, -EIO);
}

static void sync_done(struct gw_io *gw, int res);

static void start_sync(struct store_io *io)
{
    io->gw.done = sync_done;
    gw_io_fdatasync(io->op.worker, &io->gw, file_of(io->store)->fd);
}

static void sync_done(struct gw_io *gw, int res)
{
    struct store_io *io = io_of(gw);

    if (res == -EINTR)
        store_file_go_on(io, start_sync);
    else if (res < 0 && res != -ECANCELED)
        store_sync_failed(io, res);
    else
        store_file_finish(io, res);
}

void store_sync_start(struct store_io *io)
{
    store_promise_begin(io);
    start_sync(io);
}

int store_file_sync(struct store_file *f)
{
    int r = 0;

    if (!store_has_lost_data(f) && atomic_exchange(&f->is_dirty, false)) {
        do
            r = fdatasync(f->fd) < 0 ? -errno : 0;
        while (r == -EINTR);
        if (r < 0)
            keep_sync_error(f, r);
    }
    return atomic_load(&f->sync_error);
}
