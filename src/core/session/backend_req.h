/* SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause */
/*
 * The back-end channel: requests to the front-end, and their answers. Control worker only, except
 * for gw_backend_req_start.
 */
#pragma once

#include "base/list.h"
#include "base/proto.h"
#include "core/loop/loop.h"

#include <godwit/channel.h>
#include <godwit/worker.h>
#include <stdbool.h>
#include <stdint.h>

struct gw_answer_reader;
struct gw_daemon;

/*
 * What the library keeps in a struct gw_channel_request of the embedder. It may alias, because the
 * memory is declared as another type.
 */
struct __attribute__((may_alias)) gw_backend_req {
    void (*done)(struct gw_channel_request *req, int result); /* the same members */
    unsigned timeout_ms;
    int fd;

    struct gw_daemon *daemon;
    struct gw_post post;
    struct gw_list link; /* in `waiting` */
    uint64_t deadline_ns;
    unsigned session; /* in which it was started, as gw_channel.session */
    uint32_t id;
    int send_fd; /* sent with it, ours; -1: none */
    uint32_t size;
    uint64_t payload[sizeof(struct gw_wire_mmap) / sizeof(uint64_t)];
};
_Static_assert(sizeof(struct gw_backend_req) <= sizeof(struct gw_channel_request) &&
                   _Alignof(struct gw_backend_req) == _Alignof(struct gw_channel_request),
               "struct gw_channel_request has room");

/* Readers that may be stuck at the same time, with those of earlier sessions. */
#define GW_READERS_MAX 4

/* The requests of a daemon, of whatever session. */
struct gw_channel {
    unsigned n;             /* atomic: requests that have not ended, and overdue answers */
    unsigned session;       /* atomic: counts beginnings and ends of sessions, so odd during one */
    struct gw_list waiting; /* to be sent */
    /* Sent, oldest first; a circle. `req` is NULL after the time limit: its answer is discarded. */
    struct {
        struct gw_backend_req *req;
        uint32_t id;
    } sent[GW_CHANNEL_REQUESTS_MAX];
    unsigned first, n_sent;
    struct gw_timer *timer;
    struct gw_answer_reader *reader; /* NULL until a request of this session needs an answer */
    struct gw_source answers;        /* of `reader` */
    struct gw_answer_reader *readers[GW_READERS_MAX]; /* may still run; includes `reader` */
};

/* Returns: 0; -ENOMEM. */
int gw_backend_req_init(struct gw_daemon *d);
/* After the last session, on any thread: blocks up to a second for each thread that is stuck. */
void gw_backend_req_done(struct gw_daemon *d);

/*
 * Start a request whose id, fd and payload are set, on any thread; consumes `send_fd`.
 * Returns: as gw_channel_config_changed.
 */
int gw_backend_req_start(struct gw_daemon *d, struct gw_backend_req *req);

/* A session begins, or ends: its requests end with -ECONNRESET. */
void gw_backend_req_begin_session(struct gw_daemon *d);
void gw_backend_req_end_session(struct gw_daemon *d);

/* Consumes `fd`. Returns: 0; -EINVAL or -ENOTSOCK unless it is a connected Unix stream socket. */
int gw_backend_req_set_fd(struct gw_daemon *d, int fd);

/*
 * Send requests, the pending CONFIG_CHANGE, if any, and missing translations, without waiting.
 * Returns: whether some are still pending because the channel is full.
 */
bool gw_backend_req_flush(struct gw_daemon *d);

/* The front-end has closed its end, after which answers may still arrive. */
void gw_backend_req_hung_up(struct gw_daemon *d);

/* ---- for backend_answer.c ---- */

/* Receive answers, from the first request that needs one. Returns: 0; a negative errno. */
int gw_backend_answers_start(struct gw_daemon *d);

/* Take the oldest unanswered request. Returns: NULL after its time limit. */
struct gw_backend_req *gw_backend_req_take_sent(struct gw_channel *c);

/* Call back with a result whose reason is in gw_last_error; `req` may be freed by that. */
void gw_backend_req_finish(struct gw_daemon *d, struct gw_backend_req *req, int r);

/* Set the timer to the earliest time limit. */
void gw_backend_req_watch_time(struct gw_channel *c);

/* Close the channel and end all requests with `r` and its reason in gw_last_error; log it. */
void gw_backend_req_close(struct gw_daemon *d, int r);
void gw_backend_req_break(struct gw_daemon *d, int r);
