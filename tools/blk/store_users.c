/* SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause */
/*
 * The queues that use a file. The first one that starts waits for the lock of the file, perhaps for
 * seconds; the last one that stops waits for a sync, perhaps for longer. Both happen in a task, so
 * that no worker waits: it may serve other disks. At most one task runs for a file.
 */
#include "store_file.h"

#include <errno.h>
#include <stddef.h>
#include <string.h>

enum {
    LOCK_PAUSE_MS = 10,
};

static void run(struct task *task);

void store_users_init(struct store_file *f)
{
    pthread_mutex_init(&f->users.lock, NULL);
    pthread_cond_init(&f->users.idle, NULL);
    f->users.task.run = run;
}

void store_users_done(struct store_file *f)
{
    struct store_users *users = &f->users;

    pthread_mutex_lock(&users->lock);
    while (users->is_busy)
        pthread_cond_wait(&users->idle, &users->lock);
    pthread_mutex_unlock(&users->lock);
    pthread_cond_destroy(&users->idle);
    pthread_mutex_destroy(&users->lock);
}

/* ---- the lock of the file ---- */

/* Whether a start still waits for the lock. */
static bool is_awaited(struct store_file *f)
{
    bool is_awaited;

    pthread_mutex_lock(&f->users.lock);
    is_awaited = f->users.starting != NULL;
    pthread_mutex_unlock(&f->users.lock);
    return is_awaited;
}

/*
 * The kernel releases the locks of a killed process only after it has torn down its io_uring, and
 * so after all I/O that the process started. Returns: as store_lock_take; -ECANCELED if the program
 * has been asked to end, or no start waits any longer.
 */
static int wait_for_lock(struct store_file *f)
{
    int r = store_lock_take(f->fd, f->base.is_read_only);

    if (r == -EAGAIN && f->lock_patience_ms > 0)
        backend_say(f->base.log, GW_LOG_INFO,
                    "%s: another process has locked it: waiting up to %u ms", f->path,
                    f->lock_patience_ms);
    for (unsigned ms = 0; r == -EAGAIN && ms < f->lock_patience_ms; ms += LOCK_PAUSE_MS) {
        if (!backend_pause(LOCK_PAUSE_MS)) {
            backend_say(f->base.log, GW_LOG_WARNING,
                        "%s: asked to end before another process has released its lock", f->path);
            return -ECANCELED;
        }
        if (!is_awaited(f))
            return -ECANCELED;
        r = store_lock_take(f->fd, f->base.is_read_only);
    }
    return r;
}

static int take_lock(struct store_file *f)
{
    int r = f->locking == STORE_OFF ? 0 : wait_for_lock(f);

    if (r == 0 || r == -ECANCELED)
        return r;
    if (r == -EAGAIN) {
        backend_say(f->base.log, GW_LOG_ERROR,
                    "%s: in use by another process; end that process, or use --locking=off if both "
                    "may use the file",
                    f->path);
        return -EBUSY;
    }
    if (f->locking == STORE_AUTO)
        return 0;
    backend_say(f->base.log, GW_LOG_ERROR, "%s: cannot lock the file: %s; use --locking=auto",
                f->path, strerror(-r));
    return r;
}

static void drop_lock(struct store_file *f)
{
    if (f->locking != STORE_OFF)
        store_lock_drop(f->fd);
}

/* ---- the task ---- */

/* Take the lock for all users that start. */
static void end_starts(struct store_file *f)
{
    struct store_users *users = &f->users;
    struct gw_blk_user *user, *next;
    int r = take_lock(f);
    bool is_unused;

    pthread_mutex_lock(&users->lock);
    user = users->starting;
    users->starting = NULL;
    for (const struct gw_blk_user *one = user; r == 0 && one != NULL; one = one->next)
        users->n++;
    is_unused = users->n == 0;
    pthread_mutex_unlock(&users->lock);
    if (r == 0 && is_unused)
        drop_lock(f); /* all starts were cancelled */
    for (; user != NULL; user = next) {
        next = user->next;
        gw_blk_user_complete(user, r);
    }
}

/*
 * Unflushed writes of the guest must not stay in this host's page cache when the guest continues
 * elsewhere, possibly on another host. QEMU flushes its disks at this point, too.
 */
static void end_stop(struct store_file *f)
{
    struct gw_blk_user *user;
    int r = store_file_sync(f);

    drop_lock(f);
    pthread_mutex_lock(&f->users.lock);
    user = f->users.stopping;
    f->users.stopping = NULL;
    pthread_mutex_unlock(&f->users.lock);
    gw_blk_user_complete(user, r);
}

static void run(struct task *task)
{
    struct store_file *f =
        (struct store_file *)(void *)((char *)task - offsetof(struct store_file, users.task));
    struct store_users *users = &f->users;

    pthread_mutex_lock(&users->lock);
    while (users->stopping != NULL || users->starting != NULL) {
        bool is_stop = users->stopping != NULL;

        pthread_mutex_unlock(&users->lock);
        if (is_stop)
            end_stop(f);
        else
            end_starts(f);
        pthread_mutex_lock(&users->lock);
    }
    users->is_busy = false;
    pthread_cond_signal(&users->idle);
    pthread_mutex_unlock(&users->lock);
}

/* ---- for queues ---- */

/* [lock] Returns without the lock. */
static int begin(struct store_file *f)
{
    bool is_new = !f->users.is_busy;

    f->users.is_busy = true;
    pthread_mutex_unlock(&f->users.lock);
    if (is_new)
        tasks_add(&f->users.task);
    return -EINPROGRESS;
}

int store_users_start(void *store, struct gw_blk_user *user)
{
    struct store_file *f = file_of(store);
    struct store_users *users = &f->users;
    struct gw_blk_user **end = &users->starting;

    pthread_mutex_lock(&users->lock);
    if (users->n > 0 || (f->locking == STORE_OFF && users->stopping == NULL)) {
        users->n++;
        pthread_mutex_unlock(&users->lock);
        return 0;
    }
    while (*end != NULL)
        end = &(*end)->next;
    user->next = NULL;
    *end = user;
    return begin(f);
}

void store_users_cancel_start(void *store, struct gw_blk_user *user)
{
    struct store_users *users = &file_of(store)->users;
    struct gw_blk_user **link = &users->starting;
    bool is_waiting;

    pthread_mutex_lock(&users->lock);
    while (*link != NULL && *link != user)
        link = &(*link)->next;
    is_waiting = *link == user;
    if (is_waiting)
        *link = user->next;
    pthread_mutex_unlock(&users->lock);
    if (is_waiting)
        gw_blk_user_complete(user, -ECANCELED);
}

int store_users_stop(void *store, struct gw_blk_user *user)
{
    struct store_file *f = file_of(store);
    struct store_users *users = &f->users;

    pthread_mutex_lock(&users->lock);
    users->n--;
    if (users->n > 0 || (f->locking == STORE_OFF && !atomic_load(&f->is_dirty))) {
        pthread_mutex_unlock(&users->lock);
        return atomic_load(&f->sync_error);
    }
    users->stopping = user;
    return begin(f);
}
