/* SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause */
/*
 * The control worker takes one piece a turn: it calls the device, and posts itself again. If the
 * stream has no bytes or room, its thread posts the transfer later. If the device cannot continue,
 * gw_daemon_continue_state does.
 */
#include "transfer.h"

#include "base/cleanup.h"
#include "base/clock.h"
#include "core/message/operation.h"
#include "core/session/session.h"
#include "fd/peer_stream.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* Bytes that the device gets at once: some 50 us of copying. */
#define PIECE_MAX ((size_t)256 << 10)

enum phase {
    PHASE_STREAMING,
    PHASE_DEVICE_FD, /* the front-end uses a descriptor of the device */
    PHASE_ENDING,    /* all bytes are there; state_end has returned -EAGAIN */
    PHASE_ENDED,     /* with `result` */
};

struct gw_state_transfer {
    struct gw_daemon *daemon; /* NULL: the transfer is freed by its last post */
    struct gw_post post;
    bool is_posted; /* atomic */
    struct gw_peer_stream *stream;
    enum gw_state_direction direction;
    enum phase phase;
    bool has_finished; /* the device has saved its last byte */
    bool device_waits; /* a callback has returned -EAGAIN */
    bool is_awaited;   /* by CHECK_DEVICE_STATE */
    uint64_t n_bytes;
    uint64_t n_moved; /* at the last check of the time */
    int result;
    char why[200]; /* of the result */
};

static const char *verb(const struct gw_state_transfer *t)
{
    return t->direction == GW_STATE_SAVE ? "save" : "load";
}

bool gw_state_is_offered(const struct gw_daemon *d)
{
    return d->ops.stateless || d->ops.state_save;
}

/* ---- posts ---- */

static void post(void *arg)
{
    struct gw_state_transfer *t = arg;

    if (!__atomic_exchange_n(&t->is_posted, true, __ATOMIC_ACQ_REL))
        (void)gw_worker_post(t->daemon->control, &t->post); /* the worker outlives the daemon */
}

/* ---- the end ---- */

/* The device may have set gw_last_error, for example with functions of state.h. */
static int device_failed(const struct gw_state_transfer *t, int r)
{
    char why[sizeof(t->why)];

    snprintf(why, sizeof(why), "%s", gw_last_error()[0] ? gw_last_error() : strerror(-r));
    return gw_fail(r, "the device cannot %s its state: %s", verb(t), why);
}

static void forget_last_error(void)
{
    (void)gw_fail(-EIO, "%s", "");
}

/* Log and keep the result, whose reason is in gw_last_error, and answer a message that waits. */
static void end(struct gw_state_transfer *t, int r)
{
    struct gw_daemon *d = t->daemon;

    t->phase = PHASE_ENDED;
    t->result = r;
    if (r < 0) {
        snprintf(t->why, sizeof(t->why), "%s", gw_last_error());
        gw_log(&d->log, GW_LOG_WARNING, "%s", t->why);
    } else {
        gw_log(&d->log, GW_LOG_INFO, "device state: %s of %" PRIu64 " bytes", verb(t), t->n_bytes);
    }
    if (!t->is_awaited)
        return;
    t->is_awaited = false;
    gw_timer_stop(d->timer);
    gw_session_continue(d, r);
}

/* The transfer has failed, with the reason in gw_last_error. */
static void fail(struct gw_state_transfer *t, int r)
{
    struct gw_daemon *d = t->daemon;
    char why[sizeof(t->why)];

    snprintf(why, sizeof(why), "%s", gw_last_error());
    gw_peer_stream_free(gw_steal(t->stream));
    if (d->ops.state_end)
        (void)d->ops.state_end(d->dev, t->direction, r);
    end(t, gw_fail(r, "%s", why));
}

/* All bytes are there. */
static void finish(struct gw_state_transfer *t)
{
    struct gw_daemon *d = t->daemon;
    int r = 0;

    gw_peer_stream_free(gw_steal(t->stream));
    forget_last_error();
    if (d->ops.state_end)
        r = d->ops.state_end(d->dev, t->direction, 0);
    if (r == -EAGAIN) {
        t->phase = PHASE_ENDING;
        t->device_waits = true;
        return;
    }
    end(t, r < 0 ? device_failed(t, r) : 0);
}

/* ---- pieces ---- */

static int64_t call_device(struct gw_state_transfer *t, void *at, size_t len)
{
    struct gw_daemon *d = t->daemon;
    int64_t n;

    forget_last_error();
    if (d->ops.stateless)
        return t->direction == GW_STATE_SAVE
                   ? 0
                   : gw_fail(-EINVAL, "it has none, and the front-end sent one");
    n = t->direction == GW_STATE_SAVE ? d->ops.state_save(d->dev, at, len)
                                      : d->ops.state_load(d->dev, at, len);
    if (n > (int64_t)len || (n == 0 && t->direction == GW_STATE_LOAD))
        return gw_fail(-EINVAL, "its callback returned %" PRId64 " for %zu bytes", n, len);
    return n;
}

/* One piece. Returns: 1 after one; 0 if none can follow at present; a negative errno. */
static int move_piece(struct gw_state_transfer *t)
{
    uint64_t limit = t->daemon->state_bytes_max;
    size_t len = 0;
    void *at = t->has_finished ? NULL : gw_peer_stream_get(t->stream, &len);
    int64_t n;

    if (len == 0)
        return 0;
    n = call_device(t, at, len < PIECE_MAX ? len : PIECE_MAX);
    if (n == -EAGAIN) {
        t->device_waits = true;
        return 0;
    }
    if (n < 0)
        return device_failed(t, (int)n);
    if ((uint64_t)n > limit - t->n_bytes)
        return gw_fail(-EFBIG, "device state: more than %" PRIu64 " bytes to %s", limit, verb(t));
    t->n_bytes += (uint64_t)n;
    gw_peer_stream_put(t->stream, (size_t)n);
    if (n == 0) {
        t->has_finished = true;
        gw_peer_stream_finish(t->stream);
    }
    return 1;
}

static void stream(struct gw_state_transfer *t)
{
    int r = move_piece(t);

    if (r < 0) {
        fail(t, r);
        return;
    }
    if (r > 0) {
        post(t);
        return;
    }
    if (t->device_waits)
        return;
    r = gw_peer_stream_status(t->stream);
    if (r < 0)
        fail(t, gw_fail(r, "device state: cannot %s the front-end's descriptor: %s",
                        t->direction == GW_STATE_SAVE ? "write" : "read", strerror(-r)));
    else if (r == 0)
        finish(t);
}

static void run(struct gw_post *posted)
{
    struct gw_state_transfer *t = gw_container_of(posted, struct gw_state_transfer, post);

    __atomic_store_n(&t->is_posted, false, __ATOMIC_RELEASE);
    if (!t->daemon)
        free(t);
    else if (!t->device_waits && t->phase == PHASE_STREAMING)
        stream(t);
}

/* ---- messages ---- */

static int open_stream(struct gw_state_transfer *t, int *fd)
{
    bool writes = t->direction == GW_STATE_SAVE;
    enum gw_peer_stream_use use = writes ? GW_PEER_STREAM_WRITE : GW_PEER_STREAM_READ;
    char why[160];
    int r = gw_peer_stream_new(&t->stream, fd, use, post, t, why, sizeof(why));

    return r < 0 ? gw_fail(r, "the descriptor for the device state: %s", why) : 0;
}

static int call_begin(struct gw_state_transfer *t, int *fd, int *ret_fd)
{
    struct gw_daemon *d = t->daemon;
    int own_fd = -1, r = 0;

    forget_last_error();
    if (d->ops.state_begin)
        r = d->ops.state_begin(d->dev, t->direction, &own_fd);
    if (r < 0)
        return device_failed(t, r);
    if (own_fd >= 0) {
        t->phase = PHASE_DEVICE_FD;
        *ret_fd = own_fd;
        return 0;
    }
    r = open_stream(t, fd);
    if (r < 0 && d->ops.state_end)
        (void)d->ops.state_end(d->dev, t->direction, r);
    return r;
}

int gw_state_begin(struct gw_daemon *d, enum gw_state_direction direction, int *fd, int *ret_fd)
{
    struct gw_state_transfer *t;
    int r;

    if (d->session.state && d->session.state->phase != PHASE_ENDED)
        return gw_fail(-EBUSY, "another transfer of the device state has not ended");
    gw_state_cancel(d);
    t = calloc(1, sizeof(*t));
    if (!t)
        return gw_fail(-ENOMEM, "no memory to transfer the device state");
    t->daemon = d;
    t->post.run = run;
    t->direction = direction;
    r = call_begin(t, fd, ret_fd);
    if (r < 0) {
        free(t);
        return r;
    }
    d->session.state = t;
    post(t);
    return 0;
}

int gw_state_check(struct gw_daemon *d)
{
    struct gw_state_transfer *t = d->session.state;

    if (!t)
        return gw_fail(-EINVAL, "CHECK_DEVICE_STATE without SET_DEVICE_STATE_FD");
    if (t->phase == PHASE_DEVICE_FD)
        finish(t);
    if (t->phase == PHASE_ENDED)
        return t->result < 0 ? gw_fail(t->result, "%s", t->why) : 0;
    t->is_awaited = true;
    t->n_moved = t->stream ? gw_peer_stream_moved(t->stream) : 0;
    gw_timer_start(d->timer, d->drain_timeout_ns, 0);
    return GW_OP_PENDING;
}

bool gw_state_is_running(const struct gw_daemon *d)
{
    return d->session.state && d->session.state->phase != PHASE_ENDED;
}

bool gw_state_is_awaited(const struct gw_daemon *d)
{
    return d->session.state && d->session.state->is_awaited;
}

void gw_state_continue(struct gw_daemon *d)
{
    struct gw_state_transfer *t = d->session.state;

    if (!__atomic_exchange_n(&d->state_continues, false, __ATOMIC_ACQ_REL) || !t ||
        !t->device_waits)
        return;
    t->device_waits = false;
    if (t->phase == PHASE_ENDING)
        finish(t);
    else if (t->phase == PHASE_STREAMING)
        post(t);
}

void gw_state_check_time(struct gw_daemon *d)
{
    struct gw_state_transfer *t = d->session.state;
    uint64_t n = t->stream ? gw_peer_stream_moved(t->stream) : 0;

    if (n > t->n_moved) {
        t->n_moved = n;
        gw_timer_start(d->timer, d->drain_timeout_ns, 0);
        return;
    }
    fail(t, gw_fail(-ETIMEDOUT, "device state: no progress for %" PRIu64 " ms",
                    d->drain_timeout_ns / 1000000));
}

void gw_state_cancel(struct gw_daemon *d)
{
    struct gw_state_transfer *t = gw_steal(d->session.state);

    if (!t)
        return;
    if (t->is_awaited)
        gw_timer_stop(d->timer);
    gw_peer_stream_free(t->stream);
    if (t->phase != PHASE_ENDED && d->ops.state_end)
        (void)d->ops.state_end(d->dev, t->direction, -ECANCELED);
    t->daemon = NULL;
    if (!__atomic_load_n(&t->is_posted, __ATOMIC_ACQUIRE))
        free(t);
}
