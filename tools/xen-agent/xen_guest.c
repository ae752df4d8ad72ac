/* SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause */
/*
 * Regions of a domU's memory. The agent lends pages in any order; they are sorted by the number
 * that the back-end uses (frame or grant reference), and each run of consecutive numbers becomes a
 * region, the longest first. dom0 maps them by grants in any case, in one call, for any type of
 * domain. Frame numbers come from the domain's grant table: machine frames of a PV domain, guest
 * frames of a PVH domain, as the mapping calls expect.
 */
#include "xen_guest.h"

#include "xen_bridge.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include <xen/grant_table.h>
#include <xen/memory.h>
#include <xenforeignmemory.h>
#include <xengnttab.h>

#define AGENT_MS    10000 /* a domain that has just been created takes time */
#define REGIONS_MAX 400u
#define PER_FRAME   (XEN_PAGE / sizeof(grant_entry_v1_t))

struct lent {
    uint64_t number; /* frame or reference */
    uint32_t page;   /* index among the lent pages */
    uint32_t ref;
};

struct run {
    uint32_t first, n; /* range of the sorted pages */
};

struct region {
    gw_gpa_t gpa;
    uint32_t first, n;
    void *host;
};

struct xen_guest {
    struct xen_link link;
    enum xen_form form;
    int device; /* passed to the back-end: /dev/xen/privcmd or gntdev */
    struct gw_guest_mem *mem;
    struct lent *lent; /* sorted by number */
    uint32_t n_lent;
    struct run *runs; /* not used yet, the longest first */
    uint32_t n_runs;
    struct region regions[REGIONS_MAX];
    uint32_t n_regions;
    struct xen_bridge *bridge;
    bool gives_channels;
    struct gw_driver *drivers[XEN_QUEUES];
    unsigned n_drivers;
};

const char *xen_guest_error(const struct xen_guest *g)
{
    return g->link.error;
}

struct xen_link *xen_guest_link(struct xen_guest *g)
{
    return &g->link;
}

int xen_guest_new(struct xen_guest **ret, uint32_t domid, enum xen_form form)
{
    struct xen_guest *g = calloc(1, sizeof(*g));
    const char *device = form == XEN_FORM_FOREIGN ? "/dev/xen/privcmd" : "/dev/xen/gntdev";
    int r;

    *ret = g;
    if (!g)
        return -ENOMEM;
    g->form = form;
    g->device = -1;
    r = xen_link_open(&g->link, domid, AGENT_MS);
    if (r < 0)
        return r;
    g->device = open(device, O_RDWR | O_CLOEXEC);
    if (g->device < 0)
        return xen_link_fail(&g->link, -errno, "%s: %s", device, strerror(errno));
    r = xen_bridge_new(&g->bridge, domid);
    if (r < 0)
        return xen_link_fail(&g->link, r, "event channels: %s", strerror(-r));
    return 0;
}

static void region_done(struct xen_guest *g, struct region *region)
{
    gw_guest_mem_remove(g->mem, region->gpa);
    xengnttab_unmap(g->link.grants, region->host, region->n);
}

void xen_guest_free(struct xen_guest *g)
{
    if (!g)
        return;
    xen_bridge_free(g->bridge);
    for (uint32_t i = 0; i < g->n_regions; i++)
        region_done(g, &g->regions[i]);
    if (g->device >= 0)
        close(g->device);
    xen_link_close(&g->link);
    free(g->lent);
    free(g->runs);
    free(g);
}

/* ---- Pages ---- */

static int by_number(const void *a, const void *b)
{
    uint64_t x = ((const struct lent *)a)->number, y = ((const struct lent *)b)->number;

    return x < y ? -1 : x > y;
}

static int by_length(const void *a, const void *b)
{
    uint32_t x = ((const struct run *)a)->n, y = ((const struct run *)b)->n;

    return x < y ? 1 : x > y ? -1 : 0;
}

/* Read the frame numbers from the domain's grant table. */
static int look_up_frames(struct xen_guest *g)
{
    xenforeignmemory_handle *memory = xenforeignmemory_open(NULL, 0);
    xenforeignmemory_resource_handle *table = NULL;
    uint32_t highest = 0;
    void *entries = NULL;
    int r = 0;

    for (uint32_t i = 0; i < g->n_lent; i++)
        highest = g->lent[i].ref > highest ? g->lent[i].ref : highest;
    if (memory)
        table = xenforeignmemory_map_resource(memory, (domid_t)g->link.domid,
                                              XENMEM_resource_grant_table, 0, 0,
                                              highest / PER_FRAME + 1, &entries, PROT_READ, 0);
    if (!table)
        r = xen_link_fail(&g->link, -errno, "the grant table of domain %" PRIu32 ": %s",
                          g->link.domid, strerror(errno));
    for (uint32_t i = 0; r == 0 && i < g->n_lent; i++) {
        const volatile grant_entry_v1_t *e = (const grant_entry_v1_t *)entries + g->lent[i].ref;

        g->lent[i].number = e->frame;
        if ((e->flags & GTF_type_mask) != GTF_permit_access)
            r = xen_link_fail(&g->link, -EPROTO, "reference %" PRIu32 " grants nothing",
                              g->lent[i].ref);
    }
    if (table)
        xenforeignmemory_unmap_resource(memory, table);
    if (memory)
        xenforeignmemory_close(memory);
    return r;
}

static int lend(struct xen_guest *g, uint32_t n)
{
    const uint64_t arg[4] = {n};
    const uint32_t *refs = g->link.bulk;
    int r = xen_link_ask(&g->link, XEN_OP_LEND, "lending pages", arg, NULL);

    if (r < 0)
        return r;
    g->lent = calloc(n, sizeof(*g->lent));
    g->runs = calloc(n, sizeof(*g->runs));
    if (!g->lent || !g->runs)
        return xen_link_fail(&g->link, -ENOMEM, "out of memory");
    g->n_lent = n;
    for (uint32_t i = 0; i < n; i++) {
        uint32_t ref = __atomic_load_n(&refs[i], __ATOMIC_RELAXED);

        /* A table with more references would exceed 512 MiB: no domain has that. */
        if (ref >= 1u << 26)
            return xen_link_fail(&g->link, -EPROTO, "grant reference %" PRIu32 " is out of range",
                                 ref);
        g->lent[i] = (struct lent){.number = ref, .page = i, .ref = ref};
    }
    return g->form == XEN_FORM_FOREIGN ? look_up_frames(g) : 0;
}

static void find_runs(struct xen_guest *g)
{
    qsort(g->lent, g->n_lent, sizeof(*g->lent), by_number);
    for (uint32_t i = 0; i < g->n_lent; i++) {
        if (i == 0 || g->lent[i].number != g->lent[i - 1].number + 1)
            g->runs[g->n_runs++] = (struct run){.first = i};
        g->runs[g->n_runs - 1].n++;
    }
    qsort(g->runs, g->n_runs, sizeof(*g->runs), by_length);
}

/* ---- Regions ---- */

static int map_here(struct xen_guest *g, struct region *region)
{
    uint32_t *refs = malloc(region->n * sizeof(*refs));

    if (!refs)
        return xen_link_fail(&g->link, -ENOMEM, "out of memory");
    for (uint32_t i = 0; i < region->n; i++)
        refs[i] = g->lent[region->first + i].ref;
    region->host = xengnttab_map_domain_grant_refs(g->link.grants, region->n, g->link.domid, refs,
                                                   PROT_READ | PROT_WRITE);
    free(refs);
    if (!region->host)
        return xen_link_fail(&g->link, -errno, "mapping %" PRIu32 " pages: %s", region->n,
                             strerror(errno));
    return 0;
}

static uint32_t xen_flags(enum xen_form form)
{
    static const uint32_t flags[] = {
        [XEN_FORM_FOREIGN] = GW_GUEST_XEN_FOREIGN,
        [XEN_FORM_GRANT] = GW_GUEST_XEN_GRANT,
        [XEN_FORM_NO_ADVANCE] = GW_GUEST_XEN_GRANT | GW_GUEST_XEN_NO_ADVANCE,
    };

    return flags[form];
}

static int tell_agent(struct xen_guest *g, const struct region *region, bool no_alloc)
{
    const uint64_t arg[4] = {region->gpa, region->n, no_alloc};
    uint32_t *pages = g->link.bulk;

    for (uint32_t i = 0; i < region->n; i++)
        pages[i] = g->lent[region->first + i].page;
    return xen_link_ask(&g->link, XEN_OP_REGION, "a region", arg, NULL);
}

/* Take the longest run, or its first `n_max` pages. */
static int take_run(struct xen_guest *g, uint32_t n_max, bool no_alloc, gw_gpa_t *ret)
{
    struct gw_guest_region told = {.kind = GW_GUEST_MAPPED,
                                   .fd = g->device,
                                   .no_alloc = no_alloc,
                                   .xen = xen_flags(g->form),
                                   .domid = g->link.domid};
    struct region *region = &g->regions[g->n_regions];
    struct run *run = g->runs;
    int r;

    if (g->n_runs == 0 || g->n_regions == REGIONS_MAX)
        return xen_link_fail(&g->link, -ENOSPC,
                             "the memory of domain %" PRIu32 " is in too many pieces",
                             g->link.domid);
    *region = (struct region){.first = run->first, .n = run->n < n_max ? run->n : n_max};
    region->gpa =
        g->lent[region->first].number * XEN_PAGE | (g->form == XEN_FORM_FOREIGN ? 0 : XEN_GRANT);
    r = map_here(g, region);
    if (r < 0)
        return r;
    told.gpa = region->gpa;
    told.length = (uint64_t)region->n * XEN_PAGE;
    told.host = region->host;
    r = gw_guest_mem_add(g->mem, &told);
    if (r < 0) {
        xengnttab_unmap(g->link.grants, region->host, region->n);
        return xen_link_fail(&g->link, r, "a region of guest memory: %s", strerror(-r));
    }
    g->n_regions++;
    run->first += region->n;
    run->n -= region->n;
    if (run->n == 0)
        memmove(run, run + 1, --g->n_runs * sizeof(*run));
    else
        qsort(g->runs, g->n_runs, sizeof(*g->runs), by_length);
    if (ret)
        *ret = region->gpa;
    return tell_agent(g, region, no_alloc);
}

int xen_guest_fill(struct xen_guest *g, struct gw_guest_mem *mem, uint64_t length, uint32_t spare)
{
    uint64_t left = (length + XEN_PAGE - 1) / XEN_PAGE;
    int r;

    g->mem = mem;
    if (left > XEN_LENT_MAX || spare > XEN_LENT_MAX - left)
        return xen_link_fail(&g->link, -E2BIG,
                             "%" PRIu64 " KiB of memory: the agent lends at most %u KiB",
                             length >> 10, XEN_LENT_MAX * XEN_PAGE >> 10);
    r = lend(g, (uint32_t)left + spare);
    if (r == 0)
        find_runs(g);
    while (r == 0 && left > 0) {
        uint32_t before = g->n_regions;

        r = take_run(g, (uint32_t)left, false, NULL);
        if (g->n_regions > before)
            left -= g->regions[before].n;
    }
    return r;
}

int xen_guest_add(struct xen_guest *g, uint32_t n_pages, gw_gpa_t *ret_gpa)
{
    return take_run(g, n_pages, true, ret_gpa);
}

static struct region *find_region(struct xen_guest *g, gw_gpa_t gpa)
{
    for (uint32_t i = 0; i < g->n_regions; i++) {
        if (g->regions[i].gpa == gpa)
            return &g->regions[i];
    }
    xen_link_fail(&g->link, -ENOENT, "no region begins at %#" PRIx64, gpa);
    return NULL;
}

int xen_guest_remove(struct xen_guest *g, gw_gpa_t gpa)
{
    const uint64_t arg[4] = {gpa};
    struct region *region = find_region(g, gpa);

    if (!region)
        return -ENOENT;
    region_done(g, region);
    *region = g->regions[--g->n_regions];
    return xen_link_ask(&g->link, XEN_OP_REGION_GONE, "removing a region", arg, NULL);
}

int xen_guest_revoke(struct xen_guest *g, gw_gpa_t gpa)
{
    struct region *region = find_region(g, gpa);
    int r = region ? 0 : -ENOENT;

    for (uint32_t i = 0; r == 0 && i < region->n; i++) {
        const uint64_t arg[4] = {g->lent[region->first + i].page, 1};

        r = xen_link_ask(&g->link, XEN_OP_REVOKE, "revoking a grant", arg, NULL);
    }
    return r;
}

/* ---- Queues ---- */

int xen_guest_alloc(struct xen_guest *g, uint64_t len, uint64_t align, gw_gpa_t *ret)
{
    const uint64_t arg[4] = {len, align};
    uint64_t theirs;
    int r = gw_guest_mem_alloc(g->mem, len, align, ret);

    if (r < 0)
        return xen_link_fail(&g->link, r, "%" PRIu64 " bytes of guest memory: %s", len,
                             strerror(-r));
    r = xen_link_ask(&g->link, XEN_OP_ALLOC, "guest memory", arg, &theirs);
    if (r == 0 && theirs != *ret)
        r = xen_link_fail(&g->link, -EPROTO, "the agent allocated other memory than this process");
    return r;
}

void xen_guest_give_channels(struct xen_guest *g)
{
    g->gives_channels = true;
}

int xen_guest_driver(struct xen_guest *g, const struct gw_driver_config *cfg, struct gw_driver *own)
{
    const struct xen_driver told = {
        .desc = cfg->desc,
        .avail = cfg->avail,
        .used = cfg->used,
        .index = cfg->index,
        .size = gw_driver_size(own),
        .indirect_max = cfg->indirect_max,
        .packed = cfg->packed,
        .place = cfg->place,
    };
    const uint64_t arg[4] = {0};
    uint64_t port;
    int r;

    if (g->n_drivers == XEN_QUEUES)
        return xen_link_fail(&g->link, -ERANGE, "the agent drives at most %u queues", XEN_QUEUES);
    memcpy(g->link.bulk, &told, sizeof(told));
    r = xen_link_ask(&g->link, XEN_OP_DRIVER, "a queue", arg, &port);
    if (r < 0)
        return r;
    if (g->gives_channels)
        gw_driver_set_channel(own, g->link.domid, (uint32_t)port);
    else
        r = xen_bridge_add(g->bridge, (uint32_t)port, gw_driver_kick_fd(own),
                           gw_driver_call_fd(own));
    if (r < 0)
        return xen_link_fail(&g->link, r, "the event channel of queue %u: %s", g->n_drivers,
                             strerror(-r));
    g->drivers[g->n_drivers++] = own;
    return 0;
}

int xen_guest_load(struct xen_guest *g, const struct xen_load *load)
{
    const uint64_t arg[4] = {0};

    memcpy(g->link.bulk, load, sizeof(*load));
    return xen_link_ask(&g->link, XEN_OP_LOAD, "a load", arg, NULL);
}

int xen_guest_push(struct xen_guest *g, const struct gw_guest_load *load)
{
    void *state;
    size_t len;
    int r = 0;

    for (unsigned i = 0; r == 0 && i <= g->n_drivers; i++) {
        if (i == g->n_drivers && !load)
            break;
        r = i < g->n_drivers ? gw_driver_save(g->drivers[i], &state, &len)
                             : gw_guest_load_save(load, &state, &len);
        if (r < 0)
            return xen_link_fail(&g->link, r, "saving a state: %s", strerror(-r));
        r = xen_link_put(&g->link, i < g->n_drivers ? i : XEN_STATE_LOAD, state, len);
        free(state);
    }
    return r;
}

int xen_guest_pull(struct xen_guest *g, struct gw_guest_load *load)
{
    void *state;
    size_t len;
    int r = 0;

    for (unsigned i = 0; r == 0 && i <= g->n_drivers; i++) {
        if (i == g->n_drivers && !load)
            break;
        r = xen_link_get(&g->link, i < g->n_drivers ? i : XEN_STATE_LOAD, &state, &len);
        if (r < 0)
            return r;
        r = i < g->n_drivers ? gw_driver_restore(g->drivers[i], state, len)
                             : gw_guest_load_restore(load, state, len);
        free(state);
        if (r < 0)
            return xen_link_fail(&g->link, r, "invalid state of %s from the agent: %s",
                                 i < g->n_drivers ? "a queue" : "the load", strerror(-r));
    }
    return r;
}

int xen_guest_take_written(struct xen_guest *g, struct gw_guest_track *track)
{
    const struct xen_run *runs;
    void *state;
    size_t len;
    int r = xen_link_get(&g->link, XEN_STATE_TRACK, &state, &len);

    if (r < 0)
        return r;
    runs = state;
    for (size_t i = 0; i < len / sizeof(*runs); i++)
        gw_guest_track_mark(track, runs[i].gpa, runs[i].len);
    free(state);
    return 0;
}

int xen_guest_begin(struct xen_guest *g, unsigned duration_ms, uint64_t n_requests,
                    unsigned stall_ms)
{
    const uint64_t arg[4] = {duration_ms, n_requests, stall_ms};

    return xen_link_ask(&g->link, XEN_OP_RUN, "running the load", arg, NULL);
}

int xen_guest_run(struct xen_guest *g, unsigned duration_ms, uint64_t n_requests, unsigned stall_ms)
{
    int r = xen_guest_begin(g, duration_ms, n_requests, stall_ms);

    return r < 0 ? r : xen_link_wait(&g->link);
}

int xen_guest_drain(struct xen_guest *g, unsigned stall_ms)
{
    const uint64_t arg[4] = {stall_ms};
    int r = xen_link_ask(&g->link, XEN_OP_DRAIN, "draining the load", arg, NULL);

    return r < 0 ? r : xen_link_wait(&g->link);
}

int xen_guest_stats(struct xen_guest *g, bool restart, struct xen_stats *ret)
{
    const uint64_t arg[4] = {restart};
    int r = xen_link_ask(&g->link, XEN_OP_STATS, "reading the statistics", arg, NULL);

    if (r == 0)
        memcpy(ret, g->link.bulk, sizeof(*ret));
    return r;
}
