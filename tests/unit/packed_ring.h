/* SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause */
/* A packed ring in guest memory, the driver's side under test and the plain device side of it. */
#pragma once

#include "packed_device.h"

#include <setjmp.h>
#include <stdarg.h>

#include <cmocka.h>

#define PACKED_MEM_GPA UINT64_C(0x100000000)
#define PACKED_MEM_LEN (UINT64_C(8) << 20)
#define PACKED_F_EVENT (UINT64_C(1) << 29)

struct packed_ring {
    struct gw_guest_mem *mem;
    struct gw_driver *d;
    struct gw_driver_config cfg;
    struct packed_device dev;
};

static inline void packed_ring_begin(struct packed_ring *t, unsigned size, unsigned indirect_max,
                                     unsigned index, bool event)
{
    const struct gw_guest_region region = {
        .gpa = PACKED_MEM_GPA, .length = PACKED_MEM_LEN, .offset = 0x800};

    memset(t, 0, sizeof(*t));
    assert_int_equal(gw_guest_mem_new(&t->mem, 0x7000000000), 0);
    assert_int_equal(gw_guest_mem_add(t->mem, &region), 0);
    t->cfg = (struct gw_driver_config){.size = sizeof(t->cfg),
                                       .mem = t->mem,
                                       .queue_size = size,
                                       .indirect_max = indirect_max,
                                       .place = true,
                                       .packed = true};
    assert_int_equal(gw_guest_mem_alloc(t->mem, size * 16, 16, &t->cfg.desc), 0);
    assert_int_equal(gw_guest_mem_alloc(t->mem, 4, 4, &t->cfg.avail), 0);
    assert_int_equal(gw_guest_mem_alloc(t->mem, 4, 4, &t->cfg.used), 0);
    assert_int_equal(gw_driver_new(&t->d, &t->cfg), 0);
    assert_true(gw_driver_is_packed(t->d));
    gw_driver_set_features(t->d, event ? PACKED_F_EVENT : 0);
    gw_driver_reset(t->d, (uint16_t)index);
    packed_device_init(&t->dev, t->mem, &t->cfg, index);
}

static inline void packed_ring_finish(struct packed_ring *t)
{
    gw_driver_free(t->d);
    gw_guest_mem_free(t->mem);
}

static inline int packed_ring_add(struct packed_ring *t, uint64_t cookie)
{
    const struct gw_driver_buf buf = {.addr = PACKED_MEM_GPA + 64 * cookie, .len = 64};

    return gw_driver_add(t->d, &buf, 0, 1, cookie, 0);
}

static inline void packed_ring_serve(struct packed_ring *t, uint32_t len)
{
    struct packed_chain c;

    assert_true(packed_device_pop(&t->dev, &c));
    packed_device_push(&t->dev, c.id, c.n_desc, len);
}
