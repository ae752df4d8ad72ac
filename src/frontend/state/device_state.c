/* SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause */
/*
 * Device state ("Migrating back-end state"): the two messages, and the whole transfer between the
 * memory of the program and the back-end.
 *
 * A transfer is an operation: SET_DEVICE_STATE_FD with one end of a pipe, the bytes, and
 * CHECK_DEVICE_STATE. A back-end may hold the lock of the pipe, or send another descriptor, so only
 * the thread of a gw_peer_stream touches it. Its wakes arrive through an eventfd.
 */
#include "device_state.h"

#include "base/cleanup.h"
#include "base/clock.h"
#include "fd/peer_fd.h"
#include "fd/peer_stream.h"
#include "frontend/transport/fe_requests.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <unistd.h>

enum {
    PIPE_SIZE = 1 << 20,
    SAVED_MIN = 64 << 10,
    PIECES_PER_TURN = 4, /* so that the loop of a program does other things, too */
};

struct gw_frontend_transfer {
    bool is_save;
    int fd;      /* ours */
    int peer_fd; /* for the back-end */
    int ret_fd;  /* which the back-end sent instead */
    int wake_fd; /* an eventfd */
    struct gw_peer_stream *stream;
    bool has_finished; /* all bytes to load are in the stream */
    bool is_cut;       /* the back-end closed it before; CHECK_DEVICE_STATE says why */
    uint64_t progress; /* gw_peer_stream_moved, */
    uint64_t deadline; /* and until when it must change */

    /* The bytes. `saved` grows up to `limit`. */
    uint8_t *saved;
    const uint8_t *loaded;
    size_t len;
    size_t capacity;
    uint64_t limit;
    size_t n; /* loaded bytes in the stream */
    void **ret_data;
    size_t *ret_len;
};

/* ---- the messages ---- */

/* A number: an error, and whether no descriptor comes with it. */
static int take_fd(struct gw_frontend_op *op, struct gw_frontend_message *answer)
{
    int *ret_fd = op->call.ret;
    uint64_t value;

    memcpy(&value, answer->payload, sizeof(value));
    if (value & GW_STATE_FD_ERROR_MASK)
        return gw_frontend_fail(-EREMOTEIO,
                                "SET_DEVICE_STATE_FD: the back-end refused (0x%" PRIx64 ")", value);
    if (value & GW_STATE_FD_NONE) {
        *ret_fd = -1;
        return 0;
    }
    if (answer->n_fds == 0)
        return gw_frontend_break(op->fe, -EPROTO,
                                 "SET_DEVICE_STATE_FD: the answer lacks its descriptor");
    *ret_fd = answer->fds[0];
    answer->n_fds = 0;
    return 0;
}

int gw_frontend_encode_state_fd(struct gw_frontend_op *op,
                                enum gw_frontend_state_direction direction, int fd, int *ret_fd)
{
    if ((unsigned)direction > GW_FRONTEND_STATE_LOAD)
        return gw_frontend_fail(-EINVAL, "SET_DEVICE_STATE_FD: direction %u", (unsigned)direction);
    op->call = (struct gw_frontend_call){
        .request = GW_MSG_SET_DEVICE_STATE_FD,
        .payload.device_state = {.direction = direction, .phase = GW_STATE_PHASE_STOPPED},
        .size = sizeof(op->call.payload.device_state),
        .needs = GW_FRONTEND_NEEDS(DEVICE_STATE),
        .has_reply = true,
        .reply_size = sizeof(uint64_t),
        .has_reply_fd = true,
        .finish = take_fd,
        .ret = ret_fd,
        .fds = {fd},
        .n_fds = 1,
    };
    return GW_FRONTEND_STEP_SEND;
}

static int take_result(struct gw_frontend_op *op, struct gw_frontend_message *answer)
{
    uint64_t value;

    memcpy(&value, answer->payload, sizeof(value));
    return value ? gw_frontend_fail(
                       -EREMOTEIO, "CHECK_DEVICE_STATE: the back-end failed (0x%" PRIx64 ")", value)
                 : 0;
}

int gw_frontend_encode_check_state(struct gw_frontend_op *op)
{
    op->call = (struct gw_frontend_call){
        .request = GW_MSG_CHECK_DEVICE_STATE,
        .needs = GW_FRONTEND_NEEDS(DEVICE_STATE),
        .has_reply = true,
        .reply_size = sizeof(uint64_t),
        .finish = take_result,
    };
    return GW_FRONTEND_STEP_SEND;
}

/* ---- a transfer ---- */

static const char *verb(const struct gw_frontend_transfer *t)
{
    return t->is_save ? "save" : "load";
}

static void wake(void *arg)
{
    const struct gw_frontend_transfer *t = arg;

    (void)eventfd_write(t->wake_fd, 1);
}

static void end_stream(struct gw_frontend_op *op)
{
    struct gw_frontend_transfer *t = op->transfer;

    gw_peer_stream_free(gw_steal(t->stream));
    op->fe->state_fd = -1;
    op->fe->retry_at = 0;
}

static int open_stream(struct gw_frontend_op *op)
{
    struct gw_frontend_transfer *t = op->transfer;
    enum gw_peer_stream_use use = t->is_save ? GW_PEER_STREAM_READ : GW_PEER_STREAM_WRITE;
    int *fd = t->ret_fd >= 0 ? &t->ret_fd : &t->fd;
    char why[160];
    int r;

    op->keeps_going = true; /* CHECK_DEVICE_STATE follows in any case */
    gw_close(&t->peer_fd);
    r = gw_peer_stream_new(&t->stream, fd, use, wake, t, why, sizeof(why));
    /* The back-end must see the end of the stream. */
    gw_peer_fd_close(&t->fd);
    if (r < 0)
        return gw_frontend_fail(r, "descriptor for the device state: %s", why);
    op->fe->state_fd = t->wake_fd;
    t->deadline = gw_clock_ns() + op->fe->cfg.timeout_ms * GW_NS_PER_MS;
    return GW_FRONTEND_STEP_DONE;
}

static int reserve(struct gw_frontend_transfer *t, size_t len)
{
    size_t capacity = t->capacity ? t->capacity : SAVED_MIN;
    uint8_t *saved;

    if (len > t->limit - t->len)
        return gw_frontend_fail(-EFBIG, "device state: more than %" PRIu64 " bytes", t->limit);
    while (capacity - t->len < len && capacity <= SIZE_MAX / 2)
        capacity *= 2;
    if (capacity == t->capacity)
        return 0;
    saved = capacity - t->len < len ? NULL : realloc(t->saved, capacity);
    if (!saved)
        return gw_frontend_fail_fixed(-ENOMEM, "out of memory");
    t->saved = saved;
    t->capacity = capacity;
    return 0;
}

/* Returns: 1 after one piece; 0 if none can follow at present; a negative errno. */
static int move_piece(struct gw_frontend_transfer *t)
{
    size_t len;
    void *at = gw_peer_stream_get(t->stream, &len);
    int r;

    if (len == 0)
        return 0;
    if (t->is_save) {
        r = reserve(t, len);
        if (r < 0)
            return r;
        memcpy(t->saved + t->len, at, len);
        t->len += len;
        gw_peer_stream_put(t->stream, len);
        return 1;
    }
    if (len > t->len - t->n)
        len = t->len - t->n;
    if (len > 0)
        memcpy(at, t->loaded + t->n, len);
    t->n += len;
    gw_peer_stream_put(t->stream, len);
    if (t->n < t->len)
        return 1;
    t->has_finished = true;
    gw_peer_stream_finish(t->stream);
    return 0;
}

/* Returns: WAIT; a negative errno if the bytes stand still. */
static int wait_for_progress(struct gw_frontend_op *op)
{
    struct gw_frontend_transfer *t = op->transfer;
    uint64_t now = gw_clock_ns(), progress = gw_peer_stream_moved(t->stream);

    if (progress != t->progress)
        t->deadline = now + op->fe->cfg.timeout_ms * GW_NS_PER_MS;
    t->progress = progress;
    if (now >= t->deadline)
        return gw_frontend_fail(-ETIMEDOUT, "device state: no byte to %s for %u ms", verb(t),
                                op->fe->cfg.timeout_ms);
    op->fe->retry_at = t->deadline;
    return GW_FRONTEND_STEP_WAIT;
}

static int move(struct gw_frontend_op *op)
{
    struct gw_frontend_transfer *t = op->transfer;
    eventfd_t count;
    int r, n = PIECES_PER_TURN;

    (void)eventfd_read(t->wake_fd, &count);
    r = gw_frontend_check_silence(op->fe, "device state");
    if (r < 0)
        return r;
    do
        r = t->has_finished ? 0 : move_piece(t);
    while (r == 1 && --n > 0);
    if (r < 0)
        return r;
    if (r == 1) {
        (void)eventfd_write(t->wake_fd, 1);
        return wait_for_progress(op);
    }
    r = gw_peer_stream_status(t->stream);
    if (r == GW_PEER_STREAM_RUNS)
        return wait_for_progress(op);
    t->is_cut = !t->is_save && (r == -EPIPE || r == -ECONNRESET);
    if (r == 0 || t->is_cut)
        return GW_FRONTEND_STEP_DONE;
    return gw_frontend_fail(r, "device state: cannot %s: %s", verb(t), strerror(-r));
}

/* A step that is called again while it waits. */
static int stream_step(struct gw_frontend_op *op)
{
    int r;

    if (!op->transfer->stream) /* which could not be opened */
        return GW_FRONTEND_STEP_DONE;
    r = move(op);
    if (r != GW_FRONTEND_STEP_WAIT)
        end_stream(op);
    return r;
}

static int hand_over(struct gw_frontend_op *op)
{
    struct gw_frontend_transfer *t = op->transfer;

    if (op->first_error == 0 && t->is_cut)
        return gw_frontend_fail(-EPIPE, "device state: the back-end has not read all of it");
    if (op->first_error < 0 || !t->is_save)
        return GW_FRONTEND_STEP_DONE;
    *t->ret_data = gw_steal(t->saved);
    *t->ret_len = t->len;
    return GW_FRONTEND_STEP_DONE;
}

static int send_fd(struct gw_frontend_op *op)
{
    struct gw_frontend_transfer *t = op->transfer;

    return gw_frontend_encode_state_fd(
        op, t->is_save ? GW_FRONTEND_STATE_SAVE : GW_FRONTEND_STATE_LOAD, t->peer_fd, &t->ret_fd);
}

static gw_frontend_step *const transfer[] = {
    send_fd, open_stream, stream_step, gw_frontend_encode_check_state, hand_over, NULL,
};

/* A larger pipe needs fewer switches between the two processes, but the user may have a limit. */
static int make_pipe(struct gw_frontend_transfer *t)
{
    int fds[2];

    if (pipe2(fds, O_CLOEXEC) < 0)
        return -errno;
    (void)fcntl(fds[0], F_SETPIPE_SZ, PIPE_SIZE);
    t->fd = fds[t->is_save ? 0 : 1];
    t->peer_fd = fds[t->is_save ? 1 : 0];
    t->wake_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    return t->wake_fd < 0 ? -errno : 0;
}

static int encode_transfer(struct gw_frontend_op *op, bool is_save)
{
    struct gw_frontend_transfer *t = calloc(1, sizeof(*t));
    int r;

    if (!t)
        return gw_frontend_fail_fixed(-ENOMEM, "out of memory");
    *t = (struct gw_frontend_transfer){
        .is_save = is_save, .fd = -1, .peer_fd = -1, .ret_fd = -1, .wake_fd = -1};
    op->transfer = t;
    op->call.request = GW_MSG_SET_DEVICE_STATE_FD;
    op->steps = transfer;
    r = make_pipe(t);
    if (r == 0)
        return GW_FRONTEND_STEP_SEND;
    return gw_frontend_fail(r, "pipe for the device state: %s", strerror(-r));
}

int gw_frontend_encode_save_state(struct gw_frontend_op *op, uint64_t limit, void **ret_data,
                                  size_t *ret_len)
{
    int r = encode_transfer(op, true);

    if (r < 0)
        return r;
    op->transfer->limit = limit;
    op->transfer->ret_data = ret_data;
    op->transfer->ret_len = ret_len;
    return r;
}

int gw_frontend_encode_load_state(struct gw_frontend_op *op, const void *data, size_t len)
{
    int r = encode_transfer(op, false);

    if (r < 0)
        return r;
    op->transfer->loaded = data;
    op->transfer->len = len;
    return r;
}

void gw_frontend_release_state(struct gw_frontend_op *op)
{
    struct gw_frontend_transfer *t = gw_steal(op->transfer);

    if (!t)
        return;
    gw_peer_stream_free(t->stream);
    if (op->fe->state_fd >= 0 && op->fe->state_fd == t->wake_fd)
        op->fe->state_fd = -1;
    (void)gw_frontend_watch(op->fe);
    gw_close(&t->wake_fd);
    gw_peer_fd_close_all(&t->fd, 1);
    gw_peer_fd_close_all(&t->peer_fd, 1);
    gw_peer_fd_close_all(&t->ret_fd, 1);
    free(t->saved);
    free(t);
}
