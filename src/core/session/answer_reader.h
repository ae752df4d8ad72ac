/* SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause */
/*
 * Receives the answers on a back-end channel for the control worker, which must not: the front-end
 * may have kept a duplicate of the channel's socket. If one of its threads receives into a page
 * that never arrives, it holds the lock that recv(2) takes, also with MSG_DONTWAIT. So a thread of
 * its own receives, and passes complete messages on through a socket pair, which is only ours.
 */
#pragma once

#include "socket.h"

struct gw_answer_reader;

/*
 * Start a reader for the channel `fd`, which stays the caller's.
 * Returns: 0; -ENOMEM; the errno of fcntl(2), socketpair(2) or pthread_create(3).
 */
int gw_answer_reader_new(struct gw_answer_reader **ret, int fd);

/* The fd to watch for POLLIN, for gw_answer_reader_receive. */
int gw_answer_reader_fd(const struct gw_answer_reader *a);

/*
 * Receive the next answer, without waiting.
 * Returns: 1, and `*ret` until gw_answer_reader_next; 0 if no answer has arrived; -ENOTCONN if the
 * front-end has closed the channel; the error of gw_rx_pump, or -E2BIG for more than one fd.
 */
int gw_answer_reader_receive(struct gw_answer_reader *a, struct gw_msg **ret);

/* Discard the answer, and the fds that were not taken. */
void gw_answer_reader_next(struct gw_answer_reader *a);

/* End the thread. Nothing more is received. */
void gw_answer_reader_stop(struct gw_answer_reader *a);

/* Returns: whether the thread has ended, and with it every use of the channel. */
bool gw_answer_reader_has_ended(struct gw_answer_reader *a);

/* Wait up to `timeout_ms` for the thread to end. */
void gw_answer_reader_wait(struct gw_answer_reader *a, unsigned timeout_ms);

/* Stop, and free when the thread ends. `a` may be NULL. */
void gw_answer_reader_free(struct gw_answer_reader *a);
