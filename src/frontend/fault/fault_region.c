/* SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause */
/*
 * The regions of the fault server, and the state of their pages. Pages are pages of the file behind
 * a region: the first and the last may contain bytes outside guest memory.
 */
#include "base/cleanup.h"
#include "fault_i.h"
#include "frontend/memory/guest_mem_i.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

/* The number of regions that start at or before `gpa`. */
static unsigned rank(const struct gw_fault_server *s, gw_gpa_t gpa)
{
    unsigned from = 0, to = s->n_regions;

    while (from < to) {
        unsigned mid = from + (to - from) / 2;

        if (s->regions[mid]->gpa <= gpa)
            from = mid + 1;
        else
            to = mid;
    }
    return from;
}

struct gw_fault_region *gw_fault_region_at(const struct gw_fault_server *s, gw_gpa_t gpa)
{
    unsigned i = rank(s, gpa);
    struct gw_fault_region *g = i ? s->regions[i - 1] : NULL;

    return g && gpa - g->gpa < g->length ? g : NULL;
}

void gw_fault_region_free(struct gw_fault_server *s, struct gw_fault_region *g)
{
    gw_fault_uffd_unregister(s->own.uffd, g);
    if (g->pages)
        munmap(g->pages, g->n_pages);
    if (g->fill)
        munmap(g->fill, g->n_pages * g->page_size);
    gw_close(&g->fd);
    free(g);
}

static int find_in(const struct gw_guest_mem *m, gw_gpa_t gpa, struct gw_guest_region *ret)
{
    unsigned i = 0;
    int r;

    do {
        r = gw_guest_mem_region(m, i++, ret);
    } while (r == 0 && ret->gpa != gpa);
    if (r < 0)
        return gw_frontend_fail(r, "no region begins at 0x%" PRIx64, gpa);
    if (ret->kind == GW_GUEST_MAPPED)
        return gw_frontend_fail(
            -EINVAL, "the region at 0x%" PRIx64 " is mapped by the caller, not from a file", gpa);
    return 0;
}

/* Reserves address space only, until pages are placed. */
static void *map(size_t len, int flags, int fd, gw_off_t offset)
{
    void *p = mmap(NULL, len, PROT_READ | PROT_WRITE, flags | MAP_NORESERVE, fd, (off_t)offset);

    return p == MAP_FAILED ? NULL : p;
}

static int region_init(struct gw_fault_server *s, struct gw_fault_region *g,
                       const struct gw_guest_mem *m, const struct gw_guest_region *from)
{
    g->gpa = from->gpa;
    g->length = from->length;
    g->page_size = gw_guest_region_page_size(from);
    g->residual = from->offset & (g->page_size - 1);
    g->n_pages = (g->residual + g->length + g->page_size - 1) / g->page_size;
    g->offset = from->offset - g->residual;
    g->map = (char *)gw_guest_mem_at(m, g->gpa, g->length) - g->residual;
    g->fd = fcntl(from->fd, F_DUPFD_CLOEXEC, 0);
    if (g->fd < 0)
        return gw_frontend_fail(-errno, "the region at 0x%" PRIx64 ": %s", g->gpa, strerror(errno));
    g->pages = map(g->n_pages, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (!g->pages)
        return gw_frontend_fail_fixed(-ENOMEM, "out of memory");
    if (s->cfg.fill == GW_FAULT_CONTINUE) {
        g->fill = map(g->n_pages * g->page_size, MAP_SHARED, g->fd, g->offset);
        if (!g->fill)
            return gw_frontend_fail(-errno, "the region at 0x%" PRIx64 ": mmap: %s", g->gpa,
                                    strerror(errno));
    }
    return 0;
}

/* Check that nothing overlaps the region, and make room for it. */
static int make_room(struct gw_fault_server *s, const struct gw_fault_region *g)
{
    unsigned i = rank(s, g->gpa);
    struct gw_fault_region **grown;

    if ((i > 0 && g->gpa - s->regions[i - 1]->gpa < s->regions[i - 1]->length) ||
        (i < s->n_regions && s->regions[i]->gpa - g->gpa < g->length))
        return gw_frontend_fail(-EEXIST, "the region at 0x%" PRIx64 " overlaps an existing one",
                                g->gpa);
    if (s->n_regions < s->room)
        return 0;
    grown = realloc(s->regions, (s->room + 64) * sizeof(struct gw_fault_region *));
    if (!grown)
        return gw_frontend_fail_fixed(-ENOMEM, "out of memory");
    s->regions = grown;
    s->room += 64;
    return 0;
}

/* Register last, when nothing else can fail: undoing it could affect another region. */
static int insert(struct gw_fault_server *s, struct gw_fault_region *g)
{
    unsigned i = rank(s, g->gpa);
    int r = make_room(s, g);

    if (r == 0)
        r = gw_fault_client_add(&s->own, g, (uintptr_t)g->map);
    if (r == 0 && s->has_begun) {
        r = gw_fault_uffd_register(s->own.uffd, g, s->cfg.fill);
        if (r < 0)
            gw_fault_client_forget(&s->own, g);
    }
    if (r < 0)
        return r;
    memmove(&s->regions[i + 1], &s->regions[i],
            (s->n_regions - i) * sizeof(struct gw_fault_region *));
    s->regions[i] = g;
    s->n_regions++;
    return 0;
}

int gw_fault_server_add_region(struct gw_fault_server *s, const struct gw_guest_mem *m,
                               gw_gpa_t gpa)
{
    struct gw_guest_region from;
    struct gw_fault_region *g;
    int r = find_in(m, gpa, &from);

    if (r < 0)
        return r;
    g = calloc(1, sizeof(*g));
    if (!g)
        return gw_frontend_fail_fixed(-ENOMEM, "out of memory");
    g->fd = -1;
    /* Register under the lock: the thread that serves an early fault waits for the lock. */
    pthread_rwlock_wrlock(&s->lock);
    r = region_init(s, g, m, &from);
    if (r == 0)
        r = insert(s, g);
    pthread_rwlock_unlock(&s->lock);
    if (r < 0)
        gw_fault_region_free(s, g);
    return r;
}

int gw_fault_server_add_mem(struct gw_fault_server *s, const struct gw_guest_mem *m)
{
    struct gw_guest_region region;
    int r = 0;

    for (unsigned i = 0; r == 0 && gw_guest_mem_region(m, i, &region) == 0; i++)
        r = gw_fault_server_add_region(s, m, region.gpa);
    return r;
}

int gw_fault_server_begin(struct gw_fault_server *s)
{
    int r = 0;

    pthread_rwlock_wrlock(&s->lock);
    for (unsigned i = 0; i < s->n_regions && r == 0; i++) {
        if (!s->regions[i]->is_registered)
            r = gw_fault_uffd_register(s->own.uffd, s->regions[i], s->cfg.fill);
    }
    s->has_begun = r == 0;
    pthread_rwlock_unlock(&s->lock);
    return r;
}

int gw_fault_server_finish(struct gw_fault_server *s)
{
    uint64_t missing = gw_fault_server_missing(s);

    if (missing)
        return gw_frontend_fail(-EBUSY, "%" PRIu64 " bytes are missing", missing);
    pthread_rwlock_wrlock(&s->lock);
    for (unsigned i = 0; i < s->n_regions; i++)
        gw_fault_uffd_unregister(s->own.uffd, s->regions[i]);
    s->has_begun = false;
    pthread_rwlock_unlock(&s->lock);
    return 0;
}

static void forget(struct gw_fault_server *s, struct gw_fault_region *g)
{
    gw_fault_waiters_drop(s, g, NULL);
    gw_fault_client_forget(&s->own, g);
    for (unsigned i = 0; i < s->n_clients; i++)
        gw_fault_client_forget(s->clients[i], g);
    gw_fault_counts_add(&s->gone, &g->counts);
    gw_histogram_merge(&s->gone_latency, &g->latency);
}

int gw_fault_server_remove_region(struct gw_fault_server *s, gw_gpa_t gpa)
{
    struct gw_fault_region *g = NULL;
    unsigned i;

    pthread_rwlock_wrlock(&s->lock);
    i = rank(s, gpa);
    if (i > 0 && s->regions[i - 1]->gpa == gpa)
        g = s->regions[i - 1];
    if (g) {
        forget(s, g);
        memmove(&s->regions[i - 1], &s->regions[i],
                (s->n_regions - i) * sizeof(struct gw_fault_region *));
        s->n_regions--;
    }
    pthread_rwlock_unlock(&s->lock);
    if (!g)
        return gw_frontend_fail(-ENOENT, "no region begins at 0x%" PRIx64, gpa);
    gw_fault_region_free(s, g);
    return 0;
}

/* Find the region of a range; *len 0 means up to its end. Only while no faults are served. */
static int find_range(struct gw_fault_server *s, gw_gpa_t gpa, uint64_t *len,
                      struct gw_fault_region **ret)
{
    struct gw_fault_region *g = gw_fault_region_at(s, gpa);

    if (__atomic_load_n(&s->running, __ATOMIC_RELAXED))
        return gw_frontend_fail(-EBUSY, "faults are being served");
    if (g && *len == 0)
        *len = g->length - (gpa - g->gpa);
    if (!g || *len > g->length - (gpa - g->gpa))
        return gw_frontend_fail(
            -EINVAL, "0x%" PRIx64 " and %" PRIu64 " bytes are not in one region", gpa, *len);
    *ret = g;
    return 0;
}

/* Set page states and count received pages. No other thread accesses the states now. */
static void set_states(struct gw_fault_region *g, uint64_t first, uint64_t end, uint8_t state)
{
    uint64_t before = 0, after = state & GW_FAULT_PAGE_RECEIVED ? end - first : 0;

    for (uint64_t p = first; p < end; p++)
        before += g->pages[p] & GW_FAULT_PAGE_RECEIVED ? 1 : 0;
    memset(&g->pages[first], state, end - first);
    __atomic_fetch_add(&g->n_received, after - before, __ATOMIC_RELAXED);
}

static int set_received(struct gw_fault_server *s, gw_gpa_t gpa, uint64_t len)
{
    struct gw_fault_region *g;
    uint64_t first, last;
    int r = find_range(s, gpa, &len, &g);

    if (r < 0)
        return r;
    first = gw_fault_page_of(g, gpa);
    last = gw_fault_page_of(g, gpa + len - 1);
    if (gw_fault_page_gpa(g, first) != gpa ||
        gw_fault_page_gpa(g, last) + gw_fault_page_len(g, last) != gpa + len)
        return gw_frontend_fail(-EINVAL, "0x%" PRIx64 " and %" PRIu64 " bytes are not whole pages",
                                gpa, len);
    set_states(g, first, last + 1, GW_FAULT_PAGE_CLAIMED | GW_FAULT_PAGE_RECEIVED);
    return 0;
}

int gw_fault_server_set_received(struct gw_fault_server *s, gw_gpa_t gpa, uint64_t len)
{
    int r;

    pthread_rwlock_wrlock(&s->lock);
    r = set_received(s, gpa, len);
    pthread_rwlock_unlock(&s->lock);
    return r;
}

static int discard(struct gw_fault_server *s, gw_gpa_t gpa, uint64_t len)
{
    struct gw_fault_region *g;
    uint64_t first, end;
    int r = find_range(s, gpa, &len, &g);

    if (r < 0)
        return r;
    first = gw_fault_page_of(g, gpa);
    end = gw_fault_page_of(g, gpa + len - 1) + 1;
    if (fallocate(g->fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE,
                  (off_t)(g->offset + first * g->page_size),
                  (off_t)((end - first) * g->page_size)) < 0)
        return gw_frontend_fail(-errno, "pages at 0x%" PRIx64 " cannot be discarded: %s", gpa,
                                strerror(errno));
    set_states(g, first, end, 0);
    return 0;
}

int gw_fault_server_discard(struct gw_fault_server *s, gw_gpa_t gpa, uint64_t len)
{
    int r;

    pthread_rwlock_wrlock(&s->lock);
    r = discard(s, gpa, len);
    pthread_rwlock_unlock(&s->lock);
    return r;
}

static bool find_missing(const struct gw_fault_region *g, uint64_t *page)
{
    while (*page < g->n_pages &&
           __atomic_load_n(&g->pages[*page], __ATOMIC_RELAXED) & GW_FAULT_PAGE_RECEIVED)
        (*page)++;
    return *page < g->n_pages;
}

int gw_fault_server_next_missing(struct gw_fault_server *s, gw_gpa_t *gpa, uint64_t *ret_len)
{
    unsigned i;
    int r = -ENOENT;

    pthread_rwlock_rdlock(&s->lock);
    i = rank(s, *gpa);
    for (i = i ? i - 1 : 0; i < s->n_regions && r < 0; i++) {
        const struct gw_fault_region *g = s->regions[i];
        uint64_t page = gw_fault_page_from(g, *gpa);

        if (!find_missing(g, &page))
            continue;
        *gpa = gw_fault_page_gpa(g, page);
        *ret_len = gw_fault_page_len(g, page);
        r = 0;
    }
    pthread_rwlock_unlock(&s->lock);
    return r < 0 ? gw_frontend_fail_fixed(r, "no page is missing from there on") : 0;
}

uint64_t gw_fault_server_missing(struct gw_fault_server *s)
{
    uint64_t bytes = 0;

    pthread_rwlock_rdlock(&s->lock);
    for (unsigned i = 0; i < s->n_regions; i++) {
        const struct gw_fault_region *g = s->regions[i];
        uint64_t n = g->n_pages - __atomic_load_n(&g->n_received, __ATOMIC_RELAXED);
        uint64_t left = n * g->page_size;

        /* An estimate if the region has partial pages, but 0 only if all have been received. */
        bytes += left < g->length ? left : g->length;
    }
    pthread_rwlock_unlock(&s->lock);
    return bytes;
}
