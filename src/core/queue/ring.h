/* SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause */
/*
 * A ring's memory layout, as the queue sees it. The queue decides when; the layout knows how.
 * Everything runs on the queue's worker, or under its lock.
 */
#pragma once

#include "core/memory/mem.h"
#include "desc.h"
#include "log/dirty_log.h"

#include <linux/virtio_ring.h>
#include <stdbool.h>
#include <stdint.h>

/* A ring as the front-end described it, complete at start. */
struct gw_ring_config {
    uint32_t size; /* descriptors */
    uint32_t base; /* as SET_VRING_BASE and GET_VRING_BASE give it */
    gw_uva_t desc;
    gw_uva_t avail; /* packed: the driver's event suppression area */
    gw_uva_t used;  /* packed: the device's */
};

/* A chain as it was taken off the ring. */
struct gw_head {
    union {
        struct vring_desc first;            /* split: the one copy of its first descriptor */
        const struct gw_desc_packed *descs; /* packed: the one copy of each it has in the ring */
    };
    uint16_t id;      /* what names it when it is used */
    uint16_t n_slots; /* what it takes up in the ring; split: 1 */
    uint16_t entry;   /* of the inflight part, where there is one */
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

/* A place in a packed ring. The wrap counter begins at 1 and turns over with every lap. */
struct gw_ring_slot {
    uint16_t index;
    bool wrap;
};

struct gw_ring_packed {
    struct vring_packed_desc *desc;
    const struct vring_packed_desc_event *driver_event;
    struct vring_packed_desc_event *device_event;
    struct gw_desc_packed *copies;  /* of what was taken last; as many as the ring has */
    struct gw_ring_slot next_avail; /* the next to pop */
    struct gw_ring_slot next_used;  /* the next to write a used descriptor to */
    struct gw_ring_slot published;  /* the first that the driver has not been shown */
    uint64_t first_used;            /* what is to be written there, last of its batch */
    uint32_t n_unpublished;         /* slots from `published` to `next_used` */
    uint16_t event_flags;           /* of device_event, as it was written last */
    gw_gpa_t desc_gpa;
    gw_gpa_t event_gpa; /* of device_event */
};

/* A ring is three pieces of memory: descriptors, and one written by each side. */
#define GW_RING_PIECES 3

struct gw_ring_piece {
    const char *name; /* in messages */
    gw_uva_t uva;
    uint64_t len;
    void *at;     /* where it is */
    gw_gpa_t gpa; /* and where for the guest */
};

struct gw_ring {
    const struct gw_ring_ops *ops;
    uint32_t size;
    uint32_t n_busy; /* slots taken whose answers are not published yet */
    bool attached;   /* its memory is there; otherwise nothing may be read or written */
    bool event_idx;
    bool indirect;
    bool notify_on_empty;
    struct gw_dirty_log *log; /* where writes to the used ring are marked, or NULL */
    gw_gpa_t log_addr;        /* of the used ring (VHOST_VRING_F_LOG) */
    struct gw_ring_config config;
    struct gw_pin pins[GW_RING_PIECES]; /* of its memory */
    union {
        struct gw_ring_split split;
        struct gw_ring_packed packed;
    };
};

struct gw_ring_ops {
    bool is_packed;
    /*
     * Find the ring's memory in `map`. Called at start and again for every new map; indices stay.
     * Returns: 0; -EFAULT with gw_last_error.
     */
    int (*attach)(struct gw_ring *ring, const struct gw_map *map);
    /* Begin at the base of the config. Returns: 0; -EINVAL, -ENOMEM with gw_last_error. */
    int (*start)(struct gw_ring *ring);
    /* The end of what start made. */
    void (*done)(struct gw_ring *ring);
    /*
     * Begin elsewhere than the base said: `used` is the place of the next used element (bit 15: the
     * wrap counter, of a packed ring), and `n_slots` from there on are taken already.
     */
    void (*resume)(struct gw_ring *ring, uint16_t used, uint32_t n_slots);
    /* Requests waiting, or merely that there are some; -EPROTO, with gw_last_error, for an
     * impossible index. */
    int (*n_available)(const struct gw_ring *ring);
    /*
     * Take up to `n` chains off the ring. Returns: how many; -EPROTO, with gw_last_error, when
     * the ring is broken. An id beyond the ring of a split one has no descriptor.
     */
    int (*take)(struct gw_ring *ring, struct gw_head *heads, unsigned n);
    /* Undo the last take, as far as its last `n_slots`. */
    void (*untake)(struct gw_ring *ring, unsigned n_slots);
    /*
     * Write a used element for the last `n_slots` (of several chains, where IN_ORDER allows to skip
     * all but the last); the driver does not see it before publish.
     */
    void (*put_used)(struct gw_ring *ring, uint16_t id, uint32_t len, unsigned n_slots);
    /* As if nothing had been put since the last publish; it is put again, in no larger parts. */
    void (*unput)(struct gw_ring *ring);
    /* Show the driver what was put. Returns: does it want to be notified? */
    bool (*publish)(struct gw_ring *ring);
    bool (*has_unpublished)(const struct gw_ring *ring);
    /* Ask the driver not to kick, or to kick; after asking for kicks, look again. */
    void (*disable_kicks)(struct gw_ring *ring);
    void (*enable_kicks)(struct gw_ring *ring);
    /* Do indices and counters agree (invariant.c)? */
    bool (*is_consistent)(const struct gw_ring *ring);
    /* Mark all that may ever have been written of it. A full fence is behind the writes. */
    void (*mark_all)(struct gw_ring *ring);
    /* Of the next used element, as in resume. */
    uint16_t (*used)(const struct gw_ring *ring);
    /* What GET_VRING_BASE answers. */
    uint32_t (*base)(const struct gw_ring *ring);
};

extern const struct gw_ring_ops gw_ring_split_ops;
extern const struct gw_ring_ops gw_ring_packed_ops;

/* May a ring be of this size? Returns: 0; -EINVAL with gw_last_error. */
int gw_ring_check_size(bool packed, uint32_t size, uint32_t max);

/*
 * Would a ring find its memory in `map`? Arithmetic where regions have lasting addresses.
 * Returns: as attach.
 */
int gw_ring_check_memory(bool packed, const struct gw_ring_config *config,
                         const struct gw_map *map);

/*
 * For the layouts: find the pieces in `map`, in place of those that were found before.
 * Returns: 0; -EFAULT with gw_last_error; the ring has no memory then.
 */
int gw_ring_find(struct gw_ring *ring, const struct gw_map *map,
                 struct gw_ring_piece pieces[GW_RING_PIECES]);

/* Nobody reads or writes its memory any more. Fine twice, and on zeroes. */
void gw_ring_detach(struct gw_ring *ring);

/* Bytes at the log address of a ring (VHOST_VRING_F_LOG). */
static inline uint64_t gw_ring_log_len(bool packed, uint32_t size)
{
    return packed ? sizeof(struct vring_packed_desc_event) : 6 + UINT64_C(8) * size;
}
