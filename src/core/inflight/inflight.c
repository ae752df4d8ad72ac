/* SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause */
/* Inflight tracking, the code for both layouts: parts, their headers, and the request order. */
#include "inflight.h"

#include "base/checked.h"
#include "base/cleanup.h"
#include "base/log_i.h"

#include <errno.h>
#include <godwit/daemon.h>
#include <inttypes.h>

/* The alignment of parts, in bytes. */
#define PART_ALIGN 64

/* ---- the region ---- */

uint64_t gw_inflight_stride(bool packed, uint16_t queue_size)
{
    uint64_t size = packed ? offsetof(struct gw_inflight_packed, entries) +
                                 queue_size * sizeof(struct gw_inflight_packed_entry)
                           : offsetof(struct gw_inflight_split, entries) +
                                 queue_size * sizeof(struct gw_inflight_split_entry);

    return gw_align_down(size + PART_ALIGN - 1, PART_ALIGN);
}

static const struct gw_inflight_ops *ops_of(bool packed)
{
    return packed ? &gw_inflight_packed_ops : &gw_inflight_split_ops;
}

void gw_inflight_format(void *region, bool packed, unsigned num_queues, uint16_t part_size)
{
    /* A ring starts at index 0, a packed one with wrap counter 1. */
    uint16_t used = packed ? 1u << VRING_PACKED_EVENT_F_WRAP_CTR : 0;

    for (unsigned i = 0; i < num_queues; i++)
        ops_of(packed)->format((uint8_t *)region + i * gw_inflight_stride(packed, part_size),
                               part_size, used);
}

/*
 * A region that this library created is recognized by its length. The region of another back-end
 * cannot be mistaken for one: its parts have fewer entries, so it is shorter, and rounding it up to
 * whole pages never gives the length of ours, because each part of ours is an odd multiple of 64
 * bytes.
 */
static uint16_t part_size_of(const struct gw_inflight_region *region, bool packed)
{
    for (uint32_t n = GW_INFLIGHT_MADE_MIN; n <= GW_QUEUE_SIZE_MAX; n *= 2)
        if (n > region->queue_size &&
            region->size == region->num_queues * gw_inflight_stride(packed, (uint16_t)n))
            return (uint16_t)n;
    return region->queue_size;
}

int gw_inflight_region_part(const struct gw_inflight_region *region, unsigned index, bool packed,
                            uint32_t ring_size, void **ret, uint16_t *ret_size)
{
    uint16_t size = part_size_of(region, packed);
    uint64_t stride = gw_inflight_stride(packed, size);

    *ret = NULL;
    *ret_size = size;
    if (!region->mapping.at)
        return 0;
    if (index >= region->num_queues)
        return gw_fail(-ENOSPC, "the inflight region is for %u queues", region->num_queues);
    if (ring_size > size)
        return gw_fail(-ENOSPC, "a ring of %u descriptors does not fit an inflight region for %u",
                       ring_size, size);
    if ((index + 1) * stride > region->size)
        return gw_fail(-ENOSPC,
                       "an inflight region of %#" PRIx64
                       " bytes is too small for %u %s rings of %u descriptors",
                       region->size, region->num_queues, packed ? "packed" : "split", size);
    *ret = region->mapping.at + index * stride;
    return 0;
}

/* ---- a part ---- */

static int check_header(const struct gw_inflight_header *h, uint16_t part_size, uint32_t ring_size)
{
    if (ring_size > part_size)
        return gw_fail(-EINVAL, "a ring of %u descriptors does not fit an inflight part for %u",
                       ring_size, part_size);
    if (h->version == 0)
        return 0;
    if (h->version != GW_INFLIGHT_VERSION)
        return gw_fail(-EINVAL, "the inflight region has version %u, not %u", h->version,
                       GW_INFLIGHT_VERSION);
    if (h->features[0] || h->features[1])
        return gw_fail(-EINVAL, "the inflight region has unknown features");
    if (h->desc_num != part_size)
        return gw_fail(-EINVAL, "the inflight region is for %u descriptors, not %u", h->desc_num,
                       part_size);
    return 0;
}

int gw_inflight_attach(struct gw_inflight *f, void *part, bool packed, uint16_t part_size,
                       uint32_t ring_size)
{
    struct gw_inflight_header h = *(const volatile struct gw_inflight_header *)part;
    void *record; /* private state of each entry */
    int r = check_header(&h, part_size, ring_size);

    if (r < 0)
        return r;
    record = calloc(part_size, packed ? sizeof(f->packed.links[0]) : sizeof(f->split.taken[0]));
    if (!record)
        return gw_fail(-ENOMEM, "no memory to track %u descriptors", part_size);
    *f = (struct gw_inflight){
        .ops = ops_of(packed),
        .part = part,
        .size = part_size,
        .n_slots = (uint16_t)ring_size,
        .is_new = h.version == 0,
    };
    if (packed) {
        f->packed.links = record;
        f->flags = &((struct gw_inflight_packed *)part)->entries[0].chain.inflight;
        f->stride = sizeof(struct gw_inflight_packed_entry);
    } else {
        f->split.taken = record;
        f->flags = &((struct gw_inflight_split *)part)->entries[0].inflight;
        f->stride = sizeof(struct gw_inflight_split_entry);
    }
    return 0;
}

void gw_inflight_finish(struct gw_inflight *f)
{
    struct gw_inflight_header *h = f->part;

    if (h)
        gw_inflight_set(&h->version, 0);
}

void gw_inflight_detach(struct gw_inflight *f)
{
    if (f->part)
        free(f->ops == &gw_inflight_packed_ops ? (void *)f->packed.links : f->split.taken);
    *f = (struct gw_inflight){.part = NULL};
}

/* ---- running ---- */

unsigned gw_inflight_take(struct gw_inflight *f, struct gw_head *heads, unsigned n)
{
    return f->part && n > 0 ? f->ops->take(f, heads, n) : n;
}

void gw_inflight_untake(struct gw_inflight *f, uint16_t entry)
{
    if (f->part)
        f->ops->untake(f, entry);
}

void gw_inflight_close(struct gw_inflight *f, uint16_t used)
{
    if (f->part)
        f->ops->close(f, used);
}

void gw_inflight_commit(struct gw_inflight *f)
{
    if (f->part)
        f->ops->commit(f);
}

/* ---- recovery ---- */

static int compare(const void *one, const void *other)
{
    const struct gw_inflight_entry *a = one, *b = other;

    if (a->counter != b->counter)
        return a->counter < b->counter ? -1 : 1;
    return a->entry - b->entry;
}

static void reverse(struct gw_inflight_entry *entries, unsigned n)
{
    for (unsigned i = 0; i < n / 2; i++) {
        struct gw_inflight_entry e = entries[i];

        entries[i] = entries[n - 1 - i];
        entries[n - 1 - i] = e;
    }
}

/*
 * Sorts the entries, oldest first. Counters wrap around, and those in flight never span half of
 * their range, so the oldest entry comes after the longest gap.
 */
static void sort(struct gw_inflight_entry *entries, unsigned n)
{
    uint64_t longest = 0;
    unsigned oldest = 0;

    if (n == 0)
        return;
    qsort(entries, n, sizeof(entries[0]), compare);
    longest = entries[0].counter - entries[n - 1].counter;
    for (unsigned i = 1; i < n; i++) {
        uint64_t gap = entries[i].counter - entries[i - 1].counter;

        if (gap > longest) {
            longest = gap;
            oldest = i;
        }
    }
    /* Rotate. */
    reverse(entries, oldest);
    reverse(entries + oldest, n - oldest);
    reverse(entries, n);
}

int gw_inflight_recover(struct gw_inflight *f, const struct gw_inflight_ring *ring,
                        struct gw_inflight_found *ret)
{
    struct gw_inflight_header *h = f->part;
    gw_cleanup_free struct gw_inflight_entry *entries = calloc(f->n_slots, sizeof(entries[0]));
    struct gw_inflight_found found = {.entries = entries};
    bool was_new = f->is_new;
    int r;

    if (!entries)
        return gw_fail(-ENOMEM, "no memory to recover a ring of %u descriptors", f->n_slots);
    if (f->is_new) {
        /* The contents of a new part have no meaning, even if they are zeroes. */
        f->ops->format(f->part, f->size, ring->used);
        gw_inflight_order();
        gw_inflight_set(&h->version, GW_INFLIGHT_VERSION);
        f->is_new = false;
    }
    r = f->ops->recover(f, ring, &found);
    if (r == 0 && was_new && found.n_slots > 0)
        r = gw_fail(-EINVAL, "a new inflight region was written to while it was initialised");
    if (r < 0)
        return r;
    sort(entries, found.n_entries);
    f->n_taken = found.n_slots;
    f->counter = found.n_entries ? entries[found.n_entries - 1].counter + 1 : 0;
    entries = NULL;
    *ret = found;
    return 0;
}
