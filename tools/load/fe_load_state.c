/* SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause */
/*
 * Migration of a load: the requests in flight, the contents of held buffers, and the generation of
 * each block. Without this state the destination could continue, but could not verify its reads
 * against earlier writes.
 *
 * The state may come from another host, and all of it is checked before any is adopted: addresses
 * in guest memory, block numbers, each buffer in use by one request, and the requests that the
 * drivers have in flight. The generations of blocks cannot be checked and need not be: wrong ones
 * can only cause a wrong verdict.
 */
#include "base/clock.h"
#include "fe_disk.h"
#include "fe_load_i.h"
#include "frontend/driver/driver_i.h"
#include "frontend/driver/fe_state.h"
#include "frontend/transport/frontend_i.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#define VERSION 2u
#define NO_SLOT UINT32_MAX

/* The configuration that both loads must share. */
static void put_shape(struct gw_state_writer *w, const struct gw_guest_load *l)
{
    gw_state_put(w, VERSION, 4);
    gw_state_put(w, l->cfg.n_drivers, 4);
    gw_state_put(w, l->cfg.depth, 4);
    gw_state_put(w, l->cfg.segments, 4);
    gw_state_put(w, l->cfg.write_percent, 4);
    gw_state_put(w, l->cfg.indirect, 1);
    gw_state_put(w, l->block_size, 4);
}

static bool is_same_shape(struct gw_state_reader *r, const struct gw_guest_load *l)
{
    bool is_same = gw_state_get(r, 4) == VERSION;

    is_same &= gw_state_get(r, 4) == l->cfg.n_drivers;
    is_same &= gw_state_get(r, 4) == l->cfg.depth;
    is_same &= gw_state_get(r, 4) == l->cfg.segments;
    is_same &= gw_state_get(r, 4) == l->cfg.write_percent;
    is_same &= gw_state_get(r, 1) == l->cfg.indirect;
    is_same &= gw_state_get(r, 4) == l->block_size;
    return is_same;
}

/* ---- Save ---- */

static uint32_t number_of(const struct gw_guest_load *l, const struct gw_guest_load_slot *slot)
{
    for (unsigned i = 0; slot && i < l->hold.n_slots; i++) {
        if (l->hold.slots[i] == slot)
            return i;
    }
    return NO_SLOT;
}

static unsigned queue_of(const struct gw_guest_load *l, const struct gw_driver *d)
{
    for (unsigned i = 0; i < l->cfg.n_drivers; i++) {
        if (l->queues[i].driver == d)
            return i;
    }
    return 0;
}

static void put_hold(struct gw_state_writer *w, const struct gw_guest_load *l)
{
    gw_state_put(w, l->hold.n_slots, 4);
    gw_state_put(w, l->hold.cursor, 4);
    gw_state_put(w, l->hold.fresh, 4);
    gw_state_put(w, l->hold.n_armed, 4);
    for (unsigned i = 0; i < l->hold.n_slots; i++) {
        const struct gw_guest_load_slot *slot = l->hold.slots[i];

        gw_state_put(w, slot->data, 8);
        gw_state_put(w, slot->blk.gpa, 8);
        gw_state_put(w, slot->blk.status_gpa, 8);
        gw_state_put(w, slot->batch, 8);
        gw_state_put(w, queue_of(l, slot->blk.driver), 2);
        gw_state_put(w, slot->block, 8);
        gw_state_put(w, slot->known.done, 4);
        gw_state_put(w, slot->known.issued, 4);
        gw_state_put(w, slot->state, 1);
        gw_state_put(w, slot->is_retired, 1);
        gw_state_put(w, slot->is_used, 1);
    }
}

static void put_request(struct gw_state_writer *w, const struct gw_guest_load *l,
                        const struct gw_guest_load_request *req, uint64_t now)
{
    gw_state_put(w, req->in_flight, 1);
    gw_state_put(w, req->type, 4);
    gw_state_put(w, req->block, 8);
    gw_state_put(w, req->in_flight ? number_of(l, req->slot) : NO_SLOT, 4);
    gw_state_put(w, req->flush_covers, 8);
    gw_state_put(w, req->start_ns ? now - req->start_ns : 0, 8); /* hosts have different clocks */
    gw_state_put(w, req->data, 8);
}

int gw_guest_load_save(const struct gw_guest_load *l, void **ret, size_t *ret_len)
{
    struct gw_state_writer w = {0};
    uint64_t now = gw_clock_ns();

    put_shape(&w, l);
    gw_state_put(&w, l->random, 8);
    gw_guest_disk_put(l->cfg.disk, &w);
    put_hold(&w, l);
    for (unsigned i = 0; i < l->cfg.n_drivers; i++) {
        for (unsigned k = 0; k < l->cfg.depth; k++)
            put_request(&w, l, &l->queues[i].requests[k], now);
    }
    return gw_state_take(&w, ret, ret_len);
}

/* ---- Restore ---- */

/* Everything that was read, before it is adopted. */
struct restored {
    uint64_t random;
    struct gw_guest_load_hold hold;
    struct gw_guest_load_request *requests; /* requests of all queues */
    struct gw_guest_disk_state disk;
    unsigned n_in_flight;
};

static bool get_slot(struct gw_state_reader *r, const struct gw_guest_load *l,
                     struct gw_guest_load_slot *slot)
{
    gw_gpa_t gpa, status;
    unsigned queue, state;

    slot->data = gw_state_get(r, 8);
    gpa = gw_state_get(r, 8);
    status = gw_state_get(r, 8);
    slot->batch = gw_state_get(r, 8);
    queue = (unsigned)gw_state_get(r, 2);
    slot->block = gw_state_get(r, 8);
    slot->known.done = (uint32_t)gw_state_get(r, 4);
    slot->known.issued = (uint32_t)gw_state_get(r, 4);
    state = (unsigned)gw_state_get(r, 1);
    slot->is_retired = gw_state_get(r, 1);
    slot->is_used = gw_state_get(r, 1);
    slot->host = gw_guest_mem_at(l->mem, slot->data, l->block_size);
    slot->n_mem = l->n_mem;
    if (!slot->host || queue >= l->cfg.n_drivers || gpa % 16 || state > GW_GUEST_LOAD_SLOT_HELD ||
        slot->block >= gw_guest_disk_blocks(l->cfg.disk))
        return false;
    slot->state = (enum gw_guest_load_slot_state)state;
    return gw_driver_blk_place(&slot->blk, l->queues[queue].driver, gpa, status) == 0;
}

static int get_hold(struct gw_state_reader *r, const struct gw_guest_load *l,
                    struct gw_guest_load_hold *h)
{
    unsigned n = (unsigned)gw_state_get(r, 4);

    h->cursor = (unsigned)gw_state_get(r, 4);
    h->fresh = (unsigned)gw_state_get(r, 4);
    h->n_armed = (unsigned)gw_state_get(r, 4);
    if (n > r->left || (n && h->cursor >= n)) /* each takes more than one byte */
        return -EINVAL;
    h->slots = calloc(n ? n : 1, sizeof(struct gw_guest_load_slot *));
    if (!h->slots)
        return -ENOMEM;
    for (unsigned i = 0; i < n; i++) {
        h->slots[i] = calloc(1, sizeof(*h->slots[i]));
        if (!h->slots[i])
            return -ENOMEM;
        h->n_slots++;
        if (!get_slot(r, l, h->slots[i]))
            return -EINVAL;
    }
    return 0;
}

/* `to` starts as a copy of the new load's request. */
static bool get_request(struct gw_state_reader *r, struct gw_guest_load *l, struct restored *s,
                        struct gw_guest_load_request *to, uint64_t now)
{
    uint64_t age;
    uint32_t slot;

    to->in_flight = gw_state_get(r, 1);
    to->type = (uint32_t)gw_state_get(r, 4);
    to->block = gw_state_get(r, 8);
    slot = (uint32_t)gw_state_get(r, 4);
    to->flush_covers = gw_state_get(r, 8);
    age = gw_state_get(r, 8);
    to->start_ns = age && age < now ? now - age : 0;
    to->slot = NULL;
    if (gw_state_get(r, 8) != to->data || to->block >= gw_guest_disk_blocks(l->cfg.disk))
        return false;
    if (!to->in_flight)
        return slot == NO_SLOT;
    s->n_in_flight++;
    if (slot != NO_SLOT) {
        if (slot >= s->hold.n_slots || s->hold.slots[slot]->state != GW_GUEST_LOAD_SLOT_BUSY ||
            to->type != GW_DRIVER_BLK_READ)
            return false;
        to->slot = s->hold.slots[slot];
        to->slot->state = GW_GUEST_LOAD_SLOT_ARMED; /* rejects a second use */
    }
    if (to->type == GW_DRIVER_BLK_FLUSH)
        return true;
    return (to->type == GW_DRIVER_BLK_READ || to->type == GW_DRIVER_BLK_WRITE) &&
           gw_guest_disk_state_claim(&s->disk, to->block);
}

/* Check that every buffer in use belongs to a request in flight. */
static bool settle_slots(struct restored *s, unsigned n_requests)
{
    for (unsigned i = 0; i < s->hold.n_slots; i++) {
        if (s->hold.slots[i]->state == GW_GUEST_LOAD_SLOT_BUSY)
            return false;
    }
    for (unsigned i = 0; i < n_requests; i++) {
        if (s->requests[i].slot)
            s->requests[i].slot->state = GW_GUEST_LOAD_SLOT_BUSY;
    }
    return true;
}

/*
 * The driver's chains in flight must match the requests in flight one to one.
 * Returns: 0; -EINVAL; -ENOMEM.
 */
static int check_driver(const struct gw_driver *d, const struct gw_guest_load_request *requests,
                        unsigned depth)
{
    unsigned n_left = 0;
    bool *seen = calloc(depth, sizeof(*seen));
    bool good = true;

    if (!seen)
        return -ENOMEM;
    for (unsigned i = 0; i < depth; i++)
        n_left += requests[i].in_flight;
    for (unsigned i = 0; good && i < d->size; i++) {
        uint64_t k = d->slots[i].cookie;

        if (d->slots[i].n_desc == 0)
            continue;
        good = k < depth && requests[k].in_flight && !seen[k] && n_left-- > 0;
        if (good)
            seen[k] = true;
    }
    free(seen);
    return good && n_left == 0 ? 0 : -EINVAL;
}

static int get_requests(struct gw_state_reader *r, struct gw_guest_load *l, struct restored *s)
{
    unsigned depth = l->cfg.depth, n = depth * l->cfg.n_drivers;
    uint64_t now = gw_clock_ns();
    int result;

    s->requests = calloc(n, sizeof(*s->requests));
    if (!s->requests)
        return -ENOMEM;
    for (unsigned i = 0; i < n; i++) {
        s->requests[i] = l->queues[i / depth].requests[i % depth];
        if (!get_request(r, l, s, &s->requests[i], now))
            return -EINVAL;
    }
    for (unsigned i = 0; i < l->cfg.n_drivers; i++) {
        result = check_driver(l->queues[i].driver, s->requests + (size_t)i * depth, depth);
        if (result < 0)
            return result;
    }
    return settle_slots(s, n) && gw_state_is_complete(r) ? 0 : -EINVAL;
}

static int get_all(struct gw_state_reader *r, struct gw_guest_load *l, struct restored *s)
{
    int result;

    if (!is_same_shape(r, l))
        return -EINVAL;
    s->random = gw_state_get(r, 8);
    result = gw_guest_disk_get(l->cfg.disk, r, &s->disk);
    if (result == 0)
        result = get_hold(r, l, &s->hold);
    return result ? result : get_requests(r, l, s);
}

/* Adopt the restored state; this cannot fail. */
static void take_over(struct gw_guest_load *l, struct restored *s)
{
    struct gw_guest_load_hold hold = l->hold;

    l->random = s->random;
    gw_guest_disk_take(l->cfg.disk, &s->disk);
    l->hold = s->hold;
    s->hold = hold;
    l->n_in_flight = s->n_in_flight;
    for (unsigned i = 0; i < l->cfg.n_drivers; i++) {
        struct gw_guest_load_queue *q = &l->queues[i];

        q->free = NULL;
        for (unsigned k = l->cfg.depth; k-- > 0;) {
            struct gw_guest_load_request *req = &q->requests[k];

            *req = s->requests[(size_t)i * l->cfg.depth + k];
            if (req->in_flight)
                continue;
            req->next = q->free;
            q->free = req;
        }
    }
}

int gw_guest_load_restore(struct gw_guest_load *l, const void *state, size_t len)
{
    struct gw_state_reader r = {.data = state, .left = len};
    struct restored s = {0};
    int result = get_all(&r, l, &s);

    l->error[0] = '\0';
    if (result == 0)
        take_over(l, &s);
    else if (result == -EINVAL)
        gw_guest_load_fail(l, result, "the state does not match this load");
    for (unsigned i = 0; i < s.hold.n_slots; i++)
        free(s.hold.slots[i]);
    free(s.hold.slots);
    free(s.requests);
    gw_guest_disk_state_done(&s.disk);
    return result;
}
