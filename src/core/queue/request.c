/* SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause */
/*
 * Requests: how they are popped off the ring, and what a device may do with their buffers.
 *
 * They come from a pool of the ring's size, allocated when the queue starts. The request freed last
 * is reused first, so a queue of depth 32 uses only 32 cache-warm requests, however long its ring.
 */
#include "base/barrier.h"
#include "base/clock.h"
#include "copies.h"
#include "queue_i.h"

#include <assert.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

/* Limit on buffer copies per queue, in bytes, because a driver chooses how much it has in flight.
 */
#define COPIES_MAX (GW_POP_BATCH * GW_PIN_COPY_MAX)

/* ---- pool ---- */

static size_t stride(const struct gw_queue *q)
{
    size_t size = sizeof(struct gw_request_i) + q->pool.request_size;

    if (q->pool.has_iovas)
        size += GW_IOVAS_ALIGN + GW_CHAIN_INLINE * sizeof(struct gw_iova_extent);
    return (size + 63) & ~(size_t)63;
}

int gw_request_pool_new(struct gw_queue *q)
{
    bool has_iovas = q->translation != NULL;

    if (q->pool.memory && q->pool.size == q->ring.config.size && q->pool.has_iovas == has_iovas)
        return 0;
    gw_request_pool_free(q);
    q->pool.has_iovas = has_iovas;
    q->pool.memory = aligned_alloc(64, stride(q) * q->ring.config.size);
    if (!q->pool.memory)
        return gw_fail(-ENOMEM, "no memory for %u requests", q->ring.config.size);
    q->pool.size = q->ring.config.size;
    return 0;
}

void gw_request_pool_free(struct gw_queue *q)
{
    while (q->pool.free_segments) {
        struct gw_segments *s = q->pool.free_segments;
        q->pool.free_segments = s->next;
        free(s);
    }
    free(q->pool.table);
    q->pool.table = NULL;
    free(q->pool.tables);
    q->pool.tables = NULL;
    free(q->pool.memory);
    q->pool.memory = NULL;
    q->pool.size = 0;
    q->pool.n_used = 0;
    q->pool.free = NULL;
}

/* take() limits the requests in flight. */
static inline struct gw_request_i *take_request(struct gw_queue *q)
{
    struct gw_request_i *r = q->pool.free;

    if (r) {
        q->pool.free = r->next_free;
        if (q->pool.request_size > 0)
            memset(r + 1, 0, q->pool.request_size);
        return r;
    }
    r = (struct gw_request_i *)(void *)(q->pool.memory + stride(q) * q->pool.n_used++);
    memset(r, 0, stride(q));
    r->pub.queue = q;
    return r;
}

struct gw_request_i *gw_request_take(struct gw_queue *q)
{
    return take_request(q);
}

void gw_request_put(struct gw_queue *q, struct gw_request_i *r)
{
    r->next_free = q->pool.free;
    q->pool.free = r;
}

/* ---- pop ---- */

void gw_request_note_oldest(struct gw_queue *q)
{
    uint64_t ns = 0;

    if (!gw_list_is_empty(&q->in_flight.requests))
        ns = gw_container_of(q->in_flight.requests.next, struct gw_request_i, in_flight)->popped_ns;
    __atomic_store_n(&q->in_flight.oldest_ns, ns, __ATOMIC_RELAXED);
}

void gw_request_report_bad(struct gw_queue *q, const struct gw_request_i *r, const char *why)
{
    gw_count(&q->stats.errors, 1);
    gw_log(q->log, GW_LOG_WARNING, "queue %u: bad descriptor chain at head %u: %s", q->index, r->id,
           why);
}

/* Returns: NULL for a bad chain, which has then been answered, or if it must stay on the ring. */
static struct gw_request_i *pop_one(struct gw_queue *q, const struct gw_head *head,
                                    bool is_resubmitted)
{
    struct gw_request_i *r = take_request(q);
    const char *why = gw_chain_walk(q, r, head);

    if (why && why == gw_translation_missing) {
        q->translation->is_blocked = true;
        gw_request_put(q, r);
        return NULL;
    }
    r->is_resubmitted = is_resubmitted;
    r->is_bad = why != NULL;
    r->entry = head->entry;
    r->id = head->id;
    r->n_slots = head->n_slots;
    r->position = q->in_flight.n_taken;
    r->generation = q->generation.number;
    r->popped_ns = q->in_flight.now_ns;
    r->is_done = false;
    gw_list_append(&q->in_flight.requests, &r->in_flight);
    q->in_flight.n++;
    q->limits.room -= r->len;
    if (why) {
        q->limits.room -= GW_LONG_CHAIN_BYTES;
        q->in_flight.bytes -= GW_LONG_CHAIN_BYTES;
        gw_request_report_bad(q, r, why);
        gw_request_answer(q, r, 0);
        return NULL;
    }
    gw_count(&q->stats.bytes_readable, r->pub.readable_len);
    return r;
}

void gw_request_uncount(struct gw_queue *q, const struct gw_request_i *r)
{
    gw_count(&q->stats.requests, (uint64_t)-1);
    for (unsigned i = 0; i < r->n_readable_extents; i++)
        gw_count(&q->stats.bytes_readable, -(uint64_t)gw_request_extents(r)[i].len);
}

bool gw_head_is_valid(const struct gw_queue *q, const struct gw_head *head)
{
    return q->ring.ops->is_packed || head->id < q->ring.size;
}

/* An invalid head cannot be answered, so its slot is freed. A tracked ring breaks, see take(). */
static void drop_invalid(struct gw_queue *q, const struct gw_head *head)
{
    q->ring.n_busy -= head->n_slots;
    gw_count(&q->stats.errors, 1);
    gw_log(q->log, GW_LOG_WARNING, "queue %u: head %u is beyond the ring of %u", q->index, head->id,
           q->ring.size);
}

static void prefetch_table(struct gw_queue *q, const struct gw_head *head)
{
    struct vring_desc first = gw_head_first(q->ring.ops->is_packed, head);

    if (first.flags & VRING_DESC_F_INDIRECT)
        gw_chain_prefetch_table(q, first.addr);
}

/* Bytes left below the limits (GW_TURN_BYTES). If above 0, another request may begin. */
static int64_t find_room(const struct gw_queue *q)
{
    int64_t left = q->limits.bytes_in_flight - q->in_flight.bytes;

    return left < q->limits.bytes_left ? left : q->limits.bytes_left;
}

static unsigned count_slots(const struct gw_head *heads, unsigned n)
{
    unsigned n_slots = 0;

    for (unsigned i = 0; i < n; i++)
        n_slots += heads[i].n_slots;
    return n_slots;
}

/* Undo the last take, as if its requests had stayed on the ring. */
static void put_back(struct gw_queue *q, const struct gw_head *heads, unsigned n,
                     bool are_resubmitted)
{
    if (are_resubmitted) {
        q->in_flight.n_slots_left += count_slots(heads, n);
        q->resume.next_resubmit -= n;
        return;
    }
    for (unsigned i = n; i-- > 0;)
        gw_inflight_untake(&q->inflight, heads[i].entry);
    q->ring.ops->untake(&q->ring, count_slots(heads, n));
}

/*
 * What the driver wrote is in the cache of its CPU, and each step depends on the one before. Once
 * take() has copied all first descriptors, all tables that they name are prefetched before the
 * first chain is walked.
 */
static unsigned pop_batch(struct gw_queue *q, struct gw_request **reqs, const struct gw_head *heads,
                          unsigned n, bool are_resubmitted)
{
    unsigned n_popped = 0;

    for (unsigned i = 0; i < n && !q->translation; i++)
        if (gw_head_is_valid(q, &heads[i]))
            prefetch_table(q, &heads[i]);
    if (q->map->has_copies)
        gw_tables_fetch(q, heads, n);
    for (unsigned i = 0; i < n; i++) {
        struct gw_request_i *r = NULL;

        if (q->limits.room <= 0) {
            put_back(q, &heads[i], n - i, are_resubmitted);
            break;
        }
        q->in_flight.n_taken++;
        if (gw_head_is_valid(q, &heads[i]))
            r = pop_one(q, &heads[i], are_resubmitted);
        else
            drop_invalid(q, &heads[i]);
        if (r) {
            reqs[n_popped++] = &r->pub;
        } else if (gw_queue_lacks_translation(q)) {
            q->in_flight.n_taken--;
            put_back(q, &heads[i], n - i, are_resubmitted);
            gw_translation_look_ahead(q);
            break;
        }
    }
    gw_count(&q->stats.requests, n_popped);
    if (!q->map->has_copies)
        return n_popped;
    gw_tables_release(q);
    return gw_copies_fetch(q, reqs, n_popped);
}

/* The number of chains of maximum length that may still be copied. A completion makes room again.
 */
static unsigned room_for_copies(const struct gw_queue *q)
{
    return q->in_flight.n_copied < COPIES_MAX
               ? (unsigned)((COPIES_MAX - q->in_flight.n_copied) / GW_PIN_COPY_MAX)
               : 0;
}

/* Take up to `n` chains off the ring. Returns: how many; 0 also if the ring is now broken. */
static unsigned take(struct gw_queue *q, struct gw_head *heads, unsigned n)
{
    unsigned n_tracked;
    int n_taken;

    if (!gw_queue_is_running(q))
        return 0;
    n = gw_min_u(n, q->ring.size - q->in_flight.n);
    n = gw_min_u(n, GW_POP_BATCH);
    if (q->in_flight.n_copied > 0)
        n = gw_min_u(n, room_for_copies(q));
    if (gw_queue_has_resubmits(q))
        return gw_queue_take_resubmits(q, heads, n);
    n_taken = q->ring.ops->take(&q->ring, heads, n);
    if (n_taken < 0) {
        gw_queue_break(q, gw_last_error());
        return 0;
    }
    /* Their buffers may be in a map that is still in the worker's mailbox (change.c). */
    if (__atomic_load_n(&q->generation.posted, __ATOMIC_RELAXED) > q->generation.applied) {
        q->ring.ops->untake(&q->ring, count_slots(heads, (unsigned)n_taken));
        q->poll.made_progress = true;
        gw_queue_activate(q); /* the worker pops again after processing its mailbox */
        return 0;
    }
    n_tracked = gw_inflight_take(&q->inflight, heads, (unsigned)n_taken);
    if (n_tracked < (unsigned)n_taken) {
        q->ring.ops->untake(&q->ring,
                            count_slots(heads + n_tracked, (unsigned)n_taken - n_tracked));
        gw_queue_break(q, gw_last_error());
    }
    return n_tracked;
}

unsigned gw_queue_pop(struct gw_queue *q, struct gw_request **reqs, unsigned n_reqs)
{
    struct gw_head heads[GW_POP_BATCH];
    unsigned n_popped = 0, n_taken = 0, n;

    gw_queue_lock(q);
    q->in_flight.now_ns = gw_clock_coarse_ns();
    /* Bounded, because a driver may make bad chains available as fast as they are answered. */
    while (n_popped < n_reqs && n_taken < q->ring.size) {
        bool are_resubmitted = gw_queue_has_resubmits(q);
        int64_t room = find_room(q);

        n = n_reqs - n_popped;
        if (n > q->limits.requests_left)
            n = (unsigned)q->limits.requests_left;
        n = room > 0 && n > 0 ? take(q, heads, n) : 0;
        if (n == 0)
            break;
        q->limits.room = room;
        n_popped += pop_batch(q, reqs + n_popped, heads, n, are_resubmitted);
        q->in_flight.bytes += room - q->limits.room;
        q->limits.bytes_left -= room - q->limits.room;
        n_taken += n;
        q->limits.requests_left -= n;
        q->poll.made_progress = true;
    }
    gw_request_note_oldest(q);
    /*
     * The worker slept during this pop, or waited for the device to make room. The position at
     * which the driver must kick has moved, and only the worker enables kicks.
     */
    if ((n_taken > 0 && q->poll.kicks_enabled) || (q->poll.starved && n_popped < n_reqs)) {
        q->poll.kicks_enabled = false;
        gw_queue_activate(q);
    }
    gw_queue_unlock(q);
    return n_popped;
}

int gw_request_unpop(struct gw_request *pub)
{
    struct gw_request_i *r = gw_container_of(pub, struct gw_request_i, pub);
    struct gw_queue *q = pub->queue;
    int ret = -EINVAL;

    gw_queue_lock(q);
    if (r->position == q->in_flight.n_taken) {
        if (r->is_resubmitted) {
            q->in_flight.n_slots_left += r->n_slots;
            if (q->resume.resubmit)
                q->resume.next_resubmit--;
        } else {
            q->ring.ops->untake(&q->ring, r->n_slots);
            gw_inflight_untake(&q->inflight, r->entry);
        }
        q->in_flight.n_taken--;
        gw_request_uncount(q, r);
        q->poll.starved = false; /* not a completion, so it must not wake the queue */
        gw_request_retire(q, r);
        gw_request_note_oldest(q);
        /* The device could not take the request: as if it had stayed on the ring. */
        q->poll.made_progress = false;
        q->poll.starved = true;
        ret = 0;
    }
    assert(gw_queue_is_consistent(q));
    gw_queue_unlock(q);
    return ret == 0 ? 0 : gw_fail(ret, "a request that was popped later is in flight or completed");
}

static bool may_suspend(const struct gw_queue *q)
{
    return q->state == GW_QUEUE_STOPPING && q->stop.how != GW_STOP_DRAIN && q->inflight.part;
}

bool gw_queue_may_suspend(struct gw_queue *q)
{
    bool may;

    gw_queue_lock(q);
    may = may_suspend(q);
    gw_queue_unlock(q);
    return may;
}

void gw_request_keep_inflight(struct gw_queue *q, struct gw_request_i *r)
{
    gw_full_fence();
    if (q->dirty_log.all && q->dirty_log.log)
        gw_request_mark(q, r); /* the device may have written some of it */
    if (!r->is_bad)
        gw_count(&q->stats.requests, (uint64_t)-1);
    q->in_flight.n_slots_left += r->n_slots;
    gw_request_retire(q, r);
    gw_request_note_oldest(q);
}

int gw_request_suspend(struct gw_request *pub)
{
    struct gw_request_i *r = gw_container_of(pub, struct gw_request_i, pub);
    struct gw_queue *q = pub->queue;
    int ret = -EPERM;

    gw_queue_lock(q);
    if (may_suspend(q)) {
        if (r->position < q->resume.first_suspended)
            q->resume.first_suspended = r->position;
        gw_request_keep_inflight(q, r);
        if (q->batch.in_order)
            gw_queue_publish(q); /* completed requests may have waited for this one */
        ret = 0;
    }
    assert(gw_queue_is_consistent(q));
    gw_queue_unlock(q);
    return ret == 0 ? 0 : gw_fail(ret, "requests of this queue must be answered");
}

void gw_request_retire(struct gw_queue *q, struct gw_request_i *r)
{
    bool old = r->generation != q->generation.number;

    if (q->translation)
        gw_translation_note_retired(q, r);
    gw_chain_release(q, r);
    gw_list_remove(&r->in_flight);
    gw_request_put(q, r);
    q->poll.made_progress = true;
    q->in_flight.n--;
    q->in_flight.bytes -= r->len;
    gw_queue_note_ended(q, old);
    if (q->poll.starved)
        gw_queue_activate(q);
}

/* ---- access for the device ---- */

void *gw_request_private(struct gw_request *pub)
{
    return gw_container_of(pub, struct gw_request_i, pub) + 1;
}

/* Drops `n` bytes from the first element of an iovec array. */
static void consume(struct iovec **iov, uint32_t *n_iov, size_t n)
{
    (*iov)->iov_base = (char *)(*iov)->iov_base + n;
    (*iov)->iov_len -= n;
    if ((*iov)->iov_len == 0) {
        (*iov)++;
        (*n_iov)--;
    }
}

size_t gw_request_read(struct gw_request *r, void *buf, size_t len)
{
    size_t done = 0;

    while (done < len && r->n_readable > 0) {
        size_t n = r->readable->iov_len < len - done ? r->readable->iov_len : len - done;

        memcpy((char *)buf + done, r->readable->iov_base, n);
        consume(&r->readable, &r->n_readable, n);
        done += n;
    }
    r->readable_len -= done;
    return done;
}

size_t gw_request_write(struct gw_request *r, const void *buf, size_t len)
{
    size_t done = 0;

    while (done < len && r->n_writable > 0) {
        size_t n = r->writable->iov_len < len - done ? r->writable->iov_len : len - done;

        memcpy(r->writable->iov_base, (const char *)buf + done, n);
        consume(&r->writable, &r->n_writable, n);
        done += n;
    }
    r->writable_len -= done;
    return done;
}

bool gw_request_take_status(struct gw_request *r)
{
    struct iovec *last;

    if (r->n_writable == 0)
        return false;
    last = &r->writable[r->n_writable - 1];
    r->writable_len--;
    if (--last->iov_len == 0)
        r->n_writable--;
    return true;
}
