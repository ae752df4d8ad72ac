/* SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause */
/* The driver's side of one queue, as driver.c makes it and driver_split.c drives it. */
#pragma once

#include <godwit/log.h>
#include <linux/virtio_ring.h>

struct gw_driver_slot {
    uint64_t cookie;
    uint16_t next;   /* of the free list; of the chain while it is in flight */
    uint16_t last;   /* of a head: where its chain ends */
    uint16_t n_desc; /* of a head in flight, else 0 */
};

struct gw_driver {
    /* the hot half */
    struct vring_desc *desc;
    struct vring_avail *avail;
    struct vring_used *used;
    uint16_t *used_event;  /* behind the available ring */
    uint16_t *avail_event; /* behind the used ring */
    struct vring_desc *tables;
    struct gw_driver_slot *slots;
    struct gw_guest_track *track; /* NULL: what is written is of no interest */
    gw_gpa_t tables_gpa;
    gw_gpa_t desc_gpa;
    gw_gpa_t avail_gpa;
    gw_gpa_t used_gpa;
    unsigned indirect_max;
    unsigned mask; /* size - 1 */
    unsigned n_free;
    unsigned n_in_flight;
    uint16_t free_head;
    uint16_t avail_idx; /* of the next chain */
    uint16_t published; /* as the device knows it */
    uint16_t kicked;    /* when it was last looked whether to kick */
    uint16_t last_used;
    bool event_idx;
    bool broken;
    int kick_fd;
    int call_fd;

    /* the rest */
    struct gw_guest_mem *mem;
    bool placed; /* the rings are not ours to release */
    unsigned index;
    uint32_t base;
    char error[128];
};

uint64_t gw_driver_now(void);

/* The driver's side wrote this. */
static inline void gw_driver_wrote(const struct gw_driver *d, gw_gpa_t gpa, uint64_t len)
{
    if (d->track)
        gw_guest_track_mark(d->track, gpa, len);
}

/* The same of the available ring, `at` bytes from its begin. */
static inline void gw_driver_wrote_avail(const struct gw_driver *d, unsigned at)
{
    gw_driver_wrote(d, d->avail_gpa + at, sizeof(uint16_t));
}

/* Where in the available ring things are. */
#define GW_DRIVER_AVAIL_FLAGS      0
#define GW_DRIVER_AVAIL_IDX        2
#define GW_DRIVER_AVAIL_RING(i)    (4 + 2 * (i))
#define GW_DRIVER_USED_EVENT(size) GW_DRIVER_AVAIL_RING(size)
