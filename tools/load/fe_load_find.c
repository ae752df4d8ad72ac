/* SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause */
/*
 * Queries about a load: its counters, sampled by another thread while it runs, and the request to
 * which a byte of guest memory belongs. Nothing here changes the load.
 */
#include "base/clock.h"
#include "fe_disk.h"
#include "fe_load_i.h"
#include "frontend/driver/driver_i.h"
#include "frontend/transport/frontend_i.h"

#include <string.h>

void gw_guest_load_sample(struct gw_guest_load *l, struct gw_guest_load_sample *ret)
{
    struct gw_guest_load_live *live = &l->live;
    uint64_t requests = __atomic_load_n(&live->requests, __ATOMIC_RELAXED);
    uint64_t bytes = __atomic_load_n(&live->bytes, __ATOMIC_RELAXED);
    uint64_t since = __atomic_load_n(&live->since, __ATOMIC_RELAXED);
    uint64_t now = gw_clock_ns();

    ret->requests = requests - live->sampled_requests;
    ret->bytes = bytes - live->sampled_bytes;
    ret->stall = __atomic_exchange_n(&live->stall, 0, __ATOMIC_RELAXED);
    ret->latency = __atomic_exchange_n(&live->latency, 0, __ATOMIC_RELAXED);
    if (since && now > since && now - since > ret->stall)
        ret->stall = now - since;
    live->sampled_requests = requests;
    live->sampled_bytes = bytes;
}

static bool within(gw_gpa_t gpa, gw_gpa_t from, uint64_t len, struct gw_guest_load_place *ret)
{
    ret->offset = gpa - from;
    ret->left = len - ret->offset;
    return gpa >= from && gpa - from < len;
}

static bool is_in(const struct gw_driver_blk *blk, gw_gpa_t data, uint32_t block_size, gw_gpa_t gpa,
                  struct gw_guest_load_place *ret)
{
    ret->part = GW_GUEST_LOAD_PART_NONE;
    if (within(gpa, data, block_size, ret))
        ret->part = GW_GUEST_LOAD_PART_DATA;
    else if (within(gpa, blk->status_gpa, 1, ret))
        ret->part = GW_GUEST_LOAD_PART_STATUS;
    else if (within(gpa, blk->gpa, GW_DRIVER_BLK_HEADER_LEN, ret))
        ret->part = GW_GUEST_LOAD_PART_HEADER;
    return ret->part != GW_GUEST_LOAD_PART_NONE;
}

static void tell_block(const struct gw_guest_load *l, uint64_t block, uint32_t generation,
                       struct gw_guest_load_place *ret)
{
    ret->sector = gw_guest_disk_sector(l->cfg.disk, block);
    if (ret->part == GW_GUEST_LOAD_PART_DATA)
        ret->sector += ret->offset / 512;
    ret->generation = generation;
}

static bool find_slot(const struct gw_guest_load *l, gw_gpa_t gpa, struct gw_guest_load_place *ret)
{
    for (unsigned i = 0; i < l->hold.n_slots; i++) {
        const struct gw_guest_load_slot *slot = l->hold.slots[i];

        if (!is_in(&slot->blk, slot->data, l->block_size, gpa, ret))
            continue;
        ret->queue = gw_driver_index(slot->blk.driver);
        ret->type = GW_DRIVER_BLK_READ;
        ret->in_flight = slot->state == GW_GUEST_LOAD_SLOT_BUSY;
        ret->is_held = true;
        ret->is_used = slot->is_used;
        tell_block(l, slot->block, slot->known.issued, ret);
        return true;
    }
    return false;
}

bool gw_guest_load_find(const struct gw_guest_load *l, gw_gpa_t gpa,
                        struct gw_guest_load_place *ret)
{
    memset(ret, 0, sizeof(*ret));
    if (find_slot(l, gpa, ret))
        return true;
    for (unsigned i = 0; i < l->cfg.n_drivers; i++) {
        for (unsigned k = 0; k < l->cfg.depth; k++) {
            const struct gw_guest_load_request *req = &l->queues[i].requests[k];
            struct gw_guest_disk_known known;

            if (!is_in(&req->blk, req->data, l->block_size, gpa, ret))
                continue;
            ret->queue = gw_driver_index(l->queues[i].driver);
            ret->type = req->type;
            ret->in_flight = req->in_flight && !req->slot;
            ret->is_used = req->start_ns != 0;
            gw_guest_disk_known(l->cfg.disk, req->block, &known);
            tell_block(l, req->block, known.issued, ret);
            return true;
        }
    }
    return false;
}
