/* SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause */
/*
 * Memory backend 1: mmap of the file that the front-end passed. Every region has one address for
 * its life, so every pin is arithmetic and this file never sees one.
 */
#include "cleanup.h"
#include "mem.h"

#include <errno.h>
#include <sys/mman.h>

unsigned gw_mem_backend_caps(void)
{
    return GW_MEM_CAP_STABLE_HVA;
}

int gw_mem_backend_map(struct gw_region *region, int fd)
{
    gw_cleanup_fd int owned_fd = fd;
    const struct gw_region_desc *desc = &region->desc;
    char what[64];
    int r;

    gw_region_name(region, what, sizeof(what));
    r = gw_mapping_init(&region->mapping, what, owned_fd, desc->mmap_offset, desc->size,
                        MAP_NORESERVE);
    if (r < 0)
        return r;
    /* A core dump must neither hold the guest nor touch pages that are still to arrive. */
    (void)madvise((void *)region->mapping.range.base, region->mapping.range.length, MADV_DONTDUMP);
    region->hva = region->mapping.at;
    return 0;
}

void gw_mem_backend_unmap(struct gw_region *region)
{
    gw_mapping_done(&region->mapping);
}

int gw_mem_backend_pin(const struct gw_map *map, const struct gw_extent *extents,
                       unsigned n_extents, struct iovec *iov, unsigned max_iov,
                       struct gw_pin *ret_pin)
{
    return -EFAULT; /* only for regions without hva, and there are none */
}

void gw_mem_backend_unpin(struct gw_pin *pin)
{
}
