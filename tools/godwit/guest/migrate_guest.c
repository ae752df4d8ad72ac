/* SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause */
/*
 * The migrated guest: memory in several regions with gaps, rings, and the hot-plugged region.
 * Addresses follow from the seed.
 *
 * A used ring has pages of its own. Index, elements and event field lie on both sides of page
 * borders where possible, so that the mark of one cannot hide a lost mark of another.
 */
#include "migrate_load.h"
#include "migrate_xen.h"
#include "pages/migrate_sums.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#define MIB          (UINT64_C(1) << 20)
#define GIB          (UINT64_C(1) << 30)
#define HUGE         (2 * MIB)
#define MEMORY_MIN   (16 * MIB)
#define UVA_BASE     UINT64_C(0x500000000000) /* an address range that this process does not use */
#define RINGS_PAGES  3                        /* a used ring needs fewer */
#define INDIRECT_MAX 18

const char *migration_memory_error(const struct migration *m, int r)
{
    if (m->o.hugetlb && r == -ENOMEM)
        return "too few free pages of 2 MiB; see the sysctl vm.nr_hugepages";
    return strerror(-r);
}

static int add_region(struct migration *m, gw_gpa_t gpa, uint64_t len, gw_off_t offset)
{
    struct gw_guest_region region = {
        .kind = m->o.hugetlb ? GW_GUEST_HUGETLB : GW_GUEST_MEMFD,
        .gpa = gpa,
        .length = len,
        .offset = m->o.hugetlb ? 0 : offset,
        .no_alloc = gpa == m->apart_gpa,
    };
    int r = gw_guest_mem_add(m->mem, &region);

    if (r < 0)
        return migration_cannot(m, MIGRATION_SIDE_TOOL, r, "guest memory of %llu MiB at 0x%llx: %s",
                                (unsigned long long)(len / MIB), (unsigned long long)gpa,
                                migration_memory_error(m, r));
    m->ret->memory_bytes += len;
    if (gpa + len > m->top)
        m->top = gpa + len;
    return 0;
}

/*
 * Place memory below 3 GiB and above 4 GiB, as in a PC, and sparse memory up to --memory-top. One
 * eighth is a separate region for buffers; otherwise all buffers might be in the first region, and
 * a back-end that forgets later regions would pass.
 */
static int add_regions(struct migration *m)
{
    uint64_t half = m->o.memory / 2 / HUGE * HUGE;
    int r;

    m->apart_len = m->o.memory / 8 / HUGE * HUGE;
    m->apart_gpa = 4 * GIB + half - m->apart_len;
    r = add_region(m, 2 * MIB, half, 0);
    if (r == 0)
        r = add_region(m, 4 * GIB, half - m->apart_len, 5 * MIGRATION_PAGE);
    if (r == 0)
        r = add_region(m, m->apart_gpa, m->apart_len, 3 * MIGRATION_PAGE);
    if (r == 0 && m->o.memory_top > m->top)
        r = add_region(m, 8 * GIB, m->o.memory_top - 8 * GIB, 0);
    return r;
}

static int add_tracks(struct migration *m)
{
    struct gw_guest_region region;
    int r = gw_guest_track_new(&m->track);

    for (unsigned i = 0; r == 0 && gw_guest_mem_region(m->mem, i, &region) == 0; i++)
        r = gw_guest_track_add(m->track, region.gpa, region.length);
    return r;
}

int migration_make_guest(struct migration *m)
{
    gw_uva_t base = migration_random(m, 2) ? GW_GUEST_UVA_HOST : UVA_BASE;
    int r;

    if ((m->o.memory < MEMORY_MIN && !m->o.xen_domid) ||
        (m->o.memory_top && m->o.memory_top < 9 * GIB))
        return migration_cannot(m, MIGRATION_SIDE_TOOL, -EINVAL,
                                "guest memory is 16 MiB at least, its top 9 GiB at least");
    r = gw_guest_mem_new(&m->mem, base);
    if (r == 0)
        r = m->o.xen_domid ? migration_xen_memory(m) : add_regions(m);
    if (r == 0)
        r = add_tracks(m);
    return r;
}

void migration_free_guest(struct migration *m)
{
    migration_load_free(m);
    for (unsigned i = 0; m->drivers && i < m->n_drivers; i++)
        gw_driver_free(m->drivers[i]);
    free(m->drivers);
    m->drivers = NULL;
    m->n_drivers = 0;
    gw_guest_track_free(m->track);
    m->track = NULL;
    gw_guest_mem_free(m->other);
    m->other = NULL;
    migration_xen_free(m);
    gw_guest_mem_free(m->mem);
    m->mem = NULL;
    m->top = 0;
    migration_sums_drop(m);
    free(m->pairs);
    free(m->runs);
    migration_drop_snapshot(m);
    free(m->prints);
}

/* Choose the address of a used ring near `at`, and thereby the field at a page border. */
static gw_gpa_t place_used(struct migration *m, gw_gpa_t at, unsigned size)
{
    uint64_t elements = UINT64_C(8) * size;

    unsigned how = elements % MIGRATION_PAGE ? (unsigned)migration_random(m, 3) : 0;

    switch (how) {
    case 0: /* the first element; with 512 elements the event field, too */
        return at + MIGRATION_PAGE - 4;
    case 1: /* the event field */
        return at + (MIGRATION_PAGE - (4 + elements) % MIGRATION_PAGE) % MIGRATION_PAGE;
    default:
        return at + migration_random(m, MIGRATION_PAGE / 4) * 4;
    }
}

static int allocate(struct migration *m, uint64_t len, uint64_t align, gw_gpa_t *ret)
{
    return m->xen ? migration_xen_alloc(m, len, align, ret)
                  : gw_guest_mem_alloc(m->mem, len, align, ret);
}

/* Each part has its own pages, so that the mark of one cannot hide a lost mark of another. */
static int place_packed(struct migration *m, struct gw_driver_config *cfg)
{
    uint64_t len = (UINT64_C(16) * cfg->queue_size + MIGRATION_PAGE - 1) & ~(MIGRATION_PAGE - 1ull);
    int r = gw_guest_mem_alloc(m->mem, len, MIGRATION_PAGE, &cfg->desc);

    if (r == 0)
        r = gw_guest_mem_alloc(m->mem, MIGRATION_PAGE, MIGRATION_PAGE, &cfg->avail);
    if (r == 0)
        r = gw_guest_mem_alloc(m->mem, MIGRATION_PAGE, MIGRATION_PAGE, &cfg->used);
    /* Random offsets for the event areas. */
    cfg->avail += migration_random(m, MIGRATION_PAGE / 4) * 4;
    cfg->used += migration_random(m, MIGRATION_PAGE / 4) * 4;
    return r;
}

static int place_split(struct migration *m, struct gw_driver_config *cfg)
{
    unsigned size = cfg->queue_size;
    uint64_t used = (UINT64_C(8) * size / MIGRATION_PAGE + RINGS_PAGES) * MIGRATION_PAGE;
    int r = allocate(m, used, MIGRATION_PAGE, &cfg->used);

    if (r == 0)
        r = allocate(m, UINT64_C(16) * size, 64, &cfg->desc);
    if (r == 0)
        r = allocate(m, UINT64_C(2) * size + 8, 64, &cfg->avail);
    cfg->used = place_used(m, cfg->used, size);
    return r;
}

static int make_ring(struct migration_unit *u, unsigned index)
{
    static const unsigned sizes[] = {128, 256, 512, 512};
    struct migration *m = u->m;
    struct gw_driver_config cfg = {
        .size = sizeof(cfg),
        .mem = m->mem,
        .index = index,
        .queue_size = m->o.queue_size ? m->o.queue_size : sizes[migration_random(m, 4)],
        .indirect_max = INDIRECT_MAX,
        .place = true,
        .packed = m->o.packed,
    };
    int r = m->o.packed ? place_packed(m, &cfg) : place_split(m, &cfg);

    if (r == 0)
        r = gw_driver_new(&u->drivers[index], &cfg);
    if (r == 0 && m->xen)
        r = migration_xen_driver(m, &cfg, u->drivers[index]);
    return r;
}

int migration_make_rings(struct migration *m)
{
    unsigned n = m->o.n_queues;
    int r = 0;

    m->drivers = calloc((size_t)m->n_units * n, sizeof(*m->drivers));
    if (!m->drivers)
        r = -ENOMEM;
    m->n_drivers = m->drivers ? m->n_units * n : 0;
    for (unsigned i = 0; r == 0 && i < m->n_units; i++) {
        struct migration_unit *u = &m->units[i];

        u->drivers = m->drivers + (size_t)i * n;
        u->n_drivers = n;
        for (unsigned k = 0; r == 0 && k < n; k++)
            r = make_ring(u, k);
    }
    if (r < 0)
        return migration_cannot(m, MIGRATION_SIDE_TOOL, r, "the rings: %s", strerror(-r));
    return 0;
}

/* A quarter of the memory is for buffers of held requests, partly at the very top. */
int migration_make_buffers(struct migration *m)
{
    /* Memory of a Xen domain is fragmented. */
    unsigned n = m->xen ? 32 : 1;
    uint64_t len = m->o.memory / (m->xen ? 4 : 8) / n;
    gw_gpa_t gpa;
    int r = 0;

    for (unsigned i = 0; r == 0 && i < n; i++) {
        r = gw_guest_mem_alloc(m->mem, len, MIGRATION_PAGE, &gpa);
        if (r == 0)
            r = migration_load_add(m, gpa, len);
    }
    if (r == 0 && m->apart_len)
        r = migration_load_add(m, m->apart_gpa, m->apart_len);
    if (r == 0 && m->o.memory_top)
        r = migration_load_add(m, (m->top - 4 * MIB) / MIGRATION_PAGE * MIGRATION_PAGE, 4 * MIB);
    if (r < 0)
        return migration_cannot(m, MIGRATION_SIDE_TOOL, r, "buffers in guest memory: %s",
                                strerror(-r));
    return 0;
}
