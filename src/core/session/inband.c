/* SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause */
/*
 * In-band notifications (vhost-user.rst, "VHOST_USER_PROTOCOL_F_INBAND_NOTIFICATIONS"): calls and
 * errors are messages on the back-end channel. A worker only marks them as pending. So they do not
 * add up while the front-end does not read, and nothing waits for the front-end, which is why they
 * are sent without NEED_REPLY.
 */
#include "inband.h"

#include "backend_req.h"

#include <errno.h>
#include <string.h>
#include <sys/socket.h>

struct message {
    struct gw_wire_header header;
    struct gw_wire_vring_state state;
} __attribute__((packed));

/* Returns: 0; -EAGAIN if the channel is full; -EPIPE, with gw_last_error, if it is unusable. */
static int send_message(struct gw_daemon *d, uint32_t request, unsigned queue)
{
    const struct message m = {
        .header = {.request = request, .flags = GW_MSG_VERSION, .size = sizeof(m.state)},
        .state = {.index = queue},
    };
    ssize_t n = send(d->session.backend.fd, &m, sizeof(m), MSG_DONTWAIT | MSG_NOSIGNAL);

    if (n == (ssize_t)sizeof(m))
        return 0;
    if (n < 0 && errno == EAGAIN)
        return -EAGAIN;
    return gw_fail(-EPIPE, "a call cannot be sent: %s",
                   n < 0 ? strerror(errno) : "its message was sent in part");
}

/* Send the pending messages of a queue. Returns: as send_message; unsent ones stay pending. */
static int flush_queue(struct gw_daemon *d, struct gw_queue *q)
{
    static const struct {
        unsigned bit;
        uint32_t request;
    } kinds[] = {{GW_INBAND_CALL, GW_BACKEND_MSG_VRING_CALL},
                 {GW_INBAND_ERR, GW_BACKEND_MSG_VRING_ERR}};
    int r = 0;

    for (unsigned i = 0; i < GW_ARRAY_SIZE(kinds) && r == 0; i++) {
        unsigned bit = kinds[i].bit;

        if (!(__atomic_fetch_and(&q->inband.pending, ~bit, __ATOMIC_ACQUIRE) & bit))
            continue;
        r = send_message(d, kinds[i].request, q->index);
        if (r == -EAGAIN)
            __atomic_fetch_or(&q->inband.pending, bit, __ATOMIC_RELEASE);
    }
    return r;
}

bool gw_inband_flush(struct gw_daemon *d)
{
    struct gw_session *s = &d->session;
    int r = 0;

    if (s->backend.fd < 0 || !gw_session_has_protocol(s, GW_PROTOCOL_F_INBAND_NOTIFICATIONS))
        return false;
    for (unsigned i = 0; i < d->num_queues && r == 0; i++)
        if (__atomic_load_n(&d->queues[i].inband.pending, __ATOMIC_RELAXED))
            r = flush_queue(d, &d->queues[i]);
    if (r == -EPIPE)
        gw_backend_req_break(d, -ECONNRESET);
    return r == -EAGAIN;
}

void gw_inband_reset(struct gw_daemon *d)
{
    for (unsigned i = 0; i < d->num_queues; i++)
        __atomic_store_n(&d->queues[i].inband.pending, 0, __ATOMIC_RELAXED);
}
