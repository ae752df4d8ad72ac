/* SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause */
/*
 * An IOMMU for tests: it maps pages of guest memory at I/O addresses, and answers what a back-end
 * misses. It gives out the lowest free address, so that addresses are reused as soon as possible
 * and an access through a stale translation reaches the wrong page.
 */
#pragma once

#include <godwit/frontend.h>

#include <stdbool.h>
#include <stdint.h>

#define IOMMU_PAGE  UINT64_C(4096)
#define IOMMU_PAGES 4096u
#define IOMMU_IOVA  UINT64_C(0xff0000000)

struct iommu {
    struct gw_frontend *fe;
    struct gw_guest_mem *mem;
    bool is_silent;                  /* does not answer misses */
    unsigned n_misses, n_failures;   /* received */
    struct gw_frontend_iotlb failed; /* the last failure */
    struct {
        gw_gpa_t gpa;
        unsigned access; /* 0: not mapped */
    } pages[IOMMU_PAGES];
};

static inline uint64_t iommu_index(uint64_t iova)
{
    return (iova - IOMMU_IOVA) / IOMMU_PAGE;
}

static inline uint64_t iommu_n_pages(uint64_t addr, uint64_t len)
{
    return (addr % IOMMU_PAGE + len + IOMMU_PAGE - 1) / IOMMU_PAGE;
}

/* Map the pages of `len` bytes at `gpa`. Returns: the I/O address of `gpa`; 0 if it is full. */
static inline uint64_t iommu_map(struct iommu *m, gw_gpa_t gpa, uint64_t len, unsigned access)
{
    uint64_t n = iommu_n_pages(gpa, len), first = 0, n_free = 0;

    for (uint64_t i = 0; i < IOMMU_PAGES && n_free < n; i++) {
        n_free = m->pages[i].access ? 0 : n_free + 1;
        first = i + 1 - n_free;
    }
    if (n_free < n)
        return 0;
    for (uint64_t i = 0; i < n; i++) {
        m->pages[first + i].gpa = (gpa & ~(IOMMU_PAGE - 1)) + i * IOMMU_PAGE;
        m->pages[first + i].access = access;
    }
    return IOMMU_IOVA + first * IOMMU_PAGE + gpa % IOMMU_PAGE;
}

/* Forget the mapping; the caller invalidates it. */
static inline void iommu_unmap(struct iommu *m, uint64_t iova, uint64_t len)
{
    for (uint64_t i = 0; i < iommu_n_pages(iova, len); i++)
        m->pages[iommu_index(iova) + i].access = 0;
}

/* The I/O address of a guest address that is mapped; 0 if it is not. */
static inline uint64_t iommu_find(const struct iommu *m, gw_gpa_t gpa)
{
    for (uint64_t i = 0; i < IOMMU_PAGES; i++)
        if (m->pages[i].access && gpa - m->pages[i].gpa < IOMMU_PAGE)
            return IOMMU_IOVA + i * IOMMU_PAGE + gpa % IOMMU_PAGE;
    return 0;
}

/* The mapping of the page at `iova`. Returns: whether there is one. */
static inline bool iommu_look_up(const struct iommu *m, uint64_t iova,
                                 struct gw_frontend_iotlb *ret)
{
    uint64_t i = iommu_index(iova);

    if (iova < IOMMU_IOVA || i >= IOMMU_PAGES || !m->pages[i].access)
        return false;
    *ret = (struct gw_frontend_iotlb){
        .iova = IOMMU_IOVA + i * IOMMU_PAGE,
        .length = IOMMU_PAGE,
        .uva = gw_guest_mem_uva(m->mem, m->pages[i].gpa),
        .access = m->pages[i].access,
    };
    return true;
}

/* The gw_frontend_backend_cb. As in QEMU, nothing answers a miss of an address without mapping. */
static inline uint64_t iommu_serve(void *arg, struct gw_frontend_message *msg)
{
    struct gw_frontend_iotlb wanted, map;
    struct iommu *m = arg;
    int event = gw_frontend_read_iotlb(msg, &wanted);

    if (event == GW_FRONTEND_IOTLB_ACCESS_FAIL) {
        m->n_failures++;
        m->failed = wanted;
    }
    if (event != GW_FRONTEND_IOTLB_MISS)
        return event < 0;
    m->n_misses++;
    if (!m->is_silent && iommu_look_up(m, wanted.iova, &map))
        (void)gw_frontend_iotlb_update_async(m->fe, &map, NULL, NULL);
    return 0;
}

/* The gw_driver_iova_cb of a guest that maps each page once, and never unmaps it. */
static inline uint64_t iommu_map_once(void *arg, gw_gpa_t gpa, uint64_t len, bool writable)
{
    struct iommu *m = arg;
    uint64_t iova = iommu_find(m, gpa);

    return iova ? iova : iommu_map(m, gpa, len, 3);
}
