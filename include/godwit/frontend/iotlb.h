/* SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause */
/*
 * Translated addresses (vhost-user.rst, "IOMMU support"): a guest whose device is behind an IOMMU.
 * If VIRTIO_F_ACCESS_PLATFORM (33) was negotiated, rings and descriptors contain I/O addresses. The
 * back-end learns by messages to which memory the IOMMU maps them, and asks for what it misses on
 * the back-end channel. Each request also has an asynchronous form (async.h).
 */
#ifndef GODWIT_FRONTEND_IOTLB_H
#define GODWIT_FRONTEND_IOTLB_H

#include <godwit/frontend/async.h>
#include <godwit/frontend/driver.h>
#include <godwit/memory.h>
#include <stdbool.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif
#pragma GCC visibility push(default)

/* Accesses that a mapping allows, or that a back-end asks for. */
enum gw_frontend_iotlb_access {
    GW_FRONTEND_IOTLB_READ = 1,
    GW_FRONTEND_IOTLB_WRITE = 2,
};

/* A mapping of the IOMMU. */
struct gw_frontend_iotlb {
    uint64_t iova;
    uint64_t length;
    gw_uva_t uva;    /* the user address of the memory that it maps, see gw_guest_mem_uva */
    unsigned access; /* of enum gw_frontend_iotlb_access, one or both */
};

/*
 * Send a mapping: IOTLB_MSG with UPDATE. It replaces what the back-end knows of these
 * I/O addresses.
 *
 * Ownership: `map` is copied.
 * Returns: as gw_frontend_get_features; -EOPNOTSUPP unless ACCESS_PLATFORM (33) and BACKEND_REQ
 * were negotiated; -EREMOTEIO if the back-end refuses the mapping.
 * Context: as gw_frontend_get_features.
 */
int gw_frontend_iotlb_update(struct gw_frontend *fe, const struct gw_frontend_iotlb *map);

/*
 * Invalidate `length` bytes of I/O addresses: IOTLB_MSG with INVALIDATE. When it returns, the
 * back-end uses none of the memory that they were mapped to, which includes requests in flight.
 * Address and length 0: all addresses.
 *
 * Returns: as gw_frontend_iotlb_update; -EREMOTEIO also if requests in flight take too long.
 * Context: as gw_frontend_get_features.
 */
int gw_frontend_iotlb_invalidate(struct gw_frontend *fe, uint64_t iova, uint64_t length);

/*
 * The same, see async.h.
 *
 * Ownership: `map` is copied.
 * Returns: as gw_frontend_get_features_async.
 * Context: the thread of the front-end.
 */
int gw_frontend_iotlb_update_async(struct gw_frontend *fe, const struct gw_frontend_iotlb *map,
                                   gw_frontend_done_cb *done, void *arg);
int gw_frontend_iotlb_invalidate_async(struct gw_frontend *fe, uint64_t iova, uint64_t length,
                                       gw_frontend_done_cb *done, void *arg);

/* What a back-end says about an I/O address. */
enum gw_frontend_iotlb_event {
    GW_FRONTEND_IOTLB_MISS = 1, /* it needs the mapping: answer with gw_frontend_iotlb_update */
    GW_FRONTEND_IOTLB_ACCESS_FAIL = 4, /* the mapping does not allow the access */
};

/*
 * Read a request of the back-end channel (gw_frontend_set_backend_cb, gw_frontend_backend_request)
 * about an I/O address: its address and access go to `ret`, whose other members are 0.
 *
 * Returns: of enum gw_frontend_iotlb_event; 0 if it is another request; -EPROTO if it is
 * malformed.
 * Context: any thread.
 */
int gw_frontend_read_iotlb(const struct gw_frontend_message *msg, struct gw_frontend_iotlb *ret);

/*
 * Map `length` bytes at a guest address for the device, and return their I/O address. `writable`:
 * the device may write there. Called for each buffer and indirect table that a driver adds, by the
 * thread that adds it, and for its rings when they are started or logged: for the same ring it must
 * return the same address.
 */
typedef uint64_t gw_driver_iova_cb(void *arg, gw_gpa_t gpa, uint64_t length, bool writable);

/*
 * Make a driver use I/O addresses: it passes every address for the device to `cb`, with `arg`. The
 * caller's addresses stay guest addresses. NULL: it uses guest addresses.
 *
 * Context: before the queue is started.
 */
void gw_driver_set_iova(struct gw_driver *d, gw_driver_iova_cb *cb, void *arg);

#pragma GCC visibility pop
#ifdef __cplusplus
}
#endif
#endif
