/* SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause */
/*
 * The driver's side of a split virtqueue in memory (virtio 1.2, 2.7): the descriptor table, the
 * available ring with used_event, the used ring with avail_event. Its use is in driver_run.c.
 */
#include "driver_i.h"
#include "driver_parts.h"

#include <endian.h>

/* Offsets in the available ring. */
#define AVAIL_FLAGS      0
#define AVAIL_IDX        2
#define AVAIL_RING(i)    (4 + 2 * (i))
#define USED_EVENT(size) AVAIL_RING(size)

static uint16_t load16(const uint16_t *p)
{
    return le16toh(__atomic_load_n(p, __ATOMIC_RELAXED));
}

static void store16(uint16_t *p, uint16_t v)
{
    __atomic_store_n(p, htole16(v), __ATOMIC_RELAXED);
}

static unsigned place(const struct gw_driver *d, uint16_t index)
{
    return index & (d->size - 1);
}

/* Record a write to the available ring, `at` bytes from its start. */
static void wrote_avail(const struct gw_driver *d, unsigned at)
{
    gw_driver_wrote(d, d->avail_gpa + at, sizeof(uint16_t));
}

static void write_desc(struct vring_desc *desc, const struct gw_driver_buf *buf, uint16_t flags,
                       uint16_t next)
{
    desc->addr = htole64(buf->addr);
    desc->len = htole32(buf->len);
    desc->flags = htole16(flags);
    desc->next = htole16(next);
}

static void fill_desc(const struct gw_driver *d, struct vring_desc *desc,
                      const struct gw_driver_buf *buf, uint16_t flags, uint16_t next)
{
    struct gw_driver_buf for_device = *buf;

    for_device.addr = gw_driver_iova(d, buf->addr, buf->len, (flags & VRING_DESC_F_WRITE) != 0);
    write_desc(desc, &for_device, flags, next);
}

static void write_avail(struct gw_driver *d, uint16_t index, uint16_t head)
{
    unsigned i = place(d, index);

    store16(&d->split.avail->ring[i], head);
    wrote_avail(d, AVAIL_RING(i));
}

static void write_avail_idx(struct gw_driver *d, uint16_t index)
{
    /* Release: a device that reads the index also sees the descriptors and ring entries. */
    __atomic_store_n(&d->split.avail->idx, htole16(index), __ATOMIC_RELEASE);
    wrote_avail(d, AVAIL_IDX);
}

static void write_avail_flags(struct gw_driver *d, uint16_t flags)
{
    store16(&d->split.avail->flags, flags);
    wrote_avail(d, AVAIL_FLAGS);
}

static void write_used_event(struct gw_driver *d, uint16_t value)
{
    store16(d->split.used_event, value);
    wrote_avail(d, USED_EVENT(d->size));
}

static void split_locate(struct gw_driver *d, void *desc, void *avail, void *used)
{
    struct gw_driver_split *s = &d->split;

    s->desc = desc;
    s->avail = avail;
    s->used = used;
    s->used_event = &s->avail->ring[d->size];
    s->avail_event = (uint16_t *)(void *)&s->used->ring[d->size];
}

static uint32_t split_base(const struct gw_driver *d, uint16_t index)
{
    (void)d;
    return index;
}

/* The base has no used index; it is in the ring. */
static bool split_parse_base(const struct gw_driver *d, uint32_t base, uint16_t *ret_avail,
                             uint16_t *ret_used)
{
    *ret_avail = (uint16_t)base;
    *ret_used = d->ops->used_idx(d);
    return true;
}

static uint32_t split_clear(struct gw_driver *d, uint16_t index)
{
    d->split.avail->idx = htole16(index);
    d->split.used->idx = htole16(index);
    return index;
}

/* Fill `n` free slots of the table, linked in the order of the free list. */
static uint16_t fill_direct(struct gw_driver *d, const struct gw_driver_buf *bufs,
                            unsigned n_readable, unsigned n)
{
    uint16_t i = d->free_head, last = i;

    for (unsigned k = 0; k < n; k++) {
        uint16_t flags =
            (k >= n_readable ? VRING_DESC_F_WRITE : 0) | (k + 1 < n ? VRING_DESC_F_NEXT : 0);

        fill_desc(d, &d->split.desc[i], &bufs[k], flags, k + 1 < n ? d->slots[i].next : 0);
        gw_driver_wrote(d, d->desc_gpa + i * sizeof(struct vring_desc), sizeof(struct vring_desc));
        last = i;
        i = d->slots[i].next;
    }
    return last;
}

static uint16_t fill_indirect(struct gw_driver *d, const struct gw_driver_buf *bufs,
                              unsigned n_readable, unsigned n)
{
    uint16_t head = d->free_head;
    size_t at = (size_t)head * d->indirect_max;
    struct vring_desc *table = (struct vring_desc *)d->tables + at;
    struct gw_driver_buf whole = {
        .addr = d->tables_gpa + at * sizeof(*table),
        .len = (uint32_t)(n * sizeof(*table)),
    };

    for (unsigned k = 0; k < n; k++) {
        uint16_t flags =
            (k >= n_readable ? VRING_DESC_F_WRITE : 0) | (k + 1 < n ? VRING_DESC_F_NEXT : 0);

        fill_desc(d, &table[k], &bufs[k], flags, k + 1 < n ? (uint16_t)(k + 1) : 0);
    }
    fill_desc(d, &d->split.desc[head], &whole, VRING_DESC_F_INDIRECT, 0);
    gw_driver_wrote(d, whole.addr, whole.len);
    gw_driver_wrote(d, d->desc_gpa + head * sizeof(*table), sizeof(*table));
    return head;
}

static uint16_t split_add(struct gw_driver *d, const struct gw_driver_buf *bufs,
                          unsigned n_readable, unsigned n, unsigned flags)
{
    uint16_t last = flags & GW_DRIVER_INDIRECT ? fill_indirect(d, bufs, n_readable, n)
                                               : fill_direct(d, bufs, n_readable, n);

    write_avail(d, d->avail_idx++, d->free_head);
    return last;
}

static void split_publish(struct gw_driver *d)
{
    d->published = d->avail_idx;
    write_avail_idx(d, d->avail_idx);
}

static bool split_wants_kick(struct gw_driver *d)
{
    uint16_t event;

    if (!d->event_idx)
        return !(load16(&d->split.used->flags) & VRING_USED_F_NO_NOTIFY);
    /* Whether the index has passed the event (virtio 1.2, 2.7.10). */
    event = load16(d->split.avail_event);
    return (uint16_t)(d->published - event - 1) < d->unkicked;
}

/* Take the element at last_used; `ready` chains from there on are used. */
static bool take_one(struct gw_driver *d, unsigned ready, struct gw_driver_used *ret)
{
    const struct vring_used_elem *e = &d->split.used->ring[place(d, d->last_used)];
    uint32_t id = le32toh(__atomic_load_n(&e->id, __ATOMIC_RELAXED));
    uint32_t len = le32toh(__atomic_load_n(&e->len, __ATOMIC_RELAXED));

    if (id >= d->size) {
        gw_driver_set_broken(d, "a used id beyond the ring", id);
        return false;
    }
    if (d->slots[id].n_desc == 0) {
        gw_driver_set_broken(d, "a used id that is not in flight", id);
        return false;
    }
    if (len > d->slots[id].writable_len) {
        gw_driver_set_broken(d, "a used length beyond the buffers", len);
        return false;
    }
    if (!d->in_order) {
        gw_driver_retire(d, (uint16_t)id, len, ret);
        d->last_used++;
        return true;
    }
    if (gw_driver_begin_batch(d, (uint16_t)id, len) == 0 || d->batch.n_left > ready) {
        d->batch.n_left = 0;
        gw_driver_set_broken(d, "a batch beyond the used index, which ends with id", id);
        return false;
    }
    d->last_used = (uint16_t)(d->last_used + d->batch.n_left);
    gw_driver_take_batched(d, ret);
    return true;
}

static unsigned split_take(struct gw_driver *d, struct gw_driver_used *used, unsigned n)
{
    /* Acquire: the elements and the data that the device wrote are read after the index. */
    uint16_t idx = le16toh(__atomic_load_n(&d->split.used->idx, __ATOMIC_ACQUIRE));
    unsigned ready = (uint16_t)(idx - d->last_used);

    if (ready > d->n_in_flight - d->batch.n_left) {
        gw_driver_set_broken(d, "more used elements than are in flight", ready);
        return 0;
    }
    for (unsigned i = 0; i < n; i++) {
        if (d->batch.n_left)
            gw_driver_take_batched(d, &used[i]);
        else if (idx == d->last_used || !take_one(d, (uint16_t)(idx - d->last_used), &used[i]))
            return i;
    }
    return n;
}

static uint16_t split_used_idx(const struct gw_driver *d)
{
    return le16toh(__atomic_load_n(&d->split.used->idx, __ATOMIC_ACQUIRE));
}

static bool split_has_used(const struct gw_driver *d)
{
    return load16(&d->split.used->idx) != d->last_used;
}

static void split_suppress_calls(struct gw_driver *d)
{
    /*
     * With EVENT_IDX the flag must stay 0 (virtio 1.2, 2.7.7.1). An event just behind
     * last_used is reached only after 65535 more elements, and causes one superfluous call.
     */
    if (d->event_idx)
        write_used_event(d, (uint16_t)(d->last_used - 1));
    else
        write_avail_flags(d, VRING_AVAIL_F_NO_INTERRUPT);
}

static void split_ask_for_calls(struct gw_driver *d)
{
    if (d->event_idx)
        write_used_event(d, d->last_used);
    else
        write_avail_flags(d, 0);
}

static void split_find_used(struct gw_driver *d)
{
    uint16_t idx = split_used_idx(d);

    for (uint16_t i = d->last_used; i != idx; i++) {
        uint32_t id = le32toh(d->split.used->ring[place(d, i)].id);

        if (id < d->size)
            d->slots[id].is_used = true;
    }
}

static uint16_t split_offer(struct gw_driver *d, uint16_t index, uint16_t head)
{
    write_avail(d, index, head);
    return (uint16_t)(index + 1);
}

static enum gw_driver_place split_find_desc(uint64_t at, unsigned *ret_i)
{
    *ret_i = (unsigned)(at / sizeof(struct vring_desc));
    return GW_DRIVER_PLACE_DESC;
}

static enum gw_driver_place split_find_used_part(const struct gw_driver *d, uint64_t at,
                                                 unsigned *ret_i)
{
    uint64_t element = (at - offsetof(struct vring_used, ring)) / sizeof(struct vring_used_elem);

    if (at < offsetof(struct vring_used, idx))
        return GW_DRIVER_PLACE_USED_FLAGS;
    if (at < offsetof(struct vring_used, ring))
        return GW_DRIVER_PLACE_USED_IDX;
    if (element >= d->size)
        return GW_DRIVER_PLACE_AVAIL_EVENT;
    *ret_i = (unsigned)element;
    return GW_DRIVER_PLACE_USED_ELEMENT;
}

const struct gw_driver_ops gw_driver_split_ops = {
    .locate = split_locate,
    .clear = split_clear,
    .add = split_add,
    .publish = split_publish,
    .wants_kick = split_wants_kick,
    .take = split_take,
    .has_used = split_has_used,
    .suppress_calls = split_suppress_calls,
    .ask_for_calls = split_ask_for_calls,
    .used_idx = split_used_idx,
    .find_used = split_find_used,
    .offer = split_offer,
    .base = split_base,
    .parse_base = split_parse_base,
    .find_desc = split_find_desc,
    .find_used_part = split_find_used_part,
};

/* ---- Raw access, for tests ---- */

void gw_driver_write_desc(struct gw_driver *d, unsigned i, uint64_t addr, uint32_t len,
                          uint16_t flags, uint16_t next)
{
    struct gw_driver_buf buf = {.addr = addr, .len = len};

    if (d->is_packed)
        return;
    i &= d->size - 1;
    write_desc(&d->split.desc[i], &buf, flags, next);
    gw_driver_wrote(d, d->desc_gpa + i * sizeof(struct vring_desc), sizeof(struct vring_desc));
}

void gw_driver_write_avail(struct gw_driver *d, unsigned i, uint16_t head)
{
    if (!d->is_packed)
        write_avail(d, (uint16_t)i, head);
}

void gw_driver_write_avail_idx(struct gw_driver *d, uint16_t idx)
{
    if (!d->is_packed)
        write_avail_idx(d, idx);
}

void gw_driver_write_avail_flags(struct gw_driver *d, uint16_t flags)
{
    if (!d->is_packed)
        write_avail_flags(d, flags);
}

void gw_driver_read_used(const struct gw_driver *d, unsigned i, uint32_t *ret_id, uint32_t *ret_len)
{
    const struct vring_used_elem *e;

    if (d->is_packed)
        return;
    e = &d->split.used->ring[i & (d->size - 1)];
    *ret_id = le32toh(__atomic_load_n(&e->id, __ATOMIC_RELAXED));
    *ret_len = le32toh(__atomic_load_n(&e->len, __ATOMIC_RELAXED));
}
