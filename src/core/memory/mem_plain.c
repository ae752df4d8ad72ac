/* SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause */
/* Maps the file that the front-end passed. */
#include "mem_plain.h"

#include "fd/peer_fd.h"
#include "mem.h"

#include <sys/mman.h>

int gw_mem_plain_map(struct gw_region *region, int fd)
{
    gw_cleanup_peer_fd int owned_fd = fd;
    const struct gw_region_desc *desc = &region->desc;
    char what[64];
    int r;

    gw_region_name(region, what, sizeof(what));
    r = gw_mapping_init_at(&region->mapping, what, owned_fd, desc->mmap_offset, desc->size,
                           MAP_NORESERVE, desc->at_uva ? desc->uva : 0);
    if (r < 0)
        return r;
    /* A core dump must neither contain guest memory nor touch pages that have yet to arrive. */
    (void)madvise((void *)region->mapping.range.base, region->mapping.range.length, MADV_DONTDUMP);
    region->hva = region->mapping.at;
    return 0;
}

void gw_mem_plain_unmap(struct gw_region *region)
{
    gw_mapping_done(&region->mapping);
}
