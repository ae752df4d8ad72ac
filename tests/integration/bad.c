/* SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause */
#include "bad.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#define ANSWER_MS patience_ms()

bool bad_has_answer(uint32_t request)
{
    switch (request) {
    case GW_MSG_GET_FEATURES:
    case GW_MSG_SET_LOG_BASE:
    case GW_MSG_GET_VRING_BASE:
    case GW_MSG_GET_PROTOCOL_FEATURES:
    case GW_MSG_GET_QUEUE_NUM:
    case GW_MSG_GET_CONFIG:
    case GW_MSG_GET_MAX_MEM_SLOTS:
        return true;
    default:
        return false;
    }
}

/* SET_LOG_BASE with an address instead of a file has none. */
static bool has_answer(const struct bad_message *m)
{
    return bad_has_answer(m->request) &&
           !(m->request == GW_MSG_SET_LOG_BASE && m->size == sizeof(uint64_t));
}

static int describe_queue(struct guest *g, unsigned index)
{
    const gw_uva_t base = GUEST_UVA + GUEST_GPA + GUEST_SIZE / 2 + 0x10000 * (uint64_t)index;
    const struct gw_frontend_vring_addr addr = {
        .desc = base, .avail = base + 0x4000, .used = base + 0x8000};
    int r = gw_frontend_set_vring_num(g->fe, index, 16);

    if (r == 0)
        r = gw_frontend_set_vring_addr(g->fe, index, &addr);
    if (r == 0)
        r = gw_frontend_set_vring_base(g->fe, index, 0);
    return r;
}

int bad_stage(struct bed *b, struct guest *g, enum stage stage, bool ack)
{
    int r;

    guest_init(g, 16);
    r = bed_connect(b, g->fe);
    g->opt.protocol_features = stage == STAGE_GATED ? 0 : GUEST_PROTOCOL & ~GUEST_REPLY_ACK;
    if (ack)
        g->opt.protocol_features |= GUEST_REPLY_ACK;
    else if (stage == STAGE_GATED)
        g->opt.protocol_features = UINT64_C(1) << 63; /* not offered: none is wanted */
    if (stage == STAGE_NO_30)
        g->opt.features = GUEST_FEATURES & ~(UINT64_C(1) << 30);
    if (stage != STAGE_RUNNING && stage != STAGE_NO_30) {
        g->opt.drivers = &g->drivers[1];
        g->opt.n_drivers = 1;
    }
    if (r == 0 && stage == STAGE_GATED)
        r = gw_frontend_negotiate(g->fe, &g->opt);
    else if (r == 0 && stage != STAGE_BARE)
        r = gw_frontend_start(g->fe, &g->opt);
    if (r == 0 && stage == STAGE_GATED)
        r = gw_frontend_set_features(g->fe, GUEST_FEATURES);
    if (r == 0 && stage == STAGE_READY)
        r = describe_queue(g, 0);
    if (r < 0)
        fprintf(stderr, "stage %d: %s\n", (int)stage, gw_frontend_error(g->fe));
    return r;
}

static const char *outcome_name(enum outcome outcome)
{
    static const char *const names[] = {
        [ACCEPTED] = "accepted",
        [REFUSED] = "refused",
        [EMPTY] = "answered without payload",
        [ENDS] = "the end of the session",
    };

    return names[outcome];
}

/* What an answer says. Returns: 0; -EPROTO where it is none. */
static int judge(const struct gw_frontend_message *answer, const struct bad_message *m,
                 enum outcome *ret)
{
    uint64_t value;

    if (answer->request != m->request || answer->flags != (GW_MSG_VERSION | GW_MSG_REPLY) ||
        answer->n_fds != 0)
        return -EPROTO;
    *ret = EMPTY;
    if (answer->size == 0)
        return 0;
    *ret = ACCEPTED;
    if (has_answer(m))
        return 0;
    memcpy(&value, answer->payload, sizeof(value));
    *ret = value == 0 ? ACCEPTED : REFUSED;
    return answer->size == sizeof(value) ? 0 : -EPROTO;
}

bool bad_send(struct guest *g, const char *name, const struct bad_message *m, enum outcome outcome)
{
    bool ack = gw_frontend_protocol_features(g->fe) & GUEST_REPLY_ACK;
    uint32_t flags = m->flags | (ack ? GW_MSG_NEED_REPLY : 0);
    static struct gw_frontend_message answer;
    enum outcome got = ACCEPTED;
    uint64_t features;
    int r = 0;

    if (outcome == REFUSED && !ack)
        outcome = ENDS;
    /* It may hang up while we are still sending. */
    (void)gw_frontend_send_raw(g->fe, m->request, flags, m->size, m->payload, m->length, m->fds,
                               m->n_fds);
    if (ack || outcome == EMPTY || outcome == ENDS || has_answer(m)) {
        r = gw_frontend_receive(g->fe, &answer, ANSWER_MS);
        if (r == 0)
            r = judge(&answer, m, &got);
        if (r == -ECONNRESET) {
            got = ENDS;
            r = 0;
        }
    }
    if (r == 0 && got != ENDS)
        r = gw_frontend_get_features(g->fe, &features);
    if (r == 0 && got == outcome)
        return true;
    if (r == 0)
        fprintf(stderr, "%s: %s, not %s\n", name, outcome_name(got), outcome_name(outcome));
    else
        fprintf(stderr, "%s: should be %s, but: %s (%s)\n", name, outcome_name(outcome),
                strerror(-r), gw_frontend_error(g->fe));
    return false;
}
