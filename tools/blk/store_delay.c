/* SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause */
/*
 * A store that is slow on purpose: it delays reads and writes for a fixed time before it passes
 * them to the store behind it. So requests are in flight during every other event, as on slow
 * storage, and data is written into guest memory late.
 */
#include "store.h"

#include "backend.h"

#include <errno.h>
#include <stddef.h>
#include <stdlib.h>

#define NS_PER_MS UINT64_C(1000000)

struct store_delay {
    struct store base;
    struct store *behind;
    uint64_t delay_ns;
};

/* One delayed operation. */
struct store_held {
    struct store *behind;
    struct store_io *io;
    struct gw_timer *timer;
};

static struct store_delay *delay_of(struct store *s)
{
    return (struct store_delay *)(void *)((char *)s - offsetof(struct store_delay, base));
}

static void release(void *arg)
{
    struct store_held *held = arg;
    struct store_io *io = held->io;
    struct store *behind = held->behind;
    int r;

    gw_timer_free(held->timer);
    free(held);
    io->held = NULL;
    r = io->op.is_cancelled ? -ECANCELED : behind->ops->blk.submit(behind, &io->op);
    if (r != -EINPROGRESS)
        io->op.done(&io->op, r);
}

static int delay_submit(void *store, struct gw_blk_io *op)
{
    struct store_delay *delay = delay_of(store);
    struct store_io *io = store_io_of(op);
    struct store_held *held;
    int r;

    io->held = NULL;
    if (io->op.kind != GW_BLK_READ && io->op.kind != GW_BLK_WRITE)
        return delay->behind->ops->blk.submit(delay->behind, op);
    held = malloc(sizeof(*held));
    if (held == NULL)
        return -ENOMEM;
    held->behind = delay->behind;
    held->io = io;
    r = gw_timer_new(&held->timer, io->op.worker, release, held);
    if (r < 0) {
        free(held);
        return r;
    }
    io->held = held;
    gw_timer_start(held->timer, delay->delay_ns, 0);
    return -EINPROGRESS;
}

static void delay_cancel(void *store, struct gw_blk_io *op)
{
    struct store *behind = delay_of(store)->behind;
    struct store_io *io = store_io_of(op);

    if (io->held != NULL)
        gw_timer_start(io->held->timer, 0, 0);
    else if (behind->ops->blk.cancel != NULL)
        behind->ops->blk.cancel(behind, op);
}

static int delay_start(void *store, struct gw_blk_user *user)
{
    struct store *behind = delay_of(store)->behind;

    return behind->ops->blk.start != NULL ? behind->ops->blk.start(behind, user) : 0;
}

static void delay_cancel_start(void *store, struct gw_blk_user *user)
{
    struct store *behind = delay_of(store)->behind;

    if (behind->ops->blk.cancel_start != NULL)
        behind->ops->blk.cancel_start(behind, user);
}

static int delay_stop(void *store, struct gw_blk_user *user)
{
    struct store *behind = delay_of(store)->behind;

    return behind->ops->blk.stop != NULL ? behind->ops->blk.stop(behind, user) : 0;
}

static void delay_report(struct store *s, FILE *out)
{
    delay_of(s)->behind->ops->report(delay_of(s)->behind, out);
}

static int delay_resize(struct store *s)
{
    struct store *behind = delay_of(s)->behind;
    int r = behind->ops->resize(behind);

    if (r == 0)
        atomic_store(&s->size, atomic_load(&behind->size));
    return r;
}

static void delay_free(struct store *s)
{
    delay_of(s)->behind->ops->free(delay_of(s)->behind);
    free(delay_of(s));
}

static const struct store_ops delay_ops = {
    .blk =
        {
            .size = sizeof(struct gw_blk_store_ops),
            .io_size = sizeof(struct store_io),
            .submit = delay_submit,
            .cancel = delay_cancel,
            .start = delay_start,
            .cancel_start = delay_cancel_start,
            .stop = delay_stop,
        },
    .report = delay_report,
    .resize = delay_resize,
    .free = delay_free,
};

int store_delay_new(struct store **ret, struct store *behind, unsigned ms)
{
    struct store_delay *delay = calloc(1, sizeof(*delay));

    if (delay == NULL)
        return -ENOMEM;
    delay->base.ops = &delay_ops;
    delay->base.log = behind->log;
    delay->base.size = atomic_load(&behind->size);
    delay->base.block_size = behind->block_size;
    delay->base.is_read_only = behind->is_read_only;
    delay->base.can_unmap = behind->can_unmap;
    delay->base.topology = behind->topology;
    delay->base.id = behind->id;
    delay->behind = behind;
    delay->delay_ns = ms * NS_PER_MS;
    backend_say(behind->log, GW_LOG_WARNING, "every read and write is delayed by %u ms", ms);
    *ret = &delay->base;
    return 0;
}
