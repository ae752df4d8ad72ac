/* SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause */
/* Translated addresses of a queue: misses, invalidations, and the pages of its ring. */
#include "translation.h"

#include "core/queue/queue_i.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

const char gw_translation_missing[] = "address that is not mapped yet";

/* Pages of a ring, or of a buffer, that are asked for at a time; the rest follow. */
enum {
    MISSES_MAX = 16
};

/* ---- start and end ---- */

int gw_translation_begin(struct gw_queue *q, const struct gw_iotlb *table,
                         struct gw_iotlb_misses *misses)
{
    struct gw_translation *t = calloc(1, sizeof(*t));

    if (!t)
        return gw_fail(-ENOMEM, "no memory for translated addresses");
    t->table = table;
    t->misses = misses;
    q->translation = t;
    return 0;
}

/* The ring is not in use: end what waits only for that. */
static void note_detached(struct gw_translation *t)
{
    struct gw_iotlb_wait **at = &t->waiting;

    while (*at) {
        struct gw_iotlb_wait *wait = *at;

        wait->has_ring = false;
        if (wait->n_users > 0) {
            at = &wait->next;
            continue;
        }
        *at = wait->next;
        gw_latch_count(wait->latch, 0);
    }
}

void gw_translation_end(struct gw_queue *q)
{
    struct gw_translation *t = q->translation;

    if (!t)
        return;
    note_detached(t); /* nothing is in flight */
    free(t);
    q->translation = NULL;
}

void gw_translation_abandon(struct gw_queue *q)
{
    struct gw_translation *t = q->translation;

    if (!t)
        return;
    t->table = NULL;
    note_detached(t);
}

/* ---- the ring ---- */

static void ask_for_ring(struct gw_queue *q)
{
    struct gw_iotlb_miss misses[MISSES_MAX];
    int n = gw_ring_find_misses(q->ring.ops->is_packed, &q->ring.config, q->translation->table,
                                misses, MISSES_MAX);

    if (n < 0)
        gw_queue_break(q, gw_last_error());
    for (int i = 0; i < n; i++)
        gw_iotlb_misses_add(q->translation->misses, misses[i], false);
}

/* Attach the ring again if its pages are mapped. */
static void find_ring(struct gw_queue *q)
{
    struct gw_translation *t = q->translation;
    int r;

    if (t->ring != GW_TRANSLATED_RING_LOST || q->broken)
        return;
    q->ring.iotlb = t->table;
    r = q->ring.ops->attach(&q->ring, q->map);
    if (r == -EAGAIN) {
        ask_for_ring(q);
        return;
    }
    if (r < 0) {
        gw_queue_break(q, gw_last_error());
        return;
    }
    t->ring = GW_TRANSLATED_RING_USED;
    gw_queue_apply_ring_log(q);
}

void gw_translation_settle(struct gw_queue *q)
{
    struct gw_translation *t = q->translation;

    if (t->ring != GW_TRANSLATED_RING_LOSING || q->in_flight.n > 0 || !t->table)
        return;
    gw_queue_publish(q);
    gw_ring_detach(&q->ring);
    t->ring = GW_TRANSLATED_RING_LOST;
    note_detached(t);
    find_ring(q);
}

/* ---- changes of the table ---- */

static bool uses_table(const struct gw_queue *q)
{
    return q->state != GW_QUEUE_STOPPED && !q->abandoned && q->translation;
}

static void set_table(struct gw_queue *q, const struct gw_iotlb *table)
{
    struct gw_translation *t = q->translation;

    t->table = table;
    t->is_blocked = false;
    if (q->ring.attached)
        q->ring.iotlb = table;
    find_ring(q);
    gw_queue_activate(q);
}

void gw_queue_set_iotlb(struct gw_queue *q, const struct gw_iotlb *table,
                        struct gw_iova_range range)
{
    gw_queue_lock(q);
    if (uses_table(q)) {
        gw_iotlb_cache_drop(&q->translation->cache, range);
        set_table(q, table);
    }
    gw_queue_unlock(q);
}

void gw_translation_replace(struct gw_queue *q, const struct gw_iotlb *table)
{
    struct gw_translation *t = q->translation;

    memset(&t->cache, 0, sizeof(t->cache));
    /* Nothing is lost if the new map, or the new table, lacks the ring. */
    if (q->in_flight.n == 0 && t->ring == GW_TRANSLATED_RING_USED) {
        gw_ring_detach(&q->ring);
        t->ring = GW_TRANSLATED_RING_LOST;
    }
    set_table(q, table);
}

static bool uses_range(const struct gw_queue *q, const struct gw_request_i *r,
                       struct gw_iova_range range)
{
    const struct gw_iova_extent *e = gw_request_iovas(q, r);

    for (unsigned i = 0; i < r->n_iovas; i++)
        if (gw_ranges_overlap(e[i].iova, e[i].len, range.iova, range.size))
            return true;
    return false;
}

static unsigned count_users(const struct gw_queue *q, struct gw_iova_range range)
{
    unsigned n = 0;

    for (const struct gw_list *at = q->in_flight.requests.next; at != &q->in_flight.requests;
         at = at->next)
        n += uses_range(q, gw_container_of(at, const struct gw_request_i, in_flight), range);
    return n;
}

static void wait_for_users(struct gw_queue *q, struct gw_iotlb_wait *wait)
{
    struct gw_translation *t = q->translation;

    gw_queue_publish(q);
    wait->epoch = t->epoch++;
    wait->n_users = count_users(q, wait->range);
    wait->has_ring = t->ring != GW_TRANSLATED_RING_LOST && !q->abandoned && q->ring.attached &&
                     gw_ring_is_in(&q->ring, wait->range);
    if (wait->has_ring)
        t->ring = GW_TRANSLATED_RING_LOSING;
    if (wait->n_users == 0 && !wait->has_ring) {
        gw_latch_count(wait->latch, 0);
        return;
    }
    wait->next = t->waiting;
    t->waiting = wait;
}

void gw_queue_invalidate_iotlb(struct gw_queue *q, const struct gw_iotlb *table,
                               struct gw_iotlb_wait *wait)
{
    gw_queue_lock(q);
    if (!q->translation || q->state == GW_QUEUE_STOPPED) {
        gw_latch_count(wait->latch, 0);
    } else {
        /* Counted before the table changes, which may attach a ring that was lost. */
        wait_for_users(q, wait);
        if (uses_table(q)) {
            gw_iotlb_cache_drop(&q->translation->cache, wait->range);
            set_table(q, table);
            gw_translation_settle(q);
        }
    }
    gw_queue_unlock(q);
}

void gw_translation_note_retired(struct gw_queue *q, const struct gw_request_i *r)
{
    struct gw_translation *t = q->translation;
    struct gw_iotlb_wait **at = &t->waiting;

    if (t->ring == GW_TRANSLATED_RING_LOSING && q->in_flight.n == 1)
        gw_queue_activate(q); /* its turn detaches the ring */
    while (*at) {
        struct gw_iotlb_wait *wait = *at;
        bool is_user = (int32_t)(r->epoch - wait->epoch) <= 0 && uses_range(q, r, wait->range);

        wait->n_users -= is_user;
        if (!is_user || wait->n_users > 0 || wait->has_ring) {
            at = &wait->next;
            continue;
        }
        *at = wait->next;
        gw_latch_count(wait->latch, 0);
    }
}

/* ---- requests ---- */

/* Report the pages of these extents that are not mapped. */
static void report_misses(struct gw_queue *q, const struct gw_iova_extent *extents, unsigned n,
                          unsigned access)
{
    struct gw_translation *t = q->translation;

    for (unsigned i = 0; i < n; i++) {
        const struct gw_iova_range range = {.iova = extents[i].iova, .size = extents[i].len};
        struct gw_iotlb_miss misses[MISSES_MAX];
        int n_misses = gw_iotlb_find_misses(t->table, range, access, misses, MISSES_MAX);

        for (int j = 0; j < n_misses; j++)
            gw_iotlb_misses_add(t->misses, misses[j], false);
    }
}

static const char *refuse(struct gw_queue *q, int r, const struct gw_iotlb_miss *miss)
{
    if (r == -EACCES) {
        gw_iotlb_misses_add(q->translation->misses, *miss, true);
        return "buffer that the IOMMU does not allow to access";
    }
    return r == -E2BIG ? "buffers in too many pieces" : "buffer beyond the last address";
}

/* Returns: the number of extents in all; as gw_iotlb_translate. */
static int translate(struct gw_queue *q, const struct gw_iova_extent *from, unsigned n,
                     unsigned *n_readable, struct gw_extent *to, unsigned max,
                     struct gw_iotlb_miss *miss)
{
    struct gw_translation *t = q->translation;
    unsigned n_before = *n_readable;
    int n_to, n_more;

    n_to = gw_iotlb_translate(t->table, &t->cache, from, n_before, GW_IOTLB_READ, to, max, miss);
    if (n_to < 0)
        return n_to;
    n_more = gw_iotlb_translate(t->table, &t->cache, from + n_before, n - n_before, GW_IOTLB_WRITE,
                                to + n_to, max - (unsigned)n_to, miss);
    if (n_more < 0)
        return n_more;
    *n_readable = (unsigned)n_to;
    return n_to + n_more;
}

const char *gw_translate_buffers(struct gw_queue *q, struct gw_request_i *r, unsigned *n,
                                 unsigned *n_readable)
{
    struct gw_extent *extents = r->segments ? r->segments->extents : r->extents;
    struct gw_iova_extent *iovas = gw_request_iovas(q, r);
    unsigned max = r->segments ? GW_CHAIN_MAX : GW_CHAIN_INLINE, n_iovas = *n;
    struct gw_iotlb_miss miss;
    int n_translated;

    for (unsigned i = 0; i < n_iovas; i++)
        iovas[i] = (struct gw_iova_extent){.iova = extents[i].gpa, .len = extents[i].len};
    n_translated = translate(q, iovas, n_iovas, n_readable, extents, max, &miss);
    if (n_translated == -E2BIG && !r->segments) {
        const char *why = gw_chain_grow(q, r, 0);

        if (why)
            return why;
        memcpy(r->segments->iovas, iovas, n_iovas * sizeof(*iovas));
        iovas = r->segments->iovas;
        n_translated =
            translate(q, iovas, n_iovas, n_readable, r->segments->extents, GW_CHAIN_MAX, &miss);
    }
    if (n_translated == -EAGAIN) {
        report_misses(q, iovas, *n_readable, GW_IOTLB_READ);
        report_misses(q, iovas + *n_readable, n_iovas - *n_readable, GW_IOTLB_WRITE);
        return gw_translation_missing;
    }
    if (n_translated < 0)
        return refuse(q, n_translated, &miss);
    r->n_iovas = (uint16_t)n_iovas;
    r->epoch = q->translation->epoch;
    *n = (unsigned)n_translated;
    return NULL;
}

const char *gw_translate_table(struct gw_queue *q, gw_iova_t iova, uint32_t len, const void **ret)
{
    struct gw_translation *t = q->translation;
    const struct gw_iova_extent extent = {.iova = iova, .len = len};
    struct gw_extent pieces[GW_TABLE_PIECES];
    struct iovec iov[GW_TABLE_PIECES];
    struct gw_iotlb_miss miss;
    struct gw_pin pin;
    int n = gw_iotlb_translate(t->table, &t->cache, &extent, 1, GW_IOTLB_READ, pieces,
                               GW_TABLE_PIECES, &miss);

    if (n == -EAGAIN) {
        report_misses(q, &extent, 1, GW_IOTLB_READ);
        return gw_translation_missing;
    }
    if (n == -EACCES) {
        gw_iotlb_misses_add(t->misses, miss, true);
        return "indirect table that the IOMMU does not allow to read";
    }
    if (n > 0)
        n = gw_mem_pin(q->map, &q->map_last, pieces, (unsigned)n, iov, GW_TABLE_PIECES, &pin);
    if (n < 0)
        return "indirect table outside guest memory";
    return gw_table_use(q, iov, n, ret);
}

/* ---- a ring that waits ---- */

void gw_translation_look_ahead(struct gw_queue *q)
{
    struct gw_head heads[GW_POP_BATCH];
    struct gw_request_i *scratch;
    unsigned n_slots = 0, room = q->ring.size - q->in_flight.n;
    int n;

    /* All that the first of them misses was reported when it was walked. */
    if (gw_queue_has_resubmits(q) || room == 0)
        return;
    n = q->ring.ops->take(&q->ring, heads, gw_min_u(room, GW_POP_BATCH));
    if (n <= 0)
        return; /* a ring that is broken is found so when it continues */
    scratch = gw_request_take(q);
    for (int i = 0; i < n; i++) {
        n_slots += heads[i].n_slots;
        if (gw_head_is_valid(q, &heads[i]) && !gw_chain_walk(q, scratch, &heads[i]))
            gw_chain_release(q, scratch);
    }
    gw_request_put(q, scratch);
    q->ring.ops->untake(&q->ring, n_slots);
}
