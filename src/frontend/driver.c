/* SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause */
/*
 * Setting up the driver's side of a queue: where its rings are, its eventfds, which index it
 * begins at. The life of a request is in driver_split.c.
 */
#include "driver_i.h"
#include "frontend_i.h"

#include <endian.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <unistd.h>

#define SIZE_DEFAULT  256
#define SIZE_MAX_RING 32768
#define F_EVENT_IDX   29

/* Bytes of the three parts, the event fields included whether negotiated or not. */
static uint64_t desc_len(const struct gw_driver *d)
{
    return sizeof(struct vring_desc) * (d->mask + 1ull);
}

static uint64_t avail_len(const struct gw_driver *d)
{
    return sizeof(struct vring_avail) + 2 * (d->mask + 1ull) + 2;
}

static uint64_t used_len(const struct gw_driver *d)
{
    return sizeof(struct vring_used) + sizeof(struct vring_used_elem) * (d->mask + 1ull) + 2;
}

static uint64_t tables_len(const struct gw_driver *d)
{
    return sizeof(struct vring_desc) * d->indirect_max * (d->mask + 1ull);
}

uint64_t gw_driver_now(void)
{
    return gw_frontend_now();
}

/* Find the rings in `m`. */
static int locate(struct gw_driver *d, struct gw_guest_mem *m)
{
    void *desc = gw_guest_mem_at(m, d->desc_gpa, desc_len(d));
    void *avail = gw_guest_mem_at(m, d->avail_gpa, avail_len(d));
    void *used = gw_guest_mem_at(m, d->used_gpa, used_len(d));
    void *tables = NULL;

    if (d->indirect_max)
        tables = gw_guest_mem_at(m, d->tables_gpa, tables_len(d));
    if (!desc || !avail || !used || (d->indirect_max && !tables))
        return -EFAULT;
    d->desc = desc;
    d->avail = avail;
    d->used = used;
    d->tables = tables;
    d->used_event = &d->avail->ring[d->mask + 1];
    d->avail_event = (uint16_t *)(void *)&d->used->ring[d->mask + 1];
    d->mem = m;
    return 0;
}

/* Addresses of the rings: as placed, or allocated with the alignments of virtio 1.2, 2.7. */
static int place(struct gw_driver *d, const struct gw_driver_config *cfg)
{
    int r = 0;

    if (cfg->place) {
        if (cfg->desc % 16 || cfg->avail % 2 || cfg->used % 4)
            return -EINVAL;
        d->placed = true;
        d->desc_gpa = cfg->desc;
        d->avail_gpa = cfg->avail;
        d->used_gpa = cfg->used;
    } else {
        /* Apart from each other by cache lines: the two sides write to different ones. */
        r = gw_guest_mem_alloc(cfg->mem, desc_len(d), 64, &d->desc_gpa);
        if (r == 0)
            r = gw_guest_mem_alloc(cfg->mem, avail_len(d), 64, &d->avail_gpa);
        if (r == 0)
            r = gw_guest_mem_alloc(cfg->mem, used_len(d), 64, &d->used_gpa);
    }
    if (r == 0 && d->indirect_max)
        r = gw_guest_mem_alloc(cfg->mem, tables_len(d), 64, &d->tables_gpa);
    return r;
}

/* `d` has all its rings, or -1 for those it does not have. */
static void unplace(struct gw_driver *d)
{
    if (!d->placed) {
        if (d->desc_gpa != UINT64_MAX)
            gw_guest_mem_release(d->mem, d->desc_gpa, desc_len(d));
        if (d->avail_gpa != UINT64_MAX)
            gw_guest_mem_release(d->mem, d->avail_gpa, avail_len(d));
        if (d->used_gpa != UINT64_MAX)
            gw_guest_mem_release(d->mem, d->used_gpa, used_len(d));
    }
    if (d->tables_gpa != UINT64_MAX)
        gw_guest_mem_release(d->mem, d->tables_gpa, tables_len(d));
}

int gw_driver_new(struct gw_driver **ret, const struct gw_driver_config *cfg)
{
    unsigned size = cfg->queue_size ? cfg->queue_size : SIZE_DEFAULT;
    struct gw_driver *d;
    int r;

    if (cfg->size != sizeof(*cfg) || !cfg->mem || size > SIZE_MAX_RING || (size & (size - 1)) ||
        cfg->index > 255 || cfg->indirect_max > SIZE_MAX_RING)
        return -EINVAL;
    d = calloc(1, sizeof(*d));
    if (!d)
        return -ENOMEM;
    d->mem = cfg->mem;
    d->index = cfg->index;
    d->mask = size - 1;
    d->indirect_max = cfg->indirect_max;
    d->desc_gpa = d->avail_gpa = d->used_gpa = d->tables_gpa = UINT64_MAX;
    d->kick_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    r = d->kick_fd < 0 ? -errno : 0;
    d->call_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    if (r == 0 && d->call_fd < 0)
        r = -errno;
    d->slots = calloc(size, sizeof(*d->slots));
    if (r == 0 && !d->slots)
        r = -ENOMEM;
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

void gw_driver_free(struct gw_driver *d)
{
    if (!d)
        return;
    unplace(d);
    if (d->kick_fd >= 0)
        close(d->kick_fd);
    if (d->call_fd >= 0)
        close(d->call_fd);
    free(d->slots);
    free(d);
}

void gw_driver_set_features(struct gw_driver *d, uint64_t features)
{
    bool event_idx = features >> F_EVENT_IDX & 1;

    if (d->event_idx == event_idx)
        return;
    d->event_idx = event_idx;
    /* From flags to events or back: neither may say anything the other still means. */
    gw_driver_write_avail_flags(d, 0);
    gw_driver_suppress_calls(d);
}

void gw_driver_reset(struct gw_driver *d, uint16_t base)
{
    unsigned size = d->mask + 1;

    memset(d->desc, 0, desc_len(d));
    memset(d->avail, 0, avail_len(d));
    memset(d->used, 0, used_len(d));
    for (unsigned i = 0; i < size; i++) {
        d->slots[i].next = (uint16_t)((i + 1) & d->mask);
        d->slots[i].n_desc = 0;
    }
    d->free_head = 0;
    d->n_free = size;
    d->n_in_flight = 0;
    d->avail_idx = d->published = d->kicked = d->last_used = base;
    d->avail->idx = htole16(base);
    d->used->idx = htole16(base);
    d->base = base;
    d->broken = false;
    d->error[0] = '\0';
    gw_driver_wrote(d, d->desc_gpa, desc_len(d));
    gw_driver_wrote(d, d->avail_gpa, avail_len(d));
    gw_driver_wrote(d, d->used_gpa, used_len(d));
    gw_driver_suppress_calls(d);
}

int gw_driver_set_mem(struct gw_driver *d, struct gw_guest_mem *m)
{
    return locate(d, m);
}

void gw_driver_set_base(struct gw_driver *d, uint32_t base)
{
    d->base = base;
}

/* It is done already, and its used element is still to be taken. */
static bool is_used(const struct gw_driver *d, unsigned head)
{
    for (uint16_t i = d->last_used; i != gw_driver_used_idx(d); i++) {
        if (le32toh(d->used->ring[i & d->mask].id) == head)
            return true;
    }
    return false;
}

void gw_driver_requeue(struct gw_driver *d)
{
    uint16_t at = gw_driver_used_idx(d);

    d->base = at;
    for (unsigned head = 0; head <= d->mask; head++) {
        if (d->slots[head].n_desc && !is_used(d, head))
            gw_driver_write_avail(d, at++, (uint16_t)head);
    }
    /* As many as before: what is in flight is available, and not used. */
    d->avail_idx = d->published = d->kicked = at;
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
    return d->mask + 1;
}

unsigned gw_driver_in_flight(const struct gw_driver *d)
{
    return d->n_in_flight;
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
    uint64_t value;

    /* A call that came before the back-end had the new one must not get lost. */
    if (read(d->call_fd, &value, sizeof(value)) == sizeof(value) &&
        write(fd, &value, sizeof(value)) < 0)
        errno = 0; /* full, so that it is readable anyway */
    close(d->call_fd);
    d->call_fd = fd;
}

enum gw_driver_place gw_driver_find(const struct gw_driver *d, gw_gpa_t gpa, unsigned *ret_i)
{
    uint64_t used = gpa - d->used_gpa;
    unsigned i = 0;
    enum gw_driver_place place = GW_DRIVER_PLACE_NONE;

    if (gpa - d->desc_gpa < desc_len(d) ||
        (d->indirect_max && gpa - d->tables_gpa < tables_len(d))) {
        place = GW_DRIVER_PLACE_DESC;
    } else if (gpa - d->avail_gpa < avail_len(d)) {
        place = GW_DRIVER_PLACE_AVAIL;
    } else if (used < offsetof(struct vring_used, idx)) {
        place = GW_DRIVER_PLACE_USED_FLAGS;
    } else if (used < offsetof(struct vring_used, ring)) {
        place = GW_DRIVER_PLACE_USED_IDX;
    } else if (used < used_len(d) - sizeof(uint16_t)) {
        place = GW_DRIVER_PLACE_USED_ELEMENT;
        i = (unsigned)((used - offsetof(struct vring_used, ring)) / sizeof(struct vring_used_elem));
    } else if (used < used_len(d)) {
        place = GW_DRIVER_PLACE_AVAIL_EVENT;
    }
    if (ret_i)
        *ret_i = i;
    return place;
}

int gw_driver_error(const struct gw_driver *d, const char **ret_text)
{
    if (ret_text)
        *ret_text = d->error;
    return d->broken ? -EPROTO : 0;
}
