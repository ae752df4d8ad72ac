/* SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause */
/* See power_cut.h: the minimum of a queue around its ring and its inflight part. */
#include "power_cut.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include <godwit/log.h>

static const char *recover(struct power_cut_device *dev, struct power_cut_state *state)
{
    const struct power_cut_config *cfg = dev->cfg;
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
static uint32_t req_of(struct power_cut_device *dev, const struct power_cut_held *h)
{
    struct gw_desc_packed descs[POWER_CUT_CHAIN] = {{.addr = 0}};
    uint32_t req;

    if (!dev->cfg->packed)
        return power_cut_req_at(dev->ring.split.desc[h->e.id].addr);
    if (gw_inflight_descs(&dev->inflight, h->e.entry, descs, POWER_CUT_CHAIN) != h->e.n_slots)
        return UINT32_MAX;
    req = power_cut_req_at(descs[0].addr);
    for (unsigned i = 1; i < h->e.n_slots; i++)
        if (power_cut_req_at(descs[i].addr) != req || gw_desc_id(descs[i]) != h->e.id)
            return UINT32_MAX;
    return req;
}

struct gw_ring_config power_cut_ring_config(const struct power_cut_config *cfg)
{
    return (struct gw_ring_config){
        .size = cfg->size,
        .desc = POWER_CUT_UVA + offsetof(struct power_cut_mem, state.desc),
        .avail = POWER_CUT_UVA + offsetof(struct power_cut_mem, state.avail),
        .used = POWER_CUT_UVA + offsetof(struct power_cut_mem, state.used),
        .base = cfg->packed ? (cfg->start | 0x8000u) * 0x10001u : cfg->start,
    };
}

void power_cut_ask_driver(struct power_cut_mem *mem)
{
    __atomic_store_n(&mem->turn, mem->turn + 1, __ATOMIC_RELEASE);
}

void power_cut_device_done(struct power_cut_device *dev)
{
    gw_inflight_detach(&dev->inflight);
    dev->ring.ops->done(&dev->ring);
}

const char *power_cut_device_start(struct power_cut_device *dev, const struct power_cut_config *cfg,
                                   const struct power_cut_fixture *fixture)
{
    const char *why;

    memset(dev, 0, sizeof(*dev));
    dev->cfg = cfg;
    dev->ring.ops = cfg->packed ? &gw_ring_packed_ops : &gw_ring_split_ops;
    dev->ring.config = power_cut_ring_config(cfg);
    if (dev->ring.ops->attach(&dev->ring, fixture->map) < 0 || dev->ring.ops->start(&dev->ring) < 0)
        why = gw_last_error();
    else
        why = recover(dev, &fixture->mem->state);
    for (unsigned i = 0; i < dev->n_held && !why; i++)
        dev->held[i].req = req_of(dev, &dev->held[i]);
    if (why)
        power_cut_device_done(dev);
    return why;
}

bool power_cut_device_pop(struct power_cut_device *dev)
{
    struct power_cut_held *h = &dev->held[dev->n_held];
    struct gw_head head;

    if (dev->ring.ops->take(&dev->ring, &head, 1) != 1)
        return false;
    h->req = power_cut_req_at(dev->cfg->packed ? head.descs[0].addr : head.first.addr);
    h->e = (struct gw_inflight_entry){.id = head.id, .n_slots = head.n_slots};
    head.entry = head.id;
    if (dev->fault != POWER_CUT_FORGETS_TO_TAKE || head.id != 1)
        gw_inflight_take(&dev->inflight, &head, 1);
    h->e.entry = head.entry;
    dev->n_held++;
    return true;
}

void power_cut_device_unpop(struct power_cut_device *dev)
{
    const struct power_cut_held *h = &dev->held[--dev->n_held];

    dev->ring.ops->untake(&dev->ring, h->e.n_slots);
    gw_inflight_untake(&dev->inflight, h->e.entry);
}

typedef void step_fn(struct power_cut_device *dev, const unsigned *which, unsigned n);

static void put(struct power_cut_device *dev, const unsigned *which, unsigned n)
{
    unsigned n_slots = 0;

    for (unsigned i = 0; i < n; i++) {
        const struct power_cut_held *h = &dev->held[which[i]];

        n_slots += h->e.n_slots;
        if (dev->cfg->in_order && i + 1 < n)
            continue;
        dev->ring.ops->put_used(&dev->ring, h->e.id, 8, n_slots);
        n_slots = 0;
    }
}

static void link(struct power_cut_device *dev, const unsigned *which, unsigned n)
{
    for (unsigned i = 0; i < n; i++)
        gw_inflight_link(&dev->inflight, dev->held[which[i]].e.entry);
    gw_inflight_close(&dev->inflight, dev->ring.ops->used(&dev->ring));
}

static void publish(struct power_cut_device *dev, const unsigned *which, unsigned n)
{
    (void)which;
    (void)n;
    dev->ring.ops->publish(&dev->ring);
}

static void clear(struct power_cut_device *dev, const unsigned *which, unsigned n)
{
    for (unsigned i = 0; i < n; i++)
        gw_inflight_clear(&dev->inflight, dev->held[which[i]].e.entry);
}

static void commit(struct power_cut_device *dev, const unsigned *which, unsigned n)
{
    (void)which;
    (void)n;
    gw_inflight_commit(&dev->inflight);
}

static void drop(struct power_cut_device *dev, const unsigned *which, unsigned n)
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

void power_cut_device_complete(struct power_cut_device *dev, const unsigned *which, unsigned n)
{
    static step_fn *const orders[][6] = {
        [POWER_CUT_RIGHT] = {put, link, publish, clear, commit, drop},
        [POWER_CUT_CLEARS_FIRST] = {put, link, clear, publish, commit, drop},
        [POWER_CUT_COMMITS_FIRST] = {put, link, commit, publish, clear, drop},
        [POWER_CUT_LINKS_LAST] = {put, publish, link, clear, commit, drop},
        [POWER_CUT_FORGETS_TO_TAKE] = {put, link, publish, clear, commit, drop},
    };

    for (unsigned i = 0; i < 6; i++)
        orders[dev->fault][i](dev, which, n);
}
