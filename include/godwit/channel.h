/* SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause */
/*
 * The back-end channel: requests of a device to its front-end (vhost-user.rst, "Back-end message
 * types"). A request never waits: the function that starts it returns at once, and a callback
 * receives the answer of the front-end on the control worker.
 *
 * Order. Requests are sent in the order in which they were started, many of them before the first
 * answer. While all rings are stopped, the device is suspended and sends nothing: requests then
 * wait until a ring starts, or until their time limit.
 *
 * Answers. With REPLY_ACK (3), which every current front-end negotiates, the front-end answers each
 * request. Without it, a request ends with 0 when it was sent, except for a lookup, which is always
 * answered. An answer carries no number, so it belongs to the oldest request without one. A late
 * answer is discarded; an answer that fits no request closes the channel, and the session
 * continues.
 *
 * Sessions. A request belongs to the session in which it was started. When the session ends, all
 * of its requests end with -ECONNRESET, before the reset callback of the device.
 */
#ifndef GODWIT_CHANNEL_H
#define GODWIT_CHANNEL_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif
#pragma GCC visibility push(default)

struct gw_daemon;
struct gw_queue;

#define GW_CHANNEL_REQUESTS_MAX 64    /* of a daemon, at the same time */
#define GW_CHANNEL_TIMEOUT_MS   10000 /* default time limit of a request */

/*
 * One request to the front-end. Zero the structure and set `done`. It stays the caller's and must
 * remain valid, at the same address, until the control worker calls `done`, once, which may free it
 * or start it again. The result is:
 *
 *   0              the front-end has done it, or without REPLY_ACK: it was sent
 *   -EREMOTEIO     the front-end refused it
 *   -EOPNOTSUPP    the front-end did not negotiate the feature of the request
 *   -ENOTCONN      there is no session, or the front-end has set up no channel
 *   -ECONNRESET    the session or the channel ended before the answer
 *   -ETIMEDOUT     no answer within the time limit; the front-end may still do it
 *   -EPROTO        the answer does not fit the request
 *   otherwise      the errno of sendmsg(2), or of the thread that receives answers
 *
 * During `done`, gw_last_error has the reason of a failure as a sentence.
 */
struct gw_channel_request {
    void (*done)(struct gw_channel_request *req, int result);
    unsigned timeout_ms;   /* from the start of the request; 0: GW_CHANNEL_TIMEOUT_MS */
    int fd;                /* set by a lookup that succeeded: the object, owned by the device */
    uint64_t reserved[16]; /* the library's */
};

/*
 * Ask the front-end to read the config space again: CONFIG_CHANGE_MSG. Unlike
 * gw_daemon_config_changed, it reports the outcome. Needs CONFIG (9), see get_config.
 *
 * Ownership: see struct gw_channel_request; after an error `done` is not called.
 * Returns: 0; -EINVAL without `done`; -EBUSY while GW_CHANNEL_REQUESTS_MAX requests have not ended
 * or their answers are overdue; -ESHUTDOWN if the control worker has ended.
 * Context: any thread, also a callback; returns at once.
 */
int gw_channel_config_changed(struct gw_daemon *d, struct gw_channel_request *req);

/*
 * Map `len` bytes of `fd` from byte `fd_offset` into the shared memory region `shmid` of the device
 * at byte `shm_offset`, read-only unless `writable`: SHMEM_MAP. The driver finds the region by its
 * number (virtio 1.3, 2.10, "Shared Memory Regions"). Offsets and length are multiples of the page
 * size. Mappings must not overlap. Needs SHMEM (22), see get_shmem, and BACKEND_SEND_FD (10).
 *
 * Ownership: see gw_channel_config_changed; `fd` is duplicated and stays the caller's.
 * Returns: as gw_channel_config_changed; -EINVAL also for a range outside of the region or a length
 * of 0; the errno of fcntl(2) if `fd` cannot be duplicated.
 * Context: as gw_channel_config_changed.
 */
int gw_channel_shmem_map(struct gw_daemon *d, struct gw_channel_request *req, uint8_t shmid,
                         uint64_t shm_offset, int fd, uint64_t fd_offset, uint64_t len,
                         bool writable);

/*
 * Unmap a range, which is exactly that of one mapping: SHMEM_UNMAP. The front-end itself removes
 * all mappings when the driver resets the device, and at the end of the session.
 *
 * Ownership: see gw_channel_config_changed.
 * Returns: as gw_channel_config_changed; -EINVAL also as gw_channel_shmem_map.
 * Context: as gw_channel_config_changed.
 */
int gw_channel_shmem_unmap(struct gw_daemon *d, struct gw_channel_request *req, uint8_t shmid,
                           uint64_t shm_offset, uint64_t len);

/*
 * Register a shared object (a dma-buf) of this device under `uuid`, 16 bytes, or remove it:
 * SHARED_OBJECT_ADD and SHARED_OBJECT_REMOVE. Other devices look it up, and the front-end then asks
 * this device for its fd (get_shared_object). Both need SHARED_OBJECT (18).
 *
 * Ownership: see gw_channel_config_changed; `uuid` is copied.
 * Returns: as gw_channel_config_changed.
 * Context: as gw_channel_config_changed.
 */
int gw_channel_object_add(struct gw_daemon *d, struct gw_channel_request *req, const uint8_t *uuid);
int gw_channel_object_remove(struct gw_daemon *d, struct gw_channel_request *req,
                             const uint8_t *uuid);

/*
 * Look up the shared object of any device: SHARED_OBJECT_LOOKUP. After a success, `req->fd` is the
 * object, and the device closes it. It may be any file, so only map it if you trust the front-end.
 * Needs SHARED_OBJECT (18).
 *
 * Ownership: as gw_channel_object_add.
 * Returns: as gw_channel_config_changed. `done` also gets -EPROTO if the object came without an fd.
 * Context: as gw_channel_config_changed.
 */
int gw_channel_object_lookup(struct gw_daemon *d, struct gw_channel_request *req,
                             const uint8_t *uuid);

/*
 * Let the driver notify the queue without the front-end: VRING_HOST_NOTIFIER_MSG. The front-end
 * maps `size` bytes of `fd` (a doorbell of hardware) from byte `offset` in place of the queue's
 * notification address; QEMU wants one page. With `fd` -1 the driver notifies the front-end again.
 * Needs HOST_NOTIFIER (11), see host_notifiers, and BACKEND_SEND_FD (10).
 *
 * Ownership: see gw_channel_config_changed; `fd` is duplicated and stays the caller's.
 * Returns: as gw_channel_config_changed; -EINVAL also for an fd with a size of 0; the errno of
 * fcntl(2) if `fd` cannot be duplicated.
 * Context: as gw_channel_config_changed.
 */
int gw_channel_host_notifier(struct gw_queue *q, struct gw_channel_request *req, int fd,
                             uint64_t offset, uint64_t size);

#pragma GCC visibility pop
#ifdef __cplusplus
}
#endif
#endif
