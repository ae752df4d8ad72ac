/* SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause */
/*
 * THE memory backend interface: how guest memory is reached. One implementation is linked in,
 * chosen by the build (-Dmemory=...); nothing outside it knows which.
 *
 * A backend hands out pins, not pointers: the right to touch extents until they are unpinned. Where
 * a region has a lasting address (hva), pinning is arithmetic and mem.h does it alone; the backend
 * is asked for the rest, a whole chain in one call.
 *
 * What is pinned may be a copy: then its contents are fetched after the pin, for as many chains as
 * were pinned meanwhile in one call, and stored before their answers are shown to the driver, again
 * for many in one call. A call may cost a hypercall.
 */
#pragma once

#include "mapping.h"
#include "postcopy/postcopy.h"

#include <godwit/memory.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/uio.h>

struct gw_diag;
struct gw_map;

/* Every region keeps one address for its life: postcopy is possible. */
#define GW_MEM_CAP_STABLE_HVA 0x1u
/* Memory of Xen domains can be had: XEN_MMAP is offered. */
#define GW_MEM_CAP_XEN 0x2u

/* gw_region_desc.flags, as on the wire; none: it is a file. */
#define GW_REGION_FOREIGN    0x1u   /* frames of a Xen domain, by number */
#define GW_REGION_GRANT      0x2u   /* pages that one granted, by reference */
#define GW_REGION_NO_ADVANCE 0x100u /* of the latter, only what is in use */

/* Set in every address of granted pages; what is left of the page number is the reference. */
#define GW_GRANT_ADDRESS (UINT64_C(1) << 63)

/* A region as the front-end describes it; checked in gw_region_new. */
struct gw_region_desc {
    gw_gpa_t gpa;
    uint64_t size;
    gw_uva_t uva;
    gw_off_t mmap_offset;
    bool at_uva; /* a file: mapped at the front-end's own address, where that can be */
    uint32_t flags;
    uint32_t domid;       /* whose pages they are */
    uint32_t cache_pages; /* NO_ADVANCE: so many may stay mapped while nobody uses them */
};

/* One mapped piece of guest memory, shared by all maps that hold it. */
struct gw_region {
    struct gw_region_desc desc;
    unsigned refs;                    /* control thread only */
    uint8_t *hva;                     /* of the first guest byte; NULL where each pin maps */
    struct gw_mapping mapping;        /* of a file */
    void *backend;                    /* the backend's own */
    bool unpinnable;                  /* by the kernel, for direct I/O */
    struct gw_postcopy_range missing; /* its pages may be */
};

/* A piece of guest memory as a descriptor names it. */
struct gw_extent {
    gw_gpa_t gpa;
    uint32_t len;
};

/* What a pin holds until it is undone; all zero when it holds nothing. */
struct gw_pin {
    void *backend;
};

/* A pin whose extents may be copies. The first `n_out` of them are read by the device. */
struct gw_pin_copy {
    struct gw_pin *pin;
    unsigned n_out;
    bool failed; /* some of it could not be copied */
    bool torn;   /* ... and what of it was stored could not be made void */
};

/* More than so much granted memory is no chain's, so that a driver cannot use up ours. */
#define GW_PIN_COPY_MAX (UINT64_C(4) << 20)

/* What can be had here (GW_MEM_CAP_*); what is missing for more is told in `diag`. */
unsigned gw_mem_backend_probe(struct gw_diag *diag);

/*
 * Map the region. Consumes `fd`, also on failure.
 * Returns: 0; -EINVAL for an object shorter than the region says, or flags that cannot be; -ENODEV
 * where there is no such memory; the errno of mmap(2), or of Xen.
 */
int gw_mem_backend_map(struct gw_region *region, int fd);
void gw_mem_backend_unmap(struct gw_region *region);

/*
 * Make extents of regions without hva reachable and describe them, in order, in `iov`.
 * Returns: iovecs used; -EFAULT when any byte is not there; -E2BIG when `max_iov` does not do.
 */
int gw_mem_backend_pin(const struct gw_map *map, const struct gw_extent *extents,
                       unsigned n_extents, struct iovec *iov, unsigned max_iov,
                       struct gw_pin *ret_pin);
void gw_mem_backend_unpin(struct gw_pin *pin);

/*
 * Read what the device is to read, and write what it wrote, where pins are copies; all of them in
 * one go. One that fails does not keep the others from being copied. Of one that cannot be stored
 * as a whole nobody may take a part for the answer, such as a status: that part becomes all ones.
 */
void gw_mem_backend_fetch(struct gw_pin_copy *copies, unsigned n_copies);
void gw_mem_backend_store(struct gw_pin_copy *copies, unsigned n_copies);

/*
 * Host address of `len` bytes at `offset` of a region without hva, never a copy: for a ring, which
 * both sides look at all the time. Undo it with gw_mem_backend_unpin.
 * Returns: 0; -EFAULT when any byte is not there; -ENOMEM; the errno of Xen.
 */
int gw_mem_backend_hold(const struct gw_region *region, uint64_t offset, uint64_t len,
                        void **ret_at, struct gw_pin *ret_pin);

/*
 * Owners of memory that go away with it, as Xen domains do: whoever watches is told that some may
 * have. For the control thread.
 */
struct gw_mem_watch;

/* Returns: 0, with NULL where memory has no such owners; why nothing will be told. */
int gw_mem_backend_watch(struct gw_mem_watch **ret);
/* NULL is fine. */
void gw_mem_backend_unwatch(struct gw_mem_watch *w);
/* Becomes readable when there is something to check; -1 with NULL. */
int gw_mem_backend_watch_fd(const struct gw_mem_watch *w);
/* Returns: 0; -ESHUTDOWN with gw_last_error when a region of the map has lost its owner. */
int gw_mem_backend_check_owners(struct gw_mem_watch *w, const struct gw_map *map);
