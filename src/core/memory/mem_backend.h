/* SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause */
/*
 * The memory backend interface: how guest memory is accessed. The build links in one implementation
 * (-Dmemory=...); no code outside it depends on the choice.
 *
 * A backend hands out pins, not pointers. A pin is the right to access extents until it is
 * released. If a region has a fixed address (hva), pinning is arithmetic, which mem.h does without
 * the backend. For all other regions the backend pins a whole chain in one call.
 *
 * A pin may be a copy. Its contents are then fetched after the pin, and stored before the used
 * elements are published. One call does this for many chains, because it may cost a hypercall.
 */
#pragma once

#include "mapping.h"
#include "postcopy/postcopy.h"

#include <godwit/memory.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/uio.h>

struct gw_log;
struct gw_map;

/* Every region has a fixed address, so postcopy is possible. */
#define GW_MEM_CAP_STABLE_HVA 0x1u
/* Memory of Xen domains is supported, so XEN_MMAP is offered. */
#define GW_MEM_CAP_XEN 0x2u

/* gw_region_desc.flags, as on the wire; 0: the region is a file. */
#define GW_REGION_FOREIGN    0x1u   /* frames of a Xen domain, by number */
#define GW_REGION_GRANT      0x2u   /* pages that a Xen domain granted, by reference */
#define GW_REGION_NO_ADVANCE 0x100u /* granted pages are mapped only while they are in use */

/* Set in every address of granted pages; the rest of the page number is the grant reference. */
#define GW_GRANT_ADDRESS (UINT64_C(1) << 63)

/* A region as the front-end describes it; checked in gw_region_new. */
struct gw_region_desc {
    gw_gpa_t gpa;
    uint64_t size;
    gw_uva_t uva;
    gw_off_t mmap_offset;
    bool at_uva; /* map a file at the front-end's own address, if possible */
    uint32_t flags;
    uint32_t domid;       /* the domain that owns the pages */
    uint32_t cache_pages; /* NO_ADVANCE: up to this many pages stay mapped between requests */
};

/* One mapped piece of guest memory, shared by all maps that hold it. */
struct gw_region {
    struct gw_region_desc desc;
    struct gw_memory_region pub;                                /* as a device sees it */
    void (*gone)(void *gone_arg, struct gw_memory_region *pub); /* before it is unmapped; or NULL */
    void *gone_arg;
    unsigned refs;                    /* control worker only */
    uint8_t *hva;                     /* of the first guest byte; NULL if each pin maps pages */
    struct gw_mapping mapping;        /* of a file */
    void *backend;                    /* private to the backend */
    bool unpinnable;                  /* by the kernel, for direct I/O */
    struct gw_postcopy_range missing; /* for missing pages during postcopy */
};

/* A piece of guest memory as in a descriptor. */
struct gw_extent {
    gw_gpa_t gpa;
    uint32_t len;
};

/* What a pin holds until it is released; zeroed if it holds nothing. */
struct gw_pin {
    void *backend;
};

/* A pin whose extents may be copies. The device reads the first `n_readable` extents. */
struct gw_pin_copy {
    struct gw_pin *pin;
    unsigned n_readable;
    bool failed; /* some of it could not be copied */
    bool torn;   /* it failed, and the part already stored could not be invalidated */
};

/* Limit on the granted memory of a chain, in bytes, so that a driver cannot exhaust ours. */
#define GW_PIN_COPY_MAX (UINT64_C(4) << 20)

/* Returns: the available GW_MEM_CAP_*. Logs why the others are unavailable. */
unsigned gw_mem_backend_probe(struct gw_log *log);

/*
 * Map the region. Consumes `fd`, also on failure.
 * Returns: 0; -EINVAL for an object shorter than the region, or invalid flags; -ENODEV if such
 * memory is unavailable; the errno of mmap(2), or of Xen.
 */
int gw_mem_backend_map(struct gw_region *region, int fd);
void gw_mem_backend_unmap(struct gw_region *region);

/*
 * Make extents of regions without hva accessible and describe them, in order, in `iov`.
 * Returns: iovecs used; -EFAULT if any byte is unavailable; -E2BIG if `max_iov` is too small.
 */
int gw_mem_backend_pin(const struct gw_map *map, const struct gw_extent *extents,
                       unsigned n_extents, struct iovec *iov, unsigned max_iov,
                       struct gw_pin *ret_pin);
void gw_mem_backend_unpin(struct gw_pin *pin);

/*
 * For pins that are copies: read what the device will read, or write what it wrote, for all of them
 * in one call. A pin that fails does not prevent the others from being copied. If a pin cannot be
 * stored completely, its driver must not mistake a part of it, such as a status, for the answer:
 * the part already stored is overwritten with ones.
 */
void gw_mem_backend_fetch(struct gw_pin_copy *copies, unsigned n_copies);
void gw_mem_backend_store(struct gw_pin_copy *copies, unsigned n_copies);

/*
 * Host address of `len` bytes at `offset` of a region without hva, never a copy: for a ring, which
 * both sides access concurrently. Release it with gw_mem_backend_unpin.
 * Returns: 0; -EFAULT if any byte is unavailable; -ENOMEM; the errno of Xen.
 */
int gw_mem_backend_pin_ring(const struct gw_region *region, uint64_t offset, uint64_t len,
                            void **ret_at, struct gw_pin *ret_pin);

/*
 * A watch for owners of memory, such as Xen domains, that may disappear and take it along. Control
 * thread only.
 */
struct gw_mem_watch;

/* Returns: 0, with NULL if memory has no such owners; a negative errno if they cannot be watched.
 */
int gw_mem_backend_watch(struct gw_mem_watch **ret);
/* Accepts NULL. */
void gw_mem_backend_unwatch(struct gw_mem_watch *w);
/* Becomes readable when an owner may have disappeared; -1 if `w` is NULL. */
int gw_mem_backend_watch_fd(const struct gw_mem_watch *w);
/* Returns: 0; -ESHUTDOWN with gw_last_error if a region of the map has lost its owner. */
int gw_mem_backend_check_owners(struct gw_mem_watch *w, const struct gw_map *map);
