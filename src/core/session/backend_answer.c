/* SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause */
/*
 * The answers on the back-end channel. A front-end handles one request after another, so each
 * answer belongs to the oldest request that has none.
 */
#include "answer_reader.h"
#include "backend_req.h"
#include "base/cleanup.h"
#include "core/daemon/daemon.h"

#include <errno.h>
#include <inttypes.h>
#include <poll.h>
#include <string.h>

enum {
    ANSWERS_PER_TURN = 16
};

static int check_answer(const struct gw_channel *c, const struct gw_msg *msg)
{
    const struct gw_wire_header *h = &msg->header;
    uint32_t id;

    if ((h->flags & ~GW_MSG_NEED_REPLY) != (GW_MSG_VERSION | GW_MSG_REPLY))
        return gw_fail(-EPROTO, "a message with flags %#" PRIx32 " is no answer", h->flags);
    if (c->n_sent == 0)
        return gw_fail(-EPROTO, "an answer to request %" PRIu32 ", which was not made", h->request);
    id = c->sent[c->first].id;
    if (h->request != id)
        return gw_fail(-EPROTO, "an answer to request %" PRIu32 " instead of %" PRIu32, h->request,
                       id);
    if (h->size != sizeof(uint64_t))
        return gw_fail(-EPROTO, "the answer to request %" PRIu32 " is %" PRIu32 " bytes, not 8", id,
                       h->size);
    if (msg->n_fds > (id == GW_BACKEND_MSG_SHARED_OBJECT_LOOKUP))
        return gw_fail(-EPROTO, "the answer to request %" PRIu32 " has a file descriptor", id);
    return 0;
}

/* The result of a request from its answer. */
static int take_answer(struct gw_session *s, struct gw_backend_req *req, struct gw_msg *msg)
{
    uint64_t value;

    memcpy(&value, msg->payload, sizeof(value));
    if (value != 0)
        return gw_fail(-EREMOTEIO,
                       "the front-end refused back-end request %" PRIu32 " (%#" PRIx64 ")", req->id,
                       value);
    if (req->id != GW_BACKEND_MSG_SHARED_OBJECT_LOOKUP)
        return 0;
    s->has_misplaced_fd = msg->n_fds == 0;
    if (msg->n_fds == 0)
        return gw_fail(-EPROTO, "the front-end found the shared object but sent no fd");
    req->fd = gw_steal_fd(&msg->fds[0]);
    return 0;
}

/* Returns: 0; a negative errno if the channel must be closed. */
static int answered(struct gw_daemon *d, struct gw_msg *msg)
{
    struct gw_channel *c = &d->channel;
    struct gw_backend_req *req;
    int r = check_answer(c, msg);

    if (r < 0)
        return r;
    req = gw_backend_req_take_sent(c);
    if (req) {
        r = take_answer(&d->session, req, msg);
        gw_log(&d->log, GW_LOG_DEBUG, "back-end request %" PRIu32 ": %s", req->id,
               r < 0 ? gw_last_error() : "ok");
        gw_answer_reader_next(c->reader);
        gw_backend_req_finish(d, req, r);
    } else {
        gw_answer_reader_next(c->reader);
        gw_log(&d->log, GW_LOG_INFO, "a late answer on the back-end channel is discarded");
        __atomic_sub_fetch(&c->n, 1, __ATOMIC_RELAXED);
    }
    return 0;
}

static int fail_receiving(int r)
{
    if (r == -ENOTCONN || r == -ECONNRESET)
        return gw_fail(-ECONNRESET, "the front-end closed the back-end channel");
    if (r == -EMSGSIZE || r == -E2BIG || r == -EPROTO)
        return gw_fail(-EPROTO, "an answer is too long or has too many file descriptors");
    return gw_fail(r, "answers cannot be received: %s", strerror(-r));
}

static void answers_ready(struct gw_source *source, uint32_t events)
{
    struct gw_daemon *d = gw_container_of(source, struct gw_daemon, channel.answers);
    struct gw_channel *c = &d->channel;
    struct gw_msg *msg;
    int r = 1;

    for (unsigned i = 0; i < ANSWERS_PER_TURN && r == 1; i++) {
        r = gw_answer_reader_receive(c->reader, &msg);
        if (r < 0)
            r = fail_receiving(r);
        else if (r == 1 && answered(d, msg) < 0)
            r = -EPROTO;
    }
    if (r == -ECONNRESET)
        gw_backend_req_close(d, r);
    else if (r < 0)
        gw_backend_req_break(d, r);
    else
        gw_backend_req_watch_time(c);
}

/* ---- the reader ---- */

/* A place for another reader. Returns: NULL if all of them are stuck. */
static struct gw_answer_reader **free_place(struct gw_channel *c)
{
    for (unsigned i = 0; i < GW_READERS_MAX; i++) {
        struct gw_answer_reader **place = &c->readers[i];

        if (*place && gw_answer_reader_has_ended(*place))
            gw_answer_reader_free(gw_steal(*place));
        if (!*place)
            return place;
    }
    return NULL;
}

int gw_backend_answers_start(struct gw_daemon *d)
{
    struct gw_channel *c = &d->channel;
    struct gw_answer_reader **place;
    int r;

    if (c->reader)
        return 0;
    place = free_place(c);
    if (!place)
        return gw_fail(-EAGAIN, "the channels of %d earlier sessions are still blocked",
                       GW_READERS_MAX);
    r = gw_answer_reader_new(place, d->session.backend.fd);
    if (r < 0)
        return r;
    c->answers = (struct gw_source){
        .fd = gw_answer_reader_fd(*place), .events = POLLIN, .cb = answers_ready};
    r = d->control->loop->ops->add(d->control->loop, &c->answers);
    if (r < 0) {
        gw_answer_reader_stop(*place);
        return gw_fail(r, "the answers of a back-end channel cannot be watched: %s", strerror(-r));
    }
    c->reader = *place;
    return 0;
}
