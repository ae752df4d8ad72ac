/* SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause */
/*
 * The driver state outside guest memory, saved at the source of a migration and restored at the
 * destination, possibly on another host. The sender is not trusted: the state is adopted only if
 * all of it could have come from a driver, so that following chains and free lists is always safe.
 */
#include "driver_i.h"
#include "fe_state.h"

#include <endian.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#define VERSION 2u

enum flags {
    FLAG_PACKED = 1,
    FLAG_EVENT_IDX = 2,
    FLAG_IN_ORDER = 4,
};

static unsigned flags_of(const struct gw_driver *d)
{
    return (d->is_packed ? FLAG_PACKED : 0) | (d->event_idx ? FLAG_EVENT_IDX : 0) |
           (d->in_order ? FLAG_IN_ORDER : 0);
}

/* The properties that both drivers must share. */
static void put_shape(struct gw_state_writer *w, const struct gw_driver *d)
{
    gw_state_put(w, VERSION, 4);
    gw_state_put(w, d->size, 4);
    gw_state_put(w, d->index, 4);
    gw_state_put(w, d->indirect_max, 4);
    gw_state_put(w, d->desc_gpa, 8);
    gw_state_put(w, d->avail_gpa, 8);
    gw_state_put(w, d->used_gpa, 8);
    gw_state_put(w, d->tables_gpa, 8);
}

static bool is_same_shape(struct gw_state_reader *r, const struct gw_driver *d)
{
    bool is_same = gw_state_get(r, 4) == VERSION;

    is_same &= gw_state_get(r, 4) == d->size;
    is_same &= gw_state_get(r, 4) == d->index;
    is_same &= gw_state_get(r, 4) == d->indirect_max;
    is_same &= gw_state_get(r, 8) == d->desc_gpa;
    is_same &= gw_state_get(r, 8) == d->avail_gpa;
    is_same &= gw_state_get(r, 8) == d->used_gpa;
    is_same &= gw_state_get(r, 8) == d->tables_gpa;
    return is_same;
}

static void put_slot(struct gw_state_writer *w, const struct gw_driver *d, unsigned i)
{
    const struct gw_driver_slot *slot = &d->slots[i];

    gw_state_put(w, slot->cookie, 8);
    gw_state_put(w, slot->number, 8);
    gw_state_put(w, slot->writable_len, 4);
    gw_state_put(w, slot->next, 2);
    gw_state_put(w, slot->last, 2);
    gw_state_put(w, slot->n_desc, 2);
    if (!d->is_packed)
        return;
    gw_state_put(w, le64toh(d->packed.slots[i].addr), 8);
    gw_state_put(w, le64toh(d->packed.slots[i].word), 8);
}

int gw_driver_save(const struct gw_driver *d, void **ret, size_t *ret_len)
{
    struct gw_state_writer w = {0};

    int r = gw_driver_check(d);

    if (r < 0)
        return r;
    put_shape(&w, d);
    gw_state_put(&w, flags_of(d), 1);
    gw_state_put(&w, d->n_added, 8);
    gw_state_put(&w, d->unkicked, 4);
    gw_state_put(&w, d->base, 4);
    gw_state_put(&w, d->batch.n_left, 4);
    gw_state_put(&w, d->batch.last_len, 4);
    gw_state_put(&w, d->free_head, 2);
    gw_state_put(&w, d->oldest, 2);
    gw_state_put(&w, d->avail_idx, 2);
    gw_state_put(&w, d->published, 2);
    gw_state_put(&w, d->last_used, 2);
    gw_state_put(&w, d->is_packed ? le64toh(d->packed.held_word) : 0, 8);
    for (unsigned i = 0; i < d->size; i++)
        put_slot(&w, d, i);
    return gw_state_take(&w, ret, ret_len);
}

/* ---- Restoring: into a copy that replaces the driver once it has been checked ---- */

static void get_slot(struct gw_state_reader *r, struct gw_driver *d, unsigned i)
{
    struct gw_driver_slot *slot = &d->slots[i];

    slot->cookie = gw_state_get(r, 8);
    slot->number = gw_state_get(r, 8);
    slot->writable_len = (uint32_t)gw_state_get(r, 4);
    slot->next = (uint16_t)gw_state_get(r, 2);
    slot->last = (uint16_t)gw_state_get(r, 2);
    slot->n_desc = (uint16_t)gw_state_get(r, 2);
    if (!d->is_packed)
        return;
    d->packed.slots[i].addr = htole64(gw_state_get(r, 8));
    d->packed.slots[i].word = htole64(gw_state_get(r, 8));
}

static bool get_all(struct gw_state_reader *r, struct gw_driver *d)
{
    unsigned flags;

    if (!is_same_shape(r, d))
        return false;
    flags = (unsigned)gw_state_get(r, 1);
    if (!!(flags & FLAG_PACKED) != d->is_packed)
        return false;
    d->event_idx = flags & FLAG_EVENT_IDX;
    d->in_order = flags & FLAG_IN_ORDER;
    d->n_added = gw_state_get(r, 8);
    d->unkicked = (uint32_t)gw_state_get(r, 4);
    d->base = (uint32_t)gw_state_get(r, 4);
    d->batch.n_left = (unsigned)gw_state_get(r, 4);
    d->batch.last_len = (uint32_t)gw_state_get(r, 4);
    d->free_head = (uint16_t)gw_state_get(r, 2);
    d->oldest = (uint16_t)gw_state_get(r, 2);
    d->avail_idx = (uint16_t)gw_state_get(r, 2);
    d->published = (uint16_t)gw_state_get(r, 2);
    d->last_used = (uint16_t)gw_state_get(r, 2);
    if (d->is_packed)
        d->packed.held_word = htole64(gw_state_get(r, 8));
    else
        gw_state_get(r, 8);
    for (unsigned i = 0; i < d->size; i++)
        get_slot(r, d, i);
    return gw_state_is_complete(r);
}

/* Follow `n` slots from `head`, none of which may be in `seen`. Returns: the last one; -1. */
static int follow(const struct gw_driver *d, bool *seen, unsigned head, unsigned n)
{
    unsigned at = head, last = head;

    for (unsigned i = 0; i < n; i++) {
        if (at >= d->size || seen[at])
            return -1;
        seen[at] = true;
        last = at;
        at = d->slots[at].next;
    }
    return (int)last;
}

/* Check that every slot is in exactly one chain or free. Counts both. */
static bool check_slots(struct gw_driver *d, bool *seen)
{
    unsigned n_busy = 0;

    d->n_in_flight = 0;
    for (unsigned i = 0; i < d->size; i++) {
        const struct gw_driver_slot *slot = &d->slots[i];

        if (slot->next >= d->size || (d->in_order && slot->next != gw_driver_slot_after(d, i, 1)))
            return false;
        if (slot->n_desc == 0)
            continue;
        if (slot->n_desc > d->size || follow(d, seen, i, slot->n_desc) != slot->last)
            return false;
        n_busy += slot->n_desc;
        d->n_in_flight++;
    }
    d->n_free = d->size - n_busy;
    return d->free_head < d->size && follow(d, seen, d->free_head, d->n_free) >= 0;
}

/* IN_ORDER: check that the chains in flight follow each other from the oldest. */
static bool check_order(const struct gw_driver *d)
{
    unsigned head = d->oldest;

    if (!d->in_order)
        return d->batch.n_left == 0 && d->oldest < d->size;
    if (head >= d->size || d->batch.n_left > d->n_in_flight)
        return false;
    for (unsigned i = 0; i < d->n_in_flight; i++) {
        if (d->slots[head].n_desc == 0)
            return false;
        head = gw_driver_slot_after(d, head, d->slots[head].n_desc);
    }
    return true;
}

/* Check that the indices span the chains in flight, except those taken as the rest of a batch. */
static bool check_indices(const struct gw_driver *d)
{
    unsigned laps = d->is_packed ? 2 * d->size : UINT16_MAX + 1u, n = 0, head = d->oldest;

    if (d->avail_idx >= laps || d->published >= laps || d->last_used >= laps)
        return false;
    for (unsigned i = 0; i < d->batch.n_left; i++) {
        n += d->is_packed ? d->slots[head].n_desc : 1;
        head = gw_driver_slot_after(d, head, d->slots[head].n_desc);
    }
    n = (d->is_packed ? d->size - d->n_free : d->n_in_flight) - n;
    return gw_driver_distance(d, d->last_used, d->avail_idx) == n &&
           gw_driver_distance(d, d->last_used, d->published) <= n;
}

int gw_driver_restore(struct gw_driver *d, const void *state, size_t len)
{
    struct gw_state_reader r = {.data = state, .left = len};
    struct gw_driver copy = *d;
    bool *seen = calloc(d->size, sizeof(*seen));
    int result = 0;

    copy.slots = calloc(d->size, sizeof(*copy.slots));
    if (d->is_packed)
        copy.packed.slots = calloc(d->size, sizeof(*copy.packed.slots));
    if (!seen || !copy.slots || (d->is_packed && !copy.packed.slots))
        result = gw_frontend_fail_fixed(-ENOMEM, "out of memory");
    else if (!get_all(&r, &copy) || !check_slots(&copy, seen) || !check_order(&copy) ||
             !check_indices(&copy))
        result = gw_frontend_fail(-EINVAL, "queue %u: not the state of such a driver", d->index);
    if (result == 0) {
        struct gw_driver_slot *slots = d->slots;
        struct gw_driver_desc *packed = d->is_packed ? d->packed.slots : NULL;

        copy.is_started = false;
        copy.broken = false;
        *d = copy;
        copy.slots = slots;
        if (d->is_packed)
            copy.packed.slots = packed;
    }
    free(copy.slots);
    if (d->is_packed)
        free(copy.packed.slots);
    free(seen);
    return result;
}
