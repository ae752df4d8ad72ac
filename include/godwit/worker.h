/* SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause */
/*
 * Workers. A worker is an event loop that owns queues. Devices can add fds, timers and file I/O to
 * it. A thread of the library runs it, or the embedder does, in a loop of its own (`external`).
 *
 * Context, unless a function states another: the worker's own thread. For an external worker this
 * is the thread that made it: in callbacks, which gw_worker_run calls, and between two runs.
 *
 * After fork(2), workers and daemons are the parent's. The child must not call any function for
 * them, because it would take events away from the parent.
 */
#ifndef GODWIT_WORKER_H
#define GODWIT_WORKER_H

#include <godwit/log.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>
#include <sys/uio.h>

#ifdef __cplusplus
extern "C" {
#endif
#pragma GCC visibility push(default)

struct gw_worker;
struct gw_workers;
struct gw_timer;

#define GW_WORKERS_MAX 256 /* in one set, or of one daemon */

/* The event loop of the workers. */
enum gw_loop_kind {
    GW_LOOP_AUTO = 0, /* io_uring if the kernel allows it, otherwise epoll; a message names it */
    GW_LOOP_URING,
    GW_LOOP_EPOLL,
};

/*
 * How to make a set of workers. Set `size` to sizeof(struct gw_workers_config), and zero what is
 * not needed.
 */
struct gw_workers_config {
    size_t size;
    unsigned num_workers; /* 1 to GW_WORKERS_MAX; default 1 */
    enum gw_loop_kind loop;
    /* As in struct gw_daemon_config. With an external worker, the embedder's loop never sleeps
     * then. */
    unsigned poll_us;
    const char *name; /* of the threads: NAME-INDEX, cut to 15 bytes; default "gw-worker". Copied */
    /* num_workers entries: the CPU to which each thread is bound. NULL: the threads are free.
     * Copied. */
    const unsigned *cpus;
    /*
     * True: the calling thread runs each of the workers with gw_worker_run, and is the only one to
     * do so. The library makes no threads for them, except for file operations, see struct gw_io.
     */
    bool external;
    gw_log_cb *log; /* NULL: stderr */
    void *log_arg;
    enum gw_log_level log_level; /* least severe level passed to log; default: errors only */
};

/*
 * Make workers, which any number of daemons may use (`workers` and `control` in struct
 * gw_daemon_config). A daemon for which none are given makes its own.
 *
 * Ownership: `cfg` is copied. Free the result with gw_workers_free.
 * Returns: 0; -EINVAL if a member of `cfg` is outside of its limits, or a CPU does not exist;
 * -E2BIG if a member is set that only later versions know; -ENOMEM; -EOPNOTSUPP if the kernel
 * refuses GW_LOOP_URING; the errno of a thread or fd that could not be created.
 * Context: any thread; external workers belong to it then.
 */
int gw_workers_new(struct gw_workers **ret, const struct gw_workers_config *cfg);

/*
 * End the threads of the workers after what was posted to them, and release everything. `ws` may be
 * NULL.
 *
 * Returns: 0; -EBUSY if a daemon that was not freed uses one of them, or in a callback of theirs;
 * -EPERM if they are external and belong to another thread or process. After an error, all run.
 * Context: any thread except those of the workers; the thread of external ones, but not in a
 * callback. Blocks for as long as a callback does.
 */
int gw_workers_free(struct gw_workers *ws);

/*
 * The worker with the number `index` of a set, counted from 0.
 *
 * Ownership: it stays the set's and is valid until gw_workers_free.
 * Returns: the worker; NULL beyond the last.
 * Context: any thread.
 */
struct gw_worker *gw_workers_get(struct gw_workers *ws, unsigned index);

/*
 * The fd of an external worker. When it is readable (POLLIN, level triggered), call gw_worker_run.
 *
 * Ownership: it stays the worker's, and gw_workers_free closes it: remove it from your loop before
 * that. Only wait for it, with poll(2), epoll(7) or any other loop.
 * Returns: the fd, the same at each call; -EINVAL if the worker has a thread of its own.
 * Context: any thread.
 */
int gw_worker_fd(const struct gw_worker *w);

/*
 * Run an external worker: wait up to `timeout_ms` milliseconds (0: not at all; negative: without
 * limit) for something to do, and do it. A signal ends the wait. A call with work takes as long as
 * the callbacks of the devices and one turn of each queue. What is left after it makes
 * gw_worker_fd readable.
 *
 * Returns: 0; -EBUSY in a callback of a worker; -EPERM on another thread than the one that made the
 * worker, or in a child of its process; -EINVAL if the worker has a thread of its own.
 * Context: the thread that made the worker, not in a callback.
 */
int gw_worker_run(struct gw_worker *w, int timeout_ms);

/* Called when the fd is ready; `events` are the events that occurred, as in poll(2). */
typedef void gw_fd_cb(void *arg, int fd, uint32_t events);
/* Called when the timer fires. */
typedef void gw_timer_cb(void *arg);

/*
 * Call `cb` on the worker with `arg` whenever `fd` is ready for `events` (POLLIN, POLLOUT,
 * POLLPRI), level triggered, until it is removed.
 *
 * Ownership: the fd stays the caller's and must stay open until gw_worker_remove_fd.
 * Returns: 0; -EEXIST if `fd` was already added; -EINVAL if there is no `cb`, for other events, or
 * on another thread; -EBADF if `fd` is not open; -EPERM if it is a regular file or directory, which
 * is always ready; -ENOMEM.
 * Context: the worker; elsewhere use gw_worker_post.
 */
int gw_worker_add_fd(struct gw_worker *w, int fd, uint32_t events, gw_fd_cb *cb, void *arg);

/*
 * Remove `fd`. After the return, its callback does not run.
 *
 * Returns: 0; -ENOENT if it was not added; -EINVAL on another thread.
 * Context: the worker; elsewhere use gw_worker_post.
 */
int gw_worker_remove_fd(struct gw_worker *w, int fd);

/*
 * Make a stopped timer that calls `cb` with `arg` when it fires.
 *
 * Ownership: free the result with gw_timer_free, before the worker ends.
 * Returns: 0; -ENOMEM.
 */
int gw_timer_new(struct gw_timer **ret, struct gw_worker *w, gw_timer_cb *cb, void *arg);

/*
 * Start the timer, or start it again: it fires after `delay_ns` nanoseconds, and then every
 * `period_ns` nanoseconds, unless that is 0.
 */
void gw_timer_start(struct gw_timer *t, uint64_t delay_ns, uint64_t period_ns);

/* Stop the timer: it does not fire until it is started again. */
void gw_timer_stop(struct gw_timer *t);

/* Stop and free the timer, also in its own callback. `t` may be NULL. */
void gw_timer_free(struct gw_timer *t);

/*
 * One call on its way to a worker. The embedder sets `run`. The structure stays the caller's and
 * must remain valid, at the same address, until the worker calls `run`, which may free it or post
 * it again.
 */
struct gw_post {
    void (*run)(struct gw_post *post);
    void *reserved; /* the library's */
};

/*
 * Call `post->run` once on the worker, in the order of posting.
 *
 * Ownership: see struct gw_post; after an error `run` is not called.
 * Returns: 0; -ESHUTDOWN if the worker has ended.
 * Context: any thread; returns at once.
 */
int gw_worker_post(struct gw_worker *w, struct gw_post *post);

/*
 * One file operation in flight. The embedder sets `done`. The structure stays the caller's and must
 * remain valid, at the same address and with all memory that it points to, until the worker calls
 * `done` with the result: bytes or 0, or a negative errno. The io_uring loop submits the operations
 * of one turn together; with the epoll loop up to 8 threads of the worker execute them.
 */
struct gw_io {
    void (*done)(struct gw_io *io, int res);
    uint64_t reserved[10]; /* the library's */
};

/*
 * Start an operation with the arguments of preadv2(2), pwritev2(2), fdatasync(2) or fallocate(2).
 * `n_iov` may be up to 1024; `offset` and `length` are bytes. As with the system calls, an
 * operation may transfer fewer bytes than requested.
 *
 * The calls cannot fail: `done` receives every error, and never runs inside these calls.
 *
 * Ownership: see struct gw_io; `fd`, `iov` and the buffers stay the caller's and must stay valid
 * until `done`.
 */
void gw_io_preadv(struct gw_worker *w, struct gw_io *io, int fd, const struct iovec *iov,
                  unsigned n_iov, int64_t offset);
void gw_io_pwritev(struct gw_worker *w, struct gw_io *io, int fd, const struct iovec *iov,
                   unsigned n_iov, int64_t offset, int rwf_flags);
void gw_io_fdatasync(struct gw_worker *w, struct gw_io *io, int fd);
void gw_io_fallocate(struct gw_worker *w, struct gw_io *io, int fd, int mode, int64_t offset,
                     int64_t length);

/*
 * Start ioctl(2) BLKDISCARD of `length` bytes at byte `offset` of a block device. Unlike a
 * fallocate that punches a hole, it also works on devices whose discarded blocks do not read as
 * zeroes. Both loops run it on a thread. `done` gets -ENOTTY if the fd is no block device,
 * -EOPNOTSUPP if the device cannot discard, and -EINVAL for a range that is not a multiple of its
 * logical blocks.
 *
 * Ownership: see struct gw_io.
 */
void gw_io_discard(struct gw_worker *w, struct gw_io *io, int fd, int64_t offset, int64_t length);

/*
 * Ask a started operation to end early. `done` still runs, never inside this call: with -ECANCELED
 * if the operation had not begun; with -EINTR or fewer bytes if it was interrupted; with its result
 * if it cannot be interrupted, such as a command that a disk already executes. No effect if it has
 * already completed.
 */
void gw_io_cancel(struct gw_io *io);

/*
 * The number of the worker in its set (gw_workers_get), or in the daemon that made it; whether the
 * calling thread is the worker, and whether its loop is io_uring.
 *
 * Returns: the number; whether it is so.
 * Context: any thread.
 */
unsigned gw_worker_index(const struct gw_worker *w);
bool gw_worker_is_current(const struct gw_worker *w);
bool gw_worker_has_uring(const struct gw_worker *w);

#pragma GCC visibility pop
#ifdef __cplusplus
}
#endif
#endif
