/* SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause */
/*
 * What an embedder writes (struct gw_device_ops) and what runs it (the daemon).
 *
 * A daemon owns the device, its queues, the workers and a socket. It outlives its connections: a
 * session lasts from accept to hang-up, and sessions follow one another on the same daemon.
 *
 * Threads: one control thread reads the socket; N workers, one event loop each, own the queues.
 * All functions here return 0 or a negative errno, and gw_last_error() tells why.
 */
#ifndef GODWIT_DEVICE_H
#define GODWIT_DEVICE_H

#include <godwit/diag.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif
#pragma GCC visibility push(default)

struct gw_daemon;
struct gw_queue;
struct gw_worker;

/* Limits of a daemon. */
#define GW_QUEUES_MAX      256 /* the index in SET_VRING_KICK has 8 bits */
#define GW_QUEUE_SIZE_MAX  32768
#define GW_WORKERS_MAX     256
#define GW_CONFIG_SIZE_MAX 256 /* config space bytes in one message */

/*
 * The device. `size` comes first and is set to sizeof(struct gw_device_ops) by the embedder: later
 * versions only append. A NULL callback means the default written beside it.
 *
 * Callbacks marked [control] run on the control thread while it waits for nothing else, those
 * marked [worker] on the worker that owns the queue. None may call gw_daemon_wait or
 * gw_daemon_free.
 */
struct gw_device_ops {
    size_t size;

    /*
     * [control] The virtio feature bits the device offers. The library adds what it does itself:
     * VERSION_1, RING_INDIRECT_DESC, RING_EVENT_IDX, RING_PACKED, IN_ORDER, NOTIFY_ON_EMPTY,
     * ANY_LAYOUT, VHOST_F_LOG_ALL (26) and VHOST_USER_F_PROTOCOL_FEATURES (30).
     * NULL: none but those.
     */
    uint64_t (*features)(void *dev);

    /* [control] What the driver accepted, at each SET_FEATURES. NULL: not told. */
    void (*features_acked)(void *dev, uint64_t features);

    /*
     * [control] Read `len` bytes of the config space from `off`. Returns 0, or a negative errno,
     * which the front-end sees as a refused GET_CONFIG. NULL: CONFIG is not offered.
     */
    int (*get_config)(void *dev, uint32_t off, void *buf, uint32_t len);

    /*
     * [control] The driver (or, with `migration`, the front-end restoring a device) wrote config
     * space. Returns 0 or a negative errno. NULL: writes are refused with -EOPNOTSUPP.
     */
    int (*set_config)(void *dev, uint32_t off, const void *buf, uint32_t len, bool migration);

    /* [worker] The queue starts; it is not yet enabled. Non-zero refuses. NULL: accepted. */
    int (*queue_start)(void *dev, struct gw_queue *q);

    /*
     * [worker] Requests may be waiting: pop a batch with gw_queue_pop and act on it. It need not
     * empty the ring; it is called again while there is more, after other queues of the worker had
     * their turn. A device that pops nothing although requests wait is called again once a request
     * of this queue completes, or after gw_queue_wake. Returns 0; after a negative errno the queue
     * is broken: the front-end is told on its error fd and nothing is fetched until it is started
     * again. Required.
     */
    int (*queue_ready)(void *dev, struct gw_queue *q);

    /*
     * [worker] The queue stops: no queue_ready follows. Finish (gw_request_complete), hand back
     * (gw_request_unpop) or, where gw_queue_may_suspend, suspend (gw_request_suspend) what was
     * popped; it may happen later, the library waits for it before it answers the front-end. Called
     * once more when it takes too long and the front-end is gone meanwhile, so that all of it may
     * be suspended. A device that cannot keep what it confirmed calls gw_queue_fail_stop. NULL:
     * nothing to hurry.
     */
    void (*queue_stop)(void *dev, struct gw_queue *q);

    /*
     * [control] RESET_DEVICE, and the end of each session: forget what the driver set. All queues
     * are stopped; at the end of a session, requests that outlive the drain time-out may be out.
     * The next session may be that of the same driver, see gw_queue_is_taken_over. NULL: nothing.
     */
    void (*reset)(void *dev);

    /*
     * [worker] The worker's thread starts, before any queue of it can; later, it ends, after all
     * of them stopped. The places to add fds and timers (see worker.h) and to remove them. A
     * non-zero worker_start fails gw_daemon_new. NULL: nothing.
     */
    int (*worker_start)(void *dev, struct gw_worker *w);
    void (*worker_stop)(void *dev, struct gw_worker *w);
};

/* How a queue may be shared with threads of the embedder. */
enum gw_queue_sync {
    GW_SYNC_NONE = 0, /* worker-owned: every call on its worker; no lock at all */
    GW_SYNC_MUTEX,    /* any thread may pop and complete; a mutex per queue */
    GW_SYNC_RWLOCK,   /* as MUTEX, and those who only look (is_*, size) do not exclude each other */
};

/* The event loop of the workers. */
enum gw_loop_kind {
    GW_LOOP_AUTO = 0, /* io_uring where the kernel allows it, else epoll; diag tells which */
    GW_LOOP_URING,
    GW_LOOP_EPOLL,
};

/*
 * How to make a daemon. Zero everything, then set `size` to sizeof(struct gw_daemon_config) and
 * what differs from the defaults.
 */
struct gw_daemon_config {
    size_t size;
    const char *name;        /* what the default diag calls it; default "godwit" */
    unsigned num_queues;     /* 1 to GW_QUEUES_MAX; default 1 */
    unsigned queue_size_max; /* power of two up to GW_QUEUE_SIZE_MAX; default 1024 */
    unsigned num_workers;    /* 1 to GW_WORKERS_MAX; default 1 */
    /*
     * num_queues entries: the worker of each queue (the counterpart of rust-vmm's
     * queues_per_thread). NULL: queue i belongs to worker i modulo num_workers. Copied.
     */
    const uint16_t *queue_workers;
    enum gw_queue_sync sync;
    enum gw_loop_kind loop;
    /*
     * How long a worker looks for more requests before it sleeps, in microseconds. It shortens
     * itself while that finds nothing, and yields the processor. 0: does not look at all.
     */
    unsigned poll_us;
    size_t request_size; /* bytes of the device's own in every request, at most 1 MiB */
    /*
     * After how many milliseconds a front-end that waits for requests of the device to finish
     * (stop, new memory table) is told that it failed. 0: the default, 60 s.
     */
    unsigned drain_timeout_ms;
    gw_diag_cb *diag; /* NULL: stderr */
    void *diag_arg;
    enum gw_diag_level diag_level; /* the most talkative level passed on; default errors only */
    /*
     * For gw_daemon_start_client: connect again when a session is over, or when nobody listens yet,
     * until gw_daemon_stop. The pauses between two attempts begin with 10 ms and double up to so
     * many milliseconds; at most an hour. A session that lasted longer than the pause before it is
     * followed by an attempt at once. 0: one session.
     */
    unsigned reconnect_max_ms;
    /*
     * A front-end that truncates memory it shares makes every access to it SIGBUS. With the first
     * memory of a front-end the library installs a handler of that signal, once and for as long as
     * the process lives: such a page then reads as zeroes, and the session that it belongs to ends.
     * Any other SIGBUS goes to the handler, or the default action, of before. Whoever installs
     * another one later calls the one that he replaces; threads of the embedder that touch requests
     * (GW_SYNC_MUTEX) must not block SIGBUS. True: no handler is installed for this daemon, and a
     * front-end may kill the process.
     */
    bool no_sigbus_handler;
    /*
     * Do not offer postcopy (PAGEFAULT). It is offered where userfaultfd(2) can be had, and then
     * whoever touches a request's memory may sleep until the page arrives: in a callback of the
     * device, in a system call or an io_uring request on its behalf. True for a device that locks
     * guest memory or hands it to hardware, since what it touches so would never arrive.
     */
    bool no_postcopy;
    /*
     * Memory of Xen domains that is granted page by page (GRANT with NO_ADVANCE): keep up to so
     * many pages of each region mapped from one request to the next, which is right only for a
     * guest that never takes a grant back while the device is there, and grants for reading and
     * writing. The session is over when that changes. 0: every buffer is copied. Without effect in
     * builds that know no such memory.
     */
    unsigned xen_persistent_grants;
    /*
     * The most bytes that the buffers of one request may have. A longer chain is answered as a bad
     * one, with used length 0. 0: the default, 64 MiB. UINT32_MAX: what a used length can express;
     * for devices that check the length themselves because they have a status to refuse it with.
     */
    uint32_t request_bytes_max;
};

/*
 * Make a daemon with its queues and workers; the threads of the workers run when it returns.
 *
 * Ownership: `ops` is copied; `dev` stays the caller's and must outlive the daemon. Free the
 * result with gw_daemon_free.
 * Returns: 0; -EINVAL for a config or ops out of its limits; -E2BIG for one of a later version that
 * has a member set which this version does not know; -ENOMEM; -EOPNOTSUPP where
 * GW_LOOP_URING was asked for and the kernel refuses it; what worker_start returned; the errno of
 * a thread or fd that could not be made.
 * Context: any thread.
 */
int gw_daemon_new(struct gw_daemon **ret, const struct gw_daemon_config *cfg,
                  const struct gw_device_ops *ops, void *dev);

/*
 * Stop, wait and release everything. Requests that the device still has after the drain time-out
 * must not be completed any more. NULL is fine. Context: any thread but the daemon's own.
 */
void gw_daemon_free(struct gw_daemon *d);

/*
 * Serve sessions on `fd` in the background: a listening Unix socket is accepted from again and
 * again, a connected one is served once.
 *
 * Ownership: consumes `fd`, also on failure.
 * Returns: 0; -EBUSY when started already; -ENOTSOCK, -EINVAL for something that is no Unix stream
 * socket.
 */
int gw_daemon_start(struct gw_daemon *d, int fd);

/*
 * The same on a socket of its own at `path`. A socket left there by a process that is gone is
 * replaced. Beside it there is a lock file, `path`.lock, for as long as the daemon runs; both are
 * removed when it ends.
 * Returns: as gw_daemon_start; -EADDRINUSE when somebody listens there; -ENAMETOOLONG; the errno
 * of open(2), bind(2) and listen(2).
 */
int gw_daemon_start_path(struct gw_daemon *d, const char *path);

/*
 * Connect to a front-end that listens at `path`, and serve that one session in the background. With
 * reconnect_max_ms of the config, go on connecting until gw_daemon_stop; then it is no failure that
 * nobody listens.
 * Returns: as gw_daemon_start; -ENAMETOOLONG; the errno of connect(2).
 */
int gw_daemon_start_client(struct gw_daemon *d, const char *path);

/*
 * Listen at `path`, serve one session and return when the front-end hangs up, which is success.
 * Returns: 0; what gw_daemon_start_path returns; what ended the session otherwise, see
 * gw_daemon_wait.
 */
int gw_daemon_serve(struct gw_daemon *d, const char *path);

/*
 * Wait until the daemon has ended: by gw_daemon_stop, or because its one connection did.
 * Returns: 0, also after a hang-up; -EPROTO when a single session ended by a protocol fault of the
 * front-end or by gw_queue_fail_stop; -EINVAL when not started.
 */
int gw_daemon_wait(struct gw_daemon *d);

/*
 * Ask the daemon to end: the session is closed, queues are stopped and what is in flight is waited
 * for. Returns at once; gw_daemon_wait tells the end. One that comes before the start ends it as
 * soon as it is started.
 * Context: any thread, also a signal handler. Returns 0.
 */
int gw_daemon_stop(struct gw_daemon *d);

/*
 * Name what keeps a daemon from ending, for a program that limits how long it waits: workers that
 * do not answer (in a callback of the device, or in a page fault), queues with requests in flight,
 * or else the control thread, once gw_daemon_stop was called. `text` becomes one line, cut off
 * where `size` (at least 1) ends, for example "worker 0 does not answer (thread 4711, in
 * folio_wait_bit_common)".
 *
 * A thread that sleeps in the kernel or in the device cannot be ended; the process can, and other
 * daemons of the process work on as long as it lives.
 * Returns: how many it names; 0 when everything answers.
 * Context: any thread but the daemon's own, not during gw_daemon_free; takes up to 200 ms.
 */
unsigned gw_daemon_find_stuck(struct gw_daemon *d, char *text, size_t size);

/*
 * Tell the driver that the config space changed (CONFIG_CHANGE_MSG on the back-end channel).
 * Remembered where the front-end cannot be told now (no session, no channel yet, all rings
 * stopped), several in a row become one.
 * Context: any thread. Returns 0.
 */
int gw_daemon_config_changed(struct gw_daemon *d);

/* Queues and workers of a daemon, by number. NULL beyond the last. Context: any thread. */
struct gw_queue *gw_daemon_queue(struct gw_daemon *d, unsigned index);
struct gw_worker *gw_daemon_worker(struct gw_daemon *d, unsigned index);

#pragma GCC visibility pop
#ifdef __cplusplus
}
#endif
#endif
