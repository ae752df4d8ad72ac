/* SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause */
/*
 * The back-end channel. Nothing here waits for the front-end, because the front-end may be waiting
 * for us. A request that would block is sent later. Answers come from a thread of their own
 * (answer_reader.h); send(2), unlike recv(2), takes no lock that the front-end can hold.
 *
 * A request is in `waiting`, then in `sent`, then it ends. Answers arrive in the order of `sent`,
 * because a front-end handles one request after another. A request whose time has passed leaves a
 * place in `sent` for its answer, which counts as a request until then.
 */
#include "backend_req.h"

#include "answer_reader.h"
#include "base/cleanup.h"
#include "base/clock.h"
#include "core/daemon/daemon.h"
#include "core/message/ctl_iotlb.h"
#include "fd/peer_fd.h"
#include "session.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>

enum {
    READER_PATIENCE_MS = 1000
};

/* ---- the end of a request ---- */

/* Call back with a result whose reason is in gw_last_error. `req` may be freed by that. */
static void call_done(struct gw_backend_req *req, int r)
{
    gw_close(&req->send_fd);
    req->done((struct gw_channel_request *)(void *)req, r);
}

void gw_backend_req_finish(struct gw_daemon *d, struct gw_backend_req *req, int r)
{
    __atomic_sub_fetch(&d->channel.n, 1, __ATOMIC_RELAXED);
    call_done(req, r);
}

static struct gw_backend_req *first_waiting(struct gw_channel *c)
{
    return gw_list_is_empty(&c->waiting)
               ? NULL
               : gw_container_of(c->waiting.next, struct gw_backend_req, link);
}

struct gw_backend_req *gw_backend_req_take_sent(struct gw_channel *c)
{
    struct gw_backend_req *req = c->sent[c->first].req;

    c->first = (c->first + 1) % GW_CHANNEL_REQUESTS_MAX;
    c->n_sent--;
    return req;
}

void gw_backend_req_watch_time(struct gw_channel *c)
{
    uint64_t now = gw_clock_ns(), first = UINT64_MAX;

    for (struct gw_list *pos = c->waiting.next; pos != &c->waiting; pos = pos->next) {
        const struct gw_backend_req *req = gw_container_of(pos, struct gw_backend_req, link);

        first = req->deadline_ns < first ? req->deadline_ns : first;
    }
    for (unsigned i = 0; i < c->n_sent; i++) {
        const struct gw_backend_req *req = c->sent[(c->first + i) % GW_CHANNEL_REQUESTS_MAX].req;

        first = req && req->deadline_ns < first ? req->deadline_ns : first;
    }
    if (first == UINT64_MAX)
        gw_timer_stop(c->timer);
    else
        gw_timer_start(c->timer, first > now ? first - now : 0, 0);
}

static void expire_waiting(struct gw_daemon *d, uint64_t now)
{
    struct gw_list *pos, *tmp;

    gw_list_for_each_safe (pos, tmp, &d->channel.waiting) {
        struct gw_backend_req *req = gw_container_of(pos, struct gw_backend_req, link);

        if (req->deadline_ns > now)
            continue;
        gw_list_remove(pos);
        gw_backend_req_finish(
            d, req,
            gw_fail(-ETIMEDOUT, "back-end request %" PRIu32 " could not be sent in time", req->id));
    }
}

static void time_passed(void *arg)
{
    struct gw_daemon *d = arg;
    struct gw_channel *c = &d->channel;
    uint64_t now = gw_clock_ns();

    for (unsigned i = 0; i < c->n_sent; i++) {
        unsigned at = (c->first + i) % GW_CHANNEL_REQUESTS_MAX;
        struct gw_backend_req *req = c->sent[at].req;

        if (!req || req->deadline_ns > now)
            continue;
        c->sent[at].req = NULL; /* still counted, as its answer may come */
        call_done(req, gw_fail(-ETIMEDOUT, "back-end request %" PRIu32 " was not answered in time",
                               c->sent[at].id));
    }
    expire_waiting(d, now);
    gw_backend_req_watch_time(c);
}

/* ---- the end of a channel ---- */

static void close_socket(struct gw_daemon *d)
{
    struct gw_session *s = &d->session;

    d->control->loop->ops->remove(d->control->loop, &s->backend);
    if (s->backend.fd >= 0)
        (void)shutdown(s->backend.fd, SHUT_RDWR); /* the reader may keep its duplicate open */
    gw_peer_fd_close(&s->backend.fd);
}

void gw_backend_req_close(struct gw_daemon *d, int r)
{
    struct gw_channel *c = &d->channel;
    struct gw_backend_req *req;
    char why[160];

    snprintf(why, sizeof(why), "%s", gw_last_error());
    close_socket(d);
    if (c->reader) {
        d->control->loop->ops->remove(d->control->loop, &c->answers);
        gw_answer_reader_stop(gw_steal(c->reader));
    }
    gw_timer_stop(c->timer);
    while (c->n_sent > 0) {
        req = gw_backend_req_take_sent(c);
        if (req)
            gw_backend_req_finish(d, req, gw_fail(r, "%s", why));
        else
            __atomic_sub_fetch(&c->n, 1, __ATOMIC_RELAXED);
    }
    while ((req = first_waiting(c))) {
        gw_list_remove(&req->link);
        gw_backend_req_finish(d, req, gw_fail(r, "%s", why));
    }
}

void gw_backend_req_break(struct gw_daemon *d, int r)
{
    gw_log(&d->log, GW_LOG_WARNING, "the back-end channel is closed: %s", gw_last_error());
    gw_backend_req_close(d, r);
}

void gw_backend_req_hung_up(struct gw_daemon *d)
{
    struct gw_session *s = &d->session;

    /* The reader passes on what was sent before, and then the end. */
    if (d->channel.reader)
        d->control->loop->ops->remove(d->control->loop, &s->backend);
    else
        gw_backend_req_close(d, gw_fail(-ECONNRESET, "the front-end closed the back-end channel"));
}

int gw_backend_req_set_fd(struct gw_daemon *d, int fd)
{
    gw_cleanup_peer_fd int owned_fd = fd;
    int r = gw_socket_is_listening(fd);

    if (r != 0)
        return r < 0 ? r : gw_fail(-EINVAL, "the back-end channel is a listening socket");
    gw_backend_req_close(d, gw_fail(-ECONNRESET, "the front-end replaced the back-end channel"));
    d->session.backend.fd = gw_steal_fd(&owned_fd);
    return 0;
}

/* ---- sending ---- */

/* A suspended device, all of whose rings are stopped, sends nothing ("Suspended device state"). */
static bool is_suspended(const struct gw_daemon *d)
{
    for (unsigned i = 0; i < d->num_queues; i++)
        if (d->session.vrings[i].started)
            return false;
    return true;
}

/* Returns: 0; -EAGAIN if the channel is full; -EPIPE if it is unusable; another errno. */
static int send_message(struct gw_daemon *d, struct gw_wire_header header, const void *payload,
                        int fd)
{
    struct gw_tx tx;
    int r;

    gw_tx_init(&tx, &header, payload, fd);
    r = gw_tx_pump(&tx, d->session.backend.fd);
    if (r < 0 && tx.n_sent > 0)
        return gw_fail(-EPIPE, "back-end request %" PRIu32 " was sent in part", header.request);
    if (r == -EPIPE || r == -ECONNRESET)
        return gw_fail(-EPIPE, "the front-end closed the back-end channel");
    return r < 0 ? gw_fail(r, "back-end request %" PRIu32 " cannot be sent: %s", header.request,
                           strerror(-r))
                 : 0;
}

/* Returns: 0 if the request was sent or has ended; -EAGAIN; -EPIPE. */
static int send_request(struct gw_daemon *d, struct gw_backend_req *req)
{
    struct gw_channel *c = &d->channel;
    bool acks = gw_session_has_protocol(&d->session, GW_PROTOCOL_F_REPLY_ACK);
    bool is_answered = acks || req->id == GW_BACKEND_MSG_SHARED_OBJECT_LOOKUP;
    const struct gw_wire_header header = {
        .request = req->id,
        .flags = GW_MSG_VERSION | (acks ? GW_MSG_NEED_REPLY : 0),
        .size = req->size,
    };
    int r = is_answered ? gw_backend_answers_start(d) : 0;

    if (r == 0) {
        r = send_message(d, header, req->payload, req->send_fd);
        if (r == -EAGAIN || r == -EPIPE)
            return r;
    }
    gw_list_remove(&req->link);
    if (r < 0 || !is_answered) {
        gw_backend_req_finish(d, req, r);
        return 0;
    }
    gw_close(&req->send_fd);
    c->sent[(c->first + c->n_sent) % GW_CHANNEL_REQUESTS_MAX].req = req;
    c->sent[(c->first + c->n_sent) % GW_CHANNEL_REQUESTS_MAX].id = req->id;
    c->n_sent++;
    return 0;
}

/* The pending CONFIG_CHANGE, which has no callback. Returns: as send_request. */
static int send_config_change(struct gw_daemon *d)
{
    const struct gw_wire_header header = {
        .request = GW_BACKEND_MSG_CONFIG_CHANGE,
        .flags = GW_MSG_VERSION,
    };
    int r;

    if (!gw_session_has_protocol(&d->session, GW_PROTOCOL_F_CONFIG) ||
        !__atomic_exchange_n(&d->config_changed, false, __ATOMIC_ACQ_REL))
        return 0;
    r = send_message(d, header, NULL, -1);
    if (r == 0)
        gw_log(&d->log, GW_LOG_INFO, "sent CONFIG_CHANGE to the front-end");
    if (r == -EAGAIN)
        __atomic_store_n(&d->config_changed, true, __ATOMIC_RELEASE);
    return r == -EAGAIN ? r : r < 0 ? -EPIPE : 0;
}

/* Missing translations, which have no answer here: the front-end sends an update. */
static int send_misses(struct gw_daemon *d)
{
    const struct gw_wire_header header = {
        .request = GW_BACKEND_MSG_IOTLB_MSG,
        .flags = GW_MSG_VERSION,
        .size = sizeof(struct gw_wire_iotlb),
    };
    struct gw_iotlb_report report;
    int r = 0;

    while (r == 0 && gw_ctl_next_miss(d, &report)) {
        const struct gw_wire_iotlb wire = {
            .iova = report.miss.iova,
            .access = (uint8_t)report.miss.access,
            .type = report.is_failure ? GW_IOTLB_ACCESS_FAIL : GW_IOTLB_MISS,
        };

        r = send_message(d, header, &wire, -1);
        if (r == 0)
            gw_iotlb_misses_sent(&d->misses, &report, gw_clock_ns());
    }
    return r == -EAGAIN ? r : r < 0 ? -EPIPE : 0;
}

bool gw_backend_req_flush(struct gw_daemon *d)
{
    struct gw_channel *c = &d->channel;
    struct gw_backend_req *req;
    int r = 0;

    if (d->session.backend.fd < 0 || is_suspended(d))
        return false;
    while (r == 0 && (req = first_waiting(c)))
        r = send_request(d, req);
    if (r == 0)
        r = send_config_change(d);
    if (r == 0)
        r = send_misses(d);
    if (r == -EPIPE)
        gw_backend_req_break(d, -ECONNRESET);
    return r == -EAGAIN;
}

/* ---- the beginning of a request ---- */

/* The protocol feature of each request, in addition to BACKEND_REQ, which has made the channel. */
static int feature_of(uint32_t id)
{
    switch (id) {
    case GW_BACKEND_MSG_VRING_HOST_NOTIFIER:
        return GW_PROTOCOL_F_HOST_NOTIFIER;
    case GW_BACKEND_MSG_SHARED_OBJECT_ADD:
    case GW_BACKEND_MSG_SHARED_OBJECT_REMOVE:
    case GW_BACKEND_MSG_SHARED_OBJECT_LOOKUP:
        return GW_PROTOCOL_F_SHARED_OBJECT;
    case GW_BACKEND_MSG_SHMEM_MAP:
    case GW_BACKEND_MSG_SHMEM_UNMAP:
        return GW_PROTOCOL_F_SHMEM;
    default:
        return GW_PROTOCOL_F_CONFIG;
    }
}

static int check_session(const struct gw_daemon *d, const struct gw_backend_req *req)
{
    const struct gw_session *s = &d->session;
    int feature = feature_of(req->id);

    if (req->session % 2 == 0)
        return gw_fail(-ENOTCONN, "back-end request %" PRIu32 " without a session", req->id);
    if (req->session != d->channel.session)
        return gw_fail(-ECONNRESET, "the session of back-end request %" PRIu32 " has ended",
                       req->id);
    if (s->backend.fd < 0)
        return gw_fail(-ENOTCONN, "back-end request %" PRIu32 ": the front-end has no channel",
                       req->id);
    if (!gw_session_has_protocol(s, (enum gw_protocol_feature)feature))
        return gw_fail(-EOPNOTSUPP,
                       "back-end request %" PRIu32 ": protocol feature %d was not negotiated",
                       req->id, feature);
    if (req->send_fd >= 0 && !gw_session_has_protocol(s, GW_PROTOCOL_F_BACKEND_SEND_FD))
        return gw_fail(-EOPNOTSUPP,
                       "back-end request %" PRIu32 ": BACKEND_SEND_FD was not negotiated", req->id);
    return 0;
}

static void begin(struct gw_post *post)
{
    struct gw_backend_req *req = gw_container_of(post, struct gw_backend_req, post);
    struct gw_daemon *d = req->daemon;
    int r = check_session(d, req);

    if (r < 0) {
        gw_backend_req_finish(d, req, r);
        return;
    }
    gw_list_append(&d->channel.waiting, &req->link);
    gw_session_flush_backend(d);
    gw_backend_req_watch_time(&d->channel);
}

/* Returns: 0; -EBUSY if there are too many. */
static int count(struct gw_channel *c)
{
    if (__atomic_add_fetch(&c->n, 1, __ATOMIC_RELAXED) <= GW_CHANNEL_REQUESTS_MAX)
        return 0;
    __atomic_sub_fetch(&c->n, 1, __ATOMIC_RELAXED);
    return gw_fail(-EBUSY, "%d back-end requests have not ended", GW_CHANNEL_REQUESTS_MAX);
}

int gw_backend_req_start(struct gw_daemon *d, struct gw_backend_req *req)
{
    unsigned timeout_ms = req->timeout_ms ? req->timeout_ms : GW_CHANNEL_TIMEOUT_MS;
    int r = req->done ? count(&d->channel) : gw_fail(-EINVAL, "a back-end request needs done");

    if (r == 0) {
        req->daemon = d;
        req->post.run = begin;
        req->fd = -1;
        req->deadline_ns = gw_clock_ns() + timeout_ms * GW_NS_PER_MS;
        req->session = __atomic_load_n(&d->channel.session, __ATOMIC_ACQUIRE);
        gw_list_init(&req->link);
        r = gw_worker_post(d->control, &req->post);
        if (r < 0)
            __atomic_sub_fetch(&d->channel.n, 1, __ATOMIC_RELAXED);
    }
    if (r < 0)
        gw_close(&req->send_fd);
    return r;
}

/* ---- sessions ---- */

void gw_backend_req_begin_session(struct gw_daemon *d)
{
    __atomic_add_fetch(&d->channel.session, 1, __ATOMIC_RELEASE);
}

void gw_backend_req_end_session(struct gw_daemon *d)
{
    __atomic_add_fetch(&d->channel.session, 1, __ATOMIC_RELEASE);
    gw_backend_req_close(d, gw_fail(-ECONNRESET, "the session has ended"));
}

int gw_backend_req_init(struct gw_daemon *d)
{
    gw_list_init(&d->channel.waiting);
    return gw_timer_new(&d->channel.timer, d->control, time_passed, d);
}

void gw_backend_req_done(struct gw_daemon *d)
{
    struct gw_channel *c = &d->channel;

    gw_timer_free(gw_steal(c->timer));
    for (unsigned i = 0; i < GW_READERS_MAX; i++) {
        if (c->readers[i])
            gw_answer_reader_wait(c->readers[i], READER_PATIENCE_MS);
        gw_answer_reader_free(gw_steal(c->readers[i]));
    }
}
