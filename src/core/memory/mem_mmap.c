/* SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause */
/*
 * Memory backend 1: every region is a file with a fixed address, so every pin is arithmetic in
 * mem.c and never reaches this file.
 */
#include "mem_plain.h"

#include <errno.h>

unsigned gw_mem_backend_probe(struct gw_log *log)
{
    return GW_MEM_CAP_STABLE_HVA;
}

int gw_mem_backend_map(struct gw_region *region, int fd)
{
    return gw_mem_plain_map(region, fd);
}

void gw_mem_backend_unmap(struct gw_region *region)
{
    gw_mem_plain_unmap(region);
}

int gw_mem_backend_pin(const struct gw_map *map, const struct gw_extent *extents,
                       unsigned n_extents, struct iovec *iov, unsigned max_iov,
                       struct gw_pin *ret_pin)
{
    return -EFAULT; /* never called, because every region has an hva */
}

void gw_mem_backend_unpin(struct gw_pin *pin)
{
}

void gw_mem_backend_fetch(struct gw_pin_copy *copies, unsigned n_copies)
{
}

void gw_mem_backend_store(struct gw_pin_copy *copies, unsigned n_copies)
{
}

int gw_mem_backend_pin_ring(const struct gw_region *region, uint64_t offset, uint64_t len,
                            void **ret_at, struct gw_pin *ret_pin)
{
    return -EFAULT;
}

int gw_mem_backend_watch(struct gw_mem_watch **ret)
{
    *ret = NULL;
    return 0;
}

void gw_mem_backend_unwatch(struct gw_mem_watch *w)
{
}

int gw_mem_backend_watch_fd(const struct gw_mem_watch *w)
{
    return -1;
}

int gw_mem_backend_check_owners(struct gw_mem_watch *w, const struct gw_map *map)
{
    return 0;
}
