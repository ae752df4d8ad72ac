/* SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause */
/* See torn.h: the minimum of a queue around its ring and its inflight part. */
#include "torn.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include <godwit/log.h>

static const char *recover(struct torn_device *dev, struct torn_state *state)
{
    const struct torn_config *cfg = dev->cfg;
    struct gw_inflight_ring view = {.used = dev->ring.ops->used(&dev->ring)};
    struct gw_inflight_found found;

    if (cfg->packed)
        view.desc = dev->ring.packed.desc;
    if (gw_inflight_attach(&dev->inflight, state->part, cfg->packed, (uint16_t)cfg->size,
                           cfg->size) < 0)
        return gw_last_error();
    if (gw_inflight_recover(&dev->inflight, &view, &found) < 0)
        return gw_last_error();
    dev->ring.ops->resume(&dev->ring, found.used, found.n_slots);
    for (unsigned i = 0; i < found.n_entries; i++)
        dev->held[i].e = found.entries[i];
    dev->n_held = dev->n_again = found.n_entries;
    free(found.entries);
    return NULL;
}

/* Returns: the request of a held entry, or UINT32_MAX if its descriptors are inconsistent. */
static uint32_t req_of(struct torn_device *dev, const struct torn_held *h)
{
    struct gw_desc_packed descs[TORN_CHAIN] = {{.addr = 0}};
    uint32_t req;

    if (!dev->cfg->packed)
        return torn_req_at(dev->ring.split.desc[h->e.id].addr);
    if (gw_inflight_descs(&dev->inflight, h->e.entry, descs, TORN_CHAIN) != h->e.n_slots)
        return UINT32_MAX;
    req = torn_req_at(descs[0].addr);
    for (unsigned i = 1; i < h->e.n_slots; i++)
        if (torn_req_at(descs[i].addr) != req || gw_desc_id(descs[i]) != h->e.id)
            return UINT32_MAX;
    return req;
}

struct gw_ring_config torn_ring_config(const struct torn_config *cfg)
{
    return (struct gw_ring_config){
        .size = cfg->size,
        .desc = TORN_UVA + offsetof(struct torn_mem, state.desc),
        .avail = TORN_UVA + offsetof(struct torn_mem, state.avail),
        .used = TORN_UVA + offsetof(struct torn_mem, state.used),
        .base = cfg->packed ? (cfg->start | 0x8000u) * 0x10001u : cfg->start,
    };
}

void torn_ask_driver(struct torn_mem *mem)
{
    __atomic_store_n(&mem->turn, mem->turn + 1, __ATOMIC_RELEASE);
}

void torn_device_done(struct torn_device *dev)
{
    gw_inflight_detach(&dev->inflight);
    dev->ring.ops->done(&dev->ring);
}

const char *torn_device_start(struct torn_device *dev, const struct torn_config *cfg,
                              const struct torn_bed *bed)
{
    const char *why;

    memset(dev, 0, sizeof(*dev));
    dev->cfg = cfg;
    dev->ring.ops = cfg->packed ? &gw_ring_packed_ops : &gw_ring_split_ops;
    dev->ring.config = torn_ring_config(cfg);
    if (dev->ring.ops->attach(&dev->ring, bed->map) < 0 || dev->ring.ops->start(&dev->ring) < 0)
        why = gw_last_error();
    else
        why = recover(dev, &bed->mem->state);
    for (unsigned i = 0; i < dev->n_held && !why; i++)
        dev->held[i].req = req_of(dev, &dev->held[i]);
    if (why)
        torn_device_done(dev);
    return why;
}

bool torn_device_pop(struct torn_device *dev)
{
    struct torn_held *h = &dev->held[dev->n_held];
    struct gw_head head;

    if (dev->ring.ops->take(&dev->ring, &head, 1) != 1)
        return false;
    h->req = torn_req_at(dev->cfg->packed ? head.descs[0].addr : head.first.addr);
    h->e = (struct gw_inflight_entry){.id = head.id, .n_slots = head.n_slots};
    head.entry = head.id;
    if (dev->fault != TORN_FORGETS_TO_TAKE || head.id != 1)
        gw_inflight_take(&dev->inflight, &head, 1);
    h->e.entry = head.entry;
    dev->n_held++;
    return true;
}

void torn_device_unpop(struct torn_device *dev)
{
    const struct torn_held *h = &dev->held[--dev->n_held];

    dev->ring.ops->untake(&dev->ring, h->e.n_slots);
    gw_inflight_untake(&dev->inflight, h->e.entry);
}

typedef void step_fn(struct torn_device *dev, const unsigned *which, unsigned n);

static void put(struct torn_device *dev, const unsigned *which, unsigned n)
{
    unsigned n_slots = 0;

    for (unsigned i = 0; i < n; i++) {
        const struct torn_held *h = &dev->held[which[i]];

        n_slots += h->e.n_slots;
        if (dev->cfg->in_order && i + 1 < n)
            continue;
        dev->ring.ops->put_used(&dev->ring, h->e.id, 8, n_slots);
        n_slots = 0;
    }
}

static void link(struct torn_device *dev, const unsigned *which, unsigned n)
{
    for (unsigned i = 0; i < n; i++)
        gw_inflight_link(&dev->inflight, dev->held[which[i]].e.entry);
    gw_inflight_close(&dev->inflight, dev->ring.ops->used(&dev->ring));
}

static void publish(struct torn_device *dev, const unsigned *which, unsigned n)
{
    (void)which;
    (void)n;
    dev->ring.ops->publish(&dev->ring);
}

static void clear(struct torn_device *dev, const unsigned *which, unsigned n)
{
    for (unsigned i = 0; i < n; i++)
        gw_inflight_clear(&dev->inflight, dev->held[which[i]].e.entry);
}

static void commit(struct torn_device *dev, const unsigned *which, unsigned n)
{
    (void)which;
    (void)n;
    gw_inflight_commit(&dev->inflight);
}

static void drop(struct torn_device *dev, const unsigned *which, unsigned n)
{
    unsigned n_left = 0;

    for (unsigned i = 0; i < dev->n_held; i++) {
        bool is_done = false;

        for (unsigned k = 0; k < n; k++)
            is_done = is_done || which[k] == i;
        if (!is_done)
            dev->held[n_left++] = dev->held[i];
    }
    dev->n_held = n_left;
}

void torn_device_complete(struct torn_device *dev, const unsigned *which, unsigned n)
{
    static step_fn *const orders[][6] = {
        [TORN_RIGHT] = {put, link, publish, clear, commit, drop},
        [TORN_CLEARS_FIRST] = {put, link, clear, publish, commit, drop},
        [TORN_COMMITS_FIRST] = {put, link, commit, publish, clear, drop},
        [TORN_LINKS_LAST] = {put, publish, link, clear, commit, drop},
        [TORN_FORGETS_TO_TAKE] = {put, link, publish, clear, commit, drop},
    };

    for (unsigned i = 0; i < 6; i++)
        orders[dev->fault][i](dev, which, n);
}
