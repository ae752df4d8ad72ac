/* SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause */
/*
 * The most recent messages of a front-end, across its sessions, as evidence when a back-end is
 * blamed.
 */
#include "fe_trace.h"

#include "base/clock.h"
#include "base/proto.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#define NAMED_MAX 6 /* messages named in one sentence */

static void add(struct gw_frontend *fe, const struct gw_frontend_trace *t)
{
    struct gw_frontend_trace *to = &fe->trace[fe->n_trace++ % GW_FRONTEND_TRACE_MAX];

    *to = *t;
    to->at_ns = gw_clock_ns();
}

void gw_frontend_trace_event(struct gw_frontend *fe, enum gw_frontend_trace_kind kind)
{
    add(fe, &(struct gw_frontend_trace){.kind = kind});
}

void gw_frontend_trace_message(struct gw_frontend *fe, enum gw_frontend_trace_kind kind,
                               const struct gw_wire_header *h, const void *payload, unsigned n_fds)
{
    struct gw_frontend_trace t = {
        .kind = kind, .request = h->request, .flags = h->flags, .size = h->size, .n_fds = n_fds};

    if (h->size)
        memcpy(&t.value, payload, h->size < sizeof(t.value) ? h->size : sizeof(t.value));
    add(fe, &t);
}

unsigned gw_frontend_last_messages(const struct gw_frontend *fe, struct gw_frontend_trace *ret)
{
    unsigned n =
        fe->n_trace < GW_FRONTEND_TRACE_MAX ? (unsigned)fe->n_trace : GW_FRONTEND_TRACE_MAX;

    for (unsigned i = 0; i < n; i++)
        ret[i] = fe->trace[(fe->n_trace - n + i) % GW_FRONTEND_TRACE_MAX];
    return n;
}

/* ---- As text ---- */

static const char *backend_message_name(uint32_t request)
{
    static const char *const names[] = {
        [1] = "IOTLB_MSG",
        [2] = "CONFIG_CHANGE_MSG",
        [3] = "VRING_HOST_NOTIFIER_MSG",
        [4] = "VRING_CALL",
        [5] = "VRING_ERR",
        [6] = "SHARED_OBJECT_ADD",
        [7] = "SHARED_OBJECT_REMOVE",
        [8] = "SHARED_OBJECT_LOOKUP",
        [9] = "SHMEM_MAP",
        [10] = "SHMEM_UNMAP",
    };

    return request < sizeof(names) / sizeof(names[0]) && names[request] ? names[request]
                                                                        : "request";
}

/* Describe the part of a payload that distinguishes messages of one type. */
static void describe_payload(const struct gw_frontend_trace *t, char *buf, size_t size)
{
    uint32_t index = (uint32_t)t->value, number = (uint32_t)(t->value >> 32);

    switch (t->kind == GW_FRONTEND_TRACE_SENT ? t->request : GW_MSG_GET_FEATURES) {
    case GW_MSG_SET_VRING_NUM:
    case GW_MSG_SET_VRING_BASE:
    case GW_MSG_GET_VRING_BASE:
    case GW_MSG_SET_VRING_ENABLE:
        snprintf(buf, size, " ring %" PRIu32 ": %" PRIu32, index, number);
        break;
    case GW_MSG_SET_VRING_KICK:
    case GW_MSG_SET_VRING_CALL:
    case GW_MSG_SET_VRING_ERR:
        snprintf(buf, size, " ring %u", (unsigned)(t->value & 0xff));
        break;
    case GW_MSG_SET_VRING_ADDR:
        snprintf(buf, size, " ring %" PRIu32, index);
        break;
    default:
        if (t->size == sizeof(t->value))
            snprintf(buf, size, " 0x%" PRIx64, t->value);
        else
            snprintf(buf, size, " of %" PRIu32 " bytes", t->size);
        break;
    }
}

void gw_frontend_trace_text(const struct gw_frontend_trace *t, char *buf, size_t size)
{
    static const char *const events[] = {
        [GW_FRONTEND_TRACE_CONNECTED] = "connected",
        [GW_FRONTEND_TRACE_DISCONNECTED] = "the front-end hung up",
        [GW_FRONTEND_TRACE_HUNG_UP] = "the back-end hung up",
    };
    static const char *const arrows[] = {"->", "<-",
                                         "<- back-end channel:", "-> back-end channel:"};
    bool is_backends = t->kind == GW_FRONTEND_TRACE_ASKED || t->kind == GW_FRONTEND_TRACE_REPLIED;
    const char *name =
        is_backends ? backend_message_name(t->request) : gw_frontend_message_name(t->request);
    char payload[48] = "", fds[20] = "", number[16] = "";

    if (t->kind >= GW_FRONTEND_TRACE_CONNECTED) {
        snprintf(buf, size, "%s", events[t->kind]);
        return;
    }
    if (strcmp(name, "request") == 0)
        snprintf(number, sizeof(number), " %" PRIu32, t->request);
    if (t->size && is_backends)
        snprintf(payload, sizeof(payload), " of %" PRIu32 " bytes", t->size);
    else if (t->size)
        describe_payload(t, payload, sizeof(payload));
    if (t->n_fds)
        snprintf(fds, sizeof(fds), ", %u fd%s", t->n_fds, t->n_fds == 1 ? "" : "s");
    snprintf(buf, size, "%s %s%s%s%s%s", arrows[t->kind], name, number, payload, fds,
             t->flags & GW_MSG_NEED_REPLY ? ", NEED_REPLY" : "");
}

/* ---- A back-end that hung up ---- */

/*
 * A hang-up is detected at the next message, or at the next one with a reply. Its cause may be any
 * message sent since the last reply, so all of them are named.
 */
int gw_frontend_fail_hung_up(struct gw_frontend *fe, const char *before)
{
    uint64_t oldest = fe->n_trace > GW_FRONTEND_TRACE_MAX ? fe->n_trace - GW_FRONTEND_TRACE_MAX : 0;
    const struct gw_frontend_trace *t = NULL;
    unsigned n = 0;
    uint64_t at = fe->n_trace;
    char sent[160] = "", last[64] = "";

    while (at > oldest) {
        t = &fe->trace[--at % GW_FRONTEND_TRACE_MAX];
        if (t->kind == GW_FRONTEND_TRACE_ANSWERED || t->kind == GW_FRONTEND_TRACE_CONNECTED)
            break;
        n += t->kind == GW_FRONTEND_TRACE_SENT;
    }
    if (t && t->kind == GW_FRONTEND_TRACE_ANSWERED)
        snprintf(last, sizeof(last), "; it last answered %s", gw_frontend_message_name(t->request));
    for (unsigned skip = n > NAMED_MAX ? n - NAMED_MAX : 0; at < fe->n_trace; at++) {
        size_t len = strlen(sent);

        t = &fe->trace[at % GW_FRONTEND_TRACE_MAX];
        if (t->kind != GW_FRONTEND_TRACE_SENT || (skip && skip--))
            continue;
        snprintf(sent + len, sizeof(sent) - len, "%s%s", len ? ", " : " and was then sent ",
                 gw_frontend_message_name(t->request));
    }
    gw_frontend_trace_event(fe, GW_FRONTEND_TRACE_HUNG_UP);
    return gw_frontend_break(fe, -ECONNRESET, "the back-end hung up%s%s%s%s",
                             before ? " before " : "", before ? before : "",
                             last[0]   ? last
                             : sent[0] ? "; it answered nothing"
                                       : "",
                             sent);
}
