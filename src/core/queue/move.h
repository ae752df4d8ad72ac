/* SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause */
/*
 * The parts of a move to another worker (message/move.c). Context: the worker of the queue, unless
 * stated otherwise.
 */
#pragma once

#include "core/loop/latch.h"

#include <stdbool.h>

struct gw_queue;
struct gw_worker;

struct gw_queue_move {
    bool is_paused;           /* [lock] no requests are popped */
    struct gw_latch *latch;   /* [lock] counted when nothing is in flight; NULL: nobody waits */
    struct gw_worker *wanted; /* atomic: asked for and not begun; NULL: nothing */
    /* Of the control worker. */
    bool is_moving;
    bool must_go;           /* to the worker of postcopy, next */
    bool must_return;       /* from there, next */
    struct gw_worker *home; /* where it was last, but for postcopy */
};

/*
 * Take no more requests. `latch` is counted when none is in flight; with -EBUSY at once if the
 * queue is stopping; with -ETIMEDOUT by gw_queue_unpause.
 */
void gw_queue_pause(struct gw_queue *q, struct gw_latch *latch);
void gw_queue_unpause(struct gw_queue *q);
/* Leave the worker for `to`. Returns: 0; -EBUSY, and nothing changes. */
int gw_queue_leave(struct gw_queue *q, struct gw_worker *to);
/* Begin to run on the new worker. */
void gw_queue_arrive(struct gw_queue *q);
/* Leave for good, perhaps with requests in flight, because the daemon is freed. */
void gw_queue_abandon_worker(struct gw_queue *q);
