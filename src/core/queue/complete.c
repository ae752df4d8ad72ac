/* SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause */
/*
 * From the completion of a request to the driver's interrupt. The order is essential:
 *
 *   data written  ->  used element written  ->  copies stored  ->  fence  ->  data marked
 *                 ->  used index (release)  ->  fence  ->  used ring marked  ->  notify decision
 *
 * The device has written its data before it calls gw_request_complete. A batch (on the worker: the
 * requests completed within one turn) has one pair of fences, one index and at most one eventfd
 * write. If the device completes all available requests at once, however, the first half is
 * published as soon as it is complete. Otherwise a driver that polls the ring would be idle while
 * the device works, and the device would be idle while the driver works.
 *
 * Two facts make the marks correct. A bit is set only after the bytes it stands for are visible
 * (dirty_bitmap.c). A request counts as in flight until it is marked and published, so code that
 * waits for requests (a stop, a new map) also waits for marks. The marks use the guest addresses
 * recorded when the chain was walked, which are never read again. They cover all device-writable
 * buffers, whatever length the device reported, because it may have written beyond that length.
 *
 * With IN_ORDER (virtio 1.x, 2.7.9 and 2.8.10), a completed request waits until all requests taken
 * before it are complete. Consecutive completed requests share one used element, that of the last.
 *
 * If requests are tracked for crash recovery (inflight.h), a batch is closed before the index is
 * stored and cleared after it. After a crash, recovery finds out from the ring itself whether the
 * batch was published.
 */
#include "base/barrier.h"
#include "copies.h"
#include "fd/peer_fd.h"
#include "queue_i.h"

#include <assert.h>
#include <limits.h>

void gw_queue_call(struct gw_queue *q)
{
    struct gw_loop *loop = gw_queue_is_on_worker(q) ? q->worker->loop : NULL;

    if (gw_notifier_signal(&q->call, loop))
        gw_count(&q->stats.calls, 1);
}

void gw_request_mark(const struct gw_queue *q, const struct gw_request_i *r)
{
    struct gw_dirty_log *log = q->dirty_log.log;
    const struct gw_extent *writable = gw_request_extents(r) + r->n_readable_extents;

    for (unsigned i = 0; i < r->n_writable_extents; i++)
        gw_dirty_log_mark(log, writable[i].gpa, writable[i].len);
}

static void mark_completed(struct gw_queue *q)
{
    if (!q->dirty_log.all || !q->dirty_log.log || !q->batch.completed)
        return;
    gw_full_fence();
    for (const struct gw_request_i *r = q->batch.completed; r; r = r->next_free)
        gw_request_mark(q, r);
}

/*
 * Without a log no request is popped, but those in flight when LOG_ALL was set are completed,
 * because a stop or a new map may wait for them. Their addresses are not kept, so all memory is
 * marked.
 */
void gw_queue_mark_unlogged(struct gw_queue *q)
{
    struct gw_ring *ring = &q->ring;

    if (!q->logging.unlogged || !q->dirty_log.log || !q->map)
        return;
    q->logging.unlogged = false;
    gw_full_fence();
    for (unsigned i = 0; i < q->map->n_entries; i++) {
        const struct gw_map_entry *e = &q->map->entries[i];

        /* Any reference may be in use, so mark all those that the log covers. */
        if (e->region->desc.flags & GW_REGION_NO_ADVANCE)
            gw_dirty_log_mark_known(q->dirty_log.log, e->gpa, e->size);
        else
            gw_dirty_log_mark(q->dirty_log.log, e->gpa, e->size);
    }
    ring->ops->mark_all(ring);
}

/* Once published, requests leave the inflight part: a crash no longer resubmits them. */
static void retire_completed(struct gw_queue *q, bool published)
{
    struct gw_inflight *f = published && q->inflight.part ? &q->inflight : NULL;

    if (!published)
        for (const struct gw_request_i *r = q->batch.completed; r; r = r->next_free)
            q->in_flight.n_slots_left +=
                r->n_slots; /* in flight for the driver until the queue stops */

    while (q->batch.completed) {
        struct gw_request_i *r = q->batch.completed;

        q->batch.completed = r->next_free;
        if (f)
            gw_inflight_clear(f, r->entry);
        gw_request_retire(q, r);
    }
    gw_request_note_oldest(q);
    if (f)
        gw_inflight_commit(f);
}

/* Reports writes that the log does not cover, and counts an error: the guest cannot be migrated. */
static void check_log(struct gw_queue *q)
{
    uint64_t n_lost = gw_dirty_log_n_lost(q->dirty_log.log);

    if (n_lost == q->logging.n_lost)
        return;
    q->logging.n_lost = n_lost;
    gw_count(&q->stats.errors, 1);
    gw_log(q->log, GW_LOG_ERROR, "queue %u: a write lies outside the dirty log: do not migrate",
           q->index);
}

void gw_queue_mark_write(struct gw_queue *q, gw_gpa_t gpa, uint64_t len)
{
    gw_queue_lock(q);
    if (gw_queue_lacks_log(q)) {
        q->logging.unlogged = true;
    } else if (q->dirty_log.all) {
        gw_full_fence();
        gw_dirty_log_mark(q->dirty_log.log, gpa, len);
        check_log(q);
        if (q->dirty_log.event_fd >= 0)
            gw_eventfd_signal(q->dirty_log.event_fd);
    }
    gw_queue_unlock(q);
}

/* The ring may have lost its memory, see gw_queue_set_map. */
static void put_used(struct gw_queue *q, uint16_t id, uint32_t len, unsigned n_slots)
{
    if (q->ring.attached)
        q->ring.ops->put_used(&q->ring, id, len, n_slots);
}

/* The used element for `r` is written: add it to the batch to be marked and published. */
static void add_completed(struct gw_queue *q, struct gw_request_i *r)
{
    r->next_free = q->batch.completed;
    q->batch.completed = r;
}

/* The bytes of all device-writable buffers, including those already consumed. */
static uint32_t writable_len(const struct gw_request_i *r)
{
    const struct gw_extent *readable = gw_request_extents(r);
    uint32_t len = r->len;

    for (unsigned i = 0; i < r->n_readable_extents; i++)
        len -= readable[i].len;
    return len;
}

bool gw_request_can_be_skipped(const struct gw_request_i *r)
{
    return !r->is_bad && r->used_len == writable_len(r);
}

static bool is_done(const struct gw_queue *q, const struct gw_list *at)
{
    return at != &q->in_flight.requests &&
           gw_container_of(at, struct gw_request_i, in_flight)->is_done;
}

/* IN_ORDER: no request after a suspended one can be used, so the next back-end does them again. */
static void keep_all_inflight(struct gw_queue *q)
{
    struct gw_list *at, *next;

    gw_list_for_each_safe (at, next, &q->in_flight.requests) {
        struct gw_request_i *r = gw_container_of(at, struct gw_request_i, in_flight);

        if (!r->is_done || r->position < q->resume.first_suspended)
            continue;
        if (!r->is_bad)
            gw_count(&q->stats.completed, (uint64_t)-1);
        gw_request_keep_inflight(q, r);
    }
}

static void complete_in_order(struct gw_queue *q)
{
    unsigned n_slots = 0;

    if (q->resume.first_suspended != UINT64_MAX)
        keep_all_inflight(q);
    /* No listed request is in the batch yet: publish() retires the whole batch. */
    for (struct gw_list *at = q->in_flight.requests.next; is_done(q, at); at = at->next) {
        struct gw_request_i *r = gw_container_of(at, struct gw_request_i, in_flight);
        bool is_last = !is_done(q, at->next);

        n_slots += r->n_slots;
        if (is_last || !gw_request_can_be_skipped(r)) {
            put_used(q, r->id, r->used_len, n_slots);
            n_slots = 0;
        }
        add_completed(q, r);
    }
}

/* Returns: does the driver want to be notified? */
static bool publish_ring(struct gw_queue *q)
{
    bool notify;

    if (q->inflight.part)
        for (const struct gw_request_i *r = q->batch.completed; r; r = r->next_free)
            gw_inflight_link(&q->inflight, r->entry);
    gw_inflight_close(&q->inflight, q->ring.ops->used(&q->ring));
    notify = q->ring.ops->publish(&q->ring);
    if (q->dirty_log.log) {
        check_log(q);
        if (q->dirty_log.event_fd >= 0)
            gw_eventfd_signal(q->dirty_log.event_fd);
    }
    return notify;
}

/* Returns: was anything published? */
static bool publish(struct gw_queue *q)
{
    bool unpublished;

    if (q->batch.in_order)
        complete_in_order(q);
    if (q->in_flight.n_copied > 0 && q->batch.completed)
        gw_copies_store(q);
    unpublished = q->ring.attached && q->ring.ops->has_unpublished(&q->ring);
    if (gw_queue_lacks_log(q) && (q->batch.completed || unpublished))
        q->logging.unlogged = true;
    mark_completed(q);
    if (unpublished && publish_ring(q))
        q->batch.call_due = true;
    retire_completed(q, unpublished);
    q->batch.n = 0;
    return unpublished;
}

void gw_queue_publish(struct gw_queue *q)
{
    bool published = publish(q) || q->batch.partially_published;

    q->batch.partially_published = false;
    if (gw_queue_is_on_worker(q) && !gw_list_is_empty(&q->batch.link))
        gw_list_remove(&q->batch.link);
    if (q->batch.call_due)
        gw_queue_call(q);
    else if (published)
        gw_count(&q->stats.calls_suppressed, 1);
    q->batch.call_due = false;
}

/*
 * The number of completions after which the worker publishes. It publishes only complete batches if
 * more requests are available anyway, if buffers are copies, because one hypercall stores them all,
 * or if the rest, and with it the notification, may have to wait for a missing page.
 */
static unsigned find_step(const struct gw_queue *q)
{
    if (q->in_flight.n_copied > 0 || gw_queue_n_available(q) != 0 ||
        gw_loop_may_fault(q->worker->loop))
        return UINT_MAX;
    return (q->in_flight.n + 1) / 2;
}

/* The worker publishes at the end of its turn at the latest, another thread at once. */
static void publish_soon(struct gw_queue *q)
{
    bool is_listed = !gw_list_is_empty(&q->batch.link);

    if (!q->worker)
        return; /* gw_vring_publish follows */
    /* With GW_SYNC_NONE only the worker completes, so it checks for itself only once a turn. */
    if (!(is_listed && q->sync == GW_SYNC_NONE) && !gw_worker_is_current(q->worker)) {
        gw_queue_publish(q);
        return;
    }
    if (!is_listed) {
        gw_list_append(&q->worker->dirty, &q->batch.link);
        gw_worker_touch(q->worker);
    }
    if (q->batch.publish_step == 0)
        q->batch.publish_step = find_step(q);
    if (++q->batch.n >= q->batch.publish_step)
        q->batch.partially_published = publish(q) || q->batch.partially_published;
}

void gw_request_answer(struct gw_queue *q, struct gw_request_i *r, uint32_t len)
{
    r->used_len = len;
    r->is_done = true;
    if (!q->batch.in_order) {
        put_used(q, r->id, len, r->n_slots);
        add_completed(q, r);
    }
    publish_soon(q);
}

void gw_request_complete(struct gw_request *pub, uint32_t len)
{
    struct gw_request_i *r = gw_container_of(pub, struct gw_request_i, pub);
    struct gw_queue *q = pub->queue;

    gw_queue_lock(q);
    gw_count(&q->stats.completed, 1);
    gw_count(&q->stats.bytes_written, len);
    gw_request_answer(q, r, len);
    gw_queue_unlock(q);
}

void gw_request_complete_status(struct gw_request *pub, uint8_t status)
{
    const struct gw_request_i *r = gw_container_of(pub, struct gw_request_i, pub);

    if (r->status)
        *r->status = status;
    gw_request_complete(pub, writable_len(r));
}

void gw_queue_flush(struct gw_queue *q)
{
    gw_queue_lock(q);
    gw_queue_publish(q);
    assert(gw_queue_is_consistent(q));
    gw_queue_unlock(q);
}
