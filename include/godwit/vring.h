/* SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause */
/*
 * A queue without a daemon: the device's side of a virtqueue (virtio 1.3, 2.7, "Split Virtqueues",
 * and 2.8, "Packed Virtqueues") over memory that the caller owns. It is for devices inside of a
 * VMM, or on a transport of their own: no socket, no thread, no eventfd.
 *
 * The functions of queue.h work on it: gw_queue_pop, gw_request_read, gw_request_complete and so
 * on. Completed requests reach the driver with gw_vring_publish. Either the caller polls
 * (gw_queue_pop, gw_vring_publish), or it calls gw_vring_run at each kick of the driver, with
 * callbacks. Such a queue has no worker (gw_queue_worker returns NULL): gw_queue_wake has no
 * effect, and gw_queue_move and gw_request_suspend are refused.
 *
 * The functions of memory.h work, too: gw_memory_hold with gw_vring_queue. A hold counts like a
 * request that is in flight.
 *
 * Everything in guest memory is hostile: chains and indices are checked as for any other queue. A
 * bad chain is answered with length 0; an impossible index breaks the ring.
 *
 * Context, unless a function states another: any thread, one at a time for each vring and all of
 * its requests. No function blocks.
 */
#ifndef GODWIT_VRING_H
#define GODWIT_VRING_H

#include <godwit/log.h>
#include <godwit/memory.h>
#include <godwit/queue.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif
#pragma GCC visibility push(default)

struct gw_vring;

/* A piece of guest memory in the address space of the caller. */
struct gw_vring_region {
    gw_gpa_t gpa;
    uint64_t size;
    void *at; /* of the first byte */
};

/*
 * The configuration of a vring. Zero the structure, then set `size` to sizeof(struct
 * gw_vring_config) and each member that differs from its default.
 */
struct gw_vring_config {
    size_t size;
    unsigned queue_size_max;    /* 1 to GW_QUEUE_SIZE_MAX; default 1024 */
    size_t request_size;        /* as in struct gw_daemon_config */
    uint32_t request_bytes_max; /* as in struct gw_daemon_config */
    /* gw_vring_run calls it while requests are waiting; it pops with gw_queue_pop. */
    void (*ready)(void *arg, struct gw_queue *q);
    /* gw_vring_run calls it when the driver wants to be notified. */
    void (*notify)(void *arg);
    void *arg;
    gw_log_cb *log; /* NULL: stderr */
    void *log_arg;
    enum gw_log_level log_level; /* least severe level passed to log; default: errors only */
};

/*
 * The state of a vring, for gw_vring_start and gw_vring_save: what the transport knows, and where
 * the device is in the ring. The rest is in guest memory. Set `size` to sizeof(struct
 * gw_vring_state).
 *
 * In a packed ring, bit 15 of an index is its wrap counter: a new ring begins at
 * GW_VRING_PACKED_BEGIN in both indices, a new split ring at 0.
 */
struct gw_vring_state {
    size_t size;
    uint64_t features;   /* that the driver accepted; those of rings have an effect */
    uint32_t queue_size; /* descriptors; a power of two in a split ring */
    uint16_t next_avail; /* the index of the next available chain to pop */
    uint16_t next_used;  /* the index of the next used element to write */
    gw_gpa_t desc;       /* the descriptor table, or the descriptor ring */
    gw_gpa_t driver;     /* the available ring, or the driver event area */
    gw_gpa_t device;     /* the used ring, or the device event area */
};

#define GW_VRING_PACKED_BEGIN 0x8000u

/*
 * Make a vring, which has no memory yet and is stopped.
 *
 * Ownership: `cfg` is copied. Free the result with gw_vring_free.
 * Returns: 0; -EINVAL if a member is outside of its limits; -E2BIG if a member is set that only
 * later versions know; -ENOMEM.
 */
int gw_vring_new(struct gw_vring **ret, const struct gw_vring_config *cfg);

/*
 * Free a vring. Requests that the device still has become invalid; their buffers stay the caller's.
 * `v` may be NULL.
 */
void gw_vring_free(struct gw_vring *v);

/*
 * Set the guest memory, or replace it: hotplug, for example. A vring that runs continues in the new
 * memory at the same guest addresses.
 *
 * Ownership: `regions` is copied; the memory stays the caller's, and valid until it is replaced or
 * the vring is freed.
 * Returns: 0; -EBUSY if requests are in flight or not published; -EINVAL if a region is empty or
 * wraps around; -EEXIST if two overlap; -EFAULT if the ring of a vring that runs is outside of it;
 * -E2BIG above 32 TiB; -ENOMEM. After an error, nothing has changed.
 */
int gw_vring_set_memory(struct gw_vring *v, const struct gw_vring_region *regions,
                        unsigned n_regions);

/*
 * Start a ring, or restore it: `state` may come from an untrusted file, except its `size`, which is
 * that of the structure in memory. It is refused unless the ring lies in the guest memory and all
 * indices fit to each other and to the ring.
 *
 * Ownership: `state` is copied.
 * Returns: 0; -EBUSY if the vring runs; -EINVAL if a member is outside of its limits, or the ring
 * contradicts the state; -EFAULT if a part of the ring is outside of the memory, or not aligned
 * there; -E2BIG if a member is set that only later versions know; -ENOMEM.
 */
int gw_vring_start(struct gw_vring *v, const struct gw_vring_state *state);

/*
 * Save the state of a vring that runs, which continues to run. Complete all requests, or hand them
 * back with gw_request_unpop, and call gw_vring_publish before.
 *
 * Returns: 0; -EBUSY if requests are in flight or not published; -EINVAL if the vring does not run,
 * or the size of `ret` is not set.
 */
int gw_vring_save(struct gw_vring *v, struct gw_vring_state *ret);

/*
 * Stop a vring: after a reset by the driver, for example. No effect on a stopped one.
 *
 * Returns: 0; -EBUSY if requests are in flight or not published.
 */
int gw_vring_stop(struct gw_vring *v);

/*
 * The queue of a vring, for the functions of queue.h.
 *
 * Ownership: it stays the vring's.
 */
struct gw_queue *gw_vring_queue(struct gw_vring *v);

/*
 * Count the requests that wait on the ring.
 *
 * Returns: the number, or 1 if only this is known (packed ring); 0 also if the vring is stopped;
 * -EPROTO if the driver broke the ring, which then stays unused until it is stopped.
 */
int gw_vring_n_available(struct gw_vring *v);

/*
 * Publish the requests completed so far.
 *
 * Returns: whether the driver wants to be notified of these, or of earlier ones.
 */
bool gw_vring_publish(struct gw_vring *v);

/*
 * Ask the driver to kick when it makes more requests available. Call it each time that gw_queue_pop
 * has emptied the ring, before waiting for a kick.
 *
 * Returns: whether requests are waiting already, for which no kick follows.
 */
bool gw_vring_enable_kicks(struct gw_vring *v);

/* Ask the driver not to kick, as long as the caller polls. A driver may kick all the same. */
void gw_vring_disable_kicks(struct gw_vring *v);

/*
 * Handle a kick, with the callbacks of the configuration: call `ready` until no request is waiting
 * or it pops none, publish, call `notify` if the driver wants it, and enable kicks. Call it also
 * after the start, and when the device has room again.
 *
 * Returns: 0; 1 if requests are still waiting after 64 calls of `ready`: call it again, after other
 * work; -EINVAL if `ready` is not set; -EPROTO if the driver broke the ring.
 */
int gw_vring_run(struct gw_vring *v);

/*
 * From now on, set a bit for each page of 4096 bytes that is written, by the device or the library,
 * for live migration: bit 0 of byte 0 is the page at guest address 0. Bits are set atomically,
 * after the write. NULL: no longer.
 *
 * Ownership: the bitmap of `size` bytes stays the caller's, and valid until it is replaced or the
 * vring is freed.
 * Returns: 0; -EBUSY if requests are in flight or not published.
 */
int gw_vring_set_dirty_log(struct gw_vring *v, void *bitmap, size_t size);

#pragma GCC visibility pop
#ifdef __cplusplus
}
#endif
#endif
