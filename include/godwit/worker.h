/* SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause */
/*
 * A worker: one thread with one event loop. Devices put their own fds, timers and file I/O on it,
 * beside the queues it owns.
 *
 * Context of everything here, where nothing else is said: the worker's own thread.
 */
#ifndef GODWIT_WORKER_H
#define GODWIT_WORKER_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>
#include <sys/uio.h>

#ifdef __cplusplus
extern "C" {
#endif
#pragma GCC visibility push(default)

struct gw_worker;
struct gw_timer;

/* `events` are those of poll(2) that are there. */
typedef void gw_fd_cb(void *arg, int fd, uint32_t events);
typedef void gw_timer_cb(void *arg);

/*
 * Call `cb` whenever `fd` is ready for `events` (POLLIN, POLLOUT), level triggered, until it is
 * removed.
 * Ownership: the fd stays the caller's and must stay open until gw_worker_remove_fd.
 * Returns: 0; -EEXIST when it is there already; -EINVAL, -EBADF; -EPERM for a file that cannot be
 * waited for; -ENOMEM.
 * Context: any thread; from others than the worker it waits for it.
 */
int gw_worker_add_fd(struct gw_worker *w, int fd, uint32_t events, gw_fd_cb *cb, void *arg);

/* Returns: 0; -ENOENT. No callback for it runs or follows after the return. Context: any thread. */
int gw_worker_remove_fd(struct gw_worker *w, int fd);

/* Make a timer that does not run yet. Free it with gw_timer_free. Returns: 0; -ENOMEM. */
int gw_timer_new(struct gw_timer **ret, struct gw_worker *w, gw_timer_cb *cb, void *arg);

/*
 * Run the timer once in `delay_ns`, and every `period_ns` after that when it is not 0.
 * gw_timer_stop: not any more. Neither can fail.
 */
void gw_timer_start(struct gw_timer *t, uint64_t delay_ns, uint64_t period_ns);
void gw_timer_stop(struct gw_timer *t);
void gw_timer_free(struct gw_timer *t);

/*
 * One call on its way to a worker. It stays the caller's and must stay put until `run` is called on
 * the worker. `run` may free it or post it again.
 */
struct gw_post {
    void (*run)(struct gw_post *post);
    /* below: the library's */
    struct gw_post *next;
};

/*
 * Call `post->run` once on the worker, soon, in the order of posting.
 * Returns: 0; -ESHUTDOWN when the worker has ended.
 * Context: any thread.
 */
int gw_worker_post(struct gw_worker *w, struct gw_post *post);

/*
 * One file operation in flight. It stays the caller's and must stay put, with everything it names,
 * until `done` ran on the worker with the result: bytes or 0, or a negative errno.
 * The io_uring loop submits operations of one turn together; with the epoll loop a pool of threads
 * does them.
 */
struct gw_io {
    void (*done)(struct gw_io *io, int res);
    /* below: the library's */
    struct gw_worker *worker;
    struct gw_io *next;
    const struct iovec *iov;
    int64_t offset;
    int64_t length;
    unsigned n_iov;
    int fd;
    int op;
    int flags;
    int res;
};

/*
 * Start an operation; the arguments are those of preadv2(2), pwritev2(2), fdatasync(2) and
 * fallocate(2), and as there fewer bytes may be moved than were asked for. `n_iov` may be up to
 * 1024. They cannot fail: whatever goes wrong is told to `done`, which never runs inside these
 * calls.
 */
void gw_io_preadv(struct gw_worker *w, struct gw_io *io, int fd, const struct iovec *iov,
                  unsigned n_iov, int64_t offset);
void gw_io_pwritev(struct gw_worker *w, struct gw_io *io, int fd, const struct iovec *iov,
                   unsigned n_iov, int64_t offset, int rwf_flags);
void gw_io_fdatasync(struct gw_worker *w, struct gw_io *io, int fd);
void gw_io_fallocate(struct gw_worker *w, struct gw_io *io, int fd, int mode, int64_t offset,
                     int64_t length);

/*
 * Start ioctl(2) BLKDISCARD on a block device: unlike a fallocate that punches a hole, it works
 * where discarded blocks need not read as zeroes. Both loops do it on a thread. `done` gets -ENOTTY
 * for anything but a block device, -EOPNOTSUPP where that cannot discard, and -EINVAL for a range
 * that is not in whole logical blocks of it.
 */
void gw_io_discard(struct gw_worker *w, struct gw_io *io, int fd, int64_t offset, int64_t length);

/*
 * Ask an operation that was started to end early. `done` is called all the same, never inside this
 * call: with -ECANCELED where it had not begun; with -EINTR or fewer bytes where it was
 * interrupted; and with its result where it could not be, as a disk that has its command cannot.
 * One that is over stays as it is.
 */
void gw_io_cancel(struct gw_io *io);

/* Context: any thread. */
unsigned gw_worker_index(const struct gw_worker *w);
bool gw_worker_is_current(const struct gw_worker *w);
bool gw_worker_has_uring(const struct gw_worker *w);

#pragma GCC visibility pop
#ifdef __cplusplus
}
#endif
#endif
