/* SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause */
/*
 * The split layout (virtio 1.x, 2.7): heads in, used elements out. It knows nothing of requests.
 *
 * Ordering, in pairs with the driver:
 *
 *   [A] We load avail.idx with acquire before we read heads and descriptors. The driver stores it
 *       with release after it wrote them.
 *
 *   [B] We store used.idx with release after the used elements and the data. The driver loads it
 *       with acquire before it reads them.
 *
 *   [C] We store used.idx, issue a full fence, and load used_event (or avail.flags). The driver
 *       stores used_event, issues a full fence, and loads used.idx. Either we notify or the driver
 *       finds the element.
 *
 *   [D] We store avail_event (or used.flags), issue a full fence in enable_kicks, and load
 *       avail.idx. The driver stores avail.idx, issues a full fence, and loads avail_event. Either
 *       the driver kicks or we find the request.
 */
#include "base/barrier.h"
#include "base/log_i.h"
#include "desc.h"
#include "ring.h"

#include <errno.h>
#include <inttypes.h>

/* Both rings end with an event word, even if EVENT_IDX is not negotiated (2.7.6, 2.7.8). */
static void split_describe(const struct gw_ring_config *c,
                           struct gw_ring_piece pieces[GW_RING_PIECES])
{
    pieces[0] = (struct gw_ring_piece){.name = "descriptor table",
                                       .uva = c->desc,
                                       .len = UINT64_C(16) * c->size,
                                       .access = GW_IOTLB_READ};
    pieces[1] = (struct gw_ring_piece){.name = "available ring",
                                       .uva = c->avail,
                                       .len = 6 + UINT64_C(2) * c->size,
                                       .access = GW_IOTLB_READ};
    pieces[2] = (struct gw_ring_piece){.name = "used ring",
                                       .uva = c->used,
                                       .len = 6 + UINT64_C(8) * c->size,
                                       .access = GW_IOTLB_BOTH};
}

static int split_attach(struct gw_ring *ring, const struct gw_map *map)
{
    const struct gw_ring_config *c = &ring->config;
    struct gw_ring_split *s = &ring->split;
    struct gw_ring_piece pieces[GW_RING_PIECES];
    int r;

    split_describe(c, pieces);
    r = gw_ring_find(ring, map, pieces);
    if (r < 0)
        return r;
    s->desc = pieces[0].at;
    s->avail = pieces[1].at;
    s->used = pieces[2].at;
    /* The user addresses are aligned, but the offset of a region in its file may shift them. */
    if ((uintptr_t)s->desc % 8 || (uintptr_t)s->avail % 2 || (uintptr_t)s->used % 4) {
        gw_ring_detach(ring);
        return gw_fail(-EFAULT,
                       "rings at user addresses %#" PRIx64 ", %#" PRIx64 ", %#" PRIx64
                       " are not aligned in their file",
                       c->desc, c->avail, c->used);
    }
    s->used_event = (const uint16_t *)&s->avail->ring[c->size];
    s->avail_event = (uint16_t *)(void *)&s->used->ring[c->size];
    return 0;
}

static int split_start(struct gw_ring *ring)
{
    struct gw_ring_split *s = &ring->split;

    if (ring->config.base > UINT16_MAX)
        return gw_fail(-EINVAL, "base %#x of a split ring is beyond 16 bits", ring->config.base);
    ring->size = ring->config.size;
    ring->n_busy = 0;
    s->mask = (uint16_t)(ring->size - 1);
    s->next_avail = (uint16_t)ring->config.base;
    /* Continue where the previous back-end left the used ring. */
    s->published = gw_load16(&s->used->idx);
    s->next_used = s->published;
    s->notified_valid = false;
    return 0;
}

static void split_done(struct gw_ring *ring)
{
}

static void split_resume(struct gw_ring *ring, uint16_t used, uint32_t n_slots)
{
    ring->split.next_used = ring->split.published = used;
    ring->split.next_avail = (uint16_t)(used + n_slots);
    ring->n_busy = n_slots;
}

static int split_n_available(const struct gw_ring *ring)
{
    const struct gw_ring_split *s = &ring->split;
    uint16_t n = (uint16_t)(gw_load16_acquire(&s->avail->idx) - s->next_avail); /* [A] */

    if (n > ring->size)
        return gw_fail(-EPROTO,
                       "the driver's available index is ahead by more than the ring's size");
    return n;
}

/*
 * What the driver wrote is in the cache of its CPU, and each step depends on the one before. So all
 * heads are read first, each with a prefetch of its descriptor, and then all descriptors.
 */
static int split_take(struct gw_ring *ring, struct gw_head *heads, unsigned n)
{
    struct gw_ring_split *s = &ring->split;
    int n_available = split_n_available(ring);

    if (n_available < 0)
        return n_available;
    if (n > (unsigned)n_available)
        n = (unsigned)n_available;
    for (unsigned i = 0; i < n; i++) {
        heads[i].id = gw_load16(&s->avail->ring[(uint16_t)(s->next_avail + i) & s->mask]);
        heads[i].n_slots = 1;
        if (heads[i].id < ring->size)
            __builtin_prefetch(&s->desc[heads[i].id]);
    }
    for (unsigned i = 0; i < n; i++)
        if (heads[i].id < ring->size)
            heads[i].first = gw_desc_load(&s->desc[heads[i].id]);
    s->next_avail = (uint16_t)(s->next_avail + n);
    ring->n_busy += n;
    return (int)n;
}

static void split_untake(struct gw_ring *ring, unsigned n_slots)
{
    ring->split.next_avail = (uint16_t)(ring->split.next_avail - n_slots);
    ring->n_busy -= n_slots;
}

static void split_put_used(struct gw_ring *ring, uint16_t id, uint32_t len, unsigned n_slots)
{
    struct gw_ring_split *s = &ring->split;
    struct vring_used_elem *elem = &s->used->ring[s->next_used & s->mask];

    gw_store32(&elem->id, id);
    gw_store32(&elem->len, len);
    s->next_used = (uint16_t)(s->next_used + n_slots);
}

static void split_unput(struct gw_ring *ring)
{
    ring->split.next_used = ring->split.published;
}

static bool split_has_unpublished(const struct gw_ring *ring)
{
    return ring->split.published != ring->split.next_used;
}

static bool split_wants_notification(struct gw_ring *ring)
{
    struct gw_ring_split *s = &ring->split;
    uint16_t old = s->notified_used;
    bool valid = s->notified_valid;

    s->notified_used = s->published;
    s->notified_valid = true;
    if (ring->notify_on_empty && ring->n_busy == 0 && split_n_available(ring) == 0)
        return true;
    if (!ring->event_idx)
        return !(gw_load16(&s->avail->flags) & VRING_AVAIL_F_NO_INTERRUPT);
    return !valid || vring_need_event(gw_load16(s->used_event), s->published, old);
}

/* The caller has issued a full fence after the write. */
static void split_mark(struct gw_ring *ring, const volatile void *written, size_t len)
{
    if (ring->dirty_log)
        gw_dirty_log_mark(ring->dirty_log,
                          ring->log_addr + (size_t)((const volatile char *)written -
                                                    (const volatile char *)ring->split.used),
                          len);
}

/* The used elements from `first` up to `end`, which may wrap around. */
static void split_mark_elements(struct gw_ring *ring, uint16_t first, uint16_t end)
{
    const struct gw_ring_split *s = &ring->split;
    const size_t size = sizeof(s->used->ring[0]);
    uint16_t n = (uint16_t)(end - first);
    uint32_t at = first & s->mask;
    uint32_t n_before_wrap = n < ring->size - at ? n : ring->size - at;

    split_mark(ring, &s->used->ring[at], n_before_wrap * size);
    if (n > n_before_wrap)
        split_mark(ring, &s->used->ring[0], (n - n_before_wrap) * size);
}

static bool split_publish(struct gw_ring *ring)
{
    struct gw_ring_split *s = &ring->split;
    uint16_t old = s->published;

    s->published = s->next_used;
    ring->n_busy -= (uint16_t)(s->published - old);
    gw_store16_release(&s->used->idx, s->published); /* [B] */
    gw_full_fence();                                 /* [C] */
    if (ring->dirty_log) {
        split_mark_elements(ring, old, s->published);
        split_mark(ring, &s->used->idx, sizeof(s->used->idx));
    }
    return split_wants_notification(ring);
}

static void split_disable_kicks(struct gw_ring *ring)
{
    struct gw_ring_split *s = &ring->split;

    /* With EVENT_IDX, a stale avail_event suppresses kicks without a store. */
    if (ring->event_idx)
        return;
    gw_store16(&s->used->flags, VRING_USED_F_NO_NOTIFY);
    gw_full_fence(); /* between the store and its mark */
    split_mark(ring, &s->used->flags, sizeof(s->used->flags));
}

static void split_enable_kicks(struct gw_ring *ring)
{
    struct gw_ring_split *s = &ring->split;
    uint16_t *word = ring->event_idx ? s->avail_event : &s->used->flags;

    gw_store16(word, ring->event_idx ? s->next_avail : 0);
    gw_full_fence(); /* [D] */
    split_mark(ring, word, sizeof(*word));
}

static void split_mark_all(struct gw_ring *ring)
{
    if (ring->dirty_log)
        gw_dirty_log_mark(ring->dirty_log, ring->log_addr, gw_ring_log_len(false, ring->size));
}

static bool split_is_consistent(const struct gw_ring *ring)
{
    const struct gw_ring_split *s = &ring->split;

    return (uint16_t)(s->next_used - s->published) <= ring->n_busy && ring->n_busy <= ring->size;
}

static uint16_t split_used(const struct gw_ring *ring)
{
    return ring->split.next_used;
}

static uint32_t split_base(const struct gw_ring *ring)
{
    return ring->split.next_avail;
}

const struct gw_ring_ops gw_ring_split_ops = {
    .describe = split_describe,
    .attach = split_attach,
    .start = split_start,
    .done = split_done,
    .resume = split_resume,
    .n_available = split_n_available,
    .take = split_take,
    .untake = split_untake,
    .put_used = split_put_used,
    .unput = split_unput,
    .publish = split_publish,
    .has_unpublished = split_has_unpublished,
    .disable_kicks = split_disable_kicks,
    .enable_kicks = split_enable_kicks,
    .mark_all = split_mark_all,
    .is_consistent = split_is_consistent,
    .used = split_used,
    .base = split_base,
};
