/* SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause */
/* What a load asks the memory of a disk while it runs. */
#pragma once

#include "frontend/transport/fe_state.h"

#include <godwit/load.h>

uint64_t gw_guest_disk_blocks(const struct gw_guest_disk *disk);
uint32_t gw_guest_disk_block_size(const struct gw_guest_disk *disk);
uint64_t gw_guest_disk_sector(const struct gw_guest_disk *disk, uint64_t block);

/* A block that has no request in flight, at or after `block`; it has one from now on. */
uint64_t gw_guest_disk_claim(struct gw_guest_disk *disk, uint64_t block);
void gw_guest_disk_unclaim(struct gw_guest_disk *disk, uint64_t block);

/* Contents for the next write of the block, which may reach the disk from now on. */
void gw_guest_disk_fill(struct gw_guest_disk *disk, uint64_t block, void *data);
/* That write has been done. */
void gw_guest_disk_written(struct gw_guest_disk *disk, uint64_t block);

/* A FLUSH is sent: what it covers, which gw_guest_disk_flushed is told when it has been done. */
uint64_t gw_guest_disk_flush(const struct gw_guest_disk *disk);
void gw_guest_disk_flushed(struct gw_guest_disk *disk, uint64_t covered);

/* Which generations of a block may be on the disk now, and a check against what that was once. */
struct gw_guest_disk_known {
    uint32_t done;   /* acknowledged */
    uint32_t issued; /* the newest that may be there */
};
void gw_guest_disk_known(const struct gw_guest_disk *disk, uint64_t block,
                         struct gw_guest_disk_known *ret);
/* Returns: as gw_guest_disk_check. */
int gw_guest_disk_check_known(struct gw_guest_disk *disk, uint64_t block,
                              const struct gw_guest_disk_known *known, const void *data);

/* What is known of all blocks, on its way to another host (fe_load_state.c). */
struct gw_guest_disk_state {
    struct gw_guest_disk_block *blocks;
    uint64_t n_blocks;
    uint64_t n_done, n_flushed;
};

void gw_guest_disk_put(const struct gw_guest_disk *disk, struct gw_state_writer *w);
/* Returns: 0; -EINVAL it is that of another disk; -ENOMEM. Free with gw_guest_disk_state_done. */
int gw_guest_disk_get(const struct gw_guest_disk *disk, struct gw_state_reader *r,
                      struct gw_guest_disk_state *ret);
/* A request is in flight for it. Returns: false where one is already. */
bool gw_guest_disk_state_claim(struct gw_guest_disk_state *s, uint64_t block);
/* It is the disk's from now on. */
void gw_guest_disk_take(struct gw_guest_disk *disk, struct gw_guest_disk_state *s);
void gw_guest_disk_state_done(struct gw_guest_disk_state *s);
