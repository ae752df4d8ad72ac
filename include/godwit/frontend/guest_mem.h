/* SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause */
/*
 * The guest's memory, as a VMM has it (vhost-user.rst, "Memory access"): regions that a back-end
 * maps, and an allocator for what a test or a tool puts there.
 *
 * Context, unless a function states another: an object belongs to one thread at a time; drivers and
 * loads on other threads may use the memory while no call changes its regions or allocations.
 * error.h describes errors.
 */
#ifndef GODWIT_FRONTEND_GUEST_MEM_H
#define GODWIT_FRONTEND_GUEST_MEM_H

#include <godwit/frontend/error.h>
#include <godwit/memory.h>
#include <stdbool.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif
#pragma GCC visibility push(default)

struct gw_guest_mem;

/* user address = host pointer, as in a real VMM; otherwise user address = base + guest address */
#define GW_GUEST_UVA_HOST UINT64_MAX

/*
 * Make an empty guest memory. With a `uva_base` other than GW_GUEST_UVA_HOST the user addresses
 * sent to the back-end are no pointers of this process, so that code that confuses the two address
 * spaces fails.
 *
 * Ownership: free the result with gw_guest_mem_free.
 * Returns: 0; -ENOMEM.
 */
int gw_guest_mem_new(struct gw_guest_mem **ret, gw_uva_t uva_base);

/*
 * Unmap and free a guest memory, after everything that uses it: drivers, front-ends that start with
 * it, fault servers. `m` may be NULL.
 */
void gw_guest_mem_free(struct gw_guest_mem *m);

/*
 * Make the guest memory of a migration's destination: the same regions in new memfds (huge pages
 * stay huge; no memory of Xen domains), the same allocations, filled with zeros.
 *
 * Ownership: free the result with gw_guest_mem_free.
 * Returns: as gw_guest_mem_add.
 */
int gw_guest_mem_clone(struct gw_guest_mem **ret, const struct gw_guest_mem *m, gw_uva_t uva_base);

enum gw_guest_region_kind {
    GW_GUEST_MEMFD = 0, /* a new sealed memfd, `offset` + `length` bytes long */
    GW_GUEST_HUGETLB,   /* the same with 2 MiB pages */
    GW_GUEST_FD, /* a duplicate of `fd`, long enough; a back-end can truncate it unless sealed */
    GW_GUEST_MAPPED, /* memory that the caller maps at `host`, and unmaps after the removal */
};

/* How a back-end maps a region of a Xen domain, "Memory region description": xen_mmap_flags. */
enum gw_guest_xen {
    GW_GUEST_XEN_NONE = 0,           /* by its fd */
    GW_GUEST_XEN_FOREIGN = 0x1,      /* by frame numbers: the address contains them */
    GW_GUEST_XEN_GRANT = 0x2,        /* by grant references: bit 63 of its address is set */
    GW_GUEST_XEN_NO_ADVANCE = 0x100, /* with GRANT: map pages only while in use */
};

struct gw_guest_region {
    enum gw_guest_region_kind kind;
    gw_gpa_t gpa;
    uint64_t length;
    gw_off_t offset; /* of the region in its file; need not be page-aligned */
    int fd;          /* GW_GUEST_FD: stays the caller's. As a result: do not close it */
    bool no_alloc;   /* gw_guest_mem_alloc does not use it */
    gw_uva_t uva;    /* as a result: its user address */
    void *host;      /* GW_GUEST_MAPPED: `length` bytes; `fd`, if any, is for the back-end */
    uint32_t xen;    /* enum gw_guest_xen, sent if XEN_MMAP (17) was negotiated */
    uint32_t domid;  /* with `xen`: the domain that owns the memory */
};

/*
 * Add a region, which may touch others but not overlap them. gw_frontend_add_mem_reg or
 * gw_frontend_set_mem_table sends it to the back-end.
 *
 * Ownership: `region` is copied; its `fd` stays the caller's.
 * Returns: 0; -EINVAL if the region is empty or past the end of the address space, or for
 * GW_GUEST_MAPPED without `host` or with an offset; -EEXIST if it overlaps another; -ENOMEM, also
 * without free huge pages; the errno of memfd_create(2), ftruncate(2), fcntl(2) with F_ADD_SEALS,
 * or mmap(2).
 */
int gw_guest_mem_add(struct gw_guest_mem *m, const struct gw_guest_region *region);

/*
 * Remove the region that begins at `gpa`, with its allocations.
 *
 * Returns: 0; -ENOENT if no region begins there.
 */
int gw_guest_mem_remove(struct gw_guest_mem *m, gw_gpa_t gpa);

/*
 * The number of regions.
 *
 * Returns: the number.
 */
unsigned gw_guest_mem_count(const struct gw_guest_mem *m);

/*
 * Copy the description of region `i`, in the order of addresses, to `ret`.
 *
 * Ownership: the fd in it stays the memory's.
 * Returns: 0; -ENOENT beyond the last.
 */
int gw_guest_mem_region(const struct gw_guest_mem *m, unsigned i, struct gw_guest_region *ret);

/*
 * The host pointer of `len` bytes at `gpa`.
 *
 * Returns: the pointer; NULL unless all of them are in one region.
 */
void *gw_guest_mem_at(const struct gw_guest_mem *m, gw_gpa_t gpa, uint64_t len);

/*
 * The user address of a guest address.
 *
 * Returns: the address; 0 outside of all regions.
 */
gw_uva_t gw_guest_mem_uva(const struct gw_guest_mem *m, gw_gpa_t gpa);

/*
 * Allocate `len` zeroed bytes within one region, aligned to `align`, a power of two.
 *
 * Ownership: release them with gw_guest_mem_release and the same `len`.
 * Returns: 0; -ENOSPC if no free range is long enough; -EINVAL for length 0 or another alignment;
 * -ENOMEM.
 */
int gw_guest_mem_alloc(struct gw_guest_mem *m, uint64_t len, uint64_t align, gw_gpa_t *ret_gpa);

/* Release `len` bytes that gw_guest_mem_alloc allocated at `gpa`. */
void gw_guest_mem_release(struct gw_guest_mem *m, gw_gpa_t gpa, uint64_t len);

#pragma GCC visibility pop
#ifdef __cplusplus
}
#endif
#endif
