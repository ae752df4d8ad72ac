/* SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause */
/*
 * The daemon that runs a device (device.h): its configuration, its workers and its sessions. A
 * daemon owns the device's queues and a socket. It outlives its connections: a session lasts from
 * accept to hang-up, and a daemon serves one session after another. Workers (worker.h), one event
 * loop each, own the queues; the control worker handles the messages of the front-end. By default a
 * daemon makes all of them, each with a thread of its own. Daemons may also share workers, and the
 * embedder may run them in its own loop: then a whole device, or any number of devices, can live on
 * one thread.
 */
#ifndef GODWIT_DAEMON_H
#define GODWIT_DAEMON_H

#include <godwit/device.h>
#include <godwit/log.h>
#include <godwit/worker.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif
#pragma GCC visibility push(default)

struct gw_daemon;

/* Limits of a daemon. */
#define GW_QUEUES_MAX     256 /* the index in SET_VRING_KICK has 8 bits */
#define GW_QUEUE_SIZE_MAX 32768

/* How a queue may be shared with threads of the embedder. */
enum gw_queue_sync {
    GW_SYNC_NONE = 0, /* worker-owned: every call on its worker; no lock */
    GW_SYNC_MUTEX,    /* any thread may pop and complete; a mutex per queue */
    GW_SYNC_RWLOCK,   /* as MUTEX, but calls that only read (is_*, size) run concurrently */
};

/*
 * The configuration of a daemon. Zero the structure, then set `size` to sizeof(struct
 * gw_daemon_config) and each member that differs from its default.
 */
struct gw_daemon_config {
    size_t size;
    const char *name;        /* prefix of messages on stderr; default "godwit" */
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
     * How long a worker polls for more requests before it sleeps, in microseconds. It yields the
     * processor, and polls for a shorter time while it finds nothing. 0: no polling.
     */
    unsigned poll_us;
    size_t request_size; /* private bytes of the device in every request, at most 1 MiB */
    /*
     * How long to wait for in-flight requests before failing a stop or a memory-table change, in
     * milliseconds. 0: the default, 60 s.
     */
    unsigned drain_timeout_ms;
    gw_log_cb *log; /* NULL: stderr */
    void *log_arg;
    enum gw_log_level log_level; /* least severe level passed to log; default: errors only */
    /*
     * For gw_daemon_start_client: reconnect when a session ends, or while no front-end listens,
     * until gw_daemon_stop. The pauses between attempts begin with 10 ms and double up to this
     * value, in milliseconds, at most an hour. After a session that lasted longer than the pause
     * before it, the first attempt follows at once. 0: one session.
     */
    unsigned reconnect_max_ms;
    /*
     * True: survive a front-end that truncates memory which it shares. Each access to such a page
     * raises SIGBUS, also in the device, and the default action ends the process: without a
     * handler, any front-end can kill the process, with all of its daemons. gw_daemon_new installs
     * a handler, once, for the lifetime of the process. Such a page then reads as zeroes, and its
     * session ends. Any other SIGBUS is passed to the previously installed handler or the default
     * action. A handler that is installed later must call the one that it replaces. Threads of the
     * embedder that touch requests (GW_SYNC_MUTEX) or run a worker must not block SIGBUS; those of
     * the library unblock it. False: the action of SIGBUS and the signal masks stay as they are.
     */
    bool handle_sigbus;
    /*
     * Do not offer postcopy (PAGEFAULT). It is offered if userfaultfd(2) is available, and then a
     * thread that touches a request's memory may sleep until the page arrives: in a callback of the
     * device, or in a system call or an io_uring request on its behalf. True for a device that
     * locks guest memory or hands it to hardware, because such an access never fetches the page.
     */
    bool no_postcopy;
    /*
     * Memory of Xen domains that is granted page by page (GRANT with NO_ADVANCE): keep up to this
     * number of pages of each region mapped from one request to the next. Only for a guest that
     * grants for reading and writing and revokes no grant during the session. 0: every buffer is
     * copied. No effect in builds without memory of Xen domains.
     */
    unsigned xen_persistent_grants;
    /*
     * The limit of the bytes in the buffers of one request. The library answers a longer chain as a
     * bad one, with used length 0. 0: the default, 64 MiB. UINT32_MAX: all that a used length can
     * express, for devices that check the length themselves and refuse it with a status.
     */
    uint32_t request_bytes_max;
    /*
     * num_workers entries: the workers that run the queues, shared with other daemons or not. NULL:
     * the daemon makes its own, with `loop` and `poll_us`, which otherwise have no effect. Copied.
     * They must outlive the daemon. While a session listens for missing pages, its queues are on
     * a worker of its own (queue_moved). With external workers postcopy is not offered.
     */
    struct gw_worker *const *workers;
    /*
     * The worker that handles the messages of the front-end: one of `workers`, or another, also of
     * other daemons. It must outlive the daemon. NULL: a thread of its own.
     */
    struct gw_worker *control;
    /*
     * [control] The daemon has ended, with the result of gw_daemon_wait, which does not wait from
     * now on. Free it on another thread, or after this run of an external worker. NULL: no call.
     */
    void (*ended)(void *ended_arg, int result);
    void *ended_arg;
    /*
     * Let queues move between the workers by themselves (gw_queue_move): once in this period, in
     * milliseconds, one queue moves if one worker completes more than twice the requests of
     * another, and has several busy queues. The requests of other daemons are not counted. 0:
     * queues stay where they are.
     */
    unsigned balance_ms;
    /*
     * The limit of a device state that is saved or loaded (state_save), in bytes: no front-end or
     * device makes the other take more. 0: the default, 1 GiB.
     */
    uint64_t state_bytes_max;
};

/*
 * Make a daemon with its queues, and its workers unless they are given. worker_start has returned
 * on each worker when it returns.
 *
 * Ownership: `cfg` and `ops` are copied; `dev` stays the caller's and must outlive the daemon. Free
 * the result with gw_daemon_free.
 * Returns: 0; -EINVAL if a member of `cfg` or `ops` is outside of its limits, or `size` is smaller
 * than in the first version; -E2BIG if a member is set that only later versions know; -ENOMEM;
 * -EOPNOTSUPP if the kernel refuses GW_LOOP_URING; the error of worker_start; the errno of a thread
 * or fd that could not be created.
 * Context: any thread, except those of workers that are given; the thread of external ones. Blocks
 * until each worker has called worker_start.
 */
int gw_daemon_new(struct gw_daemon **ret, const struct gw_daemon_config *cfg,
                  const struct gw_device_ops *ops, void *dev);

/*
 * Stop the daemon, wait for its end and release everything. The device must no longer complete
 * requests that it still has after the drain time-out. `d` may be NULL.
 *
 * Context: any thread except those of the daemon, or the thread of external workers outside of a
 * callback; then it runs them, with all of their daemons. Blocks up to drain_timeout_ms, or for as
 * long as a callback or a page fault of a worker does; if the daemon has ended (`ended`), until
 * each worker has called worker_stop.
 */
void gw_daemon_free(struct gw_daemon *d);

/*
 * Serve sessions on `fd` in the background: one on a connected Unix socket, one after another on a
 * listening one, which becomes non-blocking for all processes that share it.
 *
 * Ownership: consumes `fd`, also on failure.
 * Returns: 0; -EBUSY if the daemon was already started, and gw_daemon_wait has not returned since;
 * -ENOTSOCK, -EINVAL if `fd` is no Unix stream socket.
 * Context: any thread, one at a time.
 */
int gw_daemon_start(struct gw_daemon *d, int fd);

/*
 * Serve sessions in the background, one after another, on a new socket at `path`. A socket that an
 * ended process left there is replaced. While the daemon runs, there is also a lock file,
 * `path`.lock; the daemon removes both when it ends.
 *
 * Ownership: `path` is copied.
 * Returns: as gw_daemon_start; -EADDRINUSE if another process listens there, or the file there is
 * no socket; -ENAMETOOLONG if `path` does not fit a socket address; -ENOMEM; the errno of open(2),
 * flock(2), bind(2) and listen(2).
 * Context: as gw_daemon_start.
 */
int gw_daemon_start_path(struct gw_daemon *d, const char *path);

/*
 * Connect to a front-end that listens at `path`, and serve that session in the background. With
 * reconnect_max_ms in the config, reconnect until gw_daemon_stop; then the call also succeeds while
 * no front-end listens.
 *
 * Ownership: `path` is copied.
 * Returns: as gw_daemon_start; -ENAMETOOLONG if `path` does not fit a socket address; -ENOMEM; the
 * errno of connect(2).
 * Context: as gw_daemon_start.
 */
int gw_daemon_start_client(struct gw_daemon *d, const char *path);

/*
 * Listen at `path`, serve one session and return when the front-end hangs up.
 *
 * Returns: 0 after a hang-up or gw_daemon_stop; the errors of gw_daemon_start_path and
 * gw_daemon_wait.
 * Context: as gw_daemon_start; blocks until the session has ended.
 */
int gw_daemon_serve(struct gw_daemon *d, const char *path);

/*
 * Wait until the daemon has ended: by gw_daemon_stop, or because its only session ended. Then it
 * may be started again.
 *
 * Returns: 0, also after a hang-up; -EPROTO if the only session ended because of a protocol error
 * of the front-end or gw_queue_fail_stop; -EINVAL if the daemon was not started; -EBUSY in a
 * callback of one of its workers; -EPERM in a child of its process.
 * Context: as gw_daemon_free, one thread at a time; blocks until the daemon has ended.
 */
int gw_daemon_wait(struct gw_daemon *d);

/*
 * Ask the daemon to end: it closes the session, stops the queues and waits for requests in flight.
 * gw_daemon_wait waits for the end. A stop before the start ends the daemon as soon as it is
 * started.
 *
 * Context: any thread, also a callback or a signal handler; returns at once.
 */
void gw_daemon_stop(struct gw_daemon *d);

/*
 * Name what keeps a daemon from ending, for a program that limits its wait: workers that do not
 * answer (in a callback of the device, or in a page fault), queues with requests in flight;
 * otherwise, after gw_daemon_stop, the control worker. External workers of the calling thread are
 * not named, because only this thread can run them. `text` becomes one line of up to `size`
 * bytes (at least 1, with the NUL), for example "worker 0 does not answer (thread 4711, in
 * folio_wait_bit_common)".
 *
 * The library cannot end a thread that sleeps in the kernel or in the device. The program can end
 * the process; until then, other daemons in it continue to work.
 *
 * Returns: the number of workers, queues and threads named; 0 if everything answers.
 * Context: any thread except those of the daemon, not during gw_daemon_free; takes up to 200 ms.
 */
unsigned gw_daemon_find_stuck(struct gw_daemon *d, char *text, size_t size);

/*
 * Notify the driver that the config space changed: CONFIG_CHANGE_MSG on the back-end channel
 * (vhost-user.rst, "Back-end message types"). Without a session or channel, or while all rings are
 * stopped, the library sends the notification later, one for all changes until then.
 *
 * Context: any thread, also a callback; returns at once.
 */
void gw_daemon_config_changed(struct gw_daemon *d);

/*
 * Continue a transfer of the device state after a callback of it has returned -EAGAIN: the callback
 * is called again. Without such a transfer, no effect.
 *
 * Context: any thread, also a callback; returns at once.
 */
void gw_daemon_continue_state(struct gw_daemon *d);

/*
 * The bodies of get_config and set_config for a device that keeps its config space as a structure
 * of `size` bytes at `config`, up to GW_CONFIG_SIZE_MAX: copy `len` bytes from byte `off` of it to
 * `buf`, or back. A front-end may know a longer structure than the device: bytes behind the
 * structure read as zero, and writes to them have no effect. See virtio 1.3, 2.5, "Device
 * Configuration Space".
 *
 * Returns: 0; -EINVAL if a byte is beyond GW_CONFIG_SIZE_MAX; nothing is copied then.
 * Context: any thread.
 */
int gw_config_read(const void *config, size_t size, uint32_t off, void *buf, uint32_t len);
int gw_config_write(void *config, size_t size, uint32_t off, const void *buf, uint32_t len);

/*
 * The queue or worker of a daemon with the number `index`, counted from 0.
 *
 * Ownership: it stays the daemon's and is valid until gw_daemon_free.
 * Returns: the queue or worker; NULL beyond the last.
 * Context: any thread.
 */
struct gw_queue *gw_daemon_queue(struct gw_daemon *d, unsigned index);
struct gw_worker *gw_daemon_worker(struct gw_daemon *d, unsigned index);

#pragma GCC visibility pop
#ifdef __cplusplus
}
#endif
#endif
