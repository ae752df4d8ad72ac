/* SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause */
/*
 * The device's side of a packed ring, as plain as it can be, for tests of the driver's side. It is
 * written from the virtio specification alone (1.2, 2.8) and trusts the driver.
 */
#pragma once

#include <godwit/frontend/frontend.h>

#include <endian.h>
#include <linux/virtio_ring.h>
#include <stdbool.h>
#include <string.h>
#include <unistd.h>

#define PACKED_CHAIN_MAX 130
#define PACKED_AVAIL     (1u << VRING_PACKED_DESC_F_AVAIL)
#define PACKED_USED      (1u << VRING_PACKED_DESC_F_USED)

struct packed_chain {
    uint16_t id;
    unsigned n_desc; /* of the ring */
    unsigned n_out;
    unsigned n_in;
    struct gw_driver_buf bufs[PACKED_CHAIN_MAX];
};

/* A place in the ring and the wrap counter that goes with it. */
struct packed_place {
    unsigned offset;
    bool wrap;
};

struct packed_device {
    struct gw_guest_mem *mem;
    struct vring_packed_desc *ring;
    struct vring_packed_desc_event *driver_event;
    struct vring_packed_desc_event *device_event;
    unsigned size;
    struct packed_place avail, used;
};

static inline struct packed_place packed_place_at(unsigned size, unsigned index)
{
    index %= 2 * size;
    return (struct packed_place){.offset = index % size, .wrap = index < size};
}

static inline void packed_place_step(const struct packed_device *dev, struct packed_place *p,
                                     unsigned n)
{
    p->offset += n;
    if (p->offset >= dev->size) {
        p->offset -= dev->size;
        p->wrap = !p->wrap;
    }
}

static inline void packed_device_init(struct packed_device *dev, struct gw_guest_mem *m,
                                      const struct gw_driver_config *cfg, unsigned index)
{
    memset(dev, 0, sizeof(*dev));
    dev->mem = m;
    dev->size = cfg->queue_size;
    dev->ring = gw_guest_mem_at(m, cfg->desc, cfg->queue_size * 16);
    dev->driver_event = gw_guest_mem_at(m, cfg->avail, 4);
    dev->device_event = gw_guest_mem_at(m, cfg->used, 4);
    dev->avail = dev->used = packed_place_at(cfg->queue_size, index);
}

/* Length, id and flags, which both sides load and store as one. */
static inline uint64_t *packed_device_word(struct vring_packed_desc *d)
{
    return (uint64_t *)(void *)&d->len;
}

static inline bool packed_device_is_avail(const struct packed_device *dev)
{
    uint64_t *word = packed_device_word(&dev->ring[dev->avail.offset]);
    /* Acquire: the rest of the chain is read after the flags of its first descriptor. */
    uint16_t flags = (uint16_t)(le64toh(__atomic_load_n(word, __ATOMIC_ACQUIRE)) >> 48);

    return !!(flags & PACKED_AVAIL) == dev->avail.wrap &&
           !!(flags & PACKED_USED) != dev->avail.wrap;
}

static inline void packed_device_add_buf(struct packed_chain *c, const struct vring_packed_desc *d)
{
    struct gw_driver_buf *buf = &c->bufs[c->n_out + c->n_in];

    buf->addr = le64toh(d->addr);
    buf->len = le32toh(d->len);
    if (le16toh(d->flags) & VRING_DESC_F_WRITE)
        c->n_in++;
    else
        c->n_out++;
}

/* Take the next available chain; false when there is none. */
static inline bool packed_device_pop(struct packed_device *dev, struct packed_chain *c)
{
    const struct vring_packed_desc *d, *table;
    uint16_t flags;

    c->id = 0;
    c->n_desc = c->n_out = c->n_in = 0;
    if (!packed_device_is_avail(dev))
        return false;
    do {
        d = &dev->ring[dev->avail.offset];
        flags = le16toh(d->flags);
        c->id = le16toh(d->id);
        c->n_desc++;
        packed_place_step(dev, &dev->avail, 1);
        if (!(flags & VRING_DESC_F_INDIRECT)) {
            packed_device_add_buf(c, d);
            continue;
        }
        table = gw_guest_mem_at(dev->mem, le64toh(d->addr), le32toh(d->len));
        for (unsigned i = 0; i < le32toh(d->len) / sizeof(*table); i++)
            packed_device_add_buf(c, &table[i]);
    } while (flags & VRING_DESC_F_NEXT && c->n_desc < PACKED_CHAIN_MAX);
    return true;
}

/* Use chain `id`; the next used descriptor is `n_desc` further. */
static inline void packed_device_push(struct packed_device *dev, uint16_t id, unsigned n_desc,
                                      uint32_t len)
{
    struct vring_packed_desc *d = &dev->ring[dev->used.offset];
    uint16_t flags = dev->used.wrap ? PACKED_AVAIL | PACKED_USED : 0;

    if (len)
        flags |= VRING_DESC_F_WRITE;
    /* Release: the driver that sees the flags sees the rest and the data. */
    __atomic_store_n(packed_device_word(d),
                     htole64(len | (uint64_t)id << 32 | (uint64_t)flags << 48), __ATOMIC_RELEASE);
    packed_place_step(dev, &dev->used, n_desc);
}

/* Ask for kicks: always, never, or when the descriptor at `p` becomes available. */
static inline void packed_device_set_event(struct packed_device *dev, unsigned flags,
                                           struct packed_place p)
{
    __atomic_store_n(&dev->device_event->off_wrap, htole16(p.offset | (p.wrap ? 0x8000u : 0)),
                     __ATOMIC_RELAXED);
    /* Release: who sees the flags sees the place. */
    __atomic_store_n(&dev->device_event->flags, htole16(flags), __ATOMIC_RELEASE);
}

/* Does the driver want a call for what was used since `old`? */
static inline bool packed_device_call_wanted(const struct packed_device *dev,
                                             struct packed_place old)
{
    uint16_t flags, event;

    /* Full barrier: what is used is visible before it is read what the driver wants. */
    __atomic_thread_fence(__ATOMIC_SEQ_CST);
    flags = le16toh(__atomic_load_n(&dev->driver_event->flags, __ATOMIC_ACQUIRE)) & 3;
    event = le16toh(__atomic_load_n(&dev->driver_event->off_wrap, __ATOMIC_RELAXED));
    if (flags != VRING_PACKED_EVENT_FLAG_DESC)
        return flags == VRING_PACKED_EVENT_FLAG_ENABLE;
    while (old.offset != dev->used.offset || old.wrap != dev->used.wrap) {
        if (old.offset == (event & 0x7fff) && old.wrap == event >> 15)
            return true;
        packed_place_step(dev, &old, 1);
    }
    return false;
}

static inline void packed_device_call(int call_fd)
{
    uint64_t one = 1;
    ssize_t n = write(call_fd, &one, sizeof(one));

    (void)n;
}
