/* SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause */
/*
 * The device that an embedder writes: the callbacks (struct gw_device_ops) that a daemon calls, see
 * daemon.h.
 *
 * Errors. A function that can fail returns a negative errno, and gw_last_error returns the reason
 * as a sentence: there is no other way to get it. Out parameters are set only on success.
 *
 * Order of callbacks. gw_daemon_new calls worker_start on each worker. A session begins with
 * session_start and ends with session_end. In between, callbacks that answer a message are called
 * whenever the front-end sends it; most front-ends read features several times, and config space
 * before they accept features. Each time a ring starts (SET_VRING_KICK), queue_start is called,
 * then queue_ready while the ring is started and enabled and has requests, then queue_stop
 * (GET_VRING_BASE, RESET_DEVICE, hang-up). reset follows the queue_stop of all queues: after a
 * RESET_DEVICE that succeeded, and at the end of each session, before session_end. gw_daemon_free
 * ends the session, if any, then calls worker_stop. See vhost-user.rst, "Ring states". region_added
 * and region_gone follow the front-end's changes of guest memory.
 *
 * Blocking. A [worker] callback that blocks stops all queues of its worker, a [control] callback
 * stops the session: both must return soon. What takes time is completed later: a request, a start
 * (gw_queue_complete_start), a stop (gw_queue_delay_stop). gw_io_*, gw_timer_* and gw_worker_add_fd
 * report when. During postcopy, a callback that touches a buffer may sleep until the page arrives.
 *
 * A hang-up. When the front-end hangs up, breaks the protocol, or gw_daemon_stop is called, every
 * queue gets its queue_stop. Requests that the device completes within drain_timeout_ms are
 * answered as usual, although perhaps no driver reads the answer. After that, the session ends
 * without them: their buffers stay mapped until the device completes each of them, their answers
 * are discarded, and until then their queues refuse to start in the next session. If the front-end
 * tracks requests in flight (vhost-user.rst, "Inflight I/O tracking"), the next back-end does those
 * that were not answered again, in their old order.
 *
 * Live migration. A device need do nothing for the dirty log: when it completes or suspends a
 * request, the library marks all device-writable buffers of that request, and it marks the rings
 * itself (vhost-user.rst, "Migration"). This holds for writes by the device, by gw_request_write,
 * and by system calls that it gives the buffers. So a device must not write to a buffer of a
 * request after it completed the request, nor hand back a request that it has written to. The `len`
 * of gw_request_complete has no effect on the dirty log. It counts bytes from the start of the
 * device-writable buffers, up to the last byte that the driver shall read (virtio 1.3, 2.7.8); a
 * device that writes in order passes the bytes that it wrote.
 */
#ifndef GODWIT_DEVICE_H
#define GODWIT_DEVICE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif
#pragma GCC visibility push(default)

struct gw_memory_region;
struct gw_queue;
struct gw_worker;

#define GW_SHMEM_REGIONS_MAX 256  /* a region's number has 8 bits */
#define GW_CONFIG_SIZE_MAX   4096 /* config space bytes */

/* Where the state of a device goes. */
enum gw_state_direction {
    GW_STATE_SAVE = 0,
    GW_STATE_LOAD = 1,
};

/*
 * The device. The embedder sets `size` to sizeof(struct gw_device_ops): later versions append
 * members, and accept a structure without them. The comment of each callback states the default for
 * NULL.
 *
 * Callbacks marked [control] run on the control worker, which does nothing else at that time. Those
 * marked [worker] run on the worker that owns the queue. None may call gw_daemon_wait or
 * gw_daemon_free. `dev` is the pointer that gw_daemon_new received.
 */
struct gw_device_ops {
    size_t size;

    /*
     * [control] The virtio feature bits that the device offers. The library adds its own:
     * VERSION_1, RING_INDIRECT_DESC, RING_EVENT_IDX, RING_PACKED, IN_ORDER, NOTIFY_ON_EMPTY,
     * ANY_LAYOUT, VHOST_F_LOG_ALL (26) and VHOST_USER_F_PROTOCOL_FEATURES (30). Called at each
     * GET_FEATURES and SET_FEATURES; the result must not change. A device that adds ACCESS_PLATFORM
     * (33) can be behind an IOMMU: the library translates all addresses. It is not offered together
     * with memory of Xen domains. Some front-ends accept that feature and have no IOMMU. NULL: only
     * those of the library.
     */
    uint64_t (*features)(void *dev);

    /*
     * [control] The features that the driver accepted, without bits 26 and 30, at each
     * SET_FEATURES: again if only bit 26 changes, while rings run. NULL: not called.
     */
    void (*features_acked)(void *dev, uint64_t features);

    /*
     * [control] Read `len` bytes of the config space from byte `off` into `buf`, for example with
     * gw_config_read. `off` + `len` is at most GW_CONFIG_SIZE_MAX. Returns 0, or a negative errno
     * that refuses the GET_CONFIG of the front-end. NULL: CONFIG is not offered.
     */
    int (*get_config)(void *dev, uint32_t off, void *buf, uint32_t len);

    /*
     * [control] The driver wrote `len` bytes of config space at byte `off`; with `migration`, the
     * front-end did, to restore a device. Limits and results are those of get_config. NULL: writes
     * are refused with -EOPNOTSUPP.
     */
    int (*set_config)(void *dev, uint32_t off, const void *buf, uint32_t len, bool migration);

    /*
     * [worker] The queue starts, not yet enabled. -EINPROGRESS: gw_queue_complete_start follows.
     * Other non-zero results refuse: the front-end gets an error, no queue_stop follows. NULL: 0.
     */
    int (*queue_start)(void *dev, struct gw_queue *q);

    /*
     * [worker] Requests may be waiting: pop a batch with gw_queue_pop and process it. It need not
     * empty the ring: the worker calls it again while requests are left, after a turn of its other
     * queues. If the device pops nothing although requests wait, the worker calls it again when a
     * request of this queue completes, or after gw_queue_wake. Returns 0; a negative errno breaks
     * the queue: the library writes its error fd and fetches no request until the queue is started
     * again. Required.
     */
    int (*queue_ready)(void *dev, struct gw_queue *q);

    /*
     * [worker] The queue stops: no queue_ready follows. Finish (gw_request_complete), hand back
     * (gw_request_unpop) or, if gw_queue_may_suspend allows, suspend (gw_request_suspend) each
     * popped request, now or later: the library answers the front-end after the last one. If that
     * takes too long and the front-end has hung up, the library calls queue_stop once more, because
     * all requests may then be suspended. A device that cannot keep data that it confirmed calls
     * gw_queue_fail_stop. NULL: the library waits for the requests.
     */
    void (*queue_stop)(void *dev, struct gw_queue *q);

    /*
     * [control] RESET_DEVICE, and the end of each session: forget the driver's settings. All queues
     * are stopped. At the end of a session, the device may still have requests that outlived the
     * drain time-out. The next session may belong to the same driver, see gw_queue_is_taken_over.
     * NULL: nothing.
     */
    void (*reset)(void *dev);

    /*
     * [worker] The device begins to use the worker, before any of its queues starts; the device
     * ends to use it, after all of its queues have stopped. Add fds and timers here (see worker.h),
     * and remove them in worker_stop, which must post nothing. A non-zero worker_start fails
     * gw_daemon_new, and no worker_stop follows on this worker: if the worker is not the daemon's
     * own, worker_start then undoes what it did. NULL: nothing.
     */
    int (*worker_start)(void *dev, struct gw_worker *w);
    void (*worker_stop)(void *dev, struct gw_worker *w);

    /*
     * [worker] The queue has moved to this worker (gw_queue_move), with no request in flight.
     * NULL: nothing.
     */
    void (*queue_moved)(void *dev, struct gw_queue *q);

    /*
     * [control] A session begins: a front-end has connected, and no message has been read. Non-zero
     * refuses it: the library hangs up, and no other callback follows for it. NULL: 0.
     */
    int (*session_start)(void *dev);

    /*
     * [control] The session has ended, after the last callback for it. Requests that outlived the
     * drain time-out may still be in flight. NULL: nothing.
     */
    void (*session_end)(void *dev);

    /*
     * [control] The protocol features to offer: those in `offered`, without bits that the device
     * withholds. It may add INBAND_NOTIFICATIONS (14: kicks, calls and errors as messages, for
     * user-mode Linux), which QEMU accepts without implementing it, and GPA_ADDRESSES (21: user
     * addresses are guest addresses), which excludes ACCESS_PLATFORM. Features that need one that
     * is left out are not offered, either. Called at each GET_PROTOCOL_FEATURES and
     * SET_PROTOCOL_FEATURES; the result must not change during a session. NULL: `offered`.
     */
    uint64_t (*protocol_features)(void *dev, uint64_t offered);

    /*
     * [control] May the front-end have these virtio features (without bits 26 and 30), or protocol
     * features? All of them were offered. Called at SET_FEATURES, before features_acked, and at
     * SET_PROTOCOL_FEATURES. Non-zero refuses the message: with a negative acknowledgement if
     * REPLY_ACK allows one, otherwise by ending the session. The device may write the reason, for
     * the log, into the `size` bytes of `why`. NULL: 0.
     */
    int (*check_features)(void *dev, uint64_t features, char *why, size_t size);
    int (*check_protocol_features)(void *dev, uint64_t features, char *why, size_t size);

    /*
     * [control] The front-end has mapped a region of guest memory (memory.h): register it here, for
     * direct I/O, RDMA or VFIO, for example. It precedes all requests that may use the region. The
     * region must not be accessed yet: during postcopy its pages may be missing. A device that
     * makes the kernel or hardware access all of it (mlock, pinned pages) sets no_postcopy.
     *
     * A front-end that changes its memory may map the same memory again, at the same guest address:
     * the new region is added before the old one is gone.
     *
     * Returns 0; a negative errno refuses the region, and no region_gone follows. NULL: 0.
     */
    int (*region_added)(void *dev, struct gw_memory_region *region);

    /*
     * [control] The region is about to be unmapped: end its registration. The requests and holds
     * (gw_memory_hold) that might use it have ended; those that outlive the drain time-out delay it
     * until they end. It may come without a request in between, because the library may refuse a
     * memory table after region_added. At the end of a session, it comes before `reset`; for a
     * region that a late request delays, it comes later, perhaps in another session. If requests
     * are in flight in gw_daemon_free, it does not come, and the memory stays mapped; otherwise the
     * last ones may come on the thread of gw_daemon_free. NULL: nothing.
     */
    void (*region_gone)(void *dev, struct gw_memory_region *region);

    /* The back-end channel, see channel.h. */

    /*
     * Set the size in bytes, a multiple of the page size, of each shared memory region that the
     * device has: ret[shmid], of GW_SHMEM_REGIONS_MAX entries that are 0. Called once, by
     * gw_daemon_new. NULL, or without a region: SHMEM is not offered.
     */
    void (*get_shmem)(void *dev, uint64_t *ret);

    /*
     * [control] Return an fd of the shared object `uuid`, 16 bytes, that this device has added
     * (gw_channel_object_add); the library closes it. A negative errno: it has no such object. A
     * device that only looks objects up returns -ENOENT. NULL: SHARED_OBJECT is not offered.
     */
    int (*get_shared_object)(void *dev, const uint8_t *uuid);

    /* The device uses gw_channel_host_notifier. False: HOST_NOTIFIER is not offered. */
    bool host_notifiers;

    /*
     * Device state: what the device knows and the driver will not repeat, for a migration or a
     * snapshot. It is saved and loaded while all queues are stopped, as a stream of bytes in pieces
     * of any size, while the control worker does other things in between; state.h has a container
     * for it. DEVICE_STATE is offered if state_save and state_load are set, or with `stateless`: a
     * device without state, which saves nothing, and refuses all bytes. Set one or the other.
     *
     * Each of these may return -EAGAIN, and is called again after gw_daemon_continue_state.
     *
     * state_begin: [control] The front-end wants to save, or load, the state. state_end follows,
     * unless it refuses with a negative errno. If the device sets `*ret_fd`, the front-end reads or
     * writes that descriptor itself, which is closed once it has been sent. NULL: 0.
     *
     * state_save: [control] Store the next bytes of the state in `buf`, up to `size` (never 0).
     * Returns their number; 0 at the end; a negative errno, which fails the transfer.
     *
     * state_load: [control] Take bytes of the state, up to `size` (never 0). Returns the number of
     * bytes taken, at least 1; a negative errno.
     *
     * state_end: [control] With `result` 0, everything has been streamed: validate a loaded state
     * and apply it. Returns 0, or a negative errno that fails the transfer. Otherwise the transfer
     * failed or was cancelled, and the device is as before state_begin; its result is ignored. With
     * a descriptor of the device, 0 means that the front-end asks for the result. NULL: 0.
     */
    int (*state_begin)(void *dev, enum gw_state_direction direction, int *ret_fd);
    int64_t (*state_save)(void *dev, void *buf, size_t size);
    int64_t (*state_load)(void *dev, const void *data, size_t size);
    int (*state_end)(void *dev, enum gw_state_direction direction, int result);
    bool stateless;

    /*
     * [control] The driver's device status (virtio 1.3, 2.1), at each SET_STATUS. Bits are only
     * added; FEATURES_OK (8) comes after features_acked. 0 resets the device, and then all queues
     * have stopped; front-ends also send it when they pause a VM, so settings of the driver should
     * outlive it. Non-zero refuses the status; if it added FEATURES_OK, the driver finds that bit
     * clear. NULL: STATUS is not offered.
     */
    int (*set_status)(void *dev, uint8_t status);

    /*
     * [control] Must the driver reset the device (DEVICE_NEEDS_RESET)? Called at each GET_STATUS.
     * gw_daemon_config_changed makes the driver read the status. NULL: false.
     */
    bool (*needs_reset)(void *dev);

    /*
     * [control] A network device: announce the guest with the address of 6 bytes at `mac` after a
     * migration (SEND_RARP). Returns 0; a negative errno refuses. NULL: RARP is not offered.
     */
    int (*send_rarp)(void *dev, const uint8_t *mac);

    /*
     * [control] A network device: the MTU of the guest, 68 to 65535 (NET_SET_MTU). Returns 0; a
     * negative errno refuses. NULL: NET_MTU is not offered.
     */
    int (*set_mtu)(void *dev, uint16_t mtu);
};

#pragma GCC visibility pop
#ifdef __cplusplus
}
#endif
#endif
