/* SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause */
/*
 * The driver's side of a queue ("Split Virtqueues" and "Packed Virtqueues", virtio 1.2, 2.7 and
 * 2.8): chains in, used elements out, kicks and calls. See frontend.h for the memory it is in, for
 * threads and for errors.
 *
 * One interface for both layouts. In a packed ring `desc` is the descriptor ring, `avail` the
 * driver event area and `used` the device event area. An index counts chains in a split ring,
 * modulo 65536; in a packed one it counts descriptors, modulo two laps, and is below the queue size
 * while the wrap counter is 1.
 */
#ifndef GODWIT_DRIVER_H
#define GODWIT_DRIVER_H

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
    unsigned queue_size;   /* 1 to 32768, of a split ring a power of two; default 256 */
    unsigned indirect_max; /* longest indirect table; 0: GW_DRIVER_INDIRECT cannot be used */
    bool place;            /* the rings are at these addresses; otherwise they are allocated */
    gw_gpa_t desc, avail, used;
    bool packed; /* the layout, which RING_PACKED (34) must go with */
};

struct gw_driver_buf {
    gw_gpa_t addr;
    uint32_t len;
};

struct gw_driver_used {
    uint64_t cookie;
    uint32_t len; /* as the device told; all of what it may write where IN_ORDER skips it */
    uint32_t id;  /* head descriptor, or buffer id */
};

enum gw_driver_flags {
    GW_DRIVER_INDIRECT = 1, /* put the chain into an indirect table */
};

/*
 * Milliseconds that a call which is owed may take behind its used element, before it counts as
 * lost: a device that is busy, or has no processor, is only late.
 */
#define GW_DRIVER_CALL_GRACE_MS 1000

/*
 * Make the driver's side of a queue, its rings (empty, index 0), its kick and call eventfd.
 * Free with gw_driver_free.
 * Returns: 0; -EINVAL; -E2BIG; -EFAULT a placed ring is outside of the memory; -ENOSPC; -ENOMEM;
 * -EMFILE.
 */
int gw_driver_new(struct gw_driver **ret, const struct gw_driver_config *cfg);
void gw_driver_free(struct gw_driver *d);

/*
 * Which virtio features hold: EVENT_IDX (29) and IN_ORDER (35) matter here. gw_frontend_start does
 * it. IN_ORDER stays as it is while chains are in flight.
 */
void gw_driver_set_features(struct gw_driver *d, uint64_t features);

/* Empty the rings and begin at index `base`; chains in flight are forgotten. Only while stopped. */
void gw_driver_reset(struct gw_driver *d, uint16_t base);

/*
 * Go on in a gw_guest_mem_clone that holds a copy of the rings by now; what is in flight stays so.
 * Returns: 0; -EFAULT.
 */
int gw_driver_set_mem(struct gw_driver *d, struct gw_guest_mem *m);

/*
 * Where the back-end starts: what GET_VRING_BASE said, or the used index after a crash. In a packed
 * ring it is two places with their wrap counters: the next available one below, the next used one
 * above.
 */
void gw_driver_set_base(struct gw_driver *d, uint32_t base);
uint32_t gw_driver_base(const struct gw_driver *d);
/* As the device last wrote it; in a packed ring behind all that it used. */
uint16_t gw_driver_used_idx(const struct gw_driver *d);
/* How many chains are used and not taken yet. Only while nobody drives it. */
unsigned gw_driver_n_used(struct gw_driver *d);

/*
 * Can the base be true, after a stop? `ret_taken` is what the device has taken and not completed
 * then: chains in a split ring, descriptors in a packed one.
 * Returns: 0; -EPROTO it is not between what is used and what is available, or (packed) names
 * another used index than the ring shows.
 */
int gw_driver_check_base(const struct gw_driver *d, unsigned *ret_taken);

/*
 * After a crash, or a stop that was answered too early: all that is in flight is made available
 * once more, and the base is where the device begins with it. Only while stopped.
 */
void gw_driver_requeue(struct gw_driver *d);

/*
 * What it knows of chains in flight and indices, and guest memory does not hold: as bytes, to be
 * restored in a driver of the same shape at the same addresses, perhaps on another host. Free them
 * with free(). Only while stopped; neither touches guest memory. A cookie stays the number it is.
 * Returns: 0; -ENOMEM; save: -EPROTO the device broke the ring; restore: -EINVAL it is not what a
 * driver of this shape can have saved, and then nothing has changed.
 */
int gw_driver_save(const struct gw_driver *d, void **ret, size_t *ret_len);
int gw_driver_restore(struct gw_driver *d, const void *state, size_t len);

unsigned gw_driver_index(const struct gw_driver *d);
unsigned gw_driver_size(const struct gw_driver *d);
bool gw_driver_is_packed(const struct gw_driver *d);
unsigned gw_driver_in_flight(const struct gw_driver *d);
/*
 * Chains are numbered in the order in which they are added, from 0: how many there were, and
 * whether the one with this id (the head descriptor, or buffer id) is in flight, and its number.
 */
uint64_t gw_driver_added(const struct gw_driver *d);
bool gw_driver_is_in_flight(const struct gw_driver *d, unsigned id, uint64_t *ret_number);
struct gw_guest_mem *gw_driver_mem(const struct gw_driver *d);
/* Both belong to the driver. */
int gw_driver_kick_fd(const struct gw_driver *d);
int gw_driver_call_fd(const struct gw_driver *d);
/* Another call fd, consumed; the back-end has it already (SET_VRING_CALL). No call gets lost. */
void gw_driver_set_call_fd(struct gw_driver *d, int fd);

/*
 * An event channel of a Xen domain in place of both eventfds, from the next start on: the back-end
 * binds `port` of the domain itself. That is libgodwit's own (docs/memory-backends.md), and needs
 * XEN_MMAP (17). Whoever drives the queue in the domain sends and awaits the events.
 */
void gw_driver_set_channel(struct gw_driver *d, uint32_t domid, uint32_t port);

/*
 * Make one chain of `n_out` readable and then `n_in` writable buffers available. The device sees it
 * after gw_driver_publish or gw_driver_kick.
 * Returns: 0; -ENOSPC too few free descriptors; -EINVAL no buffer, or more than the table takes.
 */
int gw_driver_add(struct gw_driver *d, const struct gw_driver_buf *bufs, unsigned n_out,
                  unsigned n_in, uint64_t cookie, unsigned flags);
void gw_driver_publish(struct gw_driver *d);
/* Publish, and write the kick fd when the device asked for that. Returns: whether it was. */
bool gw_driver_kick(struct gw_driver *d);
void gw_driver_kick_always(struct gw_driver *d);

/*
 * Take up to `n` chains that are used; with IN_ORDER one used element may stand for several.
 * Returns: how many. Where the device broke the ring (an id not in flight, an index too far, a
 * wrong wrap counter, more bytes than there is room for) nothing comes any more, and
 * gw_driver_error says so.
 */
unsigned gw_driver_take(struct gw_driver *d, struct gw_driver_used *used, unsigned n);
/* Returns: 0; -EPROTO, with what the device did in `ret_text` (may be NULL). */
int gw_driver_error(const struct gw_driver *d, const char **ret_text);

/* Ask the device not to call, the default, or to call at the next used element. */
void gw_driver_suppress_calls(struct gw_driver *d);
/* Returns: false when used elements came meanwhile: take them, no call will tell. */
bool gw_driver_want_calls(struct gw_driver *d);
/*
 * Sleep until there are used elements. Returns: 0; -ETIMEDOUT; -ENOMSG they came, but the call the
 * device owed did not; -EPROTO as gw_driver_error.
 */
int gw_driver_wait(struct gw_driver *d, unsigned timeout_ms);

/*
 * The rings as they are, for tests of bad input. `i` is taken modulo the queue size. Nothing
 * happens on a ring of the other layout.
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

/* The flags are written last. An event is an offset with its wrap counter in bit 15. */
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
