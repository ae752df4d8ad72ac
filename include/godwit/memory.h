/* SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause */
/*
 * Guest memory for devices: what the front-end has mapped, and access to it by guest address.
 *
 * Most devices only need the buffers of their requests (queue.h). This header is for devices whose
 * requests contain guest addresses (GPU, DMA), and for devices that register guest memory with
 * hardware or the kernel (the callbacks region_added and region_gone of device.h).
 *
 * The guest and the front-end change this memory at any time, so read a value once, check the copy,
 * and use the copy. An address of the guest never ends the process: an address outside of guest
 * memory is -EFAULT, and the config member handle_sigbus covers pages that the front-end has
 * truncated.
 *
 * Addresses. vhost-user has three address spaces (vhost-user.rst, "Memory access"). Functions pass
 * every address with its type.
 *
 * Context, unless a function states another: the queue's worker under GW_SYNC_NONE, any thread
 * under GW_SYNC_MUTEX and GW_SYNC_RWLOCK; one thread at a time for each hold. While a session
 * listens for missing pages (postcopy), a function that accesses memory may sleep until the page
 * arrives.
 */
#ifndef GODWIT_MEMORY_H
#define GODWIT_MEMORY_H

#include <stddef.h>
#include <stdint.h>
#include <sys/uio.h>

#ifdef __cplusplus
extern "C" {
#endif
#pragma GCC visibility push(default)

struct gw_queue;

typedef uint64_t gw_gpa_t; /* guest physical, as in descriptors */
typedef uint64_t gw_uva_t; /* front-end virtual, as in SET_VRING_ADDR */
typedef uint64_t gw_off_t; /* byte offset in a file */

/*
 * The maximum number of memory regions of a back-end, the answer to GET_MAX_MEM_SLOTS
 * (vhost-user.rst, "Front-end message types").
 */
#define GW_MEM_SLOTS_MAX 509

/* Copy at the file's own position, like read(2) and write(2): for sockets, pipes, and appending. */
#define GW_OFF_CURRENT UINT64_MAX

/*
 * A region of guest memory. The library owns it; later versions may append members. It stays in
 * place, and does not change, from region_added until region_gone has returned.
 */
struct gw_memory_region {
    gw_gpa_t guest_addr;
    gw_uva_t user_addr;
    uint64_t size;
    void *addr;         /* in this process; NULL: pages of a Xen domain that no address lasts for */
    uint64_t page_size; /* of the mapping; larger than that of the kernel for huge pages */
    gw_off_t offset;    /* of the region in its file */
    int fd;     /* the file, valid in region_added only: duplicate it to keep it; -1: none */
    void *user; /* the device's own, to be set in region_added; initially NULL */
};

/*
 * A hold on the guest memory of a queue. The embedder provides the structure, does not copy it, and
 * leaves its members alone.
 */
struct gw_memory {
    struct gw_queue *queue;
    const void *map;
    uint32_t generation;
    uint32_t last_region;
    uint64_t reserved[2];
};

/*
 * Hold the guest memory of a queue: the memory that the front-end has mapped now. It stays mapped
 * and the hold stays valid until gw_memory_release, even if the front-end changes its memory.
 *
 * A hold counts like a request in flight: a change of memory, a stop and a move of the queue wait
 * for it, up to drain_timeout_ms. So release it soon, and from queue_stop on as soon as possible.
 * It takes some nanoseconds, so a device may hold the memory for a single access.
 *
 * A hold that outlives its session because the wait timed out keeps its memory mapped. Functions
 * that access memory then return -ESHUTDOWN, because the guest may run elsewhere.
 *
 * Ownership: release `ret` with gw_memory_release, which has no effect on it after an error.
 * Returns: 0; -ENOTCONN if the queue is stopped, or its session has ended; -EOPNOTSUPP if the
 * device is behind an IOMMU (ACCESS_PLATFORM), because these functions do not translate addresses.
 */
int gw_memory_hold(struct gw_memory *ret, struct gw_queue *q);

/*
 * End a hold. No thread, system call or hardware may use addresses from it any longer. No effect on
 * a zeroed or released structure.
 */
void gw_memory_release(struct gw_memory *m);

/*
 * Copy `len` bytes at guest address `gpa` to `buf`, or from `buf`; the range may span regions. A
 * write is recorded in the dirty log before the function returns. If the range is not completely in
 * guest memory, nothing is copied.
 *
 * The copy is not atomic. For values that the guest changes concurrently, use gw_memory_load32 and
 * its like.
 *
 * Returns: 0; -EFAULT if a byte is not in guest memory, or a Xen domain has not granted it;
 * -ESHUTDOWN if the session has ended; -ENOMEM.
 */
int gw_memory_read(struct gw_memory *m, gw_gpa_t gpa, void *buf, size_t len);
int gw_memory_write(struct gw_memory *m, gw_gpa_t gpa, const void *buf, size_t len);

/* The same for an object of any type without pointers: `object` points to it. */
#define gw_memory_read_object(m, gpa, object)  gw_memory_read(m, gpa, object, sizeof(*(object)))
#define gw_memory_write_object(m, gpa, object) gw_memory_write(m, gpa, object, sizeof(*(object)))

/*
 * Load a value atomically and store it in `ret`. `order` is __ATOMIC_RELAXED, __ATOMIC_ACQUIRE or
 * __ATOMIC_SEQ_CST; the values of C11 and C++ (memory_order_acquire) are the same. The value has
 * the byte order of memory, which is little-endian in most virtio structures.
 *
 * Returns: 0; -EINVAL if `gpa` is not aligned to the size of the value, the value spans two
 * regions, or `order` is another one; -EFAULT, -ESHUTDOWN, -ENOMEM as gw_memory_read.
 */
int gw_memory_load8(struct gw_memory *m, gw_gpa_t gpa, uint8_t *ret, int order);
int gw_memory_load16(struct gw_memory *m, gw_gpa_t gpa, uint16_t *ret, int order);
int gw_memory_load32(struct gw_memory *m, gw_gpa_t gpa, uint32_t *ret, int order);
int gw_memory_load64(struct gw_memory *m, gw_gpa_t gpa, uint64_t *ret, int order);

/*
 * Store a value atomically, and record it in the dirty log. `order` is __ATOMIC_RELAXED,
 * __ATOMIC_RELEASE or __ATOMIC_SEQ_CST.
 *
 * Returns: as gw_memory_load8.
 */
int gw_memory_store8(struct gw_memory *m, gw_gpa_t gpa, uint8_t value, int order);
int gw_memory_store16(struct gw_memory *m, gw_gpa_t gpa, uint16_t value, int order);
int gw_memory_store32(struct gw_memory *m, gw_gpa_t gpa, uint32_t value, int order);
int gw_memory_store64(struct gw_memory *m, gw_gpa_t gpa, uint64_t value, int order);

/*
 * Describe `len` bytes at guest address `gpa` by up to `max_iov` iovecs in `iov`, in order; a range
 * that spans regions becomes several. They are valid until gw_memory_release. Call
 * gw_memory_mark_dirty after writing to them, and before the release.
 *
 * Returns: the number of iovecs; -EFAULT if a byte is not in guest memory; -E2BIG if there are more
 * than `max_iov`; -EOPNOTSUPP if a part has no address that lasts (page-wise grants of a Xen
 * domain); -ESHUTDOWN if the session has ended.
 */
int gw_memory_iovecs(struct gw_memory *m, gw_gpa_t gpa, uint64_t len, struct iovec *iov,
                     unsigned max_iov);

/*
 * Record in the dirty log that the device, a system call or hardware wrote `len` bytes at guest
 * address `gpa`. Call it after the data is in memory: the front-end may read the page at once.
 *
 * Returns: 0; -EFAULT if a byte is not in guest memory; -ESHUTDOWN if the session has ended.
 */
int gw_memory_mark_dirty(struct gw_memory *m, gw_gpa_t gpa, uint64_t len);

/*
 * Copy up to `len` bytes between guest memory at `gpa` and a file at `offset`, without a buffer in
 * between; `offset` may be GW_OFF_CURRENT. gw_memory_from_file writes guest memory, and records it
 * in the dirty log. Data from a file with O_DIRECT must be aligned as this file requires.
 *
 * Both block like preadv(2) and pwritev(2). A worker that must not block uses gw_io_preadv with the
 * result of gw_memory_iovecs.
 *
 * Returns: the number of bytes copied, less than `len` at the end of the file, if the file takes no
 * more, or if an error follows; -EFAULT if a byte is not in guest memory, and nothing is copied
 * then; -EINVAL if `offset` is too large; -ESHUTDOWN as gw_memory_read; the errno of preadv(2) and
 * pwritev(2).
 */
int64_t gw_memory_from_file(struct gw_memory *m, gw_gpa_t gpa, uint64_t len, int fd,
                            gw_off_t offset);
int64_t gw_memory_to_file(struct gw_memory *m, gw_gpa_t gpa, uint64_t len, int fd, gw_off_t offset);

/*
 * The number of bytes of guest memory from `gpa` on, up to the first hole.
 *
 * Returns: that number; 0 if `gpa` is not in guest memory.
 */
uint64_t gw_memory_contiguous(const struct gw_memory *m, gw_gpa_t gpa);

/*
 * The region with number `index`, by ascending guest address; or the region that contains `gpa`.
 *
 * Ownership: the library's; valid until gw_memory_release.
 * Returns: the region; NULL beyond the last one, or if no region contains `gpa`.
 */
const struct gw_memory_region *gw_memory_region(const struct gw_memory *m, unsigned index);
const struct gw_memory_region *gw_memory_find(const struct gw_memory *m, gw_gpa_t gpa);

#pragma GCC visibility pop
#ifdef __cplusplus
}
#endif
#endif
