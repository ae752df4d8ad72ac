/* SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause */
/*
 * Requests that survive this process: memory of the front-end (GET_INFLIGHT_FD, SET_INFLIGHT_FD)
 * keeps which ones a queue has taken off its ring and not answered, so that the next back-end does
 * those again, and only those, in the order they came. A running queue writes its part and never
 * reads it: gw_inflight_recover does once, and checks all of it.
 *
 * The caller does, in this order, for each batch that it completes:
 *
 *     gw_inflight_link for every request that the new used elements stand for
 *     gw_inflight_close
 *     make the used elements visible
 *     gw_inflight_clear for each of them
 *     gw_inflight_commit
 *
 * and takes and links no request between the close and the commit. Every used element must stand
 * for requests that were taken here: the split layout knows a batch by how far the used index
 * moved. Entries are taken from gw_inflight_take to gw_inflight_close or gw_inflight_untake, which
 * is on record here, whatever others write to the region.
 */
#pragma once

#include "core/memory/mapping.h"
#include "core/queue/ring.h"
#include "inflight_layout.h"

#include <linux/virtio_ring.h>
#include <stdbool.h>
#include <stdint.h>

/* What messages call the region. */
#define GW_INFLIGHT_NAME "the inflight region"

struct gw_inflight_ops;

/* What the queue needs of a packed entry while it runs. */
struct gw_inflight_links {
    uint16_t next;
    uint16_t last; /* of the chain that begins here, if it is in flight */
    uint16_t num;  /* and its descriptors */
    uint16_t padding;
};

/* One queue's part of the region, on its worker. Zeroed, it tracks nothing. */
struct gw_inflight {
    const struct gw_inflight_ops *ops;
    void *part;       /* NULL: requests are not tracked */
    uint8_t *flags;   /* of the first entry: is it in flight? */
    uint16_t stride;  /* from one to the next */
    uint16_t size;    /* entries of the part */
    uint16_t n_slots; /* of the ring */
    bool is_new;      /* nobody has used the part before */
    uint32_t n_taken; /* slots of the requests in flight */
    uint64_t counter; /* of the next request */
    union {
        struct {
            uint16_t last_batch_head;
            uint16_t used;
            bool *taken; /* of each head: is it in flight? */
        } split;
        struct {
            union gw_inflight_heads heads;
            union gw_inflight_used used;
            struct gw_inflight_links *links;
            uint16_t batch_first; /* entries: those of the batch are linked from here */
            uint16_t batch_last;
            uint32_t n_batch; /* its descriptors */
        } packed;
    };
};

/* A request that is to be done again. */
struct gw_inflight_entry {
    uint16_t entry;
    uint16_t id;      /* split: the head; packed: the buffer id */
    uint16_t n_slots; /* of the ring */
    uint64_t counter;
};

/* The ring, as far as recovery has to look at it. */
struct gw_inflight_ring {
    uint16_t used; /* split: the used index; packed: of SET_VRING_BASE, bit 15 the wrap counter */
    struct vring_packed_desc *desc; /* packed only; written to where a batch was half written */
};

struct gw_inflight_found {
    struct gw_inflight_entry *entries; /* the oldest first; the caller's to free */
    unsigned n_entries;
    uint32_t n_slots; /* of all of them */
    uint16_t used;    /* where the ring goes on, as in gw_inflight_ring; n_slots are taken there */
};

struct gw_inflight_ops {
    void (*format)(void *part, uint16_t size, uint16_t used);
    int (*recover)(struct gw_inflight *f, const struct gw_inflight_ring *ring,
                   struct gw_inflight_found *found);
    unsigned (*take)(struct gw_inflight *f, struct gw_head *heads, unsigned n);
    void (*untake)(struct gw_inflight *f, uint16_t entry);
    void (*link)(struct gw_inflight *f, uint16_t entry);
    void (*close)(struct gw_inflight *f, uint16_t used);
    void (*commit)(struct gw_inflight *f);
};

extern const struct gw_inflight_ops gw_inflight_split_ops;
extern const struct gw_inflight_ops gw_inflight_packed_ops;

/* ---- the region, on the control thread ---- */

/* A part of a region that is made here has a power of two of entries, and at least these. */
#define GW_INFLIGHT_MADE_MIN 1024

/* Of SET_INFLIGHT_FD. Zeroed: there is none. */
struct gw_inflight_region {
    struct gw_mapping mapping;
    uint64_t size;
    uint16_t num_queues;
    uint16_t queue_size;
};

/* Bytes of one part, which is also the way to the next. */
uint64_t gw_inflight_stride(bool packed, uint16_t queue_size);

/* A new region: what its creator initialises. Its parts count as never used. */
void gw_inflight_format(void *region, bool packed, unsigned num_queues, uint16_t part_size);

/*
 * The part for a queue with a ring of `ring_size` descriptors, and its entries; NULL, and success,
 * when there is no region. The region's queue_size says how large its parts are, as for every
 * back-end, unless the region is exactly as long as one that is made here with larger ones.
 * Returns: 0; -ENOSPC when the region has no part for that queue and ring in this layout, with
 * gw_last_error, and *ret is NULL. (Some front-ends agree on layout and size after
 * SET_INFLIGHT_FD.)
 */
int gw_inflight_region_part(const struct gw_inflight_region *region, unsigned index, bool packed,
                            uint32_t ring_size, void **ret, uint16_t *ret_size);

/* ---- a queue's part, on its worker ---- */

/*
 * Begin with a part for a ring of `ring_size` descriptors, as gw_inflight_region_part gave it.
 * Nothing is written yet. gw_inflight_recover comes next, and gw_inflight_detach at the end.
 * Returns: 0; -EINVAL for a part of another version, size or with features, or one that is smaller
 * than the ring; -ENOMEM; with gw_last_error.
 */
int gw_inflight_attach(struct gw_inflight *f, void *part, bool packed, uint16_t part_size,
                       uint32_t ring_size);

/* Nothing is in flight: the part counts as never used, so that a start may be at another base. */
void gw_inflight_finish(struct gw_inflight *f);

/* Track no more. Leaves the part as it is. Fine twice, and on zeroes. */
void gw_inflight_detach(struct gw_inflight *f);

/*
 * Settle what a crash left half done, and tell which requests are to be done again and where the
 * ring goes on, whatever its base says. A part that was never used is brought into use, with the
 * ring where `ring` says. May be interrupted by a crash itself, and be repeated.
 *
 * What was written to the ring by a back-end that died may be missing in the dirty log, and its
 * driver may still wait for a notification: mark the ring and notify.
 *
 * Returns: 0; -EINVAL when the part contradicts itself or the ring, and nothing is written then;
 * -ENOMEM; with gw_last_error.
 */
int gw_inflight_recover(struct gw_inflight *f, const struct gw_inflight_ring *ring,
                        struct gw_inflight_found *ret);

/*
 * Track requests as they are taken off the ring, in ring order; sets the `entry` of each.
 * Returns: how many. Fewer than `n` when the driver broke its ring and the next request cannot be
 * tracked; gw_last_error says why.
 */
unsigned gw_inflight_take(struct gw_inflight *f, struct gw_head *heads, unsigned n);
/* Forget the request taken last; others may have been answered since. */
void gw_inflight_untake(struct gw_inflight *f, uint16_t entry);

/* Needs a part, as gw_inflight_clear does. */
static inline void gw_inflight_link(struct gw_inflight *f, uint16_t entry)
{
    f->ops->link(f, entry);
}

/* `used` is where the ring's next used element goes, as in gw_inflight_ring. */
void gw_inflight_close(struct gw_inflight *f, uint16_t used);

static inline void gw_inflight_clear(struct gw_inflight *f, uint16_t entry)
{
    gw_inflight_order();
    gw_inflight_set(f->flags + (size_t)entry * f->stride, 0);
}

void gw_inflight_commit(struct gw_inflight *f);

/*
 * The descriptors of a packed ring's request that is in flight, out of the region: its slots in the
 * ring may have been overwritten. What is in them is as hostile as in a ring.
 * Returns: how many; -EINVAL when there are more than `max`, or their flags do not make a chain.
 */
int gw_inflight_descs(const struct gw_inflight *f, uint16_t entry, struct gw_desc_packed *to,
                      unsigned max);
