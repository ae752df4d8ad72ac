/* SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause */
/*
 * Changes that are posted to all queues: a new map of guest memory, a new dirty log. The old map or
 * log is kept until no queue uses it, however long the requests of that queue take.
 *
 * Each change has a number, which becomes the generation of a queue that applies it. The queue then
 * counts its requests in flight. When the last of them has ended, the queue has quiesced: it stores
 * the number in `quiesced`, and no longer uses what that change, or an earlier one, replaced. The
 * queue stores `quiesced` with release after its last access, and the control thread loads it with
 * acquire before it unmaps anything. A worker has one mailbox, so changes reach a queue in order,
 * even if an earlier message in the mailbox starts its ring.
 *
 * Normally the front-end is answered when all queues have quiesced. In postcopy the answer does not
 * wait, because a worker may be waiting for a page. The front-end may then use the new map at once,
 * although a worker may not have read its mailbox yet. So the control thread stores the number in
 * `posted` before the answer, and a queue loads `posted` after the available index. A driver that
 * makes a request available in the new map does so after the answer. The queue that loads this
 * index therefore also loads the number, and takes no request with an older map (take, in
 * request.c).
 */
#include "base/cleanup.h"
#include "core/daemon/all_queues.h"

#include <errno.h>
#include <stdlib.h>

struct gw_change {
    struct gw_change *next;
    uint64_t number;
    struct gw_latch *latch; /* opens when all queues have quiesced; NULL: no thread waits */
    /* Queues switch to one of these two. */
    const struct gw_map *map;
    struct gw_dirty_log_state log;
    /* Freed when all queues have quiesced. */
    struct gw_map *old_map;
    struct gw_dirty_log *old_log;
    int old_event_fd;
    bool is_late; /* the wait timed out, or the session ended before it */
};

static struct gw_change *new_change(struct gw_daemon *d)
{
    struct gw_change *c = calloc(1, sizeof(*c));

    if (!c) {
        (void)gw_fail(-ENOMEM, "no memory to change what queues use");
        return NULL;
    }
    c->number = ++d->n_changes;
    c->old_event_fd = -1;
    *d->changes_end = c;
    d->changes_end = &c->next;
    d->n_kept++;
    for (unsigned i = 0; i < d->num_queues; i++)
        __atomic_store_n(&d->queues[i].generation.posted, c->number, __ATOMIC_RELAXED);
    return c;
}

static void apply_change(struct gw_queue *q, void *arg)
{
    const struct gw_change *c = arg;

    if (c->map)
        gw_queue_set_map(q, c->map);
    else
        gw_queue_set_log(q, &c->log);
    gw_queue_begin_generation(q, c->number, c->latch); /* `c` may be freed now */
}

/* ---- replaced maps and logs ---- */

static void release(struct gw_change *c)
{
    gw_dirty_log_free(c->old_log);
    gw_close(&c->old_event_fd);
    gw_map_free(c->old_map);
    free(c);
}

/*
 * An abandoned queue counts as quiesced for changes of the current session: its requests outlived
 * an earlier session and never use the maps and logs of this one.
 */
static bool has_quiesced(const struct gw_daemon *d, const struct gw_queue *q,
                         const struct gw_change *c)
{
    return __atomic_load_n(&q->generation.quiesced, __ATOMIC_ACQUIRE) >= c->number ||
           (c->number > d->session.first_change &&
            __atomic_load_n(&q->abandoned, __ATOMIC_ACQUIRE));
}

static bool all_have_quiesced(const struct gw_daemon *d, const struct gw_change *c)
{
    for (unsigned i = 0; i < d->num_queues; i++)
        if (!has_quiesced(d, &d->queues[i], c))
            return false;
    return true;
}

static struct gw_change *take_first(struct gw_daemon *d)
{
    struct gw_change *c = d->changes;

    d->changes = c->next;
    if (!d->changes)
        d->changes_end = &d->changes;
    d->n_kept--;
    return c;
}

void gw_daemon_reclaim(struct gw_daemon *d)
{
    while (d->changes && all_have_quiesced(d, d->changes)) {
        struct gw_change *c = take_first(d);

        if (c->is_late)
            gw_log(&d->log, GW_LOG_INFO, "late requests finished, old guest memory unmapped");
        release(c);
    }
}

void gw_daemon_drop_logs(struct gw_daemon *d)
{
    for (struct gw_change *c = d->changes; c; c = c->next) {
        gw_dirty_log_free(gw_steal(c->old_log));
        gw_close(&c->old_event_fd);
    }
}

void gw_daemon_reclaim_all(struct gw_daemon *d)
{
    bool idle = true;

    gw_sigbus_forget(&d->loss);
    /* The workers have ended: no queue will quiesce, and only requests in flight use memory. */
    for (unsigned i = 0; i < d->num_queues; i++)
        idle = idle && d->queues[i].in_flight.n == 0;
    while (d->changes) {
        struct gw_change *c = take_first(d);

        if (!idle)
            c->old_map = NULL; /* leaked: the kernel may still access this memory */
        release(c);
    }
}

/* ---- maps ---- */

static void set_bounce(struct gw_daemon *d, bool must_bounce)
{
    for (unsigned i = 0; i < d->num_workers; i++)
        __atomic_store_n(&d->workers[i].loop->must_bounce, must_bounce, __ATOMIC_RELAXED);
}

static struct gw_change *new_map(struct gw_daemon *d, struct gw_map *map)
{
    struct gw_change *c = new_change(d);

    if (!c) {
        gw_map_free(map);
        return NULL;
    }
    c->map = map;
    c->old_map = d->session.map;
    d->session.map = map;
    /* For the rest of the session: requests of this map may start I/O after its replacement. */
    if (map->unpinnable)
        set_bounce(d, true);
    return c;
}

static void keep(struct gw_daemon *d, struct gw_change *c)
{
    c->is_late = true;
    gw_log(&d->log, GW_LOG_ERROR, "old guest memory stays mapped until late requests finish");
}

int gw_daemon_replace_map(struct gw_daemon *d, struct gw_map *map)
{
    struct gw_change *c;
    struct gw_latch latch;
    int r;

    gw_daemon_reclaim(d);
    if (d->n_kept > GW_CHANGES_KEPT_MAX) {
        gw_map_free(map);
        return gw_fail(-EBUSY, "requests of the device still use %u replaced memory maps",
                       d->n_kept);
    }
    c = new_map(d, map);
    if (!c)
        return -ENOMEM;
    gw_latch_init(&latch, d->num_queues);
    c->latch = &latch;
    gw_daemon_call_on_queues(d, apply_change, c);
    r = gw_daemon_drain(d, &latch, "changing memory");
    gw_latch_done(&latch);
    if (r < 0)
        keep(d, c);
    gw_daemon_reclaim(d);
    return r;
}

int gw_daemon_post_map(struct gw_daemon *d, struct gw_map *map)
{
    struct gw_change *c;

    /* At the limit, answer the front-end only after all queues have quiesced. */
    if (d->n_kept >= GW_CHANGES_KEPT_MAX)
        return gw_daemon_replace_map(d, map);
    c = new_map(d, map);
    if (!c)
        return -ENOMEM;
    gw_daemon_post_to_queues(d, apply_change, c);
    gw_daemon_reclaim(d);
    return 0;
}

void gw_daemon_end_map(struct gw_daemon *d, bool is_used)
{
    struct gw_map *map = d->session.map;
    struct gw_change *c = is_used ? new_change(d) : NULL;

    if (c) {
        c->map = c->old_map = map; /* the last one: queues with requests in flight quiesce later */
        gw_daemon_call_on_queues(d, apply_change, c);
        keep(d, c);
    } else if (!is_used) {
        gw_map_free(map);
        set_bounce(d, false);
    }
    d->session.map = NULL;
    d->session.first_change = d->n_changes; /* all changes so far are of earlier sessions */
}

/* ---- the dirty log ---- */

static void set_log(struct gw_queue *q, void *arg)
{
    gw_queue_set_log(q, arg);
}

static int post_log(struct gw_daemon *d, struct gw_dirty_log_state *log)
{
    struct gw_change *c = new_change(d);

    if (!c) {
        if (d->session.dirty_log.log != log->log)
            gw_dirty_log_free(log->log);
        if (d->session.dirty_log.event_fd != log->event_fd)
            gw_close(&log->event_fd);
        return -ENOMEM;
    }
    c->log = *log;
    if (d->session.dirty_log.log != log->log)
        c->old_log = d->session.dirty_log.log;
    if (d->session.dirty_log.event_fd != log->event_fd)
        c->old_event_fd = d->session.dirty_log.event_fd;
    d->session.dirty_log = *log;
    if (c->old_log && log->log)
        gw_dirty_log_succeed(c->old_log, log->log);
    gw_daemon_post_to_queues(d, apply_change, c);
    return 0;
}

int gw_daemon_replace_log(struct gw_daemon *d, struct gw_dirty_log_state *log)
{
    struct gw_dirty_log_state old = d->session.dirty_log;

    if (gw_postcopy_is_listening(&d->session.postcopy) && d->n_kept < GW_CHANGES_KEPT_MAX)
        return post_log(d, log);
    d->session.dirty_log = *log;
    gw_daemon_call_on_queues(d, set_log, &d->session.dirty_log);
    /* Every queue uses the new log, so no queue writes to the old one. */
    if (old.log != log->log)
        gw_dirty_log_free(old.log);
    if (old.event_fd != log->event_fd)
        gw_close(&old.event_fd);
    return 0;
}
