/* SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause */
/*
 * The split layout (virtio 1.x, 2.7). Knows rings, not requests: heads in, used elements out.
 *
 * Ordering, in pairs with the driver:
 *   [A] avail.idx is loaded with acquire before heads and descriptors are read; the driver stores
 *       it with release after it wrote them.
 *   [B] used.idx is stored with release after the used elements (and, by their writers, the data);
 *       the driver loads it with acquire before it reads them.
 *   [C] used.idx is stored, then used_event (or avail.flags) is loaded: a full fence between. The
 *       driver stores used_event and then loads used.idx, with its own. One of the two sees the
 *       other: either we notify or the driver finds the element.
 *   [D] avail_event (or used.flags) is stored, then avail.idx is loaded: a full fence between, in
 *       enable_kicks. The driver stores avail.idx and then loads avail_event. Either it kicks or we
 *       find the request.
 */
#include "barrier.h"
#include "diag_i.h"
#include "ring.h"

#include <errno.h>
#include <inttypes.h>

static int split_attach(struct gw_ring *ring, const struct gw_map *map)
{
    const struct gw_ring_config *c = &ring->config;
    /* The event words behind both rings belong to them, negotiated or not (2.7.6, 2.7.8). */
    uint64_t avail_len = 6 + UINT64_C(2) * c->size, used_len = 6 + UINT64_C(8) * c->size;
    void *desc = gw_map_translate_uva(map, c->desc, UINT64_C(16) * c->size);
    void *avail = gw_map_translate_uva(map, c->avail, avail_len);
    void *used = gw_map_translate_uva(map, c->used, used_len);

    if (!desc || !avail || !used)
        return gw_fail(-EFAULT,
                       "%s of %u entries at user address %#" PRIx64 " is not in guest memory",
                       !desc    ? "descriptor table"
                       : !avail ? "available ring"
                                : "used ring",
                       c->size,
                       !desc    ? c->desc
                       : !avail ? c->avail
                                : c->used);
    /* User addresses are; the offset of a region in its file may shift them. */
    if ((uintptr_t)desc % 8 || (uintptr_t)avail % 2 || (uintptr_t)used % 4)
        return gw_fail(-EFAULT,
                       "rings at user addresses %#" PRIx64 ", %#" PRIx64 ", %#" PRIx64
                       " are not aligned in their file",
                       c->desc, c->avail, c->used);
    ring->desc = desc;
    ring->avail = avail;
    ring->used = used;
    ring->used_event = (const uint16_t *)&ring->avail->ring[c->size];
    ring->avail_event = (uint16_t *)(void *)&ring->used->ring[c->size];
    return 0;
}

static int split_start(struct gw_ring *ring)
{
    if (ring->config.base > UINT16_MAX)
        return gw_fail(-EINVAL, "base %#x of a split ring is beyond 16 bits", ring->config.base);
    ring->size = ring->config.size;
    ring->mask = (uint16_t)(ring->size - 1);
    ring->next_avail = (uint16_t)ring->config.base;
    /* A ring is continued where the last back-end left it. */
    ring->published = gw_load16(&ring->used->idx);
    ring->next_used = ring->published;
    ring->notified_valid = false;
    return 0;
}

static int split_n_available(const struct gw_ring *ring)
{
    uint16_t n = (uint16_t)(gw_load16_acquire(&ring->avail->idx) - ring->next_avail); /* [A] */

    return n <= ring->size ? n : -EPROTO;
}

static void split_take(struct gw_ring *ring, uint16_t *heads, unsigned n)
{
    for (unsigned i = 0; i < n; i++) {
        heads[i] = gw_load16(&ring->avail->ring[(uint16_t)(ring->next_avail + i) & ring->mask]);
        /* The table is in the driver's cache: start fetching all of them, then walk the first. */
        if (heads[i] < ring->size)
            __builtin_prefetch(&ring->desc[heads[i]]);
    }
    ring->next_avail = (uint16_t)(ring->next_avail + n);
}

static void split_untake(struct gw_ring *ring)
{
    ring->next_avail--;
}

static void split_put_used(struct gw_ring *ring, uint16_t head, uint32_t len)
{
    struct vring_used_elem *elem = &ring->used->ring[ring->next_used & ring->mask];

    gw_store32(&elem->id, head);
    gw_store32(&elem->len, len);
    ring->next_used++;
}

static bool split_has_unpublished(const struct gw_ring *ring)
{
    return ring->published != ring->next_used;
}

static bool split_wants_notification(struct gw_ring *ring)
{
    uint16_t old = ring->notified_used;
    bool valid = ring->notified_valid;

    if (!ring->event_idx)
        return !(gw_load16(&ring->avail->flags) & VRING_AVAIL_F_NO_INTERRUPT);
    ring->notified_used = ring->published;
    ring->notified_valid = true;
    return !valid || vring_need_event(gw_load16(ring->used_event), ring->published, old);
}

/* A full fence is behind the write. */
static void split_mark(struct gw_ring *ring, const volatile void *written, size_t len)
{
    if (ring->log)
        gw_dirty_log_mark(ring->log,
                          ring->log_addr + (size_t)((const volatile char *)written -
                                                    (const volatile char *)ring->used),
                          len);
}

/* The used elements from `first` up to `end`, which may wrap around. */
static void split_mark_elements(struct gw_ring *ring, uint16_t first, uint16_t end)
{
    const size_t size = sizeof(ring->used->ring[0]);
    uint16_t n = (uint16_t)(end - first);
    uint32_t at = first & ring->mask;
    uint32_t n_before_wrap = n < ring->size - at ? n : ring->size - at;

    split_mark(ring, &ring->used->ring[at], n_before_wrap * size);
    if (n > n_before_wrap)
        split_mark(ring, &ring->used->ring[0], (n - n_before_wrap) * size);
}

static bool split_publish(struct gw_ring *ring)
{
    uint16_t old = ring->published;

    ring->published = ring->next_used;
    gw_store16_release(&ring->used->idx, ring->published); /* [B] */
    gw_full_fence();                                       /* [C] */
    if (ring->log) {
        split_mark_elements(ring, old, ring->published);
        split_mark(ring, &ring->used->idx, sizeof(ring->used->idx));
    }
    return split_wants_notification(ring);
}

static void split_disable_kicks(struct gw_ring *ring)
{
    /* With EVENT_IDX a stale avail_event does that by itself. */
    if (ring->event_idx)
        return;
    gw_store16(&ring->used->flags, VRING_USED_F_NO_NOTIFY);
    gw_full_fence(); /* before its mark */
    split_mark(ring, &ring->used->flags, sizeof(ring->used->flags));
}

static void split_enable_kicks(struct gw_ring *ring)
{
    uint16_t *word = ring->event_idx ? ring->avail_event : &ring->used->flags;

    gw_store16(word, ring->event_idx ? ring->next_avail : 0);
    gw_full_fence(); /* [D] */
    split_mark(ring, word, sizeof(*word));
}

static uint32_t split_base(const struct gw_ring *ring)
{
    return ring->next_avail;
}

const struct gw_ring_ops gw_ring_split_ops = {
    .attach = split_attach,
    .start = split_start,
    .n_available = split_n_available,
    .take = split_take,
    .untake = split_untake,
    .put_used = split_put_used,
    .publish = split_publish,
    .has_unpublished = split_has_unpublished,
    .disable_kicks = split_disable_kicks,
    .enable_kicks = split_enable_kicks,
    .base = split_base,
};
