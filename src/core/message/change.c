/* SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause */
/*
 * A change is an operation of all queues. What it replaces is kept until the operation has ended,
 * however long the requests of a queue take: a dirty log until all queues have switched to the new
 * one, a map until all queues have quiesced (generation.h). A count of the operation's latch comes
 * after a queue's last access, and the old map is unmapped after the last count.
 *
 * A worker has one mailbox, so changes reach a queue in order, even if an earlier message in the
 * mailbox starts its ring.
 *
 * In postcopy the answer does not wait, because a worker may be waiting for a page. The front-end
 * may then use the new map at once, although a worker may not have read its mailbox yet. So the
 * control worker stores the number of the change in `posted` before the answer, and a queue loads
 * `posted` after the available index. A driver that makes a request available in the new map does
 * so after the answer. The queue that loads this index therefore also loads the number, and takes
 * no request before it has applied that change (take, in request.c).
 */
#include "change.h"

#include "base/cleanup.h"

#include <errno.h>
#include <stdlib.h>

/* Number a change; all queues see the number before the front-end sees an answer. */
static uint64_t post_number(struct gw_daemon *d)
{
    uint64_t number = ++d->n_changes;

    for (unsigned i = 0; i < d->num_queues; i++)
        __atomic_store_n(&d->queues[i].generation.posted, number, __ATOMIC_RELAXED);
    return number;
}

/* ---- maps ---- */

struct map_change {
    uint64_t number;
    const struct gw_map *map;
    struct gw_map *old; /* freed when all queues have quiesced */
    const struct gw_iotlb *iotlb;
    struct gw_iotlb *old_iotlb; /* likewise */
};

static int apply_map(struct gw_queue *q, struct gw_op *op)
{
    const struct map_change *c = op->arg;
    struct gw_generation_wait *wait = &op->waits[q->index];

    gw_queue_set_map(q, c->map, c->iotlb);
    gw_queue_note_applied(q, c->number);
    wait->latch = &op->latch;
    gw_queue_begin_generation(q, wait);
    return GW_OP_PENDING;
}

static void free_old_map(struct gw_op *op)
{
    struct map_change *c = op->arg;

    gw_iotlb_free(c->old_iotlb);
    if (!c->old)
        return;
    op->daemon->n_old_maps--;
    if (op->is_late)
        gw_log(&op->daemon->log, GW_LOG_INFO, "late requests finished, old guest memory unmapped");
    gw_map_free(c->old);
}

static void set_unpinnable(struct gw_daemon *d, bool has_unpinnable)
{
    if (d->has_unpinnable == has_unpinnable)
        return;
    d->has_unpinnable = has_unpinnable;
    for (unsigned i = 0; i < d->num_workers; i++)
        __atomic_add_fetch(&d->workers[i]->loop->n_unpinnable, has_unpinnable ? 1u : -1u,
                           __ATOMIC_RELAXED);
    if (d->postcopy.state == GW_POSTCOPY_WORKER_ON)
        __atomic_store_n(&d->postcopy.worker.loop->n_unpinnable, has_unpinnable, __ATOMIC_RELAXED);
}

static void keep_late(struct gw_op *op)
{
    op->is_late = true;
    gw_log(&op->daemon->log, GW_LOG_ERROR,
           "old guest memory stays mapped until late requests finish");
}

struct gw_op *gw_change_new_map(struct gw_daemon *d)
{
    struct gw_op *op = gw_op_new(d, NULL, apply_map, sizeof(struct map_change));

    if (op) {
        op->done = free_old_map;
        op->drains = "changing memory";
    }
    return op;
}

/* Create the operation that replaces the map of the session, and replace it. Consumes `map`. */
static int replace_map(struct gw_daemon *d, struct gw_map *map, struct gw_op **ret)
{
    struct gw_session *s = &d->session;
    struct gw_iotlb *iotlb = NULL;
    struct gw_op *op = gw_change_new_map(d);
    int r = op ? 0 : -ENOMEM;

    if (r == 0 && s->iotlb)
        r = gw_iotlb_rebase(&iotlb, s->iotlb, map);
    if (r < 0) {
        gw_op_free_unstarted(op);
        gw_map_free(map);
        return r;
    }
    *(struct map_change *)op->arg = (struct map_change){
        .number = post_number(d),
        .map = map,
        .old = s->map,
        .iotlb = iotlb,
        .old_iotlb = s->iotlb,
    };
    d->n_old_maps++;
    s->map = map;
    s->iotlb = iotlb;
    *ret = op;
    /* For the rest of the session: requests of this map may start I/O after its replacement. */
    if (map->unpinnable)
        set_unpinnable(d, true);
    return 0;
}

static int map_changed(struct gw_daemon *d, struct gw_op *op, int r)
{
    if (r < 0)
        keep_late(op);
    return r;
}

int gw_change_map(struct gw_daemon *d, struct gw_map *map)
{
    struct gw_op *op;
    int r;

    if (d->n_old_maps > GW_OLD_MAPS_MAX) {
        gw_map_free(map);
        return gw_fail(-EBUSY, "requests of the device still use %u replaced memory maps",
                       d->n_old_maps);
    }
    r = replace_map(d, map, &op);
    return r < 0 ? r : gw_op_wait(op, map_changed);
}

int gw_change_map_posted(struct gw_daemon *d, struct gw_map *map)
{
    struct gw_op *op;
    int r;

    if (d->n_old_maps >= GW_OLD_MAPS_MAX)
        return gw_change_map(d, map);
    r = replace_map(d, map, &op);
    if (r == 0)
        gw_op_detach(op);
    return r;
}

void gw_change_end(struct gw_daemon *d, struct gw_op *op, bool is_used)
{
    struct gw_map *map = gw_steal(d->session.map);

    if (!is_used) {
        gw_op_free_unstarted(op);
        gw_map_free(map);
        set_unpinnable(d, false);
        return;
    }
    /*
     * The last generation: queues with requests in flight quiesce later. Their rings are detached
     * first, because the map may be freed as soon as they have quiesced.
     */
    *(struct map_change *)op->arg = (struct map_change){.number = post_number(d), .old = map};
    d->n_old_maps++;
    keep_late(op);
    gw_op_detach(op);
}

/* ---- the dirty log ---- */

struct log_change {
    uint64_t number;
    struct gw_dirty_log_state log;
    struct gw_dirty_log *old; /* both freed when all queues have switched */
    int old_event_fd;
};

static int apply_log(struct gw_queue *q, struct gw_op *op)
{
    const struct log_change *c = op->arg;

    gw_queue_set_log(q, &c->log);
    gw_queue_note_applied(q, c->number);
    return 0;
}

static void free_old_log(struct gw_op *op)
{
    struct log_change *c = op->arg;

    gw_dirty_log_free(c->old);
    gw_close(&c->old_event_fd);
}

int gw_change_log(struct gw_daemon *d, struct gw_dirty_log_state *log, gw_op_next *next)
{
    struct gw_dirty_log_state *now = &d->session.dirty_log;
    struct gw_op *op = gw_op_new(d, NULL, apply_log, sizeof(struct log_change));
    struct log_change *c;

    if (!op) {
        if (log->log != now->log)
            gw_dirty_log_free(log->log);
        if (log->event_fd != now->event_fd)
            gw_close(&log->event_fd);
        return -ENOMEM;
    }
    op->done = free_old_log;
    c = op->arg;
    *c = (struct log_change){
        .number = post_number(d),
        .log = *log,
        .old = log->log != now->log ? now->log : NULL,
        .old_event_fd = log->event_fd != now->event_fd ? now->event_fd : -1,
    };
    *now = *log;
    if (c->old && log->log)
        gw_dirty_log_succeed(c->old, log->log);
    return gw_op_answer(op, next);
}
