/* SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause */
/*
 * Guest memory as a VMM has it: regions of files, mapped here, at guest addresses that the caller
 * chooses. This file owns the mappings, the fds and the allocations in them; fe_memory.c sends the
 * regions to a back-end.
 *
 * A region may start at any offset in its file. Its mapping starts at the preceding (huge) page,
 * while the message carries the exact offset, so that a back-end that assumes a page-aligned
 * mmap_offset fails.
 */
#include "guest_alloc.h"
#include "guest_mem_i.h"

#include "base/cleanup.h"
#include "frontend/error.h"

#include <godwit/frontend/frontend.h>

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <linux/magic.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/vfs.h>
#include <unistd.h>

#define HUGE_SIZE (2u << 20)

struct region {
    struct gw_guest_region r;
    char *map;
    size_t map_len;
    char *host; /* address of r.gpa */
    struct gw_guest_alloc alloc;
};

struct gw_guest_mem {
    gw_uva_t uva_base;
    struct region *regions; /* ascending by address */
    unsigned n_regions;
};

int gw_guest_mem_new(struct gw_guest_mem **ret, gw_uva_t uva_base)
{
    struct gw_guest_mem *m = calloc(1, sizeof(*m));

    if (!m)
        return gw_frontend_fail_fixed(-ENOMEM, "out of memory");
    m->uva_base = uva_base;
    *ret = m;
    return 0;
}

static void region_done(struct region *g)
{
    if (g->map)
        munmap(g->map, g->map_len);
    gw_close(&g->r.fd);
    gw_guest_alloc_done(&g->alloc);
}

void gw_guest_mem_free(struct gw_guest_mem *m)
{
    if (!m)
        return;
    for (unsigned i = 0; i < m->n_regions; i++)
        region_done(&m->regions[i]);
    free(m->regions);
    free(m);
}

/* Fail with the errno of a system call for a region. */
static int failed(const struct gw_guest_region *r, const char *call)
{
    return gw_frontend_fail(-errno, "region of 0x%" PRIx64 " bytes at 0x%" PRIx64 ": %s: %s",
                            r->length, r->gpa, call, strerror(errno));
}

/* Open the file behind a region. Returns: an fd; a negative errno. */
static int open_file(const struct gw_guest_region *r, uint64_t granule)
{
    uint64_t len = (r->offset + r->length + granule - 1) & ~(granule - 1);
    const int seals = F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_SEAL;
    unsigned flags = MFD_CLOEXEC | MFD_ALLOW_SEALING;
    struct stat st;
    int fd, e = 0;

    if (r->kind == GW_GUEST_FD) {
        if (fstat(r->fd, &st) < 0)
            return failed(r, "fstat");
        /* An access beyond the end of the file would raise SIGBUS. */
        if (S_ISREG(st.st_mode) && (uint64_t)st.st_size < r->offset + r->length)
            return gw_frontend_fail(-EINVAL, "the file of the region at 0x%" PRIx64 " is too short",
                                    r->gpa);
        fd = fcntl(r->fd, F_DUPFD_CLOEXEC, 0);
        return fd < 0 ? failed(r, "dup") : fd;
    }
    if (r->kind == GW_GUEST_HUGETLB)
        flags |= MFD_HUGETLB;
    fd = memfd_create("guest", flags);
    if (fd < 0)
        return failed(r, "memfd_create");
    /* Seal it, because the back-end receives the file: truncating it would raise SIGBUS here. */
    if (ftruncate(fd, (off_t)len) < 0 || fcntl(fd, F_ADD_SEALS, seals) < 0)
        e = failed(r, "memfd");
    if (e < 0)
        close(fd);
    return e < 0 ? e : fd;
}

uint64_t gw_guest_region_page_size(const struct gw_guest_region *r)
{
    struct statfs fs;

    if (r->kind == GW_GUEST_HUGETLB)
        return HUGE_SIZE;
    if (r->kind == GW_GUEST_FD && fstatfs(r->fd, &fs) == 0 && fs.f_type == HUGETLBFS_MAGIC)
        return (uint64_t)fs.f_bsize;
    return (uint64_t)sysconf(_SC_PAGESIZE);
}

/* Use a mapping that the caller keeps. */
static int region_take(struct region *g)
{
    int fd = g->r.fd;

    g->host = g->r.host;
    if (fd < 0)
        return 0;
    g->r.fd = fcntl(fd, F_DUPFD_CLOEXEC, 0);
    return g->r.fd < 0 ? failed(&g->r, "dup") : 0;
}

static int region_map(struct region *g)
{
    uint64_t granule = gw_guest_region_page_size(&g->r);
    uint64_t residual = g->r.offset & (granule - 1);
    void *map;
    int fd;

    if (g->r.kind == GW_GUEST_MAPPED)
        return region_take(g);
    fd = open_file(&g->r, granule);
    g->r.fd = fd < 0 ? -1 : fd;
    if (fd < 0)
        return fd;
    g->map_len = (g->r.length + residual + granule - 1) & ~(granule - 1);
    map = mmap(NULL, g->map_len, PROT_READ | PROT_WRITE, MAP_SHARED, fd,
               (off_t)(g->r.offset - residual));
    if (map == MAP_FAILED)
        return failed(&g->r, "mmap");
    g->map = map;
    g->host = g->map + residual;
    return 0;
}

/* Is the description valid for this memory, regardless of its other regions? */
static bool is_region(const struct gw_guest_mem *m, const struct gw_guest_region *r)
{
    if (r->length == 0 || r->gpa + r->length < r->gpa || r->kind > GW_GUEST_MAPPED ||
        r->offset > INT64_MAX / 2 || r->length > INT64_MAX / 2)
        return false;
    if (r->kind == GW_GUEST_MAPPED && (!r->host || r->offset))
        return false;
    return m->uva_base == GW_GUEST_UVA_HOST || m->uva_base + r->gpa + r->length >= m->uva_base;
}

/* Reject ranges that wrap around or overlap. `ret_i` is the position of the new region. */
static int check_place(const struct gw_guest_mem *m, const struct gw_guest_region *r,
                       unsigned *ret_i)
{
    unsigned i = 0;

    if (!is_region(m, r))
        return gw_frontend_fail(-EINVAL,
                                "impossible region: 0x%" PRIx64 " bytes at 0x%" PRIx64
                                ", kind %d, offset 0x%" PRIx64,
                                r->length, r->gpa, (int)r->kind, r->offset);
    while (i < m->n_regions && m->regions[i].r.gpa < r->gpa)
        i++;
    if ((i > 0 && r->gpa - m->regions[i - 1].r.gpa < m->regions[i - 1].r.length) ||
        (i < m->n_regions && m->regions[i].r.gpa - r->gpa < r->length))
        return gw_frontend_fail(-EEXIST, "the region at 0x%" PRIx64 " overlaps an existing one",
                                r->gpa);
    *ret_i = i;
    return 0;
}

int gw_guest_mem_add(struct gw_guest_mem *m, const struct gw_guest_region *region)
{
    struct region g = {.r = *region};
    struct region *grown;
    unsigned i = 0;
    int r;

    r = check_place(m, region, &i);
    if (r < 0)
        return r;
    grown = realloc(m->regions, (m->n_regions + 1) * sizeof(*grown));
    if (!grown)
        return gw_frontend_fail_fixed(-ENOMEM, "out of memory");
    m->regions = grown;
    r = region_map(&g);
    if (r == 0)
        r = gw_guest_alloc_init(&g.alloc, region->gpa, region->no_alloc ? 0 : region->length);
    if (r < 0) {
        region_done(&g);
        return r;
    }
    g.r.uva =
        m->uva_base == GW_GUEST_UVA_HOST ? (gw_uva_t)(uintptr_t)g.host : m->uva_base + region->gpa;
    memmove(&grown[i + 1], &grown[i], (m->n_regions - i) * sizeof(*grown));
    grown[i] = g;
    m->n_regions++;
    return 0;
}

int gw_guest_mem_clone(struct gw_guest_mem **ret, const struct gw_guest_mem *m, gw_uva_t uva_base)
{
    struct gw_guest_mem *c = NULL;
    int r = gw_guest_mem_new(&c, uva_base);

    for (unsigned i = 0; r == 0 && i < m->n_regions; i++) {
        const struct region *from = &m->regions[i];
        struct gw_guest_region region = from->r;

        if (region.kind == GW_GUEST_FD)
            region.kind = gw_guest_region_page_size(&from->r) == HUGE_SIZE ? GW_GUEST_HUGETLB
                                                                           : GW_GUEST_MEMFD;
        if (region.kind == GW_GUEST_MAPPED)
            region.kind = GW_GUEST_MEMFD;
        region.host = NULL;
        region.xen = GW_GUEST_XEN_NONE;
        region.domid = 0;
        r = gw_guest_mem_add(c, &region);
        if (r == 0) {
            gw_guest_alloc_done(&c->regions[i].alloc);
            r = gw_guest_alloc_copy(&c->regions[i].alloc, &from->alloc);
        }
        if (r < 0)
            gw_guest_mem_free(c);
    }
    if (r == 0)
        *ret = c;
    return r;
}

int gw_guest_mem_remove(struct gw_guest_mem *m, gw_gpa_t gpa)
{
    for (unsigned i = 0; i < m->n_regions; i++) {
        if (m->regions[i].r.gpa != gpa)
            continue;
        region_done(&m->regions[i]);
        m->n_regions--;
        memmove(&m->regions[i], &m->regions[i + 1], (m->n_regions - i) * sizeof(*m->regions));
        return 0;
    }
    return gw_frontend_fail(-ENOENT, "no region begins at 0x%" PRIx64, gpa);
}

unsigned gw_guest_mem_count(const struct gw_guest_mem *m)
{
    return m->n_regions;
}

int gw_guest_mem_region(const struct gw_guest_mem *m, unsigned i, struct gw_guest_region *ret)
{
    if (i >= m->n_regions)
        return gw_frontend_fail_fixed(-ENOENT, "no further region");
    *ret = m->regions[i].r;
    return 0;
}

static const struct region *find(const struct gw_guest_mem *m, gw_gpa_t gpa, uint64_t len)
{
    for (unsigned i = 0; i < m->n_regions; i++) {
        const struct region *g = &m->regions[i];

        if (gpa >= g->r.gpa && gpa - g->r.gpa < g->r.length)
            return len <= g->r.length - (gpa - g->r.gpa) ? g : NULL;
    }
    return NULL;
}

void *gw_guest_mem_at(const struct gw_guest_mem *m, gw_gpa_t gpa, uint64_t len)
{
    const struct region *g = find(m, gpa, len);

    return g ? g->host + (gpa - g->r.gpa) : NULL;
}

gw_uva_t gw_guest_mem_uva(const struct gw_guest_mem *m, gw_gpa_t gpa)
{
    const struct region *g = find(m, gpa, 1);

    return g ? g->r.uva + (gpa - g->r.gpa) : 0;
}

int gw_guest_mem_alloc(struct gw_guest_mem *m, uint64_t len, uint64_t align, gw_gpa_t *ret_gpa)
{
    int r = -ENOSPC;

    if (len == 0 || align == 0 || (align & (align - 1)))
        return gw_frontend_fail(-EINVAL, "allocation of %" PRIu64 " bytes with alignment %" PRIu64,
                                len, align);
    for (unsigned i = 0; r == -ENOSPC && i < m->n_regions; i++)
        r = gw_guest_alloc_take(&m->regions[i].alloc, len, align, ret_gpa);
    if (r == -ENOSPC)
        return gw_frontend_fail(r, "guest memory: no %" PRIu64 " free bytes in one region", len);
    if (r < 0)
        return r;
    memset(gw_guest_mem_at(m, *ret_gpa, len), 0, len);
    return 0;
}

void gw_guest_mem_release(struct gw_guest_mem *m, gw_gpa_t gpa, uint64_t len)
{
    for (unsigned i = 0; i < m->n_regions; i++) {
        struct region *g = &m->regions[i];

        /* No match: the region was removed with its allocations, which is not an error. */
        if (gpa >= g->r.gpa && gpa - g->r.gpa < g->r.length) {
            gw_guest_alloc_give(&g->alloc, gpa, len);
            return;
        }
    }
}
