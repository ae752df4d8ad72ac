/* SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause */
/*
 * The driver's side of one queue, as driver.c makes it and driver_run.c drives it. What differs
 * between the layouts is behind gw_driver_ops: driver_split.c and driver_packed.c.
 *
 * A chain takes as many slots as it has descriptors in the ring and is known by its first one, the
 * head. In a split ring slot and descriptor are one; in a packed one the head is the buffer id.
 */
#pragma once

#include <godwit/log.h>
#include <linux/virtio_ring.h>

struct gw_driver;

struct gw_driver_slot {
    uint64_t cookie;
    uint64_t number; /* of a head in flight: of the chain, see gw_driver_is_in_flight */
    uint32_t in_len; /* of a head in flight: what the device may write */
    uint16_t next;   /* of the free list; of the chain while it is in flight */
    uint16_t last;   /* of a head: where its chain ends */
    uint16_t n_desc; /* of a head in flight, else 0 */
    bool is_used;    /* of a head, for gw_driver_requeue: its used element is still to be taken */
};

/*
 * One layout. Indices count chains in a split ring, and run over 65536; in a packed one they count
 * descriptors, and run over two laps, the first of which has wrap counter 1.
 */
struct gw_driver_ops {
    /* The three parts are at these places. */
    void (*locate)(struct gw_driver *d, void *desc, void *avail, void *used);
    /* The rings are zeros: empty, to begin at `index`. Returns: it as it is told to the device. */
    uint32_t (*clear)(struct gw_driver *d, uint16_t index);
    /*
     * Write a chain of `n` buffers whose head is the first free slot, and count avail_idx up.
     * Returns: its last slot.
     */
    uint16_t (*add)(struct gw_driver *d, const struct gw_driver_buf *bufs, unsigned n_out,
                    unsigned n, unsigned flags);
    /* Show the device all up to avail_idx, which is not `published` yet. */
    void (*publish)(struct gw_driver *d);
    /* After a full barrier: does the device want a kick for the last `unkicked`? */
    bool (*wants_kick)(struct gw_driver *d);
    /* Up to `n` chains that are used, also the rest of a batch. Returns: how many. */
    unsigned (*take)(struct gw_driver *d, struct gw_driver_used *used, unsigned n);
    bool (*has_used)(const struct gw_driver *d);
    void (*suppress_calls)(struct gw_driver *d);
    void (*ask_for_calls)(struct gw_driver *d);
    uint16_t (*used_idx)(const struct gw_driver *d);
    /* From here on, only while stopped. Set is_used of what is used and not taken, one by one. */
    void (*find_used)(struct gw_driver *d);
    /* Write a chain in flight at `index` once more. Returns: the index behind it. */
    uint16_t (*offer)(struct gw_driver *d, uint16_t index, uint16_t head);
    /* The index, as it is told to the device; the reverse is false where it is no such thing. */
    uint32_t (*base)(const struct gw_driver *d, uint16_t index);
    bool (*parse_base)(const struct gw_driver *d, uint32_t base, uint16_t *ret_avail,
                       uint16_t *ret_used);
    /* What is `at` bytes from the begin of the first, or of the last part? */
    enum gw_driver_place (*find_desc)(uint64_t at, unsigned *ret_i);
    enum gw_driver_place (*find_used_part)(const struct gw_driver *d, uint64_t at, unsigned *ret_i);
};

extern const struct gw_driver_ops gw_driver_split_ops;
extern const struct gw_driver_ops gw_driver_packed_ops;

struct gw_driver_split {
    struct vring_desc *desc;
    struct vring_avail *avail;
    struct vring_used *used;
    uint16_t *used_event;  /* behind the available ring */
    uint16_t *avail_event; /* behind the used ring */
};

/* A packed descriptor in its two halves, as they are in the ring: each is stored at once. */
struct gw_driver_desc {
    uint64_t addr;
    uint64_t word; /* length, id and flags */
};

struct gw_driver_packed {
    struct gw_driver_desc *ring;
    uint32_t *driver_event; /* an offset with its wrap counter, and flags above it */
    uint32_t *device_event;
    struct gw_driver_desc *slots;   /* what is in flight, whose place in the ring may be gone */
    struct gw_driver_desc *written; /* the ring as it was written here, see gw_driver_overlay */
    uint64_t held_word;             /* of the first descriptor that is not published */
};

/* IN_ORDER: a used element that stands for more chains than were taken yet. */
struct gw_driver_batch {
    unsigned n_left; /* 0: there is none */
    uint32_t last_len;
};

struct gw_driver {
    /* the hot half */
    const struct gw_driver_ops *ops;
    union {
        struct gw_driver_split split;
        struct gw_driver_packed packed;
    };
    void *tables;
    struct gw_driver_slot *slots;
    struct gw_guest_track *track; /* NULL: what is written is of no interest */
    gw_gpa_t tables_gpa;
    gw_gpa_t desc_gpa;
    gw_gpa_t avail_gpa; /* packed: of the driver event area */
    gw_gpa_t used_gpa;  /* packed: of the device event area */
    unsigned indirect_max;
    unsigned size;
    unsigned n_free;
    unsigned n_in_flight;
    uint64_t n_added;  /* chains, ever */
    uint32_t unkicked; /* how far `published` went since it was looked whether to kick */
    uint16_t free_head;
    uint16_t oldest;    /* IN_ORDER: the next head to be used */
    uint16_t avail_idx; /* of the next chain */
    uint16_t published; /* as the device knows it */
    uint16_t last_used;
    struct gw_driver_batch batch;
    bool is_packed;
    bool event_idx;
    bool in_order;
    bool broken;
    int kick_fd;
    int call_fd;

    /* the rest */
    struct gw_guest_mem *mem;
    bool placed;      /* the rings are not ours to release */
    bool has_channel; /* in place of the eventfds, as far as the back-end is concerned */
    uint32_t domid, port;
    bool is_started; /* a back-end was given it and has not given it back */
    unsigned index;
    uint32_t base;
    char error[128];
};

uint64_t gw_driver_now(void);

/* Bytes of the last part, the event fields included whether negotiated or not. */
uint64_t gw_driver_used_len(const struct gw_driver *d);

/* Can it run with these features? Returns: 0; a negative errno with the reason in `ret_why`. */
int gw_driver_check_features(const struct gw_driver *d, uint64_t features, const char **ret_why);

/* After a crash, for a back-end that knows from its inflight region what it had not done. */
void gw_driver_restore_base(struct gw_driver *d);

/* The device broke the ring: nothing is taken from it any more. */
void gw_driver_set_broken(struct gw_driver *d, const char *what, unsigned value);

/*
 * IN_ORDER: begin a batch that ends with chain `last`. Returns: how many descriptors it has, 0
 * where that one is not in flight.
 */
unsigned gw_driver_begin_batch(struct gw_driver *d, uint16_t last, uint32_t len);
/* The next chain of a batch that has begun. */
void gw_driver_take_batched(struct gw_driver *d, struct gw_driver_used *ret);
/* Take back the slots of a chain that is done. */
void gw_driver_retire(struct gw_driver *d, uint16_t head, uint32_t len, struct gw_driver_used *ret);

/* `n` slots further in the order of the ring. */
static inline uint16_t gw_driver_slot_after(const struct gw_driver *d, unsigned slot, unsigned n)
{
    return (uint16_t)(slot + n >= d->size ? slot + n - d->size : slot + n);
}

/* How far an index went. */
static inline unsigned gw_driver_distance(const struct gw_driver *d, uint16_t from, uint16_t to)
{
    if (!d->is_packed)
        return (uint16_t)(to - from);
    return to >= from ? (unsigned)to - from : to + 2 * d->size - from;
}

/* `n_desc` descriptors further, in a packed ring: its index runs over two laps. */
static inline uint16_t gw_driver_packed_after(const struct gw_driver *d, uint16_t index,
                                              unsigned n_desc)
{
    return (uint16_t)(index + n_desc >= 2 * d->size ? index + n_desc - 2 * d->size
                                                    : index + n_desc);
}

/* The index behind a chain at `index`. */
static inline uint16_t gw_driver_index_after(const struct gw_driver *d, uint16_t index,
                                             unsigned n_desc)
{
    return d->is_packed ? gw_driver_packed_after(d, index, n_desc) : (uint16_t)(index + 1);
}

/* The driver's side wrote this. */
static inline void gw_driver_wrote(const struct gw_driver *d, gw_gpa_t gpa, uint64_t len)
{
    if (d->track)
        gw_guest_track_mark(d->track, gpa, len);
}
