/* SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause */
/*
 * A ring's memory layout, as the queue sees it. The queue decides when; the layout knows how.
 * Everything runs on the queue's worker, or under its lock.
 */
#pragma once

#include "log/dirty_log.h"
#include "mem.h"

#include <linux/virtio_ring.h>
#include <stdbool.h>
#include <stdint.h>

struct gw_queue;
struct gw_request_i;

/* A ring as the front-end described it, complete at start. */
struct gw_ring_config {
    uint32_t size; /* descriptors; a power of two */
    uint32_t base; /* as SET_VRING_BASE and GET_VRING_BASE give it */
    gw_uva_t desc;
    gw_uva_t avail;
    gw_uva_t used;
};

struct gw_ring {
    const struct gw_ring_ops *ops;
    const struct vring_desc *desc;
    const struct vring_avail *avail;
    struct vring_used *used;
    uint16_t *avail_event;      /* ours, in the used ring */
    const uint16_t *used_event; /* the driver's, in the available ring */
    uint32_t size;
    uint16_t mask;
    uint16_t next_avail;    /* the next to pop */
    uint16_t next_used;     /* the next used element to write */
    uint16_t published;     /* the used index the driver sees */
    uint16_t notified_used; /* `published` when the driver was last asked whether to notify */
    bool notified_valid;
    bool event_idx;
    bool indirect;
    struct gw_dirty_log *log; /* where writes to the used ring are marked, or NULL */
    gw_gpa_t log_addr;        /* of the used ring (VHOST_VRING_F_LOG) */
    struct gw_ring_config config;
};

/* What a look at the available ring found. Negative: it is broken, the message tells how. */
struct gw_ring_ops {
    /*
     * Find the ring's memory in `map`. Called at start and again for every new map; indices stay.
     * Returns: 0; -EFAULT with gw_last_error.
     */
    int (*attach)(struct gw_ring *ring, const struct gw_map *map);
    /* Begin at the base of the config. Returns: 0; -EINVAL with gw_last_error. */
    int (*start)(struct gw_ring *ring);
    /* Requests waiting; -EPROTO when the driver's index is impossible. */
    int (*n_available)(const struct gw_ring *ring);
    /* Take `n` heads, which are available, off the ring. */
    void (*take)(struct gw_ring *ring, uint16_t *heads, unsigned n);
    /* Undo the last take of one. */
    void (*untake)(struct gw_ring *ring);
    /* Write a used element; the driver does not see it before publish. */
    void (*put_used)(struct gw_ring *ring, uint16_t head, uint32_t len);
    /* Show the driver what was put. Returns: does it want to be notified? */
    bool (*publish)(struct gw_ring *ring);
    bool (*has_unpublished)(const struct gw_ring *ring);
    /* Ask the driver not to kick, or to kick; after asking for kicks, look again. */
    void (*disable_kicks)(struct gw_ring *ring);
    void (*enable_kicks)(struct gw_ring *ring);
    /* What GET_VRING_BASE answers. */
    uint32_t (*base)(const struct gw_ring *ring);
};

extern const struct gw_ring_ops gw_ring_split_ops;
