/* SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause */
/*
 * Guest memory that requests may still write to although nobody waits for them any more. It stays
 * mapped, and goes when the last request is done that was born under it or an older map: the queues
 * count a latch then, as they do for a stop or a new map, and it wakes the control thread.
 *
 * A queue knows one latch of each kind, so every other wait takes this one away. That is why it is
 * handed out anew after each (gw_daemon_watch_stuck).
 */
#include "daemon.h"

#include <errno.h>
#include <stdlib.h>

static void forget(struct gw_queue *q, void *arg)
{
    gw_queue_forget(q);
}

/* Counted at once by a queue that has nothing old. */
static void watch(struct gw_queue *q, void *arg)
{
    struct gw_daemon *d = arg;

    if (q->state == GW_QUEUE_STOPPING)
        gw_queue_stop(q, &d->stuck.latch, q->stop);
    else
        gw_queue_adopt_map(q, d->session.map, &d->stuck.latch);
}

static void make_latch(struct gw_daemon *d)
{
    gw_latch_init(&d->stuck.latch, d->num_queues);
    d->stuck.latch.wake_fd = d->control_fd;
}

void gw_daemon_watch_stuck(struct gw_daemon *d)
{
    if (d->stuck.n_maps == 0)
        return;
    gw_daemon_each_queue(d, forget, NULL);
    gw_latch_done(&d->stuck.latch);
    make_latch(d);
    gw_daemon_each_queue(d, watch, d);
}

void gw_daemon_keep_stuck(struct gw_daemon *d, struct gw_map *map)
{
    struct gw_stuck *stuck = &d->stuck;
    struct gw_map **maps = realloc(stuck->maps, (stuck->n_maps + 1) * sizeof(maps[0]));

    gw_diag(&d->diag, GW_DIAG_ERROR, "memory of the front-end stays mapped until they finish");
    if (!maps)
        return; /* leaked, rather than unmapped under the kernel's hands */
    if (stuck->n_maps == 0)
        make_latch(d);
    maps[stuck->n_maps++] = map;
    stuck->maps = maps;
    gw_daemon_watch_stuck(d);
}

static void free_maps(struct gw_stuck *stuck, bool unmap)
{
    for (unsigned i = 0; unmap && i < stuck->n_maps; i++)
        gw_map_free(stuck->maps[i]);
    gw_latch_done(&stuck->latch);
    free(stuck->maps);
    *stuck = (struct gw_stuck){.n_maps = 0};
}

void gw_daemon_free_stuck(struct gw_daemon *d)
{
    if (d->stuck.n_maps == 0 || gw_latch_wait(&d->stuck.latch, 0) == -ETIMEDOUT)
        return;
    free_maps(&d->stuck, true);
    gw_diag(&d->diag, GW_DIAG_INFO, "they have finished: the memory is unmapped");
}

void gw_daemon_leave_stuck(struct gw_daemon *d)
{
    bool idle = true;

    gw_sigbus_forget(&d->loss);
    if (d->stuck.n_maps == 0)
        return;
    /* Without workers nobody counts the latch, but nobody changes anything else either. */
    for (unsigned i = 0; i < d->num_queues; i++)
        idle = idle && d->queues[i].n_in_flight == 0;
    free_maps(&d->stuck, idle);
}
