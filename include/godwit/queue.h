/* SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause */
/*
 * A virtqueue as the device sees it: requests are popped in batches and completed in any order.
 *
 * Context of everything here, where nothing else is said: the queue's worker under GW_SYNC_NONE,
 * any thread under GW_SYNC_MUTEX and GW_SYNC_RWLOCK. Nothing here blocks or allocates, but for the
 * locks of those two.
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
 * One popped descriptor chain. The device may consume `out` and `in` (gw_request_read and
 * gw_request_write do) and hand them to preadv, pwritev or io_uring as they are. They point into
 * guest memory: what was read once must not be read again and trusted.
 */
struct gw_request {
    struct gw_queue *queue;
    struct iovec *out; /* what the driver wrote for the device */
    struct iovec *in;  /* what the device writes for the driver */
    uint32_t n_out;
    uint32_t n_in;
    size_t out_len; /* bytes left in out */
    size_t in_len;  /* bytes left in in */
};

/* Counters of a queue since the daemon was made. */
struct gw_queue_stats {
    uint64_t requests;         /* popped */
    uint64_t completed;        /* answered to the driver */
    uint64_t bytes_out;        /* in readable buffers of popped requests */
    uint64_t bytes_in;         /* told as written at completion */
    uint64_t kicks;            /* wake-ups by the driver */
    uint64_t calls;            /* notifications sent to the driver */
    uint64_t calls_suppressed; /* batches the driver did not want to be told of */
    uint64_t errors;           /* chains and rings that were refused */
    uint64_t in_flight;        /* popped, not completed */
    uint64_t oldest_ns;        /* age of the oldest of those, 0 when there is none */
};

/*
 * Take up to `n_reqs` requests off the available ring into `reqs`. Bad chains are answered (used
 * length 0) and counted, never returned.
 * Within queue_ready it stops after 16 MiB of buffers, so that the worker gets back to its other
 * queues and to its mail; the rest follows in the next turn. Requests in flight are limited, too:
 * to the size of the ring, and to 256 MiB of buffers divided by the queues of the daemon. Each of
 * these limits lets one request pass that exceeds it. Returns: how many, 0 when the ring is empty,
 * stopped or disabled, or when a limit is reached. Never blocks, never negative.
 */
int gw_queue_pop(struct gw_queue *q, struct gw_request **reqs, unsigned n_reqs);

/*
 * Answer a request: `len` bytes of its writable buffers were written, counted from their start.
 * On the worker, what completes within one turn of its loop is notified together, and published at
 * its end at the latest; on other threads at once. The request must not be touched afterwards.
 */
void gw_request_complete(struct gw_request *r, uint32_t len);

/*
 * Hand a request back as if it had not been popped; nothing may have been written to its `in`,
 * which would stay unmarked in the dirty log. It is offered again as anything that the device
 * leaves waiting: after a completion, a kick, or gw_queue_wake.
 * Returns: 0; -EINVAL when requests popped after it are still out or were completed.
 */
int gw_request_unpop(struct gw_request *r);

/*
 * From queue_stop on: may requests be left undone? Where the front-end keeps track of them for the
 * next back-end (an inflight region) and does not insist on an answer to each.
 */
bool gw_queue_may_suspend(struct gw_queue *q);

/*
 * Leave a request undone: whoever serves the queue next does it, from its beginning. Nothing may
 * write to its buffers any more, and it must not be touched afterwards.
 * Returns: 0; -EPERM where gw_queue_may_suspend says no.
 */
int gw_request_suspend(struct gw_request *r);

/*
 * From queue_stop until the last request of the queue is completed: report that the device cannot
 * keep what it confirmed to the driver, for example because its last flush failed. The stop then
 * gets no answer that means success: GET_VRING_BASE ends the session and RESET_DEVICE is refused,
 * so that a migration fails at its source. The first error counts, until the queue starts again.
 *
 * `error` is a negative errno, which the log shows. No effect on a queue that is not stopping.
 */
void gw_queue_fail_stop(struct gw_queue *q, int error);

/*
 * From queue_start on: does the queue go on where an earlier session left it, perhaps with another
 * process? Then its driver set the device up (config space, for example) in that session, and does
 * not do so again. Known where the front-end keeps track of requests (an inflight region).
 * Context: any thread.
 */
bool gw_queue_is_taken_over(const struct gw_queue *q);

/* Publish and notify what was completed so far, without waiting for the turn to end. */
void gw_queue_flush(struct gw_queue *q);

/* Have queue_ready called (again) though the driver did not kick. Context: any thread. */
void gw_queue_wake(struct gw_queue *q);

/* `request_size` bytes of the device's own beside the request; zero each time it is popped. */
void *gw_request_private(struct gw_request *r);

/*
 * Copy up to `len` bytes from the front of `out`, or to the front of `in`, and step over them.
 * Returns: bytes copied, less than `len` when the buffers end.
 */
size_t gw_request_read(struct gw_request *r, void *buf, size_t len);
size_t gw_request_write(struct gw_request *r, const void *buf, size_t len);

/*
 * Cut the last byte off `in`, where a device class keeps its status there.
 * Returns: where it is in guest memory, valid until the request completes; NULL when `in` is empty.
 */
uint8_t *gw_request_take_status(struct gw_request *r);

/* Where the queue belongs. Context: any thread. */
unsigned gw_queue_index(const struct gw_queue *q);
struct gw_worker *gw_queue_worker(const struct gw_queue *q);
void *gw_queue_device(const struct gw_queue *q);

/* The state the front-end gave it: ring size (0 while stopped), started, enabled. */
unsigned gw_queue_size(struct gw_queue *q);
bool gw_queue_is_started(struct gw_queue *q);
bool gw_queue_is_enabled(struct gw_queue *q);

/* A snapshot of the counters. Context: any thread, at any time, also while the worker is stuck. */
void gw_queue_stats(const struct gw_queue *q, struct gw_queue_stats *ret);

#pragma GCC visibility pop
#ifdef __cplusplus
}
#endif
#endif
