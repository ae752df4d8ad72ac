/* SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause */
/*
 * The driver's side of a queue (virtio 1.3, 2.7, "Split Virtqueues", and 2.8, "Packed Virtqueues"):
 * it adds chains, takes used elements, sends kicks and receives calls.
 *
 * Both layouts have the same interface. In a packed ring `desc` is the descriptor ring, `avail` the
 * driver event area and `used` the device event area. In a split ring an index counts chains,
 * modulo 65536. In a packed ring it counts descriptors, modulo two laps, and is below the queue
 * size while the wrap counter is 1.
 *
 * Context, unless a function states another: a driver belongs to one thread at a time, perhaps
 * another than that of its front-end. error.h describes errors, frontend.h configuration
 * structures.
 */
#ifndef GODWIT_FRONTEND_DRIVER_H
#define GODWIT_FRONTEND_DRIVER_H

#include <godwit/frontend/error.h>
#include <godwit/memory.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif
#pragma GCC visibility push(default)

struct gw_guest_mem;
struct gw_driver;

struct gw_driver_config {
    size_t size;
    struct gw_guest_mem *mem;
    unsigned index;        /* of the queue in the device */
    unsigned queue_size;   /* 1 to 32768, a power of two if split; default 256 */
    unsigned indirect_max; /* longest indirect table; 0 excludes GW_DRIVER_INDIRECT */
    bool place;            /* the rings are at these addresses; otherwise they are allocated */
    gw_gpa_t desc, avail, used;
    bool packed; /* the layout; must match RING_PACKED (34) */
};

struct gw_driver_buf {
    gw_gpa_t addr;
    uint32_t len;
};

struct gw_driver_used {
    uint64_t cookie;
    uint32_t len; /* from the device; if IN_ORDER skips the element, all that it may write */
    uint32_t id;  /* head descriptor, or buffer id */
};

enum gw_driver_flags {
    GW_DRIVER_INDIRECT = 1, /* put the chain into an indirect table */
};

/*
 * How long a call that the device owes may follow its used element before it counts as lost, in
 * milliseconds: the call of a busy device is late, not lost.
 */
#define GW_DRIVER_CALL_GRACE_MS 1000

/*
 * Make the driver's side of a queue: its rings (empty, index 0), its kick and call eventfd.
 *
 * Ownership: `cfg` is copied; `mem` in it must outlive the driver. Free the result with
 * gw_driver_free.
 * Returns: 0; -EINVAL if a member is outside of its limits, or `size` is smaller than in the first
 * version; -E2BIG if a member is set that only later versions know; -EFAULT if a placed ring is
 * outside of the memory; -ENOSPC if the memory is full; -ENOMEM; -EMFILE without free fds.
 */
int gw_driver_new(struct gw_driver **ret, const struct gw_driver_config *cfg);

/* Free a driver, its rings and eventfds. `d` may be NULL. */
void gw_driver_free(struct gw_driver *d);

/*
 * Set the virtio features; the driver uses EVENT_IDX (29) and IN_ORDER (35). gw_frontend_start
 * calls this. IN_ORDER does not change while chains are in flight.
 */
void gw_driver_set_features(struct gw_driver *d, uint64_t features);

/* Empty the rings, forget chains in flight and begin at index `base`. Only while stopped. */
void gw_driver_reset(struct gw_driver *d, uint16_t base);

/*
 * Continue in a gw_guest_mem_clone that already holds a copy of the rings; chains in flight remain.
 *
 * Ownership: `m` stays the caller's and must outlive the driver.
 * Returns: 0; -EFAULT if a ring is outside of the memory.
 */
int gw_driver_set_mem(struct gw_driver *d, struct gw_guest_mem *m);

/*
 * Set, or read, the index at which the back-end starts: the answer to GET_VRING_BASE, or the used
 * index after a crash. In a packed ring it has two indices with their wrap counters: the next
 * available one in the lower half, the next used one in the upper half.
 *
 * Returns: the base.
 */
void gw_driver_set_base(struct gw_driver *d, uint32_t base);
uint32_t gw_driver_base(const struct gw_driver *d);

/*
 * The used index that the device wrote last; in a packed ring, behind the last used descriptor.
 *
 * Returns: the index.
 */
uint16_t gw_driver_used_idx(const struct gw_driver *d);

/*
 * Count the used chains that were not taken yet.
 *
 * Returns: the number.
 * Context: only while no thread drives the queue.
 */
unsigned gw_driver_n_used(struct gw_driver *d);

/*
 * Check the base after a stop. `ret_taken` is the number of chains (split ring) or descriptors
 * (packed ring) that the device has taken and not completed.
 *
 * Returns: 0; -EPROTO if the base is not between the used and the available index, or if its used
 * index differs from a packed ring.
 */
int gw_driver_check_base(const struct gw_driver *d, unsigned *ret_taken);

/*
 * Make all chains in flight available again, after a crash or a stop that was answered too early,
 * and set the base to the first of them. Only while stopped.
 */
void gw_driver_requeue(struct gw_driver *d);

/*
 * Save the state that guest memory does not hold (chains in flight, indices) as bytes, for a driver
 * of the same configuration at the same addresses, perhaps on another host. Cookies keep their
 * values. Only while stopped; does not touch guest memory.
 *
 * Ownership: free the bytes with free(3).
 * Returns: 0; -ENOMEM; -EPROTO if the device broke the ring.
 */
int gw_driver_save(const struct gw_driver *d, void **ret, size_t *ret_len);

/*
 * Restore the state that gw_driver_save saved. Only while stopped; does not touch guest memory.
 *
 * Returns: 0; -ENOMEM; -EINVAL if no driver of this configuration can have saved these bytes;
 * nothing has changed then.
 */
int gw_driver_restore(struct gw_driver *d, const void *state, size_t len);

/*
 * The number and size of its queue, and whether it is packed.
 *
 * Returns: the value.
 */
unsigned gw_driver_index(const struct gw_driver *d);
unsigned gw_driver_size(const struct gw_driver *d);
bool gw_driver_is_packed(const struct gw_driver *d);

/*
 * The number of chains in flight.
 *
 * Returns: the number.
 */
unsigned gw_driver_in_flight(const struct gw_driver *d);

/*
 * The number of chains so far. Chains have numbers from 0, in the order of gw_driver_add.
 *
 * Returns: the number.
 */
uint64_t gw_driver_added(const struct gw_driver *d);

/*
 * Whether the chain with this id (the head descriptor, or buffer id) is in flight, and its number.
 *
 * Returns: whether it is.
 */
bool gw_driver_is_in_flight(const struct gw_driver *d, unsigned id, uint64_t *ret_number);

/*
 * The guest memory of a driver.
 *
 * Ownership: it stays the caller's that made it.
 * Returns: the memory.
 */
struct gw_guest_mem *gw_driver_mem(const struct gw_driver *d);

/*
 * The eventfds of a driver.
 *
 * Ownership: they stay the driver's.
 * Returns: the fd.
 */
int gw_driver_kick_fd(const struct gw_driver *d);
int gw_driver_call_fd(const struct gw_driver *d);

/*
 * Clear the call fd, for a program that polls it, before gw_driver_take. Unlike read(2), this never
 * sleeps, whatever the back-end does to the eventfd.
 *
 * Returns: whether the device has called.
 */
bool gw_driver_take_call(struct gw_driver *d);

/*
 * Switch to a call fd that the back-end already has (SET_VRING_CALL). Loses no call.
 *
 * Ownership: consumes `fd`.
 */
void gw_driver_set_call_fd(struct gw_driver *d, int fd);

/*
 * Replace both eventfds by an event channel of a Xen domain, from the next start on: the back-end
 * binds `port` of the domain itself. This is an extension of libgodwit (docs/memory-backends.md)
 * and needs XEN_MMAP (17). The driver in the domain sends and receives the events.
 */
void gw_driver_set_channel(struct gw_driver *d, uint32_t domid, uint32_t port);

/*
 * Add one chain of `n_readable` device-readable buffers followed by `n_writable` device-writable
 * ones. `flags` are of enum gw_driver_flags; gw_driver_take returns `cookie`. The chain becomes
 * available to the device with gw_driver_publish or gw_driver_kick.
 *
 * Ownership: `bufs` is copied into the ring.
 * Returns: 0; -ENOSPC if there are too few free descriptors; -EINVAL without buffers, or for more
 * than the indirect table holds.
 */
int gw_driver_add(struct gw_driver *d, const struct gw_driver_buf *bufs, unsigned n_readable,
                  unsigned n_writable, uint64_t cookie, unsigned flags);

/* Make the added chains available, without a kick. */
void gw_driver_publish(struct gw_driver *d);

/*
 * Make the added chains available, and write the kick fd if the device wants it.
 *
 * Returns: whether it was written.
 */
bool gw_driver_kick(struct gw_driver *d);

/* Make the added chains available, and write the kick fd in any case. */
void gw_driver_kick_always(struct gw_driver *d);

/*
 * Take up to `n` used chains; with IN_ORDER one used element may stand for several. If the device
 * broke the ring (an id not in flight, an index too far ahead, a wrong wrap counter, a length
 * beyond the buffers), the result is always 0 from then on, and gw_driver_check fails.
 *
 * Returns: the number of chains.
 */
unsigned gw_driver_take(struct gw_driver *d, struct gw_driver_used *used, unsigned n);

/*
 * Check whether the device broke the ring.
 *
 * Returns: 0; -EPROTO if it did, and gw_frontend_last_error names the fault of the device.
 */
int gw_driver_check(const struct gw_driver *d);

/* Ask the device not to call, which is the default. */
void gw_driver_suppress_calls(struct gw_driver *d);

/*
 * Ask the device to call at the next used element.
 *
 * Returns: true; false if used elements have already arrived: take them, because no call follows.
 */
bool gw_driver_want_calls(struct gw_driver *d);

/*
 * Sleep up to `timeout_ms` milliseconds, until there are used elements.
 *
 * Returns: 0; -ETIMEDOUT without a used element; -ENOMSG if they arrived without the call that the
 * device owed; -EPROTO as gw_driver_check.
 * Context: blocks, up to GW_DRIVER_CALL_GRACE_MS longer for a call that is due.
 */
int gw_driver_wait(struct gw_driver *d, unsigned timeout_ms);

/*
 * Write or read the parts of a split ring directly, for tests of bad input. `i` is taken modulo the
 * queue size. No effect on a packed ring.
 */
void gw_driver_write_desc(struct gw_driver *d, unsigned i, uint64_t addr, uint32_t len,
                          uint16_t flags, uint16_t next);
void gw_driver_write_avail(struct gw_driver *d, unsigned i, uint16_t head);
void gw_driver_write_avail_idx(struct gw_driver *d, uint16_t idx);
void gw_driver_write_avail_flags(struct gw_driver *d, uint16_t flags);
void gw_driver_read_used(const struct gw_driver *d, unsigned i, uint32_t *ret_id,
                         uint32_t *ret_len);

struct gw_driver_packed_desc {
    uint64_t addr;
    uint32_t len;
    uint16_t id;
    uint16_t flags;
};

/*
 * Write or read the parts of a packed ring directly, for tests of bad input: descriptors (flags
 * last), and events, which are an offset with its wrap counter in bit 15. `i` is taken modulo the
 * queue size. No effect on a split ring.
 */
void gw_driver_write_packed_desc(struct gw_driver *d, unsigned i,
                                 const struct gw_driver_packed_desc *desc);
void gw_driver_read_packed_desc(const struct gw_driver *d, unsigned i,
                                struct gw_driver_packed_desc *ret);
void gw_driver_write_driver_event(struct gw_driver *d, uint16_t event, uint16_t flags);
void gw_driver_read_device_event(const struct gw_driver *d, uint16_t *ret_event,
                                 uint16_t *ret_flags);

#pragma GCC visibility pop
#ifdef __cplusplus
}
#endif
#endif
