/* SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause */
/* For stores: results that reach the worker from any thread. */
#include "blk_i.h"

#include <stddef.h>

/* A worker that has ended runs nothing: the queue of the operation is gone, too. */
static void post(struct gw_worker *w, struct gw_post *post, void (*run)(struct gw_post *post))
{
    post->run = run;
    (void)gw_worker_post(w, post);
}

static void end_io(struct gw_post *post)
{
    struct gw_blk_io *io =
        (struct gw_blk_io *)(void *)((char *)post - offsetof(struct gw_blk_io, post));

    io->done(io, io->res);
}

void gw_blk_io_complete(struct gw_blk_io *io, int res)
{
    if (gw_worker_is_current(io->worker)) {
        io->done(io, res);
        return;
    }
    io->res = res;
    post(io->worker, &io->post, end_io);
}

static void end_user(struct gw_post *post)
{
    struct gw_blk_user *user =
        (struct gw_blk_user *)(void *)((char *)post - offsetof(struct gw_blk_user, post));

    user->done(user, user->res);
}

void gw_blk_user_complete(struct gw_blk_user *user, int res)
{
    user->res = res;
    post(user->worker, &user->post, end_user);
}
