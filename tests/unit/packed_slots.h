/* SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause */
/* A rig (rig.h) whose packed ring is written and looked at slot by slot. */
#pragma once

#include "rig.h"

#include <string.h>
#include <sys/eventfd.h>
#include <unistd.h>

#define AVAIL (1u << VRING_PACKED_DESC_F_AVAIL)
#define USED  (1u << VRING_PACKED_DESC_F_USED)
#define WRAP  (1u << VRING_PACKED_EVENT_F_WRAP_CTR)
#define NEXT  ((unsigned)VRING_DESC_F_NEXT)
#define WRITE ((unsigned)VRING_DESC_F_WRITE)

static inline void begin_and_run(struct rig *t, const struct rig_config *cfg)
{
    rig_begin(t, cfg);
    rig_run(t);
}

static inline void end(struct rig *t)
{
    rig_stop(t);
    rig_end(t);
}

/* A descriptor as no driver of ours writes it; `flags` with the bits of the lap. */
static inline void write_desc(struct rig *t, unsigned i, uint16_t id, unsigned flags)
{
    struct gw_driver_packed_desc desc = {
        .addr = t->buf, .len = RIG_BUF_LEN, .id = id, .flags = (uint16_t)flags};

    gw_driver_write_packed_desc(t->driver, i, &desc);
}

static inline void kick(struct rig *t)
{
    assert_int_equal(eventfd_write(gw_driver_kick_fd(t->driver), 1), 0);
}

/* The slot is used, by whom and in which lap. */
static inline void check_used(struct rig *t, unsigned i, uint16_t id, uint32_t len, bool wrap)
{
    struct gw_driver_packed_desc desc;

    gw_driver_read_packed_desc(t->driver, i, &desc);
    assert_int_equal(desc.flags, (wrap ? AVAIL | USED : 0) | (len ? WRITE : 0));
    assert_int_equal(desc.id, id);
    assert_int_equal(desc.len, len);
}

static inline uint64_t counter(int fd)
{
    eventfd_t value = 0;

    (void)eventfd_read(fd, &value);
    return value;
}
