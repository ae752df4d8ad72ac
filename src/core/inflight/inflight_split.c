/* SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause */
/*
 * Inflight tracking of a split ring, with one entry per head. The entries of the last batch are in
 * a list, so that recovery can find out from the ring how a crash ended the batch:
 *
 *     used index as recorded    the batch was not published; all its requests are resubmitted
 *     used index n ahead        the batch was published; its n entries, the first n of the list,
 *                               are not in flight, even if their flags are still set
 */
#include "base/checked.h"
#include "base/cleanup.h"
#include "base/log_i.h"
#include "inflight.h"

#include <errno.h>
#include <string.h>

static void split_format(void *part, uint16_t size, uint16_t used)
{
    struct gw_inflight_split *p = part;

    memset(p, 0, gw_inflight_stride(false, size));
    p->header.desc_num = size;
    p->used_idx = used;
}

/* ---- recovery ---- */

/* Reads the inflight flags. Returns: how many are set. */
static unsigned read_flags(const struct gw_inflight *f, bool *in_flight)
{
    const struct gw_inflight_split *p = f->part;
    unsigned n = 0;

    for (unsigned i = 0; i < f->size; i++) {
        in_flight[i] = gw_inflight_get(&p->entries[i].inflight) != 0;
        n += in_flight[i];
    }
    return n;
}

/* Removes the last batch, which was published, from the entries in flight. */
static int remove_batch(const struct gw_inflight *f, uint16_t n, bool *in_flight, bool *in_batch)
{
    const struct gw_inflight_split *p = f->part;
    uint16_t entry = f->split.last_batch_head;

    if (n > f->n_slots)
        return gw_fail(-EINVAL, "the ring's used index is %u ahead of its inflight region's", n);
    for (; n > 0; n--) {
        if (entry >= f->n_slots || in_batch[entry])
            return gw_fail(-EINVAL, "the last batch in the inflight region has descriptor %u%s",
                           entry, entry >= f->n_slots ? ", beyond the ring" : " twice");
        in_batch[entry] = true;
        in_flight[entry] = false;
        entry = gw_inflight_get(&p->entries[entry].next);
    }
    return 0;
}

static int list_entries(const struct gw_inflight *f, const bool *in_flight,
                        struct gw_inflight_found *found)
{
    const struct gw_inflight_split *p = f->part;

    for (unsigned i = 0; i < f->size; i++) {
        if (!in_flight[i])
            continue;
        if (i >= f->n_slots)
            return gw_fail(-EINVAL, "descriptor %u is in flight, but the ring has only %u", i,
                           f->n_slots);
        f->split.taken[i] = true;
        found->entries[found->n_entries++] = (struct gw_inflight_entry){
            .entry = (uint16_t)i,
            .id = (uint16_t)i,
            .n_slots = 1,
            .counter = gw_inflight_get(&p->entries[i].counter),
        };
    }
    found->n_slots = found->n_entries;
    return 0;
}

static int split_recover(struct gw_inflight *f, const struct gw_inflight_ring *ring,
                         struct gw_inflight_found *found)
{
    gw_cleanup_free bool *flags = calloc(f->size, 2 * sizeof(flags[0]));
    bool *in_flight = flags, *in_batch = flags + f->size;
    struct gw_inflight_split *p = f->part;
    int r = 0;

    if (!flags)
        return gw_fail(-ENOMEM, "no memory to recover %u descriptors", f->size);
    f->split.last_batch_head = gw_inflight_get(&p->last_batch_head);
    /* If no flag is set, there is no batch to remove, even if the ring has started again at 0. */
    if (read_flags(f, in_flight) > 0)
        r = remove_batch(f, (uint16_t)(ring->used - gw_inflight_get(&p->used_idx)), in_flight,
                         in_batch);
    if (r == 0)
        r = list_entries(f, in_flight, found);
    if (r < 0)
        return r;
    for (unsigned i = 0; i < f->size; i++)
        if (in_batch[i])
            gw_inflight_set(&p->entries[i].inflight, 0);
    gw_inflight_order();
    gw_inflight_set(&p->used_idx, ring->used);
    found->used = ring->used;
    return 0;
}

/* ---- running ---- */

/* The head's entry is in use, or the head is out of range. A correct driver offers neither. */
static void tell_refused(const struct gw_inflight *f, uint16_t id)
{
    if (id >= f->n_slots)
        gw_fail(-EPROTO, "head %u is beyond the ring of %u", id, f->n_slots);
    else
        gw_fail(-EPROTO, "the driver made head %u available again before it was used", id);
}

static unsigned split_take(struct gw_inflight *f, struct gw_head *heads, unsigned n)
{
    struct gw_inflight_split_entry *entries = ((struct gw_inflight_split *)f->part)->entries;
    bool *taken = f->split.taken;
    uint64_t counter = f->counter;
    uint32_t n_slots = f->n_slots;
    unsigned i;

    for (i = 0; i < n; i++) {
        uint16_t entry = heads[i].entry = heads[i].id;

        if (entry >= n_slots || taken[entry]) {
            tell_refused(f, entry);
            break;
        }
        taken[entry] = true;
        gw_inflight_set(&entries[entry].counter, counter++);
        gw_inflight_order();
        gw_inflight_set(&entries[entry].inflight, 1);
        gw_inflight_order();
    }
    f->counter = counter;
    f->n_taken += i;
    return i;
}

static void split_untake(struct gw_inflight *f, uint16_t entry)
{
    gw_inflight_clear(f, entry);
    f->split.taken[entry] = false;
    f->n_taken--;
    f->counter--;
}

static void split_link(struct gw_inflight *f, uint16_t entry)
{
    struct gw_inflight_split *p = f->part;

    gw_inflight_set(&p->entries[entry].next, f->split.last_batch_head);
    f->split.last_batch_head = entry;
    f->split.taken[entry] = false;
    f->n_taken--;
}

static void split_close(struct gw_inflight *f, uint16_t used)
{
    struct gw_inflight_split *p = f->part;

    f->split.used = used;
    gw_inflight_order();
    gw_inflight_set(&p->last_batch_head, f->split.last_batch_head);
    gw_inflight_order();
}

static void split_commit(struct gw_inflight *f)
{
    struct gw_inflight_split *p = f->part;

    gw_inflight_order();
    gw_inflight_set(&p->used_idx, f->split.used);
    gw_inflight_order();
}

const struct gw_inflight_ops gw_inflight_split_ops = {
    .format = split_format,
    .recover = split_recover,
    .take = split_take,
    .untake = split_untake,
    .link = split_link,
    .close = split_close,
    .commit = split_commit,
};
