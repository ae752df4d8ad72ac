/* SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause */
/*
 * The packed layout (virtio 1.x, 2.8). The ring has descriptors that the driver makes available and
 * the device overwrites, in ring order, with used ones. Two bits in the flags of a descriptor and
 * the wrap counter of the lap determine which side owns the slot.
 *
 * Ordering, in pairs with the driver:
 *
 *   [A] We load the word with the flags with acquire before the rest of a chain. The driver stores
 *       the flags of a chain's first descriptor with release, last.
 *
 *   [B] We store the word with the flags of a batch's first used descriptor with release, after the
 *       other descriptors and the data. The driver reads that descriptor first, with acquire.
 *
 *   [C] We store used descriptors, issue a full fence, and load the driver's event area. The driver
 *       stores its event area, issues a full fence, and loads the next used descriptor. Either we
 *       notify or the driver finds the descriptor.
 *
 *   [D] We store the device's event area, issue a full fence in enable_kicks, and load the next
 *       descriptor's flags. The driver makes a descriptor available, issues a full fence, and loads
 *       the device's event area. Either the driver kicks or we find the request.
 *
 *   [E] An event area has two halves. Its flags are stored last, with release, and loaded first,
 *       with acquire. They determine whether the other half is valid.
 */
#include "base/barrier.h"
#include "base/log_i.h"
#include "desc.h"
#include "ring.h"

#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>

#define FLAG_AVAIL (1u << VRING_PACKED_DESC_F_AVAIL)
#define FLAG_USED  (1u << VRING_PACKED_DESC_F_USED)
#define WRAP       0x8000u
#define INDEX_MASK 0x7fffu

/* ---- places ---- */

static struct gw_ring_slot slot_from(uint32_t half)
{
    return (struct gw_ring_slot){.index = half & INDEX_MASK, .wrap = (half & WRAP) != 0};
}

static uint16_t slot_to(struct gw_ring_slot slot)
{
    return (uint16_t)(slot.index | (slot.wrap ? WRAP : 0));
}

/* Moves a slot forward, by up to one lap. */
static inline void advance(const struct gw_ring *ring, struct gw_ring_slot *slot, uint32_t n)
{
    uint32_t index = slot->index + n;

    if (index >= ring->size) {
        index -= ring->size;
        slot->wrap = !slot->wrap;
    }
    slot->index = (uint16_t)index;
}

/* Slots from `from` forward to `to`. Positions form a circle of two laps, one per wrap counter. */
static uint32_t distance(const struct gw_ring *ring, struct gw_ring_slot from,
                         struct gw_ring_slot to)
{
    uint32_t a = from.index + (from.wrap ? 0 : ring->size);
    uint32_t b = to.index + (to.wrap ? 0 : ring->size);

    return b >= a ? b - a : b + 2 * ring->size - a;
}

/* ---- start ---- */

static void packed_describe(const struct gw_ring_config *c,
                            struct gw_ring_piece pieces[GW_RING_PIECES])
{
    const uint64_t event_len = sizeof(struct vring_packed_desc_event);

    pieces[0] = (struct gw_ring_piece){.name = "descriptor ring",
                                       .uva = c->desc,
                                       .len = sizeof(struct vring_packed_desc) * (uint64_t)c->size,
                                       .access = GW_IOTLB_BOTH};
    pieces[1] = (struct gw_ring_piece){
        .name = "driver event area", .uva = c->avail, .len = event_len, .access = GW_IOTLB_READ};
    pieces[2] = (struct gw_ring_piece){
        .name = "device event area", .uva = c->used, .len = event_len, .access = GW_IOTLB_BOTH};
}

static int packed_attach(struct gw_ring *ring, const struct gw_map *map)
{
    const struct gw_ring_config *c = &ring->config;
    struct gw_ring_packed *p = &ring->packed;
    struct gw_ring_piece pieces[GW_RING_PIECES];
    int r;

    packed_describe(c, pieces);
    r = gw_ring_find(ring, map, pieces);
    if (r < 0)
        return r;
    p->desc = pieces[0].at;
    p->driver_event = pieces[1].at;
    p->device_event = pieces[2].at;
    p->desc_gpa = pieces[0].gpa;
    p->event_gpa = pieces[2].gpa;
    /* The user addresses are aligned, but the offset of a region in its file may shift them. */
    if ((uintptr_t)p->desc % 8 || (uintptr_t)p->driver_event % 4 ||
        (uintptr_t)p->device_event % 4) {
        gw_ring_detach(ring);
        return gw_fail(-EFAULT,
                       "ring and event areas at user addresses %#" PRIx64 ", %#" PRIx64
                       ", %#" PRIx64 " are not aligned in their file",
                       c->desc, c->avail, c->used);
    }
    return 0;
}

static int packed_start(struct gw_ring *ring)
{
    struct gw_ring_packed *p = &ring->packed;
    uint32_t base = ring->config.base;

    ring->size = ring->config.size;
    p->next_avail = slot_from(base);
    /* A front-end that sends only 16 bits (DPDK) has drained the ring: all taken slots are used. */
    p->next_used = base >> 16 ? slot_from(base >> 16) : p->next_avail;
    if (p->next_avail.index >= ring->size || p->next_used.index >= ring->size ||
        distance(ring, p->next_used, p->next_avail) > ring->size)
        return gw_fail(-EINVAL, "base %#x is impossible in a packed ring of %u", base, ring->size);
    p->copies = malloc(ring->size * sizeof(p->copies[0]));
    if (!p->copies)
        return gw_fail(-ENOMEM, "no memory for %u descriptors", ring->size);
    ring->n_busy = distance(ring, p->next_used, p->next_avail);
    p->published = p->next_used;
    p->n_unpublished = 0;
    p->event_flags = UINT16_MAX; /* unknown */
    return 0;
}

static void packed_done(struct gw_ring *ring)
{
    free(ring->packed.copies);
    ring->packed.copies = NULL;
}

static void packed_resume(struct gw_ring *ring, uint16_t used, uint32_t n_slots)
{
    struct gw_ring_packed *p = &ring->packed;

    p->next_used = p->published = slot_from(used);
    p->next_avail = p->next_used;
    advance(ring, &p->next_avail, n_slots);
    ring->n_busy = n_slots;
}

/* ---- available ---- */

/* The bits of a descriptor's word that show which side owns it; drivers_turn: the driver does. */
#define TURN ((uint64_t)(FLAG_AVAIL | FLAG_USED) << GW_DESC_FLAGS_SHIFT)

static inline uint64_t drivers_turn(bool wrap)
{
    return (uint64_t)(wrap ? FLAG_AVAIL : FLAG_USED) << GW_DESC_FLAGS_SHIFT;
}

static int packed_n_available(const struct gw_ring *ring)
{
    const struct gw_ring_packed *p = &ring->packed;
    struct gw_desc_packed d = gw_desc_copy_packed(&p->desc[p->next_avail.index]); /* [A] */

    return (d.word & TURN) == drivers_turn(p->next_avail.wrap);
}

/*
 * Copies the chains. Only the flags of a chain's first descriptor are checked for availability: the
 * driver wrote the others before it made the first available. A slot stays taken until its used
 * descriptor is published; only a faulty driver makes it available before that. A chain that needs
 * such a slot is not taken; if it is the first chain, the ring is broken.
 */
static int packed_take(struct gw_ring *ring, struct gw_head *heads, unsigned n)
{
    struct gw_ring_packed *p = &ring->packed;
    const struct vring_packed_desc *from = p->desc + p->next_avail.index;
    const struct vring_packed_desc *const end = p->desc + ring->size;
    struct gw_desc_packed *to = p->copies, *chain = to;
    struct gw_desc_packed *const to_end = to + (ring->size - ring->n_busy);
    uint64_t turn = drivers_turn(p->next_avail.wrap);
    unsigned i;

    for (i = 0; i < n; i++, chain = to) {
        struct gw_desc_packed d = gw_desc_copy_packed(from); /* [A] */

        if ((d.word & TURN) != turn)
            break;
        for (;;) {
            if (to == to_end && i == 0)
                return gw_fail(-EPROTO, "the driver made a chain available that is longer than"
                                        " the free part of the ring");
            if (to == to_end)
                goto out;
            *to++ = d;
            if (++from == end) {
                from = p->desc;
                turn ^= TURN;
            }
            if (!(gw_desc_flags(d) & VRING_DESC_F_NEXT))
                break;
            d = gw_desc_copy_packed(from);
        }
        heads[i].descs = chain;
        heads[i].id = gw_desc_id(d);
        heads[i].n_slots = (uint16_t)(to - chain);
    }
out:
    ring->n_busy += (uint32_t)(chain - p->copies);
    advance(ring, &p->next_avail, (uint32_t)(chain - p->copies));
    return (int)i;
}

static void packed_untake(struct gw_ring *ring, unsigned n_slots)
{
    struct gw_ring_slot *slot = &ring->packed.next_avail;

    /* `n_slots` back is the same as a full lap less `n_slots` forward, in the lap before. */
    advance(ring, slot, ring->size - n_slots);
    slot->wrap = !slot->wrap;
    ring->n_busy -= n_slots;
}

/* ---- used ---- */

/* The driver reads a batch's first descriptor before all others, so publish stores that one. */
static void packed_put_used(struct gw_ring *ring, uint16_t id, uint32_t len, unsigned n_slots)
{
    struct gw_ring_packed *p = &ring->packed;
    uint32_t flags = (p->next_used.wrap ? FLAG_AVAIL | FLAG_USED : 0) |
                     (len > 0 ? (uint32_t)VRING_DESC_F_WRITE : 0);
    uint64_t word = gw_desc_packed_word(len, id, (uint16_t)flags);

    if (p->n_unpublished == 0)
        p->first_used = word;
    else
        gw_store64((uint64_t *)(void *)&p->desc[p->next_used.index] + 1, word);
    advance(ring, &p->next_used, n_slots);
    p->n_unpublished += n_slots;
}

static void packed_unput(struct gw_ring *ring)
{
    struct gw_ring_packed *p = &ring->packed;

    p->n_unpublished = 0;
    p->next_used = p->published;
}

static bool packed_has_unpublished(const struct gw_ring *ring)
{
    return ring->packed.n_unpublished > 0;
}

static bool packed_wants_notification(struct gw_ring *ring, uint32_t n_new)
{
    const struct gw_ring_packed *p = &ring->packed;
    uint16_t flags = gw_load16_acquire(&p->driver_event->flags) & 3; /* [E] */
    struct gw_ring_slot event;
    uint32_t ago;

    if (ring->notify_on_empty && ring->n_busy == 0 && packed_n_available(ring) == 0)
        return true;
    if (flags == VRING_PACKED_EVENT_FLAG_DISABLE)
        return false;
    if (!ring->event_idx || flags != VRING_PACKED_EVENT_FLAG_DESC)
        return true;
    event = slot_from(gw_load16(&p->driver_event->off_wrap));
    if (event.index >= ring->size)
        return true;
    ago = distance(ring, event, p->published);
    return ago > 0 && ago <= n_new;
}

/* Descriptors are marked at their own address; the log address is that of the event area. */
static void packed_mark_desc(struct gw_ring *ring, uint32_t first, uint32_t n)
{
    const uint64_t size = sizeof(struct vring_packed_desc);

    if (ring->dirty_log && n > 0)
        gw_dirty_log_mark(ring->dirty_log, ring->packed.desc_gpa + first * size, n * size);
}

static void packed_mark_event(struct gw_ring *ring)
{
    const struct gw_ring_packed *p = &ring->packed;

    /* Some front-ends send the address of the descriptors instead, as DPDK expects. */
    if (ring->dirty_log)
        gw_dirty_log_mark(ring->dirty_log,
                          ring->log_addr == p->desc_gpa ? p->event_gpa : ring->log_addr,
                          sizeof(*p->device_event));
}

static bool packed_publish(struct gw_ring *ring)
{
    struct gw_ring_packed *p = &ring->packed;
    uint32_t first = p->published.index, n = p->n_unpublished;
    uint32_t n_before_wrap = n < ring->size - first ? n : ring->size - first;

    gw_store64_release((uint64_t *)(void *)&p->desc[first] + 1, p->first_used); /* [B] */
    p->published = p->next_used;
    p->n_unpublished = 0;
    ring->n_busy -= n;
    gw_full_fence(); /* [C] */
    packed_mark_desc(ring, first, n_before_wrap);
    packed_mark_desc(ring, 0, n - n_before_wrap);
    return packed_wants_notification(ring, n);
}

/* ---- kicks ---- */

static void write_event(struct gw_ring *ring, uint16_t flags)
{
    struct gw_ring_packed *p = &ring->packed;

    p->event_flags = flags;
    gw_store16_release(&p->device_event->flags, flags); /* [E] */
    gw_full_fence();                                    /* [D] */
    packed_mark_event(ring);
}

static void packed_disable_kicks(struct gw_ring *ring)
{
    /* A passed event index causes a kick again after two laps, which costs less than a write. */
    if (ring->packed.event_flags != VRING_PACKED_EVENT_FLAG_DESC)
        write_event(ring, VRING_PACKED_EVENT_FLAG_DISABLE);
}

static void packed_enable_kicks(struct gw_ring *ring)
{
    struct gw_ring_packed *p = &ring->packed;

    if (!ring->event_idx) {
        write_event(ring, VRING_PACKED_EVENT_FLAG_ENABLE);
        return;
    }
    gw_store16(&p->device_event->off_wrap, slot_to(p->next_avail));
    write_event(ring, VRING_PACKED_EVENT_FLAG_DESC);
}

/* ---- the rest ---- */

static void packed_mark_all(struct gw_ring *ring)
{
    packed_mark_desc(ring, 0, ring->size);
    packed_mark_event(ring);
}

static bool packed_is_consistent(const struct gw_ring *ring)
{
    const struct gw_ring_packed *p = &ring->packed;

    return distance(ring, p->published, p->next_used) == p->n_unpublished &&
           distance(ring, p->published, p->next_avail) == ring->n_busy &&
           p->n_unpublished <= ring->n_busy && ring->n_busy <= ring->size;
}

static uint16_t packed_used(const struct gw_ring *ring)
{
    return slot_to(ring->packed.next_used);
}

static uint32_t packed_base(const struct gw_ring *ring)
{
    return slot_to(ring->packed.next_avail) | (uint32_t)slot_to(ring->packed.next_used) << 16;
}

const struct gw_ring_ops gw_ring_packed_ops = {
    .is_packed = true,
    .describe = packed_describe,
    .attach = packed_attach,
    .start = packed_start,
    .done = packed_done,
    .resume = packed_resume,
    .n_available = packed_n_available,
    .take = packed_take,
    .untake = packed_untake,
    .put_used = packed_put_used,
    .unput = packed_unput,
    .publish = packed_publish,
    .has_unpublished = packed_has_unpublished,
    .disable_kicks = packed_disable_kicks,
    .enable_kicks = packed_enable_kicks,
    .mark_all = packed_mark_all,
    .is_consistent = packed_is_consistent,
    .used = packed_used,
    .base = packed_base,
};
