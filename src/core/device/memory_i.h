/* SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause */
/* What the files of a hold on guest memory share. */
#pragma once

#include "base/log_i.h"
#include "core/memory/access.h"
#include "core/queue/queue_i.h"

#include <errno.h>
#include <godwit/memory.h>

static inline const struct gw_map *gw_memory_map(const struct gw_memory *m)
{
    return (const struct gw_map *)m->map;
}

/* The session of the hold has ended without waiting for it: the guest may run elsewhere. */
static inline bool gw_memory_is_late(const struct gw_memory *m)
{
    return __atomic_load_n(&m->queue->abandoned, __ATOMIC_RELAXED);
}

/* Returns: 0 if the range may be accessed; -ESHUTDOWN, -EFAULT, with gw_last_error. */
int gw_memory_check(struct gw_memory *m, gw_gpa_t gpa, uint64_t len);
