/* SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause */
/*
 * The device's side of a split ring, as plain as it can be, for tests of the driver's side. It is
 * written from the virtio specification alone (1.2, 2.7) and trusts the driver.
 */
#pragma once

#include <godwit/frontend/frontend.h>

#include <endian.h>
#include <linux/virtio_ring.h>
#include <stdbool.h>
#include <string.h>
#include <unistd.h>

#define CHAIN_MAX 130

struct split_chain {
    unsigned head;
    unsigned n_out;
    unsigned n_in;
    struct gw_driver_buf bufs[CHAIN_MAX];
};

struct split_device {
    struct gw_guest_mem *mem;
    struct vring_desc *desc;
    struct vring_avail *avail;
    struct vring_used *used;
    unsigned size;
    uint16_t next_avail;
    uint16_t next_used;
    bool event_idx;
};

static inline void split_device_init(struct split_device *dev, struct gw_guest_mem *m,
                                     const struct gw_driver_config *cfg, uint16_t base)
{
    unsigned size = cfg->queue_size;

    memset(dev, 0, sizeof(*dev));
    dev->mem = m;
    dev->size = size;
    dev->desc = gw_guest_mem_at(m, cfg->desc, size * 16);
    dev->avail = gw_guest_mem_at(m, cfg->avail, 6 + size * 2);
    dev->used = gw_guest_mem_at(m, cfg->used, 6 + size * 8);
    dev->next_avail = base;
    dev->next_used = base;
}

static inline uint16_t split_device_used_event(const struct split_device *dev)
{
    return __atomic_load_n(&dev->avail->ring[dev->size], __ATOMIC_RELAXED);
}

static inline void split_device_set_avail_event(struct split_device *dev, uint16_t event)
{
    __atomic_store_n((uint16_t *)(void *)&dev->used->ring[dev->size], event, __ATOMIC_RELAXED);
}

static inline void split_device_add_buf(struct split_chain *c, const struct vring_desc *d)
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
static inline bool split_device_pop(struct split_device *dev, struct split_chain *c)
{
    /* Acquire: the ring entry and its descriptors are read after the index. */
    uint16_t idx = le16toh(__atomic_load_n(&dev->avail->idx, __ATOMIC_ACQUIRE));
    const struct vring_desc *table = dev->desc;
    unsigned i, n = 0;

    c->head = c->n_out = c->n_in = 0;
    if (idx == dev->next_avail)
        return false;
    i = c->head = le16toh(dev->avail->ring[dev->next_avail++ & (dev->size - 1)]);
    if (le16toh(table[i].flags) & VRING_DESC_F_INDIRECT) {
        table = gw_guest_mem_at(dev->mem, le64toh(table[i].addr), le32toh(table[i].len));
        i = 0;
    }
    for (;;) {
        split_device_add_buf(c, &table[i]);
        if (!(le16toh(table[i].flags) & VRING_DESC_F_NEXT) || ++n == CHAIN_MAX)
            return true;
        i = le16toh(table[i].next);
    }
}

static inline void split_device_push(struct split_device *dev, uint32_t id, uint32_t len)
{
    struct vring_used_elem *e = &dev->used->ring[dev->next_used++ & (dev->size - 1)];

    __atomic_store_n(&e->id, htole32(id), __ATOMIC_RELAXED);
    __atomic_store_n(&e->len, htole32(len), __ATOMIC_RELAXED);
    /* Release: the driver that sees the index sees the element and the data. */
    __atomic_store_n(&dev->used->idx, htole16(dev->next_used), __ATOMIC_RELEASE);
}

/* Does the driver want a call for what was pushed since `old`? */
static inline bool split_device_call_wanted(const struct split_device *dev, uint16_t old)
{
    /* Full barrier: the used index is visible before it is read what the driver wants. */
    __atomic_thread_fence(__ATOMIC_SEQ_CST);
    if (dev->event_idx)
        return (uint16_t)(dev->next_used - split_device_used_event(dev) - 1) <
               (uint16_t)(dev->next_used - old);
    return !(__atomic_load_n(&dev->avail->flags, __ATOMIC_RELAXED) & VRING_AVAIL_F_NO_INTERRUPT);
}

static inline void split_device_call(int call_fd)
{
    uint64_t one = 1;
    ssize_t n = write(call_fd, &one, sizeof(one));

    (void)n;
}
