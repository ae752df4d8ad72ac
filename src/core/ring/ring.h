/* SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause */
/*
 * The interface of a queue to the memory layout of its ring. The queue decides when to access the
 * ring; the layout knows how. All of it runs on the queue's worker, or under the queue's lock.
 */
#pragma once

#include "core/memory/iotlb.h"
#include "core/memory/mem.h"
#include "desc.h"
#include "log/dirty_log.h"

#include <linux/virtio_ring.h>
#include <stdbool.h>
#include <stdint.h>

/* A ring as described by the front-end; complete when the ring starts. */
struct gw_ring_config {
    uint32_t size;  /* descriptors */
    uint32_t base;  /* as in SET_VRING_BASE and GET_VRING_BASE */
    gw_uva_t desc;  /* translated addresses: all three are I/O addresses */
    gw_uva_t avail; /* packed: the driver's event suppression area */
    gw_uva_t used;  /* packed: the device's */
};

/* A chain as it was taken off the ring. */
struct gw_head {
    union {
        struct vring_desc first;            /* split: the one copy of its first descriptor */
        const struct gw_desc_packed *descs; /* packed: the one copy of each of its descriptors */
    };
    uint16_t id;      /* its id in the used element */
    uint16_t n_slots; /* slots that it takes in the ring; split: 1 */
    uint16_t entry;   /* of the inflight part, if any */
};

struct gw_ring_split {
    const struct vring_desc *desc;
    const struct vring_avail *avail;
    struct vring_used *used;
    uint16_t *avail_event;      /* ours, in the used ring */
    const uint16_t *used_event; /* the driver's, in the available ring */
    uint16_t mask;
    uint16_t next_avail;    /* the next to pop */
    uint16_t next_used;     /* the next used element to write */
    uint16_t published;     /* the used index the driver sees */
    uint16_t notified_used; /* `published` when the driver was last asked whether to notify */
    bool notified_valid;
};

/* A position in a packed ring. The wrap counter starts at 1 and is inverted with every lap. */
struct gw_ring_slot {
    uint16_t index;
    bool wrap;
};

struct gw_ring_packed {
    struct vring_packed_desc *desc;
    const struct vring_packed_desc_event *driver_event;
    struct vring_packed_desc_event *device_event;
    struct gw_desc_packed *copies;  /* descriptors taken last; as many as the ring has */
    struct gw_ring_slot next_avail; /* the next to pop */
    struct gw_ring_slot next_used;  /* the next to write a used descriptor to */
    struct gw_ring_slot published;  /* the first that is not published yet */
    uint64_t first_used;            /* the word to store there, last of its batch */
    uint32_t n_unpublished;         /* slots from `published` to `next_used` */
    uint16_t event_flags;           /* last written to device_event */
    gw_gpa_t desc_gpa;
    gw_gpa_t event_gpa; /* of device_event */
};

/* A ring has three pieces of memory: the descriptors, and one area for each side. */
#define GW_RING_PIECES 3

struct gw_ring_piece {
    const char *name; /* in messages */
    gw_uva_t uva;
    uint64_t len;
    unsigned access; /* GW_IOTLB_READ, GW_IOTLB_WRITE */
    void *at;        /* host address */
    gw_gpa_t gpa;    /* guest address */
};

struct gw_ring {
    const struct gw_ring_ops *ops;
    uint32_t size;
    uint32_t n_busy; /* slots taken whose answers are not published yet */
    bool attached;   /* if false, its memory must be neither read nor written */
    bool event_idx;
    bool indirect;
    bool notify_on_empty;
    struct gw_dirty_log *dirty_log; /* for writes to the used ring; NULL: they are not logged */
    gw_gpa_t log_addr;              /* of the used ring (VHOST_VRING_F_LOG) */
    struct gw_ring_config config;
    const struct gw_iotlb *iotlb; /* translates the addresses of its memory; NULL: they are user
                                     addresses */
    gw_gpa_t used_gpa;            /* of its last piece */
    struct gw_pin pins[GW_RING_PIECES]; /* of its memory */
    union {
        struct gw_ring_split split;
        struct gw_ring_packed packed;
    };
};

struct gw_ring_ops {
    bool is_packed;
    /* Describe its pieces, without `at` and `gpa`. */
    void (*describe)(const struct gw_ring_config *config,
                     struct gw_ring_piece pieces[GW_RING_PIECES]);
    /*
     * Find the ring's memory in `map`. Called at start and for every new map; keeps the indices.
     * Returns: 0; -EFAULT with gw_last_error; -EAGAIN if a translation is missing.
     */
    int (*attach)(struct gw_ring *ring, const struct gw_map *map);
    /* Start at the base of the config. Returns: 0; -EINVAL, -ENOMEM with gw_last_error. */
    int (*start)(struct gw_ring *ring);
    /* Free what start allocated. */
    void (*done)(struct gw_ring *ring);
    /*
     * Continue at another position than the base: `used` is the index of the next used element
     * (packed: bit 15 is the wrap counter), and the `n_slots` slots from there on are taken.
     */
    void (*resume)(struct gw_ring *ring, uint16_t used, uint32_t n_slots);
    /* Returns: the number of available chains, or 1 if it is not known, or 0; -EPROTO, with
     * gw_last_error, if the driver's index is impossible. */
    int (*n_available)(const struct gw_ring *ring);
    /*
     * Take up to `n` chains off the ring. Returns: how many; -EPROTO, with gw_last_error, if the
     * ring is broken. In a split ring, a head whose id is out of range has no descriptor.
     */
    int (*take)(struct gw_ring *ring, struct gw_head *heads, unsigned n);
    /* Undo the last take for its last `n_slots` slots. */
    void (*untake)(struct gw_ring *ring, unsigned n_slots);
    /*
     * Write a used element that returns `n_slots` slots (with IN_ORDER these may belong to several
     * chains, of which only the last is named). The driver does not see it before publish.
     */
    void (*put_used)(struct gw_ring *ring, uint16_t id, uint32_t len, unsigned n_slots);
    /* Discard the used elements since the last publish. Those put instead must not be larger. */
    void (*unput)(struct gw_ring *ring);
    /* Make the used elements visible. Returns: does the driver want to be notified? */
    bool (*publish)(struct gw_ring *ring);
    bool (*has_unpublished)(const struct gw_ring *ring);
    /* Ask the driver not to kick, or to kick; after enable_kicks, check for requests again. */
    void (*disable_kicks)(struct gw_ring *ring);
    void (*enable_kicks)(struct gw_ring *ring);
    /* Do indices and counters agree (invariant.c)? */
    bool (*is_consistent)(const struct gw_ring *ring);
    /* Mark all of it that may ever have been written. The caller has issued a full fence. */
    void (*mark_all)(struct gw_ring *ring);
    /* The index of the next used element, as in resume. */
    uint16_t (*used)(const struct gw_ring *ring);
    /* The reply to GET_VRING_BASE. */
    uint32_t (*base)(const struct gw_ring *ring);
};

extern const struct gw_ring_ops gw_ring_split_ops;
extern const struct gw_ring_ops gw_ring_packed_ops;

/* Is this a valid ring size? Returns: 0; -EINVAL with gw_last_error. */
int gw_ring_check_size(bool packed, uint32_t size, uint32_t max);

/*
 * Does `map` contain the ring? This is only arithmetic if its regions have fixed addresses.
 * Returns: as attach.
 */
int gw_ring_check_memory(bool packed, const struct gw_ring_config *config,
                         const struct gw_map *map);

/*
 * Find what `table` lacks of the translations of the ring's memory, up to `max` pages.
 * Returns: the number of `ret`; -EACCES if it forbids an access, with gw_last_error.
 */
int gw_ring_find_misses(bool packed, const struct gw_ring_config *config,
                        const struct gw_iotlb *table, struct gw_iotlb_miss *ret, unsigned max);
/* Does the ring's memory have an address in this range? Only if its addresses are translated. */
bool gw_ring_is_in(const struct gw_ring *ring, struct gw_iova_range range);

/*
 * For the layouts: pin the pieces in `map` and unpin those pinned before.
 * Returns: 0; -EFAULT or -EAGAIN, as attach; the ring is then detached.
 */
int gw_ring_find(struct gw_ring *ring, const struct gw_map *map,
                 struct gw_ring_piece pieces[GW_RING_PIECES]);

/* Unpin the ring's memory, which must no longer be accessed. Idempotent; allowed if zeroed. */
void gw_ring_detach(struct gw_ring *ring);

/* Size in bytes of the area at a ring's log address (VHOST_VRING_F_LOG). */
static inline uint64_t gw_ring_log_len(bool packed, uint32_t size)
{
    return packed ? sizeof(struct vring_packed_desc_event) : 6 + UINT64_C(8) * size;
}
