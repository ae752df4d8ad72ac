/* SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause */
/*
 * Inflight tracking: a region in memory of the front-end (GET_INFLIGHT_FD, SET_INFLIGHT_FD), which
 * survives this process, records the requests that a queue has taken off its ring and not
 * completed. The next back-end resubmits these, and no others, in their original order. A running
 * queue writes its part and never reads it; gw_inflight_recover reads it once and checks all of it.
 *
 * For each batch that it completes, the caller performs these steps in this order:
 *
 *     gw_inflight_link for every request that the new used elements stand for
 *     gw_inflight_close
 *     make the used elements visible
 *     gw_inflight_clear for each of them
 *     gw_inflight_commit
 *
 * It takes and links no request between the close and the commit. Every used element must stand
 * for requests that were taken here, because the split layout identifies a batch by how far the
 * used index moved. An entry is taken from gw_inflight_take to gw_inflight_close or
 * gw_inflight_untake; private memory records this, whatever other processes write to the region.
 */
#pragma once

#include "core/memory/mapping.h"
#include "core/ring/ring.h"
#include "inflight_layout.h"

#include <linux/virtio_ring.h>
#include <stdbool.h>
#include <stdint.h>

/* The name of the region in messages. */
#define GW_INFLIGHT_NAME "the inflight region"

struct gw_inflight_ops;

/* A private copy of what a running queue needs of a packed entry. */
struct gw_inflight_links {
    uint16_t next;
    uint16_t last; /* of the chain that begins here, if it is in flight */
    uint16_t num;  /* of descriptors in that chain */
    uint16_t padding;
};

/* One queue's part of the region, on its worker. Zeroed, it tracks nothing. */
struct gw_inflight {
    const struct gw_inflight_ops *ops;
    void *part;       /* NULL: requests are not tracked */
    uint8_t *flags;   /* the inflight flag of the first entry */
    uint16_t stride;  /* bytes from one flag to the next */
    uint16_t size;    /* entries of the part */
    uint16_t n_slots; /* of the ring */
    bool is_new;      /* the part was never used */
    uint32_t n_taken; /* slots of the requests in flight */
    uint64_t counter; /* of the next request */
    union {
        struct {
            uint16_t last_batch_head;
            uint16_t used;
            bool *taken; /* for each head: is it in flight? */
        } split;
        struct {
            union gw_inflight_heads heads;
            union gw_inflight_used used;
            struct gw_inflight_links *links;
            uint16_t batch_first; /* the first entry of the batch, which is a linked list */
            uint16_t batch_last;
            uint32_t n_batch; /* descriptors in the batch */
        } packed;
    };
};

/* A request to resubmit. */
struct gw_inflight_entry {
    uint16_t entry;
    uint16_t id;      /* split: the head; packed: the buffer id */
    uint16_t n_slots; /* of the ring */
    uint64_t counter;
};

/* What recovery needs to know of the ring. */
struct gw_inflight_ring {
    uint16_t used; /* split: the used index; packed: of SET_VRING_BASE, bit 15 the wrap counter */
    struct vring_packed_desc *desc; /* packed only; a half-written batch is reverted there */
};

struct gw_inflight_found {
    struct gw_inflight_entry *entries; /* oldest first; the caller frees the array */
    unsigned n_entries;
    uint32_t n_slots; /* of all entries */
    uint16_t used;    /* used index at which the ring continues, in the form of gw_inflight_ring */
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

/* ---- the region, on the control worker ---- */

/* The fewest entries in a part that this library creates; their number is a power of two. */
#define GW_INFLIGHT_MADE_MIN 1024

/* The region of SET_INFLIGHT_FD; zeroed before that message. */
struct gw_inflight_region {
    struct gw_mapping mapping;
    uint64_t size;
    uint16_t num_queues;
    uint16_t queue_size;
};

/* Size of a part in bytes, which is also the distance to the next part. */
uint64_t gw_inflight_stride(bool packed, uint16_t queue_size);

/* Initialize a new region. Its parts count as never used. */
void gw_inflight_format(void *region, bool packed, unsigned num_queues, uint16_t part_size);

/*
 * Get the part for a queue with a ring of `ring_size` descriptors, and its number of entries.
 * Without a region, succeeds with NULL. The region's queue_size is the size of its parts, as in
 * every back-end, unless the region has the exact length of one that this library creates with
 * larger parts.
 * Returns: 0; -ENOSPC, with gw_last_error, if the region has no part for that queue and ring in
 * this layout; *ret is then NULL. (Some front-ends set layout and size after SET_INFLIGHT_FD.)
 */
int gw_inflight_region_part(const struct gw_inflight_region *region, unsigned index, bool packed,
                            uint32_t ring_size, void **ret, uint16_t *ret_size);

/* ---- a queue's part, on its worker ---- */

/*
 * Attach a part that gw_inflight_region_part returned, for a ring of `ring_size` descriptors,
 * without writing to it. Then call gw_inflight_recover, and gw_inflight_detach at the end.
 * Returns: 0; -EINVAL for a part of another version or size, with features, or smaller than the
 * ring; -ENOMEM; with gw_last_error.
 */
int gw_inflight_attach(struct gw_inflight *f, void *part, bool packed, uint16_t part_size,
                       uint32_t ring_size);

/* Nothing is in flight: mark the part as never used, so that the next start may set any base. */
void gw_inflight_finish(struct gw_inflight *f);

/* Stop tracking; the part keeps its contents. Idempotent; allowed if zeroed. */
void gw_inflight_detach(struct gw_inflight *f);

/*
 * Complete or revert the batch that a crash interrupted. Find the requests to resubmit and the
 * position at which the ring continues, whatever its base. A part that was never used is
 * initialized with the position in `ring`. If a crash interrupts the recovery, it can be repeated.
 *
 * The dirty log may lack what the dead back-end wrote to the ring, and the driver may still wait
 * for a notification: the caller has to mark the ring and notify.
 *
 * Returns: 0; -EINVAL, without having written anything, if the part contradicts itself or the ring;
 * -ENOMEM; with gw_last_error.
 */
int gw_inflight_recover(struct gw_inflight *f, const struct gw_inflight_ring *ring,
                        struct gw_inflight_found *ret);

/*
 * Track requests as they are taken off the ring, in ring order; sets the `entry` of each.
 * Returns: how many; fewer than `n`, with gw_last_error, if the driver broke its ring and the next
 * request cannot be tracked.
 */
unsigned gw_inflight_take(struct gw_inflight *f, struct gw_head *heads, unsigned n);
/* Undo the take of the last request; others may have been completed since. */
void gw_inflight_untake(struct gw_inflight *f, uint16_t entry);

/* Requires an attached part, as gw_inflight_clear does. */
static inline void gw_inflight_link(struct gw_inflight *f, uint16_t entry)
{
    f->ops->link(f, entry);
}

/* `used` is the position of the ring's next used element, as in gw_inflight_ring. */
void gw_inflight_close(struct gw_inflight *f, uint16_t used);

static inline void gw_inflight_clear(struct gw_inflight *f, uint16_t entry)
{
    gw_inflight_order();
    gw_inflight_set(f->flags + (size_t)entry * f->stride, 0);
}

void gw_inflight_commit(struct gw_inflight *f);

/*
 * Read the descriptors of a packed ring's request in flight from the region, because its slots in
 * the ring may have been overwritten. Their contents are as untrusted as those of a ring.
 * Returns: how many; -EINVAL if there are more than `max`, or their flags do not form a chain.
 */
int gw_inflight_descs(const struct gw_inflight *f, uint16_t entry, struct gw_desc_packed *to,
                      unsigned max);
