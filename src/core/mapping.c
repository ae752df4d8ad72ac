/* SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause */
/* Checking, aligning, mapping. Files may begin and end anywhere, mappings only at their pages. */
#include "mapping.h"

#include "checked.h"
#include "diag_i.h"
#include "fd/peer_fd.h"

#include <errno.h>
#include <inttypes.h>
#include <linux/magic.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/vfs.h>
#include <unistd.h>

/* What offset and length of a mapping must be multiples of: on hugetlbfs, its huge page. */
static uint64_t granule_of(int fd)
{
    uint64_t page = (uint64_t)sysconf(_SC_PAGESIZE);
    struct statfs fs;

    if (fstatfs(fd, &fs) == 0 && fs.f_type == HUGETLBFS_MAGIC && fs.f_bsize > 0 &&
        (uint64_t)fs.f_bsize > page && gw_is_power_of_two((uint64_t)fs.f_bsize))
        return (uint64_t)fs.f_bsize;
    return page;
}

/* A page beyond the end of its file is SIGBUS when touched: such a piece is refused up front. */
static int check_file(uint64_t *ret_size, const char *what, int fd, gw_off_t offset, uint64_t size)
{
    struct stat st;
    char why[160];
    int r;

    if (size == 0 || size > INT64_MAX || offset > INT64_MAX - size)
        return gw_fail(-EINVAL, "%s of %#" PRIx64 " bytes at offset %#" PRIx64 " cannot be", what,
                       size, offset);
    /* Before any call that its file system may answer. */
    r = gw_peer_fd_check_memory(fd, why, sizeof(why));
    if (r < 0)
        return gw_fail(r, "%s: %s", what, why);
    if (fstat(fd, &st) < 0)
        return gw_fail(-errno, "%s: fstat: %s", what, strerror(errno));
    if (S_ISREG(st.st_mode) && offset + size > (uint64_t)st.st_size)
        return gw_fail(-EINVAL, "%s needs %#" PRIx64 " bytes of its file, which has %#" PRIx64,
                       what, offset + size, (uint64_t)st.st_size);
    *ret_size = S_ISREG(st.st_mode) ? (uint64_t)st.st_size : 0;
    return 0;
}

int gw_mapping_init(struct gw_mapping *m, const char *what, int fd, gw_off_t offset, uint64_t size,
                    int flags)
{
    uint64_t file_size = 0, granule, residual, length;
    void *base;
    int r = check_file(&file_size, what, fd, offset, size);

    if (r < 0)
        return r;
    granule = granule_of(fd);
    residual = offset % granule;
    /* Cannot overflow: offset + size is below 2^63. */
    length = gw_align_down(residual + size + granule - 1, granule);
    base = mmap(NULL, length, PROT_READ | PROT_WRITE, MAP_SHARED | flags, fd,
                (off_t)(offset - residual));
    if (base == MAP_FAILED) {
        r = -errno;
        return gw_fail(r, "%s of %#" PRIx64 " bytes: mmap: %s%s", what, size, strerror(-r),
                       r == -EACCES ? " (its file must be open for writing)" : "");
    }
    *m = (struct gw_mapping){
        .at = (uint8_t *)base + residual,
        .offset = offset,
        .file_size = file_size,
        .range = {.base = (uintptr_t)base, .length = length, .granule = granule},
    };
    return 0;
}

void gw_mapping_done(struct gw_mapping *m)
{
    if (!m->at)
        return;
    gw_sigbus_unregister(&m->range);
    (void)munmap((void *)m->range.base, m->range.length);
    m->at = NULL;
}

void gw_mapping_guard(struct gw_mapping *m, struct gw_loss *loss)
{
    if (loss && m->at)
        gw_sigbus_register(&m->range, loss);
}

int gw_mapping_check(const struct gw_mapping *m, const char *what)
{
    uintptr_t lost_at = __atomic_load_n(&m->range.lost_at, __ATOMIC_RELAXED);

    if (lost_at == 0)
        return 0;
    return gw_fail(-EIO,
                   "%s: the page at offset %#" PRIx64 " of its file is gone; the file had %#" PRIx64
                   " bytes when it was mapped, and was truncated, or the pages behind it ran out",
                   what, m->offset + (lost_at - (uintptr_t)m->at), m->file_size);
}
