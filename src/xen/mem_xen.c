/* SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause */
/*
 * Memory backend 2: each region is memory of a Xen domain or an ordinary file.
 *
 *   a file               as in backend 1: fixed address
 *   FOREIGN              mapped at once; fixed address if it has no holes; otherwise each pin
 *                        checks for holes
 *   GRANT                mapped at once, all or nothing; fixed address
 *   GRANT | NO_ADVANCE   rings are mapped while they run; buffers are copied (grant_copy.h), or
 *                        stay mapped if the guest is known to allow it (grant_cache.h)
 */
#include "base/cleanup.h"
#include "base/log_i.h"
#include "core/memory/mem.h"
#include "core/memory/mem_plain.h"
#include "fd/peer_fd.h"
#include "foreign.h"
#include "grant.h"
#include "grant_cache.h"
#include "grant_copy.h"
#include "xen_log.h"

#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

_Static_assert(GW_WITH_POSTCOPY == 0,
               "userfaultfd needs memory at fixed addresses, and granted pages have none");

/* The page size of Xen, whatever the kernel's is. */
#define PAGE       UINT64_C(4096)
#define PAGE_SHIFT 12

/*
 * The alignment of direct I/O for buffers shorter than a page. A copy has the same offset in its
 * block as the original.
 */
#define BLOCK UINT64_C(512)

/* The most iovecs that a chain can have (GW_CHAIN_MAX). */
#define IOV_ALL 1024u

/* The private data of a Xen region. */
struct xen_region {
    struct gw_foreign foreign;
    struct gw_grants grants;      /* GRANT, mapped in advance */
    struct gw_grant_cache *cache; /* NO_ADVANCE; NULL: all is copied */
    xengnttab_handle *handle;
};

enum pin_kind {
    PIN_COPIES = 1,
    PIN_CACHED,
    PIN_GRANTS, /* for a ring */
};

struct xen_pin {
    enum pin_kind kind;
    struct gw_grant_copies *copies;
    struct gw_grant_cache *cache;
    struct gw_grant_run **runs;
    unsigned n_runs;
    struct gw_grants grants;
};

/* ---- probing ---- */

static bool tell(struct gw_log *log, int r)
{
    if (r < 0)
        gw_log(log, GW_LOG_WARNING, "%s", gw_last_error());
    return r == 0;
}

static int probe_foreign(void)
{
    xenforeignmemory_handle *handle = xenforeignmemory_open(&gw_xen_log, 0);

    if (!handle)
        return gw_fail(-errno, "frames of Xen domains cannot be mapped here: /dev/xen/privcmd: %s",
                       strerror(errno));
    (void)xenforeignmemory_close(handle);
    return 0;
}

static int probe_grants(void)
{
    xengnttab_handle *handle = NULL;
    int r = gw_grant_open(&handle);

    gw_grant_close(handle);
    return r;
}

unsigned gw_mem_backend_probe(struct gw_log *log)
{
    bool foreign = tell(log, probe_foreign());
    bool grants = tell(log, probe_grants());

    return foreign || grants ? GW_MEM_CAP_XEN : 0;
}

/* ---- regions ---- */

static int check_desc(const struct gw_region_desc *d)
{
    const uint32_t known = GW_REGION_FOREIGN | GW_REGION_GRANT | GW_REGION_NO_ADVANCE;
    bool is_grant = (d->flags & GW_REGION_GRANT) != 0;
    bool is_grant_address = (d->gpa & GW_GRANT_ADDRESS) != 0;

    if (d->flags & ~known)
        return gw_fail(-EINVAL, "memory region at %#" PRIx64 ": unknown flags %#x", d->gpa,
                       d->flags & ~known);
    if ((d->flags & GW_REGION_FOREIGN) && d->flags != GW_REGION_FOREIGN)
        return gw_fail(-EINVAL,
                       "memory region at %#" PRIx64
                       ": flags %#x: foreign frames allow no other flags",
                       d->gpa, d->flags);
    if (!is_grant && (d->flags & GW_REGION_NO_ADVANCE))
        return gw_fail(-EINVAL,
                       "memory region at %#" PRIx64 ": flags %#x: only grants can stay unmapped",
                       d->gpa, d->flags);
    if (is_grant != is_grant_address || (!is_grant && ((d->gpa + d->size - 1) & GW_GRANT_ADDRESS)))
        return gw_fail(-EINVAL, "memory region at %#" PRIx64 " %s, flags %#x", d->gpa,
                       is_grant ? "is granted, but bit 63 of its address is clear"
                                : "reaches into addresses of grants",
                       d->flags);
    if (d->domid >= DOMID_FIRST_RESERVED)
        return gw_fail(-EINVAL, "memory region at %#" PRIx64 ": there is no domain %u", d->gpa,
                       d->domid);
    if (d->mmap_offset != 0)
        return gw_fail(-EINVAL,
                       "memory region at %#" PRIx64 " has offset %#" PRIx64
                       " in a file, but is memory of a domain",
                       d->gpa, d->mmap_offset);
    return 0;
}

/* The first page of a range, as a frame number or grant reference, and the number of its pages. */
static uint64_t first_page(gw_gpa_t gpa)
{
    return (gpa & ~GW_GRANT_ADDRESS) >> PAGE_SHIFT;
}

static uint64_t count_pages(gw_gpa_t gpa, uint64_t len)
{
    return (gpa % PAGE + len + PAGE - 1) >> PAGE_SHIFT; /* both are below 2^63 */
}

static int map_foreign(struct gw_region *region, struct xen_region *x)
{
    const struct gw_region_desc *d = &region->desc;
    int r = gw_foreign_map(&x->foreign, d->domid, first_page(d->gpa), count_pages(d->gpa, d->size));

    region->unpinnable = true;
    if (r == 0 && x->foreign.n_holes == 0)
        region->hva = x->foreign.base + d->gpa % PAGE;
    return r;
}

static int map_grants(struct gw_region *region, struct xen_region *x)
{
    const struct gw_region_desc *d = &region->desc;
    uint64_t first = first_page(d->gpa), n = count_pages(d->gpa, d->size);
    int r = gw_grant_open(&x->handle);

    if (r == 0 && (d->flags & GW_REGION_NO_ADVANCE) && d->cache_pages > 0)
        r = gw_grant_cache_new(&x->cache, x->handle, d->domid, d->cache_pages);
    if (r < 0 || (d->flags & GW_REGION_NO_ADVANCE))
        return r;
    if (n > GW_GRANTS_MAX || first + n > UINT64_C(1) << 32)
        return gw_fail(-EINVAL,
                       "memory region at %#" PRIx64 " of %#" PRIx64
                       " grants cannot be mapped in advance: the limit is %u, below 2^32",
                       d->gpa, n, GW_GRANTS_MAX);
    r = gw_grants_map(&x->grants, x->handle, d->domid, (uint32_t)first, (uint32_t)n);
    if (r == 0)
        region->hva = (uint8_t *)x->grants.base + d->gpa % PAGE;
    return r;
}

int gw_mem_backend_map(struct gw_region *region, int fd)
{
    gw_cleanup_peer_fd int owned_fd = fd;
    struct xen_region *x;
    int r;

    if (region->desc.flags == 0)
        return gw_mem_plain_map(region, gw_steal_fd(&owned_fd));
    /* The libraries open the device nodes themselves, so the front-end's fd is not needed. */
    r = check_desc(&region->desc);
    if (r < 0)
        return r;
    if (sysconf(_SC_PAGESIZE) != (long)PAGE)
        return gw_fail(-EOPNOTSUPP, "Xen pages have 4096 bytes, but those of this kernel have %ld",
                       sysconf(_SC_PAGESIZE));
    x = calloc(1, sizeof(*x));
    if (!x)
        return gw_fail(-ENOMEM, "no memory for a memory region");
    region->backend = x;
    r = region->desc.flags & GW_REGION_FOREIGN ? map_foreign(region, x) : map_grants(region, x);
    if (r < 0)
        gw_mem_backend_unmap(region);
    return r;
}

void gw_mem_backend_unmap(struct gw_region *region)
{
    struct xen_region *x = region->backend;

    if (!x) {
        gw_mem_plain_unmap(region);
        return;
    }
    gw_foreign_unmap(&x->foreign);
    gw_grants_unmap(&x->grants);
    gw_grant_cache_free(x->cache);
    gw_grant_close(x->handle);
    free(x);
    region->backend = NULL;
    region->hva = NULL;
}

/* The address of a range in a foreign region with holes, or NULL if the range has a hole. */
static uint8_t *find_foreign(const struct gw_region *region, uint64_t offset, uint64_t len)
{
    const struct xen_region *x = region->backend;
    gw_gpa_t gpa = region->desc.gpa + offset;
    uint64_t first = first_page(gpa) - first_page(region->desc.gpa);

    if (!gw_foreign_has(&x->foreign, first, count_pages(gpa, len)))
        return NULL;
    return x->foreign.base + (first << PAGE_SHIFT) + gpa % PAGE;
}

/* ---- pins of requests ---- */

/*
 * A walk over extents. The first one counts. For copies, a second one describes them. For cached
 * pages, a second one lists references, and a third one describes the pages mapped for them.
 */
struct walk {
    const struct gw_map *map;
    struct iovec *iov;
    unsigned max_iov;
    unsigned n_iov;
    unsigned last;                   /* lookup cache */
    unsigned n_pieces;               /* pieces of granted pages */
    unsigned n_mapped;               /* pieces of mapped memory */
    uint64_t len;                    /* bytes of the granted pieces */
    uint64_t n_bytes;                /* bytes for the copies, including gaps */
    const struct xen_region *region; /* the last one with grants */
    bool is_one_region;
    struct gw_grant_copies *copies; /* to be described; NULL: none */
    uint32_t *refs;                 /* list of references; NULL: not wanted */
    uint8_t **pages;                /* addresses of the pages; NULL: not mapped yet */
};

static int add_iov(struct walk *w, uint8_t *at, uint64_t len)
{
    if (w->n_iov == w->max_iov)
        return -E2BIG;
    w->iov[w->n_iov++] = (struct iovec){.iov_base = at, .iov_len = len};
    return 0;
}

/* Adds a piece of a mapped page. Pages of an extent that are adjacent here, too, share an iovec. */
static int add_page(struct walk *w, uint8_t *at, uint64_t len, bool is_first)
{
    struct iovec *before = w->n_iov > 0 ? &w->iov[w->n_iov - 1] : NULL;

    if (is_first || (uint8_t *)before->iov_base + before->iov_len != at)
        return add_iov(w, at, len);
    before->iov_len += len;
    return 0;
}

static void list_piece(struct walk *w, const struct gw_grant_piece *p)
{
    if (w->copies)
        w->copies->pieces[w->n_pieces + w->n_mapped] = *p;
}

static int walk_mapped(struct walk *w, uint8_t *at, uint64_t len, unsigned extent)
{
    const struct gw_grant_piece piece = {
        .at = at, .len = (uint32_t)len, .extent = (uint16_t)extent, .is_mapped = true};

    list_piece(w, &piece);
    w->n_mapped++;
    return add_iov(w, at, len);
}

static int walk_piece(struct walk *w, const struct gw_grant_piece *p, bool is_first)
{
    unsigned i = w->n_pieces;

    list_piece(w, p);
    w->n_pieces++;
    if (w->refs)
        w->refs[i] = p->ref;
    return w->pages ? add_page(w, w->pages[i] + p->offset, p->len, is_first) : 0;
}

static int walk_grants(struct walk *w, const struct gw_region *region, gw_gpa_t gpa, uint64_t len,
                       unsigned extent)
{
    uint64_t block = len < PAGE ? BLOCK : PAGE;
    uint64_t at = ((w->n_bytes + block - 1) & ~(block - 1)) + gpa % block;
    uint8_t *begin = w->copies ? w->copies->memory + at : NULL;
    int r = 0;

    w->is_one_region = w->is_one_region && (!w->region || w->region == region->backend);
    w->region = region->backend;
    w->n_bytes = at + len;
    w->len += len;
    if (w->len > GW_PIN_COPY_MAX)
        return -E2BIG;
    if (first_page(gpa) + count_pages(gpa, len) > UINT64_C(1) << 32)
        return -EFAULT; /* references have 32 bits */
    for (uint64_t done = 0; done < len && r == 0;) {
        uint64_t n = PAGE - (gpa + done) % PAGE;
        struct gw_grant_piece piece;

        n = n < len - done ? n : len - done;
        piece = (struct gw_grant_piece){
            .at = begin ? begin + done : NULL,
            .ref = (uint32_t)first_page(gpa + done),
            .domid = (uint16_t)region->desc.domid,
            .offset = (uint16_t)((gpa + done) % PAGE),
            .len = (uint32_t)n,
            .extent = (uint16_t)extent,
        };
        r = walk_piece(w, &piece, done == 0);
        done += n;
    }
    return r < 0 || w->pages ? r : add_iov(w, begin, len);
}

static int walk_extent(struct walk *w, const struct gw_extent *e, unsigned extent)
{
    gw_gpa_t gpa = e->gpa;
    uint64_t left = e->len;
    int r = 0;

    while (left > 0 && r == 0) {
        const struct gw_map_entry *entry = gw_map_find(w->map, &w->last, gpa);
        uint64_t offset, piece;
        uint8_t *at;

        if (!entry)
            return -EFAULT;
        offset = gpa - entry->gpa;
        piece = entry->size - offset < left ? entry->size - offset : left;
        if (entry->region->desc.flags & GW_REGION_NO_ADVANCE) {
            r = walk_grants(w, entry->region, gpa, piece, extent);
        } else {
            at = entry->region->hva ? entry->region->hva + offset
                                    : find_foreign(entry->region, offset, piece);
            r = at ? walk_mapped(w, at, piece, extent) : -EFAULT;
        }
        left -= piece;
        gpa += piece;
        if (left > 0 && gpa == 0)
            return -EFAULT; /* wrapped around */
    }
    return r;
}

static int walk(struct walk *w, const struct gw_extent *extents, unsigned n_extents)
{
    int r = 0;

    w->n_iov = 0;
    w->n_pieces = 0;
    w->n_mapped = 0;
    w->len = 0;
    w->n_bytes = 0;
    w->region = NULL;
    w->is_one_region = true;
    for (unsigned i = 0; i < n_extents && r == 0; i++)
        r = walk_extent(w, &extents[i], i);
    return r;
}

static int pin_copies(struct walk *w, const struct gw_extent *extents, unsigned n_extents,
                      struct xen_pin *pin)
{
    w->copies = gw_grant_copies_new(w->region->handle, w->n_pieces + w->n_mapped, w->n_bytes);
    if (!w->copies)
        return -ENOMEM;
    pin->kind = PIN_COPIES;
    pin->copies = w->copies;
    (void)walk(w, extents, n_extents); /* same result as before, because a map does not change */
    return 0;
}

/* Returns: 0; -ENOENT if the pages are not in the cache and cannot be added; -E2BIG; -ENOMEM. */
static int pin_cached(struct walk *w, const struct gw_extent *extents, unsigned n_extents,
                      struct xen_pin *pin)
{
    unsigned n = w->n_pieces;
    gw_cleanup_free uint32_t *refs = calloc(n, sizeof(*refs));
    gw_cleanup_free uint8_t **pages = calloc(n, sizeof(*pages));
    int r;

    pin->runs = calloc(n, sizeof(*pin->runs));
    if (!refs || !pages || !pin->runs)
        return -ENOMEM;
    w->refs = refs;
    (void)walk(w, extents, n_extents);
    w->refs = NULL;
    if (!gw_grant_cache_hold(w->region->cache, refs, n, pages, pin->runs))
        return -ENOENT;
    pin->kind = PIN_CACHED;
    pin->cache = w->region->cache;
    pin->n_runs = n;
    w->pages = pages;
    r = walk(w, extents, n_extents);
    w->pages = NULL;
    return r;
}

int gw_mem_backend_pin(const struct gw_map *map, const struct gw_extent *extents,
                       unsigned n_extents, struct iovec *iov, unsigned max_iov,
                       struct gw_pin *ret_pin)
{
    struct walk w = {.map = map, .iov = iov, .max_iov = max_iov};
    struct gw_pin pin;
    int r = walk(&w, extents, n_extents);

    if (r < 0)
        return r;
    if (w.n_pieces == 0)
        return (int)w.n_iov;
    pin.backend = calloc(1, sizeof(struct xen_pin));
    if (!pin.backend)
        return -ENOMEM;
    r = -ENOENT;
    if (w.region->cache && w.is_one_region)
        r = pin_cached(&w, extents, n_extents, pin.backend);
    if (r == -ENOENT || (r == -E2BIG && max_iov >= IOV_ALL)) {
        /* Copy the pages if they cannot stay mapped, or need too many iovecs when mapped. */
        gw_mem_backend_unpin(&pin);
        pin.backend = calloc(1, sizeof(struct xen_pin));
        r = pin.backend ? walk(&w, extents, n_extents) : -ENOMEM;
        if (r == 0)
            r = pin_copies(&w, extents, n_extents, pin.backend);
    }
    if (r < 0) {
        gw_mem_backend_unpin(&pin);
        return r;
    }
    ret_pin->backend = pin.backend;
    return (int)w.n_iov;
}

struct gw_grant_copies *gw_pin_copies(const struct gw_pin *pin)
{
    const struct xen_pin *p = pin->backend;

    return p && p->kind == PIN_COPIES ? p->copies : NULL;
}

void gw_mem_backend_fetch(struct gw_pin_copy *copies, unsigned n_copies)
{
    gw_grant_copy_in(copies, n_copies);
}

void gw_mem_backend_store(struct gw_pin_copy *copies, unsigned n_copies)
{
    gw_grant_copy_out(copies, n_copies);
}

void gw_mem_backend_unpin(struct gw_pin *pin)
{
    struct xen_pin *p = pin->backend;

    if (!p)
        return;
    if (p->copies)
        gw_grant_copies_free(p->copies);
    if (p->cache)
        gw_grant_cache_release(p->cache, p->runs, p->n_runs);
    free(p->runs);
    gw_grants_unmap(&p->grants);
    free(p);
    pin->backend = NULL;
}

/* ---- rings ---- */

static int pin_ring_grants(const struct gw_region *region, uint64_t offset, uint64_t len,
                           void **ret_at, struct gw_pin *ret_pin)
{
    const struct xen_region *x = region->backend;
    gw_gpa_t gpa = region->desc.gpa + offset;
    uint64_t first = first_page(gpa), n = count_pages(gpa, len);
    struct xen_pin *pin;
    int r;

    if (n > GW_GRANTS_MAX || first + n > UINT64_C(1) << 32)
        return gw_fail(-EFAULT, "grants %#" PRIx64 " to %#" PRIx64 " cannot exist", first,
                       first + n - 1);
    pin = calloc(1, sizeof(*pin));
    if (!pin)
        return gw_fail(-ENOMEM, "no memory for a pin");
    pin->kind = PIN_GRANTS;
    r = gw_grants_map(&pin->grants, x->handle, region->desc.domid, (uint32_t)first, (uint32_t)n);
    if (r < 0) {
        free(pin);
        return r;
    }
    *ret_at = (uint8_t *)pin->grants.base + gpa % PAGE;
    ret_pin->backend = pin;
    return 0;
}

int gw_mem_backend_pin_ring(const struct gw_region *region, uint64_t offset, uint64_t len,
                            void **ret_at, struct gw_pin *ret_pin)
{
    if (region->desc.flags & GW_REGION_NO_ADVANCE)
        return pin_ring_grants(region, offset, len, ret_at, ret_pin);
    *ret_at = find_foreign(region, offset, len);
    return *ret_at ? 0
                   : gw_fail(-EFAULT, "some frames at %#" PRIx64 " are missing",
                             region->desc.gpa + offset);
}
