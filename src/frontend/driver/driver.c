/* SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause */
/*
 * Setup of the driver's side of a queue: placement of the rings, eventfds, the index to start at,
 * and recovery after a back-end crash. The life of a request is in driver_run.c.
 */
#include "driver_i.h"
#include "driver_parts.h"
#include "fd/peer_fd.h"

#include "base/checked.h"
#include "base/cleanup.h"
#include "base/clock.h"
#include "base/struct_sizes.h"

#include <endian.h>
#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <unistd.h>

#define SIZE_DEFAULT  256
#define SIZE_MAX_RING 32768
#define F_EVENT_IDX   29
#define F_PACKED      34
#define F_IN_ORDER    35

/* Sizes of the three parts in bytes, always including the event fields. */
uint64_t gw_driver_desc_len(const struct gw_driver *d)
{
    return sizeof(struct vring_desc) * (uint64_t)d->size;
}

uint64_t gw_driver_avail_len(const struct gw_driver *d)
{
    if (d->is_packed)
        return sizeof(struct vring_packed_desc_event);
    return sizeof(struct vring_avail) + 2 * (uint64_t)d->size + 2;
}

uint64_t gw_driver_used_len(const struct gw_driver *d)
{
    if (d->is_packed)
        return sizeof(struct vring_packed_desc_event);
    return sizeof(struct vring_used) + sizeof(struct vring_used_elem) * (uint64_t)d->size + 2;
}

static uint64_t tables_len(const struct gw_driver *d)
{
    return sizeof(struct vring_desc) * d->indirect_max * (uint64_t)d->size;
}

uint64_t gw_driver_now(void)
{
    return gw_clock_ns();
}

/* Find the rings in `m`. */
static int locate(struct gw_driver *d, struct gw_guest_mem *m)
{
    void *desc = gw_guest_mem_at(m, d->desc_gpa, gw_driver_desc_len(d));
    void *avail = gw_guest_mem_at(m, d->avail_gpa, gw_driver_avail_len(d));
    void *used = gw_guest_mem_at(m, d->used_gpa, gw_driver_used_len(d));
    void *tables = NULL;

    if (d->indirect_max)
        tables = gw_guest_mem_at(m, d->tables_gpa, tables_len(d));
    if (!desc || !avail || !used || (d->indirect_max && !tables))
        return gw_frontend_fail(-EFAULT, "queue %u: the rings are not in the guest memory",
                                d->index);
    d->ops->locate(d, desc, avail, used);
    d->tables = tables;
    d->mem = m;
    return 0;
}

/* Place the rings as configured, or allocate them; alignments as in virtio 1.2, 2.7 and 2.8. */
static int place(struct gw_driver *d, const struct gw_driver_config *cfg)
{
    int r = 0;

    if (cfg->place) {
        if (cfg->desc % 16 || cfg->avail % (cfg->packed ? 4 : 2) || cfg->used % 4)
            return gw_frontend_fail(-EINVAL, "queue %u: a part of the ring is not aligned",
                                    d->index);
        d->placed = true;
        d->desc_gpa = cfg->desc;
        d->avail_gpa = cfg->avail;
        d->used_gpa = cfg->used;
    } else {
        /* On separate cache lines, because the two sides write to different parts. */
        r = gw_guest_mem_alloc(cfg->mem, gw_driver_desc_len(d), 64, &d->desc_gpa);
        if (r == 0)
            r = gw_guest_mem_alloc(cfg->mem, gw_driver_avail_len(d), 64, &d->avail_gpa);
        if (r == 0)
            r = gw_guest_mem_alloc(cfg->mem, gw_driver_used_len(d), 64, &d->used_gpa);
    }
    if (r == 0 && d->indirect_max)
        r = gw_guest_mem_alloc(cfg->mem, tables_len(d), 64, &d->tables_gpa);
    return r;
}

/* An address of -1 marks a part that has not been allocated. */
static void unplace(struct gw_driver *d)
{
    if (!d->placed) {
        if (d->desc_gpa != UINT64_MAX)
            gw_guest_mem_release(d->mem, d->desc_gpa, gw_driver_desc_len(d));
        if (d->avail_gpa != UINT64_MAX)
            gw_guest_mem_release(d->mem, d->avail_gpa, gw_driver_avail_len(d));
        if (d->used_gpa != UINT64_MAX)
            gw_guest_mem_release(d->mem, d->used_gpa, gw_driver_used_len(d));
    }
    if (d->tables_gpa != UINT64_MAX)
        gw_guest_mem_release(d->mem, d->tables_gpa, tables_len(d));
}

/* Allocate the bookkeeping outside guest memory. */
static int allocate(struct gw_driver *d)
{
    d->slots = calloc(d->size, sizeof(*d->slots));
    if (d->is_packed) {
        d->packed.slots = calloc(d->size, sizeof(*d->packed.slots));
        d->packed.written = calloc(d->size, sizeof(*d->packed.written));
    }
    if (!d->slots || (d->is_packed && (!d->packed.slots || !d->packed.written)))
        return gw_frontend_fail_fixed(-ENOMEM, "out of memory");
    return 0;
}

static bool is_size(const struct gw_driver_config *cfg, unsigned size)
{
    /* Only the size of a split ring must be a power of two (virtio 1.2, 2.7 and 2.8.10.1). */
    return size <= SIZE_MAX_RING && (cfg->packed || (size & (size - 1)) == 0);
}

static int open_eventfd(int *ret)
{
    *ret = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    return *ret < 0 ? gw_frontend_fail(-errno, "eventfd: %s", strerror(errno)) : 0;
}

int gw_driver_new(struct gw_driver **ret, const struct gw_driver_config *given)
{
    struct gw_driver_config config, *cfg = &config;
    struct gw_driver *d;
    unsigned size;
    int r = gw_copy_struct(cfg, sizeof(*cfg), given, GW_FIRST_DRIVER_CONFIG);

    if (r < 0)
        return gw_frontend_fail(r, "driver: configuration of another version");
    size = cfg->queue_size ? cfg->queue_size : SIZE_DEFAULT;
    if (!cfg->mem || !is_size(cfg, size) || cfg->index > 255 || cfg->indirect_max > SIZE_MAX_RING)
        return gw_frontend_fail(-EINVAL,
                                "driver of queue %u: no memory, or an impossible index or size"
                                " (queue %u, indirect tables %u)",
                                cfg->index, size, cfg->indirect_max);
    d = calloc(1, sizeof(*d));
    if (!d)
        return gw_frontend_fail_fixed(-ENOMEM, "out of memory");
    d->is_packed = cfg->packed;
    d->ops = cfg->packed ? &gw_driver_packed_ops : &gw_driver_split_ops;
    d->mem = cfg->mem;
    d->index = cfg->index;
    d->size = size;
    d->indirect_max = cfg->indirect_max;
    d->desc_gpa = d->avail_gpa = d->used_gpa = d->tables_gpa = UINT64_MAX;
    d->kick_fd = d->call_fd = -1;
    r = open_eventfd(&d->kick_fd);
    if (r == 0)
        r = open_eventfd(&d->call_fd);
    if (r == 0)
        r = allocate(d);
    if (r == 0)
        r = place(d, cfg);
    if (r == 0)
        r = locate(d, cfg->mem);
    if (r < 0) {
        gw_driver_free(d);
        return r;
    }
    gw_driver_reset(d, 0);
    *ret = d;
    return 0;
}

void gw_driver_set_channel(struct gw_driver *d, uint32_t domid, uint32_t port)
{
    d->has_channel = true;
    d->domid = domid;
    d->port = port;
}

void gw_driver_free(struct gw_driver *d)
{
    if (!d)
        return;
    unplace(d);
    gw_close(&d->kick_fd);
    gw_close(&d->call_fd);
    if (d->is_packed) {
        free(d->packed.slots);
        free(d->packed.written);
    }
    free(d->slots);
    free(d);
}

int gw_driver_check_features(const struct gw_driver *d, uint64_t features)
{
    bool packed = features >> F_PACKED & 1, in_order = features >> F_IN_ORDER & 1;

    if (packed && !d->is_packed)
        return gw_frontend_fail(
            -EINVAL, "queue %u: the ring is split, but RING_PACKED (34) was negotiated", d->index);
    if (!packed && d->is_packed)
        return gw_frontend_fail(
            -EOPNOTSUPP, "queue %u: the ring is packed, but RING_PACKED (34) was not negotiated",
            d->index);
    if (in_order != d->in_order && d->n_in_flight)
        return gw_frontend_fail(
            -EBUSY, "queue %u: IN_ORDER (35) cannot change with requests in flight", d->index);
    return 0;
}

/* Put all slots on the free list, in ring order. */
static void free_all(struct gw_driver *d)
{
    for (unsigned i = 0; i < d->size; i++) {
        d->slots[i].next = gw_driver_slot_after(d, i, 1);
        d->slots[i].n_desc = 0;
    }
    /* IN_ORDER: a split table is used from its start; in a packed ring the head is the position of
     * the chain. */
    d->free_head = (uint16_t)(d->is_packed ? d->avail_idx % d->size : 0);
    d->oldest = d->free_head;
    d->n_free = d->size;
    d->n_in_flight = 0;
    d->batch.n_left = 0;
}

void gw_driver_set_features(struct gw_driver *d, uint64_t features)
{
    bool event_idx = features >> F_EVENT_IDX & 1, in_order = features >> F_IN_ORDER & 1;

    if (d->in_order != in_order && d->n_in_flight == 0) {
        d->in_order = in_order;
        free_all(d);
    }
    if (d->event_idx == event_idx)
        return;
    d->event_idx = event_idx;
    /* Reset both forms of call suppression: the device must not see stale flags or events. */
    gw_driver_write_avail_flags(d, 0);
    gw_driver_suppress_calls(d);
}

void gw_driver_reset(struct gw_driver *d, uint16_t base)
{
    if (d->is_packed)
        base = (uint16_t)(base % (2 * d->size));
    memset(gw_guest_mem_at(d->mem, d->desc_gpa, gw_driver_desc_len(d)), 0, gw_driver_desc_len(d));
    memset(gw_guest_mem_at(d->mem, d->avail_gpa, gw_driver_avail_len(d)), 0,
           gw_driver_avail_len(d));
    memset(gw_guest_mem_at(d->mem, d->used_gpa, gw_driver_used_len(d)), 0, gw_driver_used_len(d));
    d->avail_idx = d->published = d->last_used = base;
    d->unkicked = 0;
    free_all(d);
    d->base = d->ops->clear(d, base);
    d->is_started = false;
    d->broken = false;
    gw_driver_wrote(d, d->desc_gpa, gw_driver_desc_len(d));
    gw_driver_wrote(d, d->avail_gpa, gw_driver_avail_len(d));
    gw_driver_wrote(d, d->used_gpa, gw_driver_used_len(d));
    gw_driver_suppress_calls(d);
}

int gw_driver_set_mem(struct gw_driver *d, struct gw_guest_mem *m)
{
    return locate(d, m);
}

void gw_driver_set_base(struct gw_driver *d, uint32_t base)
{
    d->base = base;
    d->is_started = false;
}

uint16_t gw_driver_used_idx(const struct gw_driver *d)
{
    return d->ops->used_idx(d);
}

void gw_driver_restore_base(struct gw_driver *d)
{
    gw_driver_set_base(d, d->ops->base(d, gw_driver_used_idx(d)));
}

int gw_driver_check_base(const struct gw_driver *d, unsigned *ret_taken)
{
    uint16_t is_used = gw_driver_used_idx(d), avail, used;

    if (!d->ops->parse_base(d, d->base, &avail, &used) || used != is_used ||
        gw_driver_distance(d, used, avail) > gw_driver_distance(d, used, d->published))
        return gw_frontend_fail(-EPROTO, "queue %u: impossible vring base 0x%" PRIx32, d->index,
                                d->base);
    *ret_taken = gw_driver_distance(d, used, avail);
    return 0;
}

/* IN_ORDER: the used chains are the oldest ones: the rest of a batch, then up to the used index. */
static void find_used_in_order(struct gw_driver *d, uint16_t end)
{
    uint16_t index = d->last_used, head = d->oldest;
    unsigned n_batched = d->batch.n_left, n_desc;

    for (unsigned n = 0; n < d->n_in_flight && (n < n_batched || index != end); n++) {
        n_desc = d->slots[head].n_desc;
        d->slots[head].is_used = true;
        if (n >= n_batched)
            index = gw_driver_index_after(d, index, n_desc);
        head = gw_driver_slot_after(d, head, n_desc);
    }
}

/* Set is_used for the chains that are used and have not been taken. */
static void find_used(struct gw_driver *d)
{
    for (unsigned i = 0; i < d->size; i++)
        d->slots[i].is_used = false;
    if (d->in_order)
        find_used_in_order(d, gw_driver_used_idx(d));
    else
        d->ops->find_used(d);
}

unsigned gw_driver_n_used(struct gw_driver *d)
{
    unsigned n = 0;

    find_used(d);
    for (unsigned i = 0; i < d->size; i++)
        n += d->slots[i].n_desc && d->slots[i].is_used;
    return n;
}

void gw_driver_requeue(struct gw_driver *d)
{
    uint16_t at = gw_driver_used_idx(d), first = d->in_order ? d->oldest : 0;

    gw_driver_set_base(d, d->ops->base(d, at));
    find_used(d);
    for (unsigned i = 0; i < d->size; i++) {
        uint16_t head = gw_driver_slot_after(d, first, i);

        if (d->slots[head].n_desc && !d->slots[head].is_used)
            at = d->ops->offer(d, at, head);
    }
    /* As many chains as before are in flight: all are available, none is used. */
    d->avail_idx = d->published = at;
    d->unkicked = 0;
    gw_driver_write_avail_idx(d, at);
}

uint32_t gw_driver_base(const struct gw_driver *d)
{
    return d->base;
}

unsigned gw_driver_index(const struct gw_driver *d)
{
    return d->index;
}

unsigned gw_driver_size(const struct gw_driver *d)
{
    return d->size;
}

bool gw_driver_is_packed(const struct gw_driver *d)
{
    return d->is_packed;
}

unsigned gw_driver_in_flight(const struct gw_driver *d)
{
    return d->n_in_flight;
}

uint64_t gw_driver_added(const struct gw_driver *d)
{
    return d->n_added;
}

bool gw_driver_is_in_flight(const struct gw_driver *d, unsigned id, uint64_t *ret_number)
{
    if (id >= d->size || d->slots[id].n_desc == 0)
        return false;
    *ret_number = d->slots[id].number;
    return true;
}

struct gw_guest_mem *gw_driver_mem(const struct gw_driver *d)
{
    return d->mem;
}

int gw_driver_kick_fd(const struct gw_driver *d)
{
    return d->kick_fd;
}

int gw_driver_call_fd(const struct gw_driver *d)
{
    return d->call_fd;
}

void gw_driver_set_call_fd(struct gw_driver *d, int fd)
{
    /* Forward a call that arrived before the back-end switched to the new fd. */
    if (gw_eventfd_take(d->call_fd))
        gw_eventfd_signal(fd);
    close(d->call_fd);
    d->call_fd = fd;
}

enum gw_driver_place gw_driver_find(const struct gw_driver *d, gw_gpa_t gpa, unsigned *ret_i)
{
    enum gw_driver_place place = GW_DRIVER_PLACE_NONE;
    unsigned i = 0;

    if (gpa - d->desc_gpa < gw_driver_desc_len(d))
        place = d->ops->find_desc(gpa - d->desc_gpa, &i);
    else if (d->indirect_max && gpa - d->tables_gpa < tables_len(d))
        place = GW_DRIVER_PLACE_DESC;
    else if (gpa - d->avail_gpa < gw_driver_avail_len(d))
        place = d->is_packed ? GW_DRIVER_PLACE_DRIVER_EVENT : GW_DRIVER_PLACE_AVAIL;
    else if (gpa - d->used_gpa < gw_driver_used_len(d))
        place = d->ops->find_used_part(d, gpa - d->used_gpa, &i);
    if (ret_i)
        *ret_i = i;
    return place;
}

void gw_driver_set_iova(struct gw_driver *d, gw_driver_iova_cb *cb, void *arg)
{
    d->iova = cb;
    d->iova_arg = arg;
}
