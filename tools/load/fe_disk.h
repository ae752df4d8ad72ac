/* SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause */
/* The interface of a load to the expected contents of its disk. */
#pragma once

#include "frontend/driver/fe_state.h"

#include "load.h"

uint64_t gw_guest_disk_blocks(const struct gw_guest_disk *disk);
uint32_t gw_guest_disk_block_size(const struct gw_guest_disk *disk);
uint64_t gw_guest_disk_sector(const struct gw_guest_disk *disk, uint64_t block);

/* Claim the first block without a request in flight, at or after `block`. */
uint64_t gw_guest_disk_claim(struct gw_guest_disk *disk, uint64_t block);
void gw_guest_disk_unclaim(struct gw_guest_disk *disk, uint64_t block);

/* Generate the contents of the block's next write, which may reach the disk from now on. */
void gw_guest_disk_fill(struct gw_guest_disk *disk, uint64_t block, void *data);
/* The write has been acknowledged. */
void gw_guest_disk_written(struct gw_guest_disk *disk, uint64_t block);

/* Call when sending a FLUSH; pass the result to gw_guest_disk_flushed when it has completed. */
uint64_t gw_guest_disk_flush(const struct gw_guest_disk *disk);
void gw_guest_disk_flushed(struct gw_guest_disk *disk, uint64_t covered);

/* The generations of a block that may be on the disk at one moment, for a later check. */
struct gw_guest_disk_known {
    uint32_t done;   /* acknowledged generation */
    uint32_t issued; /* newest generation that may be on the disk */
};
void gw_guest_disk_known(const struct gw_guest_disk *disk, uint64_t block,
                         struct gw_guest_disk_known *ret);
/* Returns: as gw_guest_disk_check. */
int gw_guest_disk_check_known(struct gw_guest_disk *disk, uint64_t block,
                              const struct gw_guest_disk_known *known, const void *data);

/* The expected contents of all blocks, for migration to another host (fe_load_state.c). */
struct gw_guest_disk_state {
    struct gw_guest_disk_block *blocks;
    uint64_t n_blocks;
    uint64_t n_done, n_flushed;
};

void gw_guest_disk_put(const struct gw_guest_disk *disk, struct gw_state_writer *w);
/* Returns: 0; -EINVAL: the state of another disk; -ENOMEM. Free with gw_guest_disk_state_done. */
int gw_guest_disk_get(const struct gw_guest_disk *disk, struct gw_state_reader *r,
                      struct gw_guest_disk_state *ret);
/* Mark a request in flight for the block. Returns: false if one is already. */
bool gw_guest_disk_state_claim(struct gw_guest_disk_state *s, uint64_t block);
/* Move the state into the disk. */
void gw_guest_disk_take(struct gw_guest_disk *disk, struct gw_guest_disk_state *s);
void gw_guest_disk_state_done(struct gw_guest_disk_state *s);
