/* SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause */
/*
 * Measures in dom0 what calls of the Xen libraries cost for pages of a domain: one call for all
 * pages against one call for each.
 *
 *     xen_costs DOMID
 *
 * Exit status 1 if one call for many pages is not much cheaper than many calls.
 */
#include "../../../tools/xen-agent/xen_guest.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <time.h>

#include <xenforeignmemory.h>
#include <xengnttab.h>

#define PAGES 512u

struct pages {
    uint32_t domid;
    unsigned n;
    uint64_t numbers[PAGES]; /* frame numbers or grant references */
    xenforeignmemory_handle *foreign;
    xengnttab_handle *grants;
    uint8_t *copy;
};

static void must(bool good, const char *what)
{
    if (good)
        return;
    printf("  FAIL %s\n", what);
    exit(EXIT_FAILURE);
}

static double now_us(void)
{
    struct timespec t;

    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec * 1e6 + (double)t.tv_nsec / 1e3;
}

/* ---- operations on `n` pages from `first` on ---- */

static void foreign_once(struct pages *p, unsigned first, unsigned n)
{
    static xen_pfn_t frames[PAGES];
    static int errors[PAGES];
    void *at;

    for (unsigned i = 0; i < n; i++)
        frames[i] = p->numbers[first + i];
    at = xenforeignmemory_map(p->foreign, p->domid, PROT_READ | PROT_WRITE, n, frames, errors);
    must(at && errors[0] == 0 && errors[n - 1] == 0, "frames are mapped");
    must(xenforeignmemory_unmap(p->foreign, at, n) == 0, "frames are unmapped");
}

static void grants_once(struct pages *p, unsigned first, unsigned n)
{
    static uint32_t refs[PAGES];
    void *at;

    for (unsigned i = 0; i < n; i++)
        refs[i] = (uint32_t)p->numbers[first + i];
    at = xengnttab_map_domain_grant_refs(p->grants, n, p->domid, refs, PROT_READ | PROT_WRITE);
    must(at != NULL, "grants are mapped");
    must(xengnttab_unmap(p->grants, at, n) == 0, "grants are unmapped");
}

static void copy_once(struct pages *p, unsigned first, unsigned n)
{
    static xengnttab_grant_copy_segment_t segments[PAGES];

    for (unsigned i = 0; i < n; i++)
        segments[i] = (xengnttab_grant_copy_segment_t){
            .source.foreign = {.ref = (uint32_t)p->numbers[first + i], .domid = (domid_t)p->domid},
            .dest.virt = p->copy + (size_t)i * XEN_PAGE,
            .len = XEN_PAGE,
            .flags = GNTCOPY_source_gref,
        };
    must(xengnttab_grant_copy(p->grants, n, segments) == 0 && segments[n - 1].status == GNTST_okay,
         "grants are copied");
}

typedef void operation(struct pages *p, unsigned first, unsigned n);

/* The minimum of several measurements, in microseconds. */
static double cost(struct pages *p, operation *op, unsigned n, unsigned at_once)
{
    double shortest = 0;

    for (unsigned i = 0; i < 5; i++) {
        double begin = now_us(), took;

        for (unsigned first = 0; first < n; first += at_once)
            op(p, first, at_once);
        took = now_us() - begin;
        shortest = i == 0 || took < shortest ? took : shortest;
    }
    return shortest;
}

/* ---- pages of a domain ---- */

static void lend(struct pages *p, struct xen_guest **guest, struct gw_guest_mem **mem,
                 enum xen_form form)
{
    struct gw_guest_region region;

    must(gw_guest_mem_new(mem, GW_GUEST_UVA_HOST) == 0 &&
             xen_guest_new(guest, p->domid, form) == 0 &&
             xen_guest_fill(*guest, *mem, (uint64_t)PAGES * XEN_PAGE, 0) == 0,
         "the domain lends pages");
    p->n = 0;
    for (unsigned i = 0; gw_guest_mem_region(*mem, i, &region) == 0; i++) {
        for (uint64_t at = 0; at < region.length && p->n < PAGES; at += XEN_PAGE)
            p->numbers[p->n++] = ((region.gpa & ~XEN_GRANT) + at) / XEN_PAGE;
    }
    must(p->n == PAGES, "512 pages");
}

static void compare(struct pages *p, enum xen_form form)
{
    bool is_foreign = form == XEN_FORM_FOREIGN;
    operation *op = is_foreign ? foreign_once : grants_once;
    struct gw_guest_mem *mem = NULL;
    struct xen_guest *guest = NULL;

    lend(p, &guest, &mem, form);
    for (unsigned n = 1; n <= PAGES; n = n == 1 ? 16 : n * 32) {
        double all = cost(p, op, n, n), each = cost(p, op, n, 1);

        printf("%s %u: map and unmap by one call %.0f us, %.1f times that each by one",
               is_foreign ? "foreign" : "grants", n, all, each / all);
        if (!is_foreign)
            printf("; against copying %.1f", all / cost(p, copy_once, n, n));
        printf("\n");
        fflush(stdout);
        must(n == 1 || all < each, "one call for many pages is cheaper");
    }
    xen_guest_free(guest);
    gw_guest_mem_free(mem);
}

int main(int argc, char **argv)
{
    struct pages p = {0};

    if (argc != 2)
        return 2;
    p.domid = (uint32_t)strtoul(argv[1], NULL, 10);
    p.foreign = xenforeignmemory_open(NULL, 0);
    p.grants = xengnttab_open(NULL, 0);
    p.copy = aligned_alloc(XEN_PAGE, (size_t)PAGES * XEN_PAGE);
    must(p.foreign && p.grants && p.copy, "the Xen libraries");
    memset(p.copy, 0, (size_t)PAGES * XEN_PAGE);
    compare(&p, XEN_FORM_FOREIGN);
    compare(&p, XEN_FORM_GRANT);
    free(p.copy);
    xengnttab_close(p.grants);
    xenforeignmemory_close(p.foreign);
    return EXIT_SUCCESS;
}
