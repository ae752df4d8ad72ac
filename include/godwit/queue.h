/* SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause */
/*
 * The device's side of a virtqueue: it pops requests in batches and completes them in any order.
 *
 * Context, unless a function states another: the queue's worker under GW_SYNC_NONE, any thread
 * under GW_SYNC_MUTEX and GW_SYNC_RWLOCK. No function blocks or allocates, except for the locks of
 * these two modes.
 */
#ifndef GODWIT_QUEUE_H
#define GODWIT_QUEUE_H

#include <godwit/device.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/uio.h>

#ifdef __cplusplus
extern "C" {
#endif
#pragma GCC visibility push(default)

/*
 * One popped descriptor chain (virtio 1.3, 2.7.4 and 2.8.6). The device may consume `readable` and
 * `writable` (gw_request_read and gw_request_write do), and may pass them directly to preadv,
 * pwritev or io_uring. They point into guest memory, which the guest may change at any time: read a
 * value once, check it, use the copy.
 *
 * Ownership: the request and its buffers are the device's from gw_queue_pop until it completes,
 * suspends or hands back the request.
 */
struct gw_request {
    struct gw_queue *queue;
    struct iovec *readable; /* device-readable buffers */
    struct iovec *writable; /* device-writable buffers */
    uint32_t n_readable;    /* iovecs left in readable */
    uint32_t n_writable;    /* iovecs left in writable */
    size_t readable_len;    /* bytes left in readable */
    size_t writable_len;    /* bytes left in writable */
};

/* Counters of a queue since the daemon was made. */
struct gw_queue_stats {
    uint64_t requests;         /* popped */
    uint64_t completed;        /* answered to the driver */
    uint64_t bytes_readable;   /* in device-readable buffers of popped requests */
    uint64_t bytes_written;    /* reported as written at completion */
    uint64_t kicks;            /* wake-ups by the driver */
    uint64_t calls;            /* notifications sent to the driver */
    uint64_t calls_suppressed; /* batches for which the driver wanted no notification */
    uint64_t errors;           /* refused chains and rings */
    uint64_t in_flight;        /* popped, not completed */
    uint64_t oldest_ns;        /* age of the oldest request in flight, 0 without one */
};

/*
 * Take up to `n_reqs` requests off the available ring into `reqs`. The library answers bad chains
 * itself (used length 0) and counts them.
 *
 * Within queue_ready it stops after 16 MiB of buffers, so that the worker returns to its other
 * queues and its mailbox; the next turn continues. Requests in flight are limited as well: to the
 * size of the ring, and to 256 MiB of buffers divided by the queues of the daemon. One request may
 * exceed each of these limits.
 *
 * Returns: the number of requests; 0 if the ring is empty, stopped or disabled, or a limit is
 * reached.
 */
unsigned gw_queue_pop(struct gw_queue *q, struct gw_request **reqs, unsigned n_reqs);

/*
 * Answer a request: its first `len` device-writable bytes were written (virtio 1.3, 2.7.8). `len`
 * is at most the length of all device-writable buffers, including consumed ones.
 *
 * On the worker, the requests of one turn of its loop are published at its end or before, and the
 * driver is notified once; on other threads both happen at once.
 *
 * Ownership: the device must not touch the request or its buffers afterwards.
 */
void gw_request_complete(struct gw_request *r, uint32_t len);

/*
 * Complete a request whose last device-writable byte is its status: write `status` there, then
 * complete the request as gw_request_complete does. Block devices have such requests (virtio 1.3,
 * 5.2.6); SCSI devices do not.
 *
 * The used length counts all device-writable bytes, also after an error, because the status is
 * behind the data. The device may have consumed any of the buffers. A request without a
 * device-writable byte is completed with length 0.
 *
 * Ownership: as gw_request_complete.
 */
void gw_request_complete_status(struct gw_request *r, uint8_t status);

/*
 * Hand a request back as if it had not been popped. The device must not have written to its
 * buffers, because the library does not mark that in the dirty log. gw_queue_pop returns it again,
 * like any request left on the ring: after a completion, a kick, or gw_queue_wake.
 *
 * Ownership: on success as gw_request_complete; after an error the request stays the device's.
 * Returns: 0; -EINVAL if a request that was popped after it is in flight or completed.
 */
int gw_request_unpop(struct gw_request *r);

/*
 * From queue_stop on: may the device leave requests undone? Only if the front-end tracks them for
 * the next back-end (vhost-user.rst, "Inflight I/O tracking"), and has hung up or asked for a stop
 * that does not wait for them (GET_VRING_BASE_SKIP_DRAIN, for example).
 *
 * Returns: whether gw_request_suspend is allowed.
 */
bool gw_queue_may_suspend(struct gw_queue *q);

/*
 * Leave a request undone: the next back-end of the queue does it from its beginning. No thread or
 * system call may still write to its buffers.
 *
 * Ownership: on success as gw_request_complete; after an error the request stays the device's.
 * Returns: 0; -EPERM if gw_queue_may_suspend returns false.
 */
int gw_request_suspend(struct gw_request *r);

/*
 * Report that the device cannot keep data that it confirmed to the driver, for example because its
 * last flush failed. `error` is a negative errno, which a message shows.
 *
 * It has an effect from queue_stop until the last request of the queue is completed: the stop then
 * gets no successful answer. GET_VRING_BASE ends the session and RESET_DEVICE is refused, so that a
 * migration fails at its source. The first error counts, until the queue starts again.
 */
void gw_queue_fail_stop(struct gw_queue *q, int error);

/*
 * The end of a start for which queue_start returned -EINPROGRESS: 0, or a negative errno that
 * refuses it. Until then the queue has no requests. If the queue is stopped before, queue_stop is
 * called: the device gives up what it waits for, and calls this with -ECANCELED, at once or later.
 *
 * Context: the queue's worker, but not in queue_start.
 */
void gw_queue_complete_start(struct gw_queue *q, int r);

/*
 * Keep a stop of the queue from ending before gw_queue_complete_stop, for example during a last
 * flush. It has an effect from queue_stop until the last request of the queue is completed.
 */
void gw_queue_delay_stop(struct gw_queue *q);

/*
 * The end of what gw_queue_delay_stop began. A negative errno `r` also does what gw_queue_fail_stop
 * does. After the drain time-out the session has ended without it, and the queue refuses to start
 * until this is called.
 */
void gw_queue_complete_stop(struct gw_queue *q, int r);

/*
 * From queue_start on: does the queue continue an earlier session, perhaps of another process? Then
 * its driver configured the device (config space, for example) in that session, and does not repeat
 * it.
 *
 * Returns: whether it does; always false without an inflight region.
 * Context: any thread.
 */
bool gw_queue_is_taken_over(const struct gw_queue *q);

/* Publish the requests completed so far and notify the driver, before the turn ends. */
void gw_queue_flush(struct gw_queue *q);

/*
 * Make the worker call queue_ready without a kick of the driver.
 *
 * Context: any thread; returns at once.
 */
void gw_queue_wake(struct gw_queue *q);

/*
 * The private bytes of the device in a request: `request_size` of the config, zeroed by each pop,
 * aligned to 8 bytes.
 *
 * Ownership: valid as long as the request is the device's.
 * Returns: their address.
 * Context: any thread.
 */
void *gw_request_private(struct gw_request *r);

/*
 * Copy up to `len` bytes from the front of `readable` to `buf`, or from `buf` to the front of
 * `writable`, and consume them.
 *
 * Returns: the number of bytes copied, less than `len` if the buffers end.
 * Context: any thread, one at a time for each request.
 */
size_t gw_request_read(struct gw_request *r, void *buf, size_t len);
size_t gw_request_write(struct gw_request *r, const void *buf, size_t len);

/*
 * Cut the status off `writable`, its last byte, so that only buffers for data are left.
 * gw_request_complete_status writes it.
 *
 * Returns: true; false if `writable` is empty.
 * Context: as gw_request_read.
 */
bool gw_request_take_status(struct gw_request *r);

/*
 * Move the queue to `w`, which is one of the workers of its daemon. The queue takes no more
 * requests until those in flight have ended, and then continues on `w`; requests on the ring stay
 * there, in their order. If they have not ended after a second, the queue stays where it is, and a
 * warning is logged. During postcopy, and while the daemon does not run, the move waits. A later
 * call replaces one that has not begun. The callback queue_moved and gw_queue_worker report the
 * move.
 *
 * Returns: 0; -EINVAL if `w` is not a worker of the daemon.
 * Context: any thread, also a callback; returns at once.
 */
int gw_queue_move(struct gw_queue *q, struct gw_worker *w);

/*
 * The number of a queue in its daemon, its worker, and the device that gw_daemon_new received.
 *
 * The worker changes when the queue moves: use the result for longer only on that worker. Other
 * threads may post to it until the daemon is freed, and get -ESHUTDOWN if it was the worker of a
 * session in postcopy, which ends with it.
 *
 * Returns: the number, worker or device.
 * Context: any thread.
 */
unsigned gw_queue_index(const struct gw_queue *q);
struct gw_worker *gw_queue_worker(const struct gw_queue *q);
void *gw_queue_device(const struct gw_queue *q);

/*
 * The state that the front-end set (vhost-user.rst, "Ring states").
 *
 * Returns: the number of slots of the ring, 0 while it is stopped; whether it is started; whether
 * it is enabled.
 */
unsigned gw_queue_size(struct gw_queue *q);
bool gw_queue_is_started(struct gw_queue *q);
bool gw_queue_is_enabled(struct gw_queue *q);

/*
 * Copy the counters of a queue to `ret`.
 *
 * Context: any thread, at any time, even while the worker is stuck.
 */
void gw_queue_stats(const struct gw_queue *q, struct gw_queue_stats *ret);

#pragma GCC visibility pop
#ifdef __cplusplus
}
#endif
#endif
