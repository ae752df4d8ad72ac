/* SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause */
/* What a load asks the memory of a disk while it runs. */
#pragma once

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
