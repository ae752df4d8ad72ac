/* SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause */
/*
 * The driver's side of one queue, created by driver.c and operated by driver_run.c. The ring
 * layouts differ behind gw_driver_ops: driver_split.c and driver_packed.c.
 *
 * A chain occupies one slot for each of its descriptors in the ring, and its first slot, the head,
 * identifies it. In a split ring the slot is the descriptor; in a packed ring the head is the
 * buffer id.
 */
#pragma once

#include "frontend/error.h"

#include <godwit/frontend/iotlb.h>
#include <godwit/frontend/log.h>
#include <linux/virtio_ring.h>

struct gw_driver;

struct gw_driver_slot {
    uint64_t cookie;
    uint64_t number;       /* head in flight: chain number, see gw_driver_is_in_flight */
    uint32_t writable_len; /* head in flight: device-writable bytes */
    uint16_t next;         /* next in the free list, or in a chain in flight */
    uint16_t last;         /* head: last slot of the chain */
    uint16_t n_desc;       /* head in flight: descriptors of the chain; otherwise 0 */
    bool is_used;          /* head: used but not taken (for gw_driver_requeue) */
};

/*
 * One layout. Indices count chains modulo 65536 in a split ring. In a packed ring they count
 * descriptors over two laps, the first with wrap counter 1.
 */
struct gw_driver_ops {
    /* Store the addresses of the three parts. */
    void (*locate)(struct gw_driver *d, void *desc, void *avail, void *used);
    /* Initialize zeroed rings to start empty at `index`. Returns: the vring base for `index`. */
    uint32_t (*clear)(struct gw_driver *d, uint16_t index);
    /*
     * Write a chain of `n` buffers whose head is the first free slot, and advance avail_idx.
     * Returns: the last slot of the chain.
     */
    uint16_t (*add)(struct gw_driver *d, const struct gw_driver_buf *bufs, unsigned n_readable,
                    unsigned n, unsigned flags);
    /* Make everything up to avail_idx available to the device. */
    void (*publish)(struct gw_driver *d);
    /* After a full barrier: whether the device wants a kick for the last `unkicked`. */
    bool (*wants_kick)(struct gw_driver *d);
    /* Take up to `n` used chains, including the rest of a batch. Returns: the number taken. */
    unsigned (*take)(struct gw_driver *d, struct gw_driver_used *used, unsigned n);
    bool (*has_used)(const struct gw_driver *d);
    void (*suppress_calls)(struct gw_driver *d);
    void (*ask_for_calls)(struct gw_driver *d);
    uint16_t (*used_idx)(const struct gw_driver *d);
    /* From here on only while stopped. Set is_used of each chain that is used and not taken. */
    void (*find_used)(struct gw_driver *d);
    /* Write a chain in flight again, at `index`. Returns: the index after it. */
    uint16_t (*offer)(struct gw_driver *d, uint16_t index, uint16_t head);
    /* The vring base for an index. parse_base is the inverse; it returns false if invalid. */
    uint32_t (*base)(const struct gw_driver *d, uint16_t index);
    bool (*parse_base)(const struct gw_driver *d, uint32_t base, uint16_t *ret_avail,
                       uint16_t *ret_used);
    /* What is located `at` bytes from the start of the first part, or of the last part. */
    enum gw_driver_place (*find_desc)(uint64_t at, unsigned *ret_i);
    enum gw_driver_place (*find_used_part)(const struct gw_driver *d, uint64_t at, unsigned *ret_i);
};

extern const struct gw_driver_ops gw_driver_split_ops;
extern const struct gw_driver_ops gw_driver_packed_ops;

struct gw_driver_split {
    struct vring_desc *desc;
    struct vring_avail *avail;
    struct vring_used *used;
    uint16_t *used_event;  /* after the available ring */
    uint16_t *avail_event; /* after the used ring */
};

/* A packed descriptor as the two halves that are stored atomically. */
struct gw_driver_desc {
    uint64_t addr;
    uint64_t word; /* length, id and flags */
};

struct gw_driver_packed {
    struct gw_driver_desc *ring;
    uint32_t *driver_event; /* offset and wrap counter, flags in the upper half */
    uint32_t *device_event;
    struct gw_driver_desc *slots;   /* chains in flight; the ring may no longer hold them */
    struct gw_driver_desc *written; /* the ring as the driver wrote it, see gw_driver_overlay */
    uint64_t held_word;             /* word of the first unpublished descriptor */
};

/* IN_ORDER: a used element that covers more chains than have been taken. */
struct gw_driver_batch {
    unsigned n_left; /* 0: no batch */
    uint32_t last_len;
};

struct gw_driver {
    /* accessed for each request */
    const struct gw_driver_ops *ops;
    union {
        struct gw_driver_split split;
        struct gw_driver_packed packed;
    };
    gw_driver_iova_cb *iova; /* NULL: the device uses guest addresses */
    void *iova_arg, *tables;
    struct gw_driver_slot *slots;
    struct gw_guest_track *track; /* NULL: writes are not tracked */
    gw_gpa_t tables_gpa;
    gw_gpa_t desc_gpa;
    gw_gpa_t avail_gpa; /* packed: driver event area */
    gw_gpa_t used_gpa;  /* packed: device event area */
    unsigned indirect_max;
    unsigned size;
    unsigned n_free;
    unsigned n_in_flight;
    uint64_t n_added;  /* total number of chains */
    uint32_t unkicked; /* advance of `published` since the last kick decision */
    uint16_t free_head;
    uint16_t oldest;    /* IN_ORDER: head of the oldest chain in flight */
    uint16_t avail_idx; /* index of the next chain */
    uint16_t published; /* last index shown to the device */
    uint16_t last_used;
    struct gw_driver_batch batch;
    bool is_packed;
    bool event_idx;
    bool in_order;
    bool broken;
    int kick_fd;
    int call_fd;

    /* setup */
    struct gw_guest_mem *mem;
    bool placed;      /* the caller placed the rings; do not release them */
    bool has_channel; /* the back-end uses an event channel, not the eventfds */
    uint32_t domid, port;
    bool is_started; /* started on a back-end and not stopped since */
    unsigned index;
    uint32_t base;
    char why[128]; /* with `broken`: what the device did */
};

uint64_t gw_driver_now(void);

/* Returns: 0; a negative errno if the driver cannot run with these features. */
int gw_driver_check_features(const struct gw_driver *d, uint64_t features);

/* After a crash: restart at the used index; the back-end's inflight region has the rest. */
void gw_driver_restore_base(struct gw_driver *d);

/* The device violated the ring protocol: the driver takes nothing from it from now on. */
void gw_driver_set_broken(struct gw_driver *d, const char *what, unsigned value);

/*
 * IN_ORDER: begin a batch that ends with chain `last`. Returns: its number of descriptors; 0 if
 * `last` is not in flight.
 */
unsigned gw_driver_begin_batch(struct gw_driver *d, uint16_t last, uint32_t len);
/* Take the next chain of the current batch. */
void gw_driver_take_batched(struct gw_driver *d, struct gw_driver_used *ret);
/* Free the slots of a completed chain. */
void gw_driver_retire(struct gw_driver *d, uint16_t head, uint32_t len, struct gw_driver_used *ret);

/* The slot `n` positions further in ring order. */
static inline uint16_t gw_driver_slot_after(const struct gw_driver *d, unsigned slot, unsigned n)
{
    return (uint16_t)(slot + n >= d->size ? slot + n - d->size : slot + n);
}

/* The distance between two indices. */
static inline unsigned gw_driver_distance(const struct gw_driver *d, uint16_t from, uint16_t to)
{
    if (!d->is_packed)
        return (uint16_t)(to - from);
    return to >= from ? (unsigned)to - from : to + 2 * d->size - from;
}

/* Advance a packed index by `n_desc` descriptors; it counts over two laps. */
static inline uint16_t gw_driver_packed_after(const struct gw_driver *d, uint16_t index,
                                              unsigned n_desc)
{
    return (uint16_t)(index + n_desc >= 2 * d->size ? index + n_desc - 2 * d->size
                                                    : index + n_desc);
}

/* The index after a chain at `index`. */
static inline uint16_t gw_driver_index_after(const struct gw_driver *d, uint16_t index,
                                             unsigned n_desc)
{
    return d->is_packed ? gw_driver_packed_after(d, index, n_desc) : (uint16_t)(index + 1);
}

/* Record a write of the driver. */
static inline void gw_driver_wrote(const struct gw_driver *d, gw_gpa_t gpa, uint64_t len)
{
    if (d->track)
        gw_guest_track_mark(d->track, gpa, len);
}
