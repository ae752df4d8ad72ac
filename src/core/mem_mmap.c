/* SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause */
/*
 * Memory backend 1: mmap of the file that the front-end passed. Every region has one address for
 * its life, so every pin is arithmetic and this file never sees one.
 */
#include "cleanup.h"
#include "diag_i.h"
#include "mem.h"

#include <errno.h>
#include <inttypes.h>
#include <linux/magic.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/vfs.h>
#include <unistd.h>

unsigned gw_mem_backend_caps(void)
{
    return GW_MEM_CAP_STABLE_HVA;
}

/* What offset and length of a mapping must be multiples of: on hugetlbfs, its huge page. */
static uint64_t mapping_granule(int fd)
{
    uint64_t page = (uint64_t)sysconf(_SC_PAGESIZE);
    struct statfs fs;

    if (fstatfs(fd, &fs) == 0 && fs.f_type == HUGETLBFS_MAGIC && fs.f_bsize > 0 &&
        (uint64_t)fs.f_bsize > page && gw_is_power_of_two((uint64_t)fs.f_bsize))
        return (uint64_t)fs.f_bsize;
    return page;
}

/* A page beyond the end of its file is SIGBUS when touched: such a region is refused up front. */
static int check_file_size(const struct gw_region_desc *desc, int fd)
{
    struct stat st;

    if (fstat(fd, &st) < 0)
        return gw_fail(-errno, "memory region at %#" PRIx64 ": fstat: %s", desc->gpa,
                       strerror(errno));
    if (S_ISREG(st.st_mode) && desc->mmap_offset + desc->size > (uint64_t)st.st_size)
        return gw_fail(-EINVAL,
                       "memory region at %#" PRIx64 " needs %#" PRIx64
                       " bytes of its file, which has "
                       "%#" PRIx64,
                       desc->gpa, desc->mmap_offset + desc->size, (uint64_t)st.st_size);
    return 0;
}

int gw_mem_backend_map(struct gw_region *region, int fd)
{
    gw_cleanup_fd int owned_fd = fd;
    const struct gw_region_desc *desc = &region->desc;
    uint64_t granule, offset, residual;
    void *base;
    int r;

    r = check_file_size(desc, owned_fd);
    if (r < 0)
        return r;
    granule = mapping_granule(owned_fd);
    offset = gw_align_down(desc->mmap_offset, granule);
    residual = desc->mmap_offset - offset;
    /* Cannot overflow: gw_region_new keeps offset + size below 2^63. */
    region->length = gw_align_down(desc->size + residual + granule - 1, granule);
    base = mmap(NULL, region->length, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_NORESERVE, owned_fd,
                (off_t)offset);
    if (base == MAP_FAILED) {
        r = -errno;
        return gw_fail(r, "memory region at %#" PRIx64 " of %#" PRIx64 " bytes: mmap: %s%s",
                       desc->gpa, desc->size, strerror(-r),
                       r == -EACCES ? " (its file must be open for writing)" : "");
    }
    /* A core dump must neither hold the guest nor touch pages that are still to arrive. */
    (void)madvise(base, region->length, MADV_DONTDUMP);
    region->base = base;
    region->hva = (uint8_t *)base + residual;
    return 0;
}

void gw_mem_backend_unmap(struct gw_region *region)
{
    (void)munmap(region->base, region->length);
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
