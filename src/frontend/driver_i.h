/* SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause */
/* The driver's side of one queue, as driver.c makes it and driver_split.c drives it. */
#pragma once

#include <godwit/frontend.h>
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
    gw_gpa_t tables_gpa;
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
    gw_gpa_t desc_gpa;
    gw_gpa_t avail_gpa;
    gw_gpa_t used_gpa;
    bool placed; /* the rings are not ours to release */
    unsigned index;
    uint32_t base;
    char error[128];
};

uint64_t gw_driver_now(void);
