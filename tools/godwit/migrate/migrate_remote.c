/* SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause */
/*
 * Sends and receives frames for both halves of a migration, and calls migration_tend while it
 * waits. See migrate_remote.h.
 */
#include "migrate_remote.h"

#include "base/clock.h"
#include "pages/migrate_copy.h"
#include "pages/migrate_pages.h"
#include "pages/migrate_sums.h"

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define NOTICES_MAX 20
#define PENDING_MAX (1u << 20) /* above it, the sender waits */

int migration_remote_new(struct migration *m)
{
    struct migration_remote *l = calloc(1, sizeof(*l));

    if (l)
        l->buffer = malloc(MIGRATION_REMOTE_CHUNK);
    if (!l || !l->buffer) {
        free(l);
        return migration_cannot(m, MIGRATION_SIDE_TOOL, -ENOMEM, "out of memory");
    }
    link_lobby_init(&l->lobby);
    link_channel_init(&l->channel, -1);
    m->remote = l;
    return 0;
}

void migration_remote_free(struct migration *m)
{
    struct migration_remote *l = m->remote;

    if (!l)
        return;
    migration_pages_free(m);
    link_channel_done(&l->channel);
    link_lobby_done(&l->lobby);
    gw_guest_mem_free(l->sent);
    free(l->buffer);
    free(l);
    m->remote = NULL;
}

void migration_remote_attach(struct migration *m, const struct link_channel *channel)
{
    struct migration_remote *l = m->remote;

    link_channel_done(&l->channel);
    l->channel = *channel;
    l->is_over = l->gave_up = false;
    l->r = 0;
}

void migration_remote_detach(struct migration *m)
{
    const struct link_channel none = {.fd = -1};

    migration_remote_attach(m, &none);
}

/* Check the time limit also while the other end sends without pause. */
static int tend_in_time(struct migration *m)
{
    struct migration_remote *l = m->remote;
    uint64_t now = migration_now(m);

    if (now - l->tended_ns < MIGRATION_REMOTE_WAIT_MS * GW_NS_PER_MS)
        return 0;
    l->tended_ns = now;
    return migration_tend(m, 0);
}

int migration_remote_over(struct migration *m, bool gave_up, const char *format, ...)
{
    struct migration_remote *l = m->remote;
    va_list ap;

    if (l->is_over)
        return -ENOLINK;
    l->is_over = true;
    l->gave_up = gave_up;
    va_start(ap, format);
    vsnprintf(l->why, sizeof(l->why), format, ap);
    va_end(ap);
    return -ENOLINK;
}

void migration_remote_give_up(struct migration *m, const char *why)
{
    struct migration_remote *l = m->remote;
    struct link_channel *c = &l->channel;

    if ((!l->is_over || l->gave_up) && link_channel_pending(c) < PENDING_MAX)
        link_refuse(c, why);
    else
        link_channel_done(c);
}

/* Look for an error frame among those already received. */
static int look_for_error(struct migration *m, const struct link_frame *frame, struct link_in *in)
{
    char text[LINK_TEXT_MAX];

    if (frame->type != LINK_ERROR)
        return 0;
    link_get_text(in, text, sizeof(text));
    return migration_remote_over(m, true, "the other end gave up: %s", text);
}

/* The connection was lost. An error frame with the reason may already be here. */
static int lost(struct migration *m, int r)
{
    char why[LINK_TEXT_MAX];
    struct link_frame frame;
    struct link_in in;

    while (link_channel_next(&m->remote->channel, &frame, &in, why) == 0) {
        if (look_for_error(m, &frame, &in) < 0)
            return -ENOLINK;
    }
    if (r == -ENOMEM)
        return migration_remote_over(m, true, "out of memory");
    return migration_remote_over(m, false, "the connection to %s was lost: %s", m->remote->peer,
                                 r == -ECONNRESET ? "it was closed" : strerror(-r));
}

int migration_remote_push(struct migration *m, size_t most)
{
    struct migration_remote *l = m->remote;
    int r;

    while (!l->is_over) {
        r = link_channel_flush(&l->channel);
        if (r < 0)
            return lost(m, r);
        if (link_channel_pending(&l->channel) <= most)
            return tend_in_time(m);
        link_channel_wait(&l->channel, -1, -1, MIGRATION_REMOTE_WAIT_MS);
        r = migration_tend(m, 0);
        if (r < 0)
            return r;
    }
    return -ENOLINK;
}

int migration_remote_next(struct migration *m, unsigned ms, struct link_frame *ret,
                          struct link_in *ret_in)
{
    uint64_t until = migration_now(m) + ms * GW_NS_PER_MS, now;
    struct migration_remote *l = m->remote;
    char why[LINK_TEXT_MAX];
    int r;

    while (!l->is_over) {
        r = link_channel_flush(&l->channel);
        if (r == 0)
            r = link_channel_next(&l->channel, ret, ret_in, why);
        if (r == -EPROTO)
            return migration_remote_over(m, true, "%s: %s", l->peer, why);
        if (r < 0 && r != -EAGAIN)
            return lost(m, r);
        if (r == 0) {
            r = look_for_error(m, ret, ret_in);
            return r ? r : tend_in_time(m);
        }
        now = migration_now(m);
        if (now >= until)
            return -EAGAIN;
        link_channel_wait(&l->channel, -1, -1,
                          until - now < MIGRATION_REMOTE_WAIT_MS * GW_NS_PER_MS
                              ? (unsigned)((until - now) / GW_NS_PER_MS) + 1
                              : MIGRATION_REMOTE_WAIT_MS);
        r = migration_tend(m, 0);
        if (r < 0)
            return r;
    }
    return -ENOLINK;
}

void migration_remote_notice(struct migration *m, const char *text)
{
    if (m->o.notice && m->remote->n_notices < NOTICES_MAX)
        m->o.notice(text);
    if (m->o.notice && m->remote->n_notices == NOTICES_MAX)
        m->o.notice("further messages of this kind are not shown");
    m->remote->n_notices++;
}

void migration_remote_notice_accept(struct migration *m, int r)
{
    char text[LINK_TEXT_MAX];

    snprintf(text, sizeof(text), "cannot accept connections: %s; trying again every %d ms%s",
             strerror(-r), LINK_LOBBY_PAUSE_MS,
             r == -EMFILE ? "; raise the limit of open files (ulimit -n)" : "");
    migration_remote_notice(m, text);
}

int migration_remote_unexpected(struct migration *m, const struct link_frame *frame)
{
    return migration_remote_over(m, true, "%s sent an unexpected or invalid %s", m->remote->peer,
                                 link_type_name(frame->type));
}

/* ---- Memory ---- */

static void put_zeros(struct link_out *out, gw_gpa_t gpa, uint64_t len)
{
    link_begin(out, LINK_ZEROS);
    link_put(out, gpa, 8);
    link_put(out, len, 8);
    link_end(out);
}

static void put_data(struct link_out *out, gw_gpa_t gpa, const uint8_t *bytes, size_t len)
{
    link_begin(out, LINK_DATA);
    link_put(out, gpa, 8);
    link_put_bytes(out, bytes, len);
    link_end(out);
}

/* Number of bytes up to the end of the page. */
static size_t piece_of(gw_gpa_t gpa, size_t len)
{
    size_t n = MIGRATION_PAGE - gpa % MIGRATION_PAGE;

    return n < len ? n : len;
}

static bool is_zero(const uint8_t *bytes, size_t len)
{
    return bytes[0] == 0 && memcmp(bytes, bytes + 1, len - 1) == 0;
}

/*
 * With postcopy, the comparison happens after the guest has started at the destination. It needs
 * the memory as it was sent, so keep a copy.
 */
static void keep_sent(struct migration *m, gw_gpa_t gpa, const uint8_t *bytes, size_t len)
{
    struct migration_pair *p = migration_pair_of(m, gpa);

    if (!p || !p->sums)
        return;
    migration_copy_bytes(p->to + (gpa - p->gpa), bytes, len);
    migration_sums_note(m, p, gpa - p->gpa, len);
}

/* Send runs of zero pages as their length, other pages as data. */
void migration_remote_copy(struct migration *m, gw_gpa_t gpa, const uint8_t *bytes, size_t len)
{
    struct link_out *out = &m->remote->channel.out;

    keep_sent(m, gpa, bytes, len);
    while (len > 0 && !m->remote->is_over) {
        size_t n = piece_of(gpa, len);
        bool zeros = is_zero(bytes, n);

        while (n < len && is_zero(bytes + n, piece_of(gpa + n, len - n)) == zeros)
            n += piece_of(gpa + n, len - n);
        if (zeros)
            put_zeros(out, gpa, n);
        else
            put_data(out, gpa, bytes, n);
        gpa += n;
        bytes += n;
        len -= n;
        if (link_channel_pending(&m->remote->channel) > PENDING_MAX)
            m->remote->r = migration_remote_push(m, PENDING_MAX / 2);
        if (m->remote->r < 0)
            break;
    }
}

void migration_remote_data(struct migration *m, gw_gpa_t gpa, const uint8_t *from, uint64_t len)
{
    while (len > 0 && !m->remote->is_over && m->remote->r == 0) {
        size_t n = MIGRATION_REMOTE_CHUNK - gpa % MIGRATION_PAGE;

        if (n > len)
            n = len;
        migration_copy_bytes(m->remote->buffer, from, n);
        migration_remote_copy(m, gpa, m->remote->buffer, n);
        gpa += n;
        from += n;
        len -= n;
    }
}

void migration_remote_say(struct migration *m, enum link_type type)
{
    link_begin(&m->remote->channel.out, type);
    link_end(&m->remote->channel.out);
}

/* ---- Verdicts ---- */

/*
 * Each half knows what it exercised: the source the log, the destination the load after the switch.
 */
static enum link_verdict own_verdict(const struct migration *m)
{
    const struct migration_hop *hop = m->hop;

    if (m->ret->verdict != MIGRATION_PASSED)
        return m->ret->verdict == MIGRATION_FAILED ? LINK_FAILED : LINK_COULD_NOT;
    if ((m->o.to ? hop->requests_logged : hop->requests_after) == 0)
        return LINK_NOT_TESTED;
    return hop->pages_hint ? LINK_HINTS : LINK_PASSED;
}

void migration_remote_put_verdict(struct migration *m, struct link_out *out)
{
    const struct migration_result *ret = m->ret;

    link_begin(out, LINK_VERDICT);
    link_put(out, own_verdict(m), 1);
    link_put(out, m->hop->downtime_ns, 8);
    link_put_text(out, ret->n_faults ? ret->faults[0].text : "");
    link_end(out);
}

int migration_remote_get_verdict(struct migration *m, struct link_in *in)
{
    struct migration_remote *l = m->remote;
    unsigned verdict = (unsigned)link_get(in, 1);

    if (verdict > LINK_NOT_TESTED)
        return migration_remote_over(m, true, "%s sent an unknown verdict", l->peer);
    l->verdict = (enum link_verdict)verdict;
    l->downtime_ns = link_get(in, 8);
    link_get_text(in, l->verdict_text, sizeof(l->verdict_text));
    l->has_verdict = true;
    return 0;
}

void migration_remote_judge(struct migration *m, enum migration_side side)
{
    static const enum migration_other others[] = {
        [LINK_PASSED] = MIGRATION_OTHER_PASSED,         [LINK_FAILED] = MIGRATION_OTHER_FAILED,
        [LINK_COULD_NOT] = MIGRATION_OTHER_COULD_NOT,   [LINK_HINTS] = MIGRATION_OTHER_HINTS,
        [LINK_NOT_TESTED] = MIGRATION_OTHER_NOT_TESTED,
    };
    const struct migration_remote *l = m->remote;

    if (!l->has_verdict)
        return;
    m->ret->other_half = others[l->verdict];
    if (l->verdict == LINK_FAILED)
        migration_blame(m, side, -EREMOTEIO, "its half reports: %s", l->verdict_text);
    else if (l->verdict == LINK_COULD_NOT)
        migration_cannot(m, side, -EREMOTEIO, "its half reports: %s", l->verdict_text);
}
