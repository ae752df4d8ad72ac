/* SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause */
/* Parts of migration_work_blk for a load that another program runs. */
#pragma once

#include "migrate/migrate_i.h"

#include "load/load.h"

struct migration_blk_shape {
    struct gw_guest_disk_config disk;
    struct gw_guest_load_config load;
};

/* Number of blocks that the load uses on a disk of `capacity` sectors; 0: the disk is too small. */
uint64_t migration_blk_blocks(const struct migration *m, uint64_t capacity);
const struct migration_blk_shape *migration_blk_shape(const void *w);
struct gw_guest_load *migration_blk_load(const void *w);
