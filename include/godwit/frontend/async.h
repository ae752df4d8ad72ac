/* SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause */
/*
 * A front-end without blocking, for a VMM with an event loop of its own. Each request of
 * <godwit/frontend/frontend.h>, log.h and fault.h has a second form, gw_frontend_NAME_async, which
 * takes the same parameters and a callback, and returns at once.
 *
 * The loop. Watch gw_frontend_poll_fd for POLLIN, with poll(2) or any other loop, and call
 * gw_frontend_run when it is readable:
 *
 *     struct pollfd p = {.fd = gw_frontend_poll_fd(fe), .events = POLLIN};
 *
 *     while (!done) {
 *         poll(&p, 1, -1);
 *         gw_frontend_run(fe, 0);
 *     }
 *
 * Order. Operations form a queue. Their messages are sent in the order of the calls, and each one
 * after the answer to the one before, because back-ends expect that, and because an answer may
 * decide what follows. A message that has no answer is complete when the socket has taken it. So a
 * program may start many operations at once: connect, negotiate and start of a front-end, for
 * example. Whether a feature was negotiated is checked at the turn of each one. An operation that
 * fails does not stop the next one, unless it ends the session; then all of them fail with the same
 * error. The blocking functions use the same queue: one that is called while operations are pending
 * waits for them first, and their callbacks run in it.
 *
 * Memory. Until the callback, all that a parameter points to must stay as it is: out parameters,
 * guest memory, drivers, logs, and descriptors, which must stay open. Structures (options,
 * addresses, an inflight region) and the bytes of gw_frontend_set_config_async are copied.
 *
 * Context, unless a function states another: the thread of the front-end, also in callbacks.
 */
#ifndef GODWIT_FRONTEND_ASYNC_H
#define GODWIT_FRONTEND_ASYNC_H

#include <godwit/frontend/fault.h>
#include <godwit/frontend/frontend.h>
#include <godwit/frontend/log.h>
#include <godwit/frontend/state.h>

#ifdef __cplusplus
extern "C" {
#endif
#pragma GCC visibility push(default)

/* ---- The loop ---- */

/*
 * Called once at the end of an operation, with the result that the blocking form would return, and
 * after it has set the out parameters. gw_frontend_last_error has the reason of a failure. The
 * callback may call any function of the front-end: start further operations, hang up, connect
 * again, free it. It runs in gw_frontend_run or a blocking function; with -ECANCELED, it runs in
 * gw_frontend_disconnect or gw_frontend_free.
 */
typedef void gw_frontend_done_cb(void *arg, int r);

/*
 * The fd to watch for POLLIN, level triggered: it is readable when gw_frontend_run has something to
 * do, also because a time limit has passed. It stays the same until gw_frontend_free, whatever the
 * connection does.
 *
 * Ownership: it stays the front-end's.
 * Returns: the fd; at the first call also the errno of epoll_create1(2), timerfd_create(2) or
 * epoll_ctl(2).
 */
int gw_frontend_poll_fd(struct gw_frontend *fe);

/*
 * How long gw_frontend_poll_fd may stay unreadable, in milliseconds, for a loop that wants to know
 * its next timeout. The time changes with each call on the front-end. Each message has the time
 * limit of requests, from the moment when it is sent.
 *
 * Returns: the number of milliseconds; -1 without limit.
 */
int gw_frontend_poll_timeout(const struct gw_frontend *fe);

/*
 * Run the front-end: wait up to `timeout_ms` milliseconds (0: not at all; negative: without limit)
 * for something to do, and do it. This continues the operations as far as possible, calls the
 * callbacks of those that have ended, and serves the back-end channel. One call handles a limited
 * number of messages, so that no back-end keeps the loop; the others make gw_frontend_poll_fd
 * readable.
 *
 * Returns: 0; the error that ended the session, as gw_frontend_check, until gw_frontend_disconnect;
 * -ECANCELED if a callback has freed the front-end.
 */
int gw_frontend_run(struct gw_frontend *fe, int timeout_ms);

/*
 * Answers a request of the back-end, known or not (2 is CONFIG_CHANGE): it returns the number of
 * the answer, 0 for success, which is sent if the request has NEED_REPLY (flag 0x8). The fds of
 * `msg` are closed afterwards, except those that it replaces by -1. It may do what a
 * gw_frontend_done_cb may.
 */
typedef uint64_t gw_frontend_backend_cb(void *arg, struct gw_frontend_message *msg);

/*
 * Have gw_frontend_run, and blocking functions while they wait, serve the back-end channel of this
 * and later sessions (gw_frontend_set_backend_req_fd_async) with `cb` and `arg`. The channel is
 * closed if the back-end closes it or sends what is no message; the session continues. NULL: the
 * program reads it with gw_frontend_backend_request, which is the default.
 */
void gw_frontend_set_backend_cb(struct gw_frontend *fe, gw_frontend_backend_cb *cb, void *arg);

/* ---- Operations ---- */

/*
 * Connect to the back-end at `path`, retrying while none listens. Operations may follow at once:
 * they wait for the connection, and fail with -ENOTCONN without it. A program that listens accepts
 * in its own loop, and passes the connection to gw_frontend_attach.
 *
 * Ownership: `path` is copied.
 * Returns: 0 if `done` will be called with the result of gw_frontend_connect; -ENAMETOOLONG;
 * -ENOMEM; -ECANCELED while the front-end is being freed; the error that ended the session.
 */
int gw_frontend_connect_async(struct gw_frontend *fe, const char *path, gw_frontend_done_cb *done,
                              void *arg);

/*
 * Start the request of the function without "_async". `done` may be NULL.
 *
 * Returns: 0 if `done` will be called with `arg`, once; -ENOTCONN without a session and without a
 * pending connect; -EINVAL for an argument that no message can carry; -ENOMEM; -ECANCELED while the
 * front-end is being freed; the error that ended the session.
 */
int gw_frontend_get_features_async(struct gw_frontend *fe, uint64_t *ret, gw_frontend_done_cb *done,
                                   void *arg);
int gw_frontend_set_features_async(struct gw_frontend *fe, uint64_t features,
                                   gw_frontend_done_cb *done, void *arg);
int gw_frontend_get_protocol_features_async(struct gw_frontend *fe, uint64_t *ret,
                                            gw_frontend_done_cb *done, void *arg);
int gw_frontend_set_protocol_features_async(struct gw_frontend *fe, uint64_t features,
                                            gw_frontend_done_cb *done, void *arg);
int gw_frontend_set_owner_async(struct gw_frontend *fe, gw_frontend_done_cb *done, void *arg);
int gw_frontend_reset_owner_async(struct gw_frontend *fe, gw_frontend_done_cb *done, void *arg);
int gw_frontend_reset_device_async(struct gw_frontend *fe, gw_frontend_done_cb *done, void *arg);
int gw_frontend_get_queue_num_async(struct gw_frontend *fe, uint64_t *ret,
                                    gw_frontend_done_cb *done, void *arg);

/*
 * Read, or write, config space, as gw_frontend_get_config and gw_frontend_set_config.
 *
 * Returns: as gw_frontend_get_features_async.
 */
int gw_frontend_get_config_async(struct gw_frontend *fe, uint32_t offset, void *buf, uint32_t len,
                                 gw_frontend_done_cb *done, void *arg);
int gw_frontend_set_config_async(struct gw_frontend *fe, uint32_t offset, const void *buf,
                                 uint32_t len, bool migration, gw_frontend_done_cb *done,
                                 void *arg);

/*
 * Start the memory request of the function without "_async". The memory is read at the turn of the
 * operation.
 *
 * Returns: as gw_frontend_get_features_async.
 */
int gw_frontend_set_mem_table_async(struct gw_frontend *fe, const struct gw_guest_mem *m,
                                    gw_frontend_done_cb *done, void *arg);
int gw_frontend_get_max_mem_slots_async(struct gw_frontend *fe, uint64_t *ret,
                                        gw_frontend_done_cb *done, void *arg);
int gw_frontend_add_mem_reg_async(struct gw_frontend *fe, const struct gw_guest_mem *m,
                                  gw_gpa_t gpa, gw_frontend_done_cb *done, void *arg);
int gw_frontend_rem_mem_reg_async(struct gw_frontend *fe, const struct gw_guest_mem *m,
                                  gw_gpa_t gpa, gw_frontend_done_cb *done, void *arg);

/*
 * Start the ring request of the function without "_async".
 *
 * Returns: as gw_frontend_get_features_async.
 */
int gw_frontend_set_vring_num_async(struct gw_frontend *fe, unsigned index, uint32_t num,
                                    gw_frontend_done_cb *done, void *arg);
int gw_frontend_set_vring_addr_async(struct gw_frontend *fe, unsigned index,
                                     const struct gw_frontend_vring_addr *addr,
                                     gw_frontend_done_cb *done, void *arg);
int gw_frontend_set_vring_base_async(struct gw_frontend *fe, unsigned index, uint32_t base,
                                     gw_frontend_done_cb *done, void *arg);
int gw_frontend_get_vring_base_async(struct gw_frontend *fe, unsigned index, uint32_t *ret,
                                     gw_frontend_done_cb *done, void *arg);
int gw_frontend_get_vring_base_skip_drain_async(struct gw_frontend *fe, unsigned index,
                                                uint32_t *ret, gw_frontend_done_cb *done,
                                                void *arg);
int gw_frontend_set_vring_kick_async(struct gw_frontend *fe, unsigned index, int fd,
                                     gw_frontend_done_cb *done, void *arg);
int gw_frontend_set_vring_call_async(struct gw_frontend *fe, unsigned index, int fd,
                                     gw_frontend_done_cb *done, void *arg);
int gw_frontend_set_vring_err_async(struct gw_frontend *fe, unsigned index, int fd,
                                    gw_frontend_done_cb *done, void *arg);
int gw_frontend_set_vring_enable_async(struct gw_frontend *fe, unsigned index, bool enable,
                                       gw_frontend_done_cb *done, void *arg);

/*
 * Request, or hand over, an inflight region, as gw_frontend_get_inflight_fd and
 * gw_frontend_set_inflight_fd.
 *
 * Returns: as gw_frontend_get_features_async.
 */
int gw_frontend_get_inflight_fd_async(struct gw_frontend *fe, unsigned num_queues,
                                      unsigned queue_size, struct gw_frontend_inflight *ret,
                                      gw_frontend_done_cb *done, void *arg);
int gw_frontend_set_inflight_fd_async(struct gw_frontend *fe,
                                      const struct gw_frontend_inflight *inflight,
                                      gw_frontend_done_cb *done, void *arg);

/*
 * Move a device state, as gw_frontend_set_device_state_fd, gw_frontend_check_device_state,
 * gw_frontend_save_state and gw_frontend_load_state. The program does other things in between.
 *
 * Returns: as gw_frontend_get_features_async; -EINVAL for an unknown direction; the errno of
 * pipe2(2) and eventfd(2).
 */
int gw_frontend_set_device_state_fd_async(struct gw_frontend *fe,
                                          enum gw_frontend_state_direction direction, int fd,
                                          int *ret_fd, gw_frontend_done_cb *done, void *arg);
int gw_frontend_check_device_state_async(struct gw_frontend *fe, gw_frontend_done_cb *done,
                                         void *arg);
int gw_frontend_save_state_async(struct gw_frontend *fe, uint64_t limit, void **ret_data,
                                 size_t *ret_len, gw_frontend_done_cb *done, void *arg);
int gw_frontend_load_state_async(struct gw_frontend *fe, const void *data, size_t len,
                                 gw_frontend_done_cb *done, void *arg);

/*
 * Make the channel for requests of the back-end, as gw_frontend_set_backend_req_fd.
 *
 * Returns: as gw_frontend_get_features_async; the errno of socketpair(2).
 */
int gw_frontend_set_backend_req_fd_async(struct gw_frontend *fe, gw_frontend_done_cb *done,
                                         void *arg);

/*
 * Start the request about the dirty log of the function without "_async". The features are those at
 * the turn of the operation.
 *
 * Returns: as gw_frontend_get_features_async.
 */
int gw_frontend_set_log_base_async(struct gw_frontend *fe, const struct gw_guest_log *log,
                                   gw_frontend_done_cb *done, void *arg);
int gw_frontend_set_log_fd_async(struct gw_frontend *fe, int fd, gw_frontend_done_cb *done,
                                 void *arg);
int gw_frontend_set_log_all_async(struct gw_frontend *fe, bool on, gw_frontend_done_cb *done,
                                  void *arg);
int gw_frontend_set_vring_log_async(struct gw_frontend *fe, const struct gw_driver *d, bool on,
                                    gw_frontend_done_cb *done, void *arg);

/*
 * Start the postcopy request of the function without "_async". `cb` receives `cb_arg` and
 * the addresses of the back-end in later operations.
 *
 * Returns: as gw_frontend_get_features_async.
 */
int gw_frontend_postcopy_advise_async(struct gw_frontend *fe, int *ret_uffd,
                                      gw_frontend_done_cb *done, void *arg);
int gw_frontend_postcopy_listen_async(struct gw_frontend *fe, gw_frontend_base_cb *cb, void *cb_arg,
                                      gw_frontend_done_cb *done, void *arg);
int gw_frontend_postcopy_end_async(struct gw_frontend *fe, gw_frontend_done_cb *done, void *arg);

/*
 * Run the sequence of messages of the function without "_async". Other operations wait until it has
 * ended.
 *
 * Ownership: the array `drivers`, also that of the options, must stay until then.
 * Returns: as gw_frontend_get_features_async; -E2BIG and -EINVAL also as gw_frontend_negotiate.
 */
int gw_frontend_negotiate_async(struct gw_frontend *fe, const struct gw_frontend_options *opt,
                                gw_frontend_done_cb *done, void *arg);
int gw_frontend_start_async(struct gw_frontend *fe, const struct gw_frontend_options *opt,
                            gw_frontend_done_cb *done, void *arg);
int gw_frontend_stop_async(struct gw_frontend *fe, struct gw_driver **drivers, unsigned n_drivers,
                           gw_frontend_done_cb *done, void *arg);
int gw_frontend_start_queue_async(struct gw_frontend *fe, struct gw_driver *d,
                                  gw_frontend_done_cb *done, void *arg);
int gw_frontend_stop_queue_async(struct gw_frontend *fe, struct gw_driver *d,
                                 gw_frontend_done_cb *done, void *arg);

#pragma GCC visibility pop
#ifdef __cplusplus
}
#endif
#endif
