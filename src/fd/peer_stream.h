/* SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause */
/*
 * A stream of bytes through a descriptor shared with a peer: a pipe, a stream socket or a file. Any
 * call on it can sleep, also without O_NONBLOCK being at fault: a peer that writes from a page that
 * never arrives keeps the lock of a pipe. So a thread of its own reads or writes the descriptor,
 * and exchanges the bytes with the owner of the stream through a ring buffer. The owner never
 * waits. The flags of the descriptor, which the peer shares, stay as they are.
 *
 * A stream that was freed while its thread sleeps in the descriptor frees itself when the peer lets
 * go of the thread. Until then it counts as one of GW_PEER_STREAMS_MAX.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define GW_PEER_STREAMS_MAX 256

struct gw_peer_stream;

enum gw_peer_stream_use {
    GW_PEER_STREAM_READ,
    GW_PEER_STREAM_WRITE,
};

/*
 * Can `fd` be read, or written, as a stream? Makes no call into its file.
 * Returns: 0; -EINVAL or -EBADF with a reason in `why`. Context: any thread.
 */
int gw_peer_stream_check(int fd, enum gw_peer_stream_use use, char *why, size_t size);

/*
 * Start a stream, and take `*fd`, which becomes -1, on success. The thread calls `wake` with `arg`
 * when the owner shall continue after a gw_peer_stream_get without bytes or GW_PEER_STREAM_RUNS.
 * `wake` must not call functions of the stream.
 * Returns: 0; as gw_peer_stream_check; -EMFILE, -ENOMEM, -EAGAIN without resources, with a reason.
 */
int gw_peer_stream_new(struct gw_peer_stream **ret, int *fd, enum gw_peer_stream_use use,
                       void (*wake)(void *arg), void *arg, char *why, size_t size);

/*
 * The bytes that have arrived, or room for bytes to write: `ret_len` of them, or 0 at
 * present. gw_peer_stream_put reports how many of them the owner has taken, or stored.
 */
void *gw_peer_stream_get(struct gw_peer_stream *s, size_t *ret_len);
void gw_peer_stream_put(struct gw_peer_stream *s, size_t len);

/* Nothing more will be stored: the thread writes what is left, and closes the descriptor. */
void gw_peer_stream_finish(struct gw_peer_stream *s);

#define GW_PEER_STREAM_RUNS 1
/*
 * Returns: GW_PEER_STREAM_RUNS; 0 at the end, with the descriptor closed: all was written, or all
 * that was read has been taken; the negative errno of the failure.
 */
int gw_peer_stream_status(struct gw_peer_stream *s);

/* The number of bytes that went through the descriptor. */
uint64_t gw_peer_stream_moved(struct gw_peer_stream *s);

/* Cancel the stream if it has not ended, and free it; `wake` is not called afterwards. */
void gw_peer_stream_free(struct gw_peer_stream *s);
