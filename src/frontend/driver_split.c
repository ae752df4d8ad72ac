/* SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause */
/*
 * The driver's side of a split virtqueue (virtio 1.2, 2.7): chains in, used elements out, kicks and
 * calls only where they are wanted. Setting one up is in driver.c.
 *
 * It is the load generator of the benchmarks, so nothing here allocates, and no system call is made
 * but the write of the kick. The device may write anything to the used ring: what is in flight is
 * remembered beside the ring and never read back from it.
 */
#include "driver_i.h"

#include <endian.h>
#include <errno.h>
#include <poll.h>
#include <stdio.h>
#include <unistd.h>

/* How long a call that is owed may take once its used element is there. */
#define CALL_GRACE_NS 200000000u

static uint16_t load16(const uint16_t *p)
{
    return le16toh(__atomic_load_n(p, __ATOMIC_RELAXED));
}

static void store16(uint16_t *p, uint16_t v)
{
    __atomic_store_n(p, htole16(v), __ATOMIC_RELAXED);
}

/* The device passed `event` when it went from `old` to `new` (virtio 1.2, 2.7.7.2). */
static bool need_event(uint16_t event, uint16_t new_idx, uint16_t old_idx)
{
    return (uint16_t)(new_idx - event - 1) < (uint16_t)(new_idx - old_idx);
}

static void fill_desc(struct vring_desc *desc, const struct gw_driver_buf *buf, uint16_t flags,
                      uint16_t next)
{
    desc->addr = htole64(buf->addr);
    desc->len = htole32(buf->len);
    desc->flags = htole16(flags);
    desc->next = htole16(next);
}

/* Take `n` descriptors off the free list and link them in the table; the list is linked alike. */
static uint16_t fill_direct(struct gw_driver *d, const struct gw_driver_buf *bufs, unsigned n_out,
                            unsigned n)
{
    uint16_t head = d->free_head, i = head;

    for (unsigned k = 0; k < n; k++) {
        uint16_t flags =
            (k >= n_out ? VRING_DESC_F_WRITE : 0) | (k + 1 < n ? VRING_DESC_F_NEXT : 0);

        fill_desc(&d->desc[i], &bufs[k], flags, k + 1 < n ? d->slots[i].next : 0);
        gw_driver_wrote(d, d->desc_gpa + i * sizeof(*d->desc), sizeof(*d->desc));
        d->slots[head].last = i;
        i = d->slots[i].next;
    }
    d->free_head = i;
    return head;
}

static uint16_t fill_indirect(struct gw_driver *d, const struct gw_driver_buf *bufs, unsigned n_out,
                              unsigned n)
{
    uint16_t head = d->free_head;
    size_t at = (size_t)head * d->indirect_max;
    struct vring_desc *table = &d->tables[at];
    struct gw_driver_buf whole = {
        .addr = d->tables_gpa + at * sizeof(*table),
        .len = (uint32_t)(n * sizeof(*table)),
    };

    for (unsigned k = 0; k < n; k++) {
        uint16_t flags =
            (k >= n_out ? VRING_DESC_F_WRITE : 0) | (k + 1 < n ? VRING_DESC_F_NEXT : 0);

        fill_desc(&table[k], &bufs[k], flags, k + 1 < n ? (uint16_t)(k + 1) : 0);
    }
    fill_desc(&d->desc[head], &whole, VRING_DESC_F_INDIRECT, 0);
    gw_driver_wrote(d, whole.addr, whole.len);
    gw_driver_wrote(d, d->desc_gpa + head * sizeof(*d->desc), sizeof(*d->desc));
    d->slots[head].last = head;
    d->free_head = d->slots[head].next;
    return head;
}

int gw_driver_add(struct gw_driver *d, const struct gw_driver_buf *bufs, unsigned n_out,
                  unsigned n_in, uint64_t cookie, unsigned flags)
{
    unsigned n = n_out + n_in;
    unsigned n_desc = flags & GW_DRIVER_INDIRECT ? 1 : n;
    struct gw_driver_slot *slot;
    uint16_t head;

    if (n == 0 || (flags & GW_DRIVER_INDIRECT && n > d->indirect_max))
        return -EINVAL;
    if (n_desc > d->n_free)
        return -ENOSPC;
    if (flags & GW_DRIVER_INDIRECT)
        head = fill_indirect(d, bufs, n_out, n);
    else
        head = fill_direct(d, bufs, n_out, n);
    slot = &d->slots[head];
    slot->cookie = cookie;
    slot->n_desc = (uint16_t)n_desc;
    d->n_free -= n_desc;
    d->n_in_flight++;
    d->avail->ring[d->avail_idx & d->mask] = htole16(head);
    gw_driver_wrote_avail(d, GW_DRIVER_AVAIL_RING(d->avail_idx & d->mask));
    d->avail_idx++;
    return 0;
}

void gw_driver_publish(struct gw_driver *d)
{
    if (d->published == d->avail_idx)
        return;
    d->published = d->avail_idx;
    /* Release: the device that sees the index sees the descriptors and the ring behind it. */
    __atomic_store_n(&d->avail->idx, htole16(d->avail_idx), __ATOMIC_RELEASE);
    gw_driver_wrote_avail(d, GW_DRIVER_AVAIL_IDX);
}

static void write_kick(struct gw_driver *d)
{
    uint64_t one = 1;
    ssize_t n = write(d->kick_fd, &one, sizeof(one));

    /* Only a counter about to overflow refuses, and then the device has been told already. */
    (void)n;
}

bool gw_driver_kick(struct gw_driver *d)
{
    uint16_t old_idx = d->kicked;
    bool wanted;

    gw_driver_publish(d);
    if (old_idx == d->avail_idx)
        return false;
    d->kicked = d->avail_idx;
    /*
     * Full barrier: the index is visible before it is read what the device wants. It does the
     * reverse, so that one of the two sees the other (virtio 1.2, 2.7.21.1).
     */
    __atomic_thread_fence(__ATOMIC_SEQ_CST);
    if (d->event_idx)
        wanted = need_event(load16(d->avail_event), d->avail_idx, old_idx);
    else
        wanted = !(load16(&d->used->flags) & VRING_USED_F_NO_NOTIFY);
    if (wanted)
        write_kick(d);
    return wanted;
}

void gw_driver_kick_always(struct gw_driver *d)
{
    gw_driver_publish(d);
    d->kicked = d->avail_idx;
    write_kick(d);
}

/* The device broke the ring: nothing is taken from it any more. */
static void set_broken(struct gw_driver *d, const char *what, unsigned value)
{
    d->broken = true;
    snprintf(d->error, sizeof(d->error), "queue %u: %s (%u) at used index %u", d->index, what,
             value, d->last_used);
}

static bool take_one(struct gw_driver *d, struct gw_driver_used *ret)
{
    const struct vring_used_elem *e = &d->used->ring[d->last_used & d->mask];
    uint32_t id = le32toh(__atomic_load_n(&e->id, __ATOMIC_RELAXED));
    struct gw_driver_slot *slot;

    if (id > d->mask) {
        set_broken(d, "a used id beyond the ring", id);
        return false;
    }
    slot = &d->slots[id];
    if (slot->n_desc == 0) {
        set_broken(d, "a used id that is not in flight", id);
        return false;
    }
    ret->cookie = slot->cookie;
    ret->id = id;
    ret->len = le32toh(__atomic_load_n(&e->len, __ATOMIC_RELAXED));
    d->n_free += slot->n_desc;
    d->n_in_flight--;
    slot->n_desc = 0;
    d->slots[slot->last].next = d->free_head;
    d->free_head = (uint16_t)id;
    d->last_used++;
    return true;
}

unsigned gw_driver_take(struct gw_driver *d, struct gw_driver_used *used, unsigned n)
{
    /* Acquire: the elements, and the data the device wrote, are read after the index. */
    uint16_t idx = le16toh(__atomic_load_n(&d->used->idx, __ATOMIC_ACQUIRE));
    unsigned ready = (uint16_t)(idx - d->last_used);
    unsigned i;

    if (ready == 0 || d->broken)
        return 0;
    if (ready > d->n_in_flight) {
        set_broken(d, "more used elements than are in flight", ready);
        return 0;
    }
    if (n > ready)
        n = ready;
    for (i = 0; i < n && take_one(d, &used[i]); i++)
        ;
    return i;
}

static void write_used_event(struct gw_driver *d, uint16_t value)
{
    store16(d->used_event, value);
    gw_driver_wrote_avail(d, GW_DRIVER_USED_EVENT(d->mask + 1));
}

void gw_driver_suppress_calls(struct gw_driver *d)
{
    /*
     * With EVENT_IDX the flag must stay 0 (virtio 1.2, 2.7.7.1): an event just behind is not
     * reached for another 65535 elements, and a call then is only a superfluous one.
     */
    if (d->event_idx)
        write_used_event(d, (uint16_t)(d->last_used - 1));
    else
        gw_driver_write_avail_flags(d, VRING_AVAIL_F_NO_INTERRUPT);
}

bool gw_driver_want_calls(struct gw_driver *d)
{
    if (d->event_idx)
        write_used_event(d, d->last_used);
    else
        gw_driver_write_avail_flags(d, 0);
    /* Full barrier: the wish is visible before it is looked whether it came too late. */
    __atomic_thread_fence(__ATOMIC_SEQ_CST);
    return load16(&d->used->idx) == d->last_used;
}

/* Empty the call fd. Returns: whether it had been written. */
static bool read_call(struct gw_driver *d)
{
    uint64_t value;

    return read(d->call_fd, &value, sizeof(value)) == sizeof(value);
}

static void poll_call(struct gw_driver *d, uint64_t deadline)
{
    struct pollfd p = {.fd = d->call_fd, .events = POLLIN};
    uint64_t now = gw_driver_now();
    uint64_t ms = deadline > now ? (deadline - now + 999999u) / 1000000u : 0;

    poll(&p, 1, ms > INT32_MAX ? INT32_MAX : (int)ms);
}

int gw_driver_wait(struct gw_driver *d, unsigned timeout_ms)
{
    uint64_t deadline = gw_driver_now() + (uint64_t)timeout_ms * 1000000u;
    bool called = false;

    while (!d->broken) {
        if (!gw_driver_want_calls(d)) {
            gw_driver_suppress_calls(d);
            return 0;
        }
        poll_call(d, deadline);
        called = read_call(d);
        if (called || gw_driver_now() < deadline)
            continue;
        if (load16(&d->used->idx) == d->last_used)
            return -ETIMEDOUT;
        /* It may have come in this moment, and its call is still to come. */
        poll_call(d, gw_driver_now() + CALL_GRACE_NS);
        if (!read_call(d))
            return -ENOMSG;
    }
    return -EPROTO;
}

void gw_driver_write_desc(struct gw_driver *d, unsigned i, uint64_t addr, uint32_t len,
                          uint16_t flags, uint16_t next)
{
    struct gw_driver_buf buf = {.addr = addr, .len = len};

    fill_desc(&d->desc[i & d->mask], &buf, flags, next);
    gw_driver_wrote(d, d->desc_gpa + (i & d->mask) * sizeof(*d->desc), sizeof(*d->desc));
}

void gw_driver_write_avail(struct gw_driver *d, unsigned i, uint16_t head)
{
    store16(&d->avail->ring[i & d->mask], head);
    gw_driver_wrote_avail(d, GW_DRIVER_AVAIL_RING(i & d->mask));
}

void gw_driver_write_avail_idx(struct gw_driver *d, uint16_t idx)
{
    /* Release, as in gw_driver_publish. */
    __atomic_store_n(&d->avail->idx, htole16(idx), __ATOMIC_RELEASE);
    gw_driver_wrote_avail(d, GW_DRIVER_AVAIL_IDX);
}

void gw_driver_write_avail_flags(struct gw_driver *d, uint16_t flags)
{
    store16(&d->avail->flags, flags);
    gw_driver_wrote_avail(d, GW_DRIVER_AVAIL_FLAGS);
}

void gw_driver_read_used(const struct gw_driver *d, unsigned i, uint32_t *ret_id, uint32_t *ret_len)
{
    const struct vring_used_elem *e = &d->used->ring[i & d->mask];

    *ret_id = le32toh(__atomic_load_n(&e->id, __ATOMIC_RELAXED));
    *ret_len = le32toh(__atomic_load_n(&e->len, __ATOMIC_RELAXED));
}

uint16_t gw_driver_used_idx(const struct gw_driver *d)
{
    return le16toh(__atomic_load_n(&d->used->idx, __ATOMIC_ACQUIRE));
}
