/* SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause */
/*
 * The source's half of a migration between two processes: sending memory and state, the answers of
 * the other half, and what happens to the guest when the link is lost. See migrate_remote.h.
 */
#include "base/clock.h"
#include "migrate_remote.h"
#include "pages/migrate_pages.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <sys/random.h>
#include <time.h>

#define RETRY_MS     50 /* between two attempts to connect, at first */
#define RETRY_MAX_MS 1000
#define ATTEMPT_MS   1000
#define ANSWER_MS    5000
#define BYE_MS       2000
#define WAIT_MS      100
#define CUT_FOR_MS   20
#define HASHES       1024 /* per frame */

/* ---- Connecting ---- */

/* Try until the other half listens, or `until` is reached. */
static int connect_until(struct migration *m, uint64_t until, char *why, size_t size)
{
    struct migration_remote *l = m->remote;
    unsigned pause = RETRY_MS;
    struct link_channel channel;
    int fd = -1, r, e;

    while ((r = link_tcp_connect(m->o.to, ATTEMPT_MS, &fd, why, size)) < 0) {
        if (r == -EINVAL || r == -ENOENT || migration_now(m) >= until)
            return r;
        e = migration_tend(m, pause);
        if (e < 0)
            return e;
        pause = pause * 2 < RETRY_MAX_MS ? pause * 2 : RETRY_MAX_MS;
    }
    link_channel_init(&channel, fd);
    migration_remote_attach(m, &channel);
    snprintf(l->peer, sizeof(l->peer), "%s", m->o.to);
    return 0;
}

/* Report a link that closed before the migration began. */
static int cannot_begin(struct migration *m, int r)
{
    if (r != -ENOLINK)
        return r;
    migration_cannot(m, MIGRATION_SIDE_DESTINATION, r, "%s", m->remote->why);
    m->remote->is_told = true;
    return r;
}

int migration_remote_greet(struct migration *m)
{
    struct migration_remote *l = m->remote;
    struct link_frame frame;
    char why[LINK_TEXT_MAX];
    struct link_in in;
    int r = connect_until(m, migration_now(m) + m->o.request_ms * GW_NS_PER_MS, why, sizeof(why));

    if (r < 0)
        return m->ret->n_faults ? r
                                : migration_cannot(m, MIGRATION_SIDE_DESTINATION, r,
                                                   "no connection to %s; is the half with --listen "
                                                   "there?",
                                                   why);
    l->hello = (struct link_hello){.seed = m->o.seed, .is_postcopy = m->o.postcopy.is_on};
    if (getrandom(l->hello.id, LINK_ID_LEN, 0) != LINK_ID_LEN)
        return migration_cannot(m, MIGRATION_SIDE_TOOL, -EIO, "no random numbers");
    migration_agree_options(m, &l->hello);
    r = migration_agree_layout(m, &l->hello);
    if (r < 0)
        return r;
    link_put_hello(&l->channel.out, &l->hello);
    do
        r = migration_remote_next(m, 1000, &frame, &in);
    while (r == -EAGAIN);
    if (r == 0 && frame.type != LINK_WELCOME)
        r = migration_remote_unexpected(m, &frame);
    return cannot_begin(m, r);
}

/* ---- Memory ---- */

void migration_remote_round(struct migration *m, unsigned number)
{
    struct link_out *out;

    if (!m->remote)
        return;
    out = &m->remote->channel.out;
    link_begin(out, LINK_ROUND);
    link_put(out, number, 4);
    link_end(out);
}

/* Send what the driver wrote, without later writes of the device to the same bytes. */
void migration_remote_written(struct migration *m, gw_gpa_t gpa, const uint8_t *from, uint64_t len)
{
    uint8_t *buffer = m->remote->buffer;

    while (len > 0 && m->remote->r == 0) {
        size_t n = len < MIGRATION_REMOTE_CHUNK ? len : MIGRATION_REMOTE_CHUNK;

        migration_copy_bytes(buffer, from, n);
        for (unsigned i = 0; i < m->n_drivers; i++)
            gw_driver_overlay(m->drivers[i], gpa, buffer, n);
        migration_remote_copy(m, gpa, buffer, n);
        gpa += n;
        from += n;
        len -= n;
    }
}

void migration_remote_region(struct migration *m, gw_gpa_t gpa, uint64_t length)
{
    struct link_out *out;

    if (!m->remote)
        return;
    out = &m->remote->channel.out;
    link_begin(out, LINK_REGION);
    link_put(out, gpa, 8);
    link_put(out, length, 8);
    link_end(out);
}

int migration_remote_settle(struct migration *m)
{
    if (!m->remote)
        return 0;
    if (m->remote->r == 0)
        m->remote->r = migration_remote_push(m, MIGRATION_REMOTE_CHUNK);
    return m->remote->r;
}

/* ---- The comparison ---- */

struct comparison {
    struct migration *m;
    uint64_t hashes[HASHES];
    unsigned n_hashes;
    gw_gpa_t first;            /* page of hashes[0] */
    uint64_t n_told, n_differ; /* pages: hashes sent; pages that differ at the other half */
    bool is_all, is_ready;
};

/* The other half has other contents: report the difference, and send the page again. */
static int answer_difference(struct comparison *c, struct link_frame *frame, struct link_in *in)
{
    struct migration *m = c->m;
    struct link_out *out = &m->remote->channel.out;
    gw_gpa_t gpa = link_get(in, 8);
    uint64_t len = in->left;

    if (++c->n_differ > c->n_told)
        return migration_remote_unexpected(m, frame);
    for (unsigned i = 0; i < m->n_pairs; i++) {
        const struct migration_pair *p = &m->pairs[i];

        if (gpa < p->gpa || gpa - p->gpa >= p->length || len > p->length - (gpa - p->gpa) ||
            gpa % MIGRATION_PAGE + len > MIGRATION_PAGE)
            continue;
        migration_compare_page(m, p, gpa - p->gpa, in->at, len, c->is_all);
        link_begin(out, LINK_PAGE);
        link_put(out, gpa, 8);
        link_put_bytes(out, p->from + (gpa - p->gpa), len);
        link_end(out);
        return 0;
    }
    return migration_remote_unexpected(m, frame);
}

/* Read frames for up to `ms`. Both halves send at the same time, so a sender has to read, too. */
static int listen_for(struct comparison *c, unsigned ms)
{
    struct link_frame frame;
    struct link_in in;
    int r;

    while (!c->is_ready && (r = migration_remote_next(c->m, ms, &frame, &in)) != -EAGAIN) {
        if (r < 0)
            return r;
        if (frame.type == LINK_READY)
            c->is_ready = true;
        else if (frame.type != LINK_DIFFERS)
            r = migration_remote_unexpected(c->m, &frame);
        else
            r = answer_difference(c, &frame, &in);
        if (r < 0)
            return r;
    }
    return 0;
}

static int send_hashes(struct comparison *c)
{
    struct link_out *out = &c->m->remote->channel.out;
    int r;

    if (c->n_hashes == 0)
        return 0;
    link_begin(out, LINK_HASHES);
    link_put(out, c->first, 8);
    for (unsigned i = 0; i < c->n_hashes; i++)
        link_put(out, c->hashes[i], 8);
    link_end(out);
    c->n_told += c->n_hashes;
    c->n_hashes = 0;
    do
        r = listen_for(c, 0);
    while (r == 0 && link_channel_pending(&c->m->remote->channel) > MIGRATION_REMOTE_CHUNK);
    return r;
}

/* Hash a copy, because a faulty device may still write to the page. */
static int hash_page(struct comparison *c, const struct migration_pair *p, uint64_t at, size_t len)
{
    uint8_t page[MIGRATION_PAGE];
    gw_gpa_t gpa = p->gpa + at;
    int r = 0;

    migration_copy_bytes(page, p->from + at, len);
    if (c->is_all)
        migration_print_page(c->m, gpa, page, len);
    if (c->n_hashes == HASHES ||
        (c->n_hashes && gpa != c->first + (uint64_t)c->n_hashes * MIGRATION_PAGE))
        r = send_hashes(c);
    if (c->n_hashes == 0)
        c->first = gpa;
    c->hashes[c->n_hashes++] = migration_hash_page(page, len);
    c->m->hop->compare_bytes += len;
    return r;
}

static int compare_pair(struct comparison *c, const struct migration_pair *p)
{
    uint64_t at = p->offset, end = p->offset + p->length, data, hole;
    int r = 0;

    for (; r == 0 && migration_next_data(p->from_fd, at, end, &data, &hole); at = hole) {
        for (uint64_t i = data; r == 0 && i < hole;) {
            uint64_t off = i - p->offset;
            uint64_t len = MIGRATION_PAGE - (p->gpa + off) % MIGRATION_PAGE;

            if (len > hole - i)
                len = hole - i;
            r = hash_page(c, p, off, len);
            i += len;
        }
    }
    return r ? r : send_hashes(c);
}

/* End of the comparison: wait until the other half has processed everything up to here. */
static int await_ready(struct comparison *c)
{
    struct migration *m = c->m;
    struct link_out *out = &m->remote->channel.out;
    bool is_all = c->is_all;
    int r = 0;

    link_begin(out, LINK_COMPARE);
    link_put(out,
             (is_all ? LINK_COMPARE_ALL : 0u) |
                 (is_all && m->hop->in_flight_stopped && !m->o.postcopy.is_on ? LINK_COMPARE_REQUEUE
                                                                              : 0u),
             4);
    link_put(out, m->n_found_late, 4);
    link_end(out);
    while (r == 0 && !c->is_ready)
        r = listen_for(c, 1000);
    return r;
}

int migration_remote_catch_up(struct migration *m)
{
    struct comparison c = {.m = m};

    return await_ready(&c);
}

int migration_remote_compare(struct migration *m, gw_gpa_t gpa, bool is_all)
{
    struct comparison c = {.m = m, .is_all = is_all};
    bool is_later = is_all && m->o.postcopy.is_on; /* checked by sums, when the guest runs again */
    uint64_t begin = migration_now(m);
    int r = 0;

    if (is_all && !is_later)
        migration_make_snapshot(m);
    for (unsigned i = 0; r == 0 && !is_later && i < m->n_pairs; i++) {
        if (is_all || m->pairs[i].gpa == gpa)
            r = compare_pair(&c, &m->pairs[i]);
    }
    if (r == 0)
        r = await_ready(&c);
    migration_blame_found(m);
    if (is_all)
        m->hop->compare_ns = migration_now(m) - begin;
    return r;
}

/* ---- After the switch ---- */

/* Connect again, to the same migration. */
static int resume_link(struct migration *m)
{
    struct migration_remote *l = m->remote;
    struct link_frame frame;
    struct link_in in;
    int r;

    link_begin(&l->channel.out, LINK_RESUME);
    link_put_bytes(&l->channel.out, l->hello.id, LINK_ID_LEN);
    link_end(&l->channel.out);
    r = migration_remote_next(m, ANSWER_MS, &frame, &in);
    if (r == 0 && frame.type != LINK_RESUMED)
        r = migration_remote_unexpected(m, &frame);
    return r == -EAGAIN ? migration_remote_over(m, false, "%s does not answer", l->peer) : r;
}

/* Reconnect within `ms`. */
static int reconnect(struct migration *m, unsigned ms)
{
    uint64_t begin = migration_now(m), until = begin + ms * GW_NS_PER_MS;
    struct migration_remote *l = m->remote;
    char was[LINK_TEXT_MAX], why[LINK_TEXT_MAX];
    int r;

    snprintf(was, sizeof(was), "%s", l->why);
    migration_remote_notice(m, was);
    do {
        r = connect_until(m, until, why, sizeof(why));
        if (r == 0)
            r = resume_link(m);
        if (r == -ENOLINK)
            snprintf(why, sizeof(why), "%s", l->why);
    } while (r == -ENOLINK && !l->gave_up && migration_now(m) < until &&
             migration_tend(m, RETRY_MS) == 0);
    if (r < 0) {
        migration_remote_detach(m);
        return migration_remote_over(m, true, "%.120s; reconnecting failed: %.150s", was, why);
    }
    m->hop->reconnects++;
    return migration_event(m, MIGRATION_EVENT_RECONNECTED, begin, "%s", was);
}

/*
 * The destination requests pages that a thread waits for, or, on a new connection, that did not
 * arrive.
 */
static int hear_of_pages(struct migration *m, struct link_frame *frame, struct link_in *in)
{
    struct link_run runs[LINK_RUNS_MAX];
    int n = link_get_runs(in, runs);
    bool good = n >= 0;

    if (good && frame->type == LINK_REQUEST)
        good = migration_pages_request(m, runs, (unsigned)n);
    else if (good)
        good = migration_pages_again(m, runs, (unsigned)n);
    if (!good)
        return migration_remote_unexpected(m, frame);
    if (frame->type == LINK_MISSING && n == 0)
        migration_pages_go_on(m);
    return 0;
}

static int hear_complete(struct migration *m)
{
    if (m->hop->arrival.end_ns)
        return 0;
    m->hop->arrival.end_ns = migration_now(m);
    migration_compare_sums(m, false);
    return migration_event(m, MIGRATION_EVENT_ALL_THERE, 0, "%s", "");
}

/* Handle a frame that the other half sends after the switch. */
static int hear(struct migration *m, struct link_frame *frame, struct link_in *in)
{
    struct migration_hop *hop = m->hop;

    switch (frame->type) {
    case LINK_RUNNING:
        if (hop->end_ns)
            return 0;
        hop->end_ns = migration_now(m);
        hop->requests_after =
            m->load != NULL; /* one at least: the destination reports its first completion */
        hop->downtime_ns = hop->end_ns - hop->stop_ns - hop->compare_ns;
        migration_set_phase(m, MIGRATION_PHASE_SETTLE);
        return migration_event(m, MIGRATION_EVENT_FIRST_COMPLETION, 0, "downtime %.1f ms",
                               (double)hop->downtime_ns / 1e6);
    case LINK_REQUEST:
    case LINK_MISSING:
        return hear_of_pages(m, frame, in);
    case LINK_COMPLETE:
        return hear_complete(m);
    case LINK_VERDICT:
        return migration_remote_get_verdict(m, in);
    default:
        return migration_remote_unexpected(m, frame);
    }
}

/* When to cut the connection on purpose. 0: never. */
static uint64_t next_cut(struct migration *m)
{
    uint64_t ns = m->o.postcopy.cut_ms * GW_NS_PER_MS;

    return ns && m->remote->pages ? migration_now(m) + migration_random(m, 2 * ns) : 0;
}

/* Close the connection and stay away for some time. Returns: -ENOLINK. */
static int cut(struct migration *m)
{
    unsigned up_to = m->o.postcopy.cut_for_ms ? m->o.postcopy.cut_for_ms : CUT_FOR_MS;
    int r;

    migration_remote_detach(m);
    r = migration_tend(m, 1 + (unsigned)migration_random(m, up_to));
    return r ? r : migration_remote_over(m, false, "the connection was cut on purpose");
}

/* After a lost or cut link: reconnect, and send the pages again that did not arrive. */
static int begin_again(struct migration *m)
{
    struct migration_arrival *a = &m->hop->arrival;
    uint64_t begin = migration_now(m);
    int r;

    migration_pages_pause(m);
    r = reconnect(m, m->o.reconnect_ms);
    if (r < 0)
        return r;
    a->cuts++;
    a->cut_ns += migration_now(m) - begin;
    migration_remote_say(m, LINK_GO); /* the first one may be lost */
    return 0;
}

/* Wait for the verdict, over as many connections as necessary. */
static int await_verdict(struct migration *m)
{
    struct migration_remote *l = m->remote;
    struct link_frame frame;
    uint64_t cut_ns = next_cut(m);
    struct link_in in;
    int r = 0;

    while (!l->has_verdict) {
        unsigned wait_ms = migration_pages_put(m);

        /* More pages can be sent as soon as the socket has room, so do not wait. */
        if (link_channel_pending(&l->channel))
            wait_ms = 0;
        r = migration_remote_next(m, wait_ms < WAIT_MS ? wait_ms : WAIT_MS, &frame, &in);
        if (r == 0)
            r = hear(m, &frame, &in);
        if (r == -EAGAIN && wait_ms == 0) {
            link_channel_wait(&l->channel, -1, -1, MIGRATION_REMOTE_WAIT_MS);
            r = migration_tend(m, 0);
        }
        if (cut_ns && migration_now(m) >= cut_ns && !m->hop->arrival.end_ns) {
            r = cut(m);
            cut_ns = next_cut(m);
        }
        if (r == -ENOLINK && !l->gave_up)
            r = begin_again(m);
        if (r < 0 && r != -EAGAIN)
            return r;
        migration_watch_old_logs(m);
    }
    return 0;
}

/* Send our verdict. It need not arrive: the other half may have ended. */
static void tell_verdict(struct migration *m)
{
    struct migration_remote *l = m->remote;
    struct link_frame frame;
    struct link_in in;
    int r;

    do {
        migration_remote_put_verdict(m, &l->channel.out);
        do
            r = migration_remote_next(m, 1000, &frame, &in);
        while (r == -EAGAIN || (r == 0 && frame.type != LINK_BYE));
    } while (r == -ENOLINK && !l->gave_up && reconnect(m, BYE_MS) == 0);
}

int migration_remote_hand_over(struct migration *m)
{
    struct migration_remote *l = m->remote;
    int r;

    migration_set_phase(m, MIGRATION_PHASE_RESUME);
    l->is_gone = true;
    migration_remote_say(m, LINK_GO);
    /* From here on `other` is the memory of the stopped source. */
    l->sent = m->other;
    m->other = m->mem;
    m->mem = NULL;
    r = await_verdict(m);
    migration_pages_free(m);
    migration_watch_old_logs(m);
    migration_watch_source(m);
    migration_drop_logs(m);
    if (r < 0)
        return r;
    migration_set_phase(m, MIGRATION_PHASE_VERIFY);
    tell_verdict(m);
    migration_remote_judge(m, MIGRATION_SIDE_DESTINATION);
    migration_set_phase(m, MIGRATION_PHASE_DONE);
    return 0;
}

/* ---- The guest stays at the source ---- */

/* The device may run, or have been stopped already. */
static int start_again(struct migration *m)
{
    int r;

    if (m->units[0].running[m->src])
        return m->log_is_on ? migration_log_off(m) : 0;
    m->log_is_on = false;
    for (unsigned i = 0; i < m->n_drivers; i++) {
        gw_driver_set_track(m->drivers[i], NULL);
        if (m->hop->in_flight_stopped)
            gw_driver_requeue(m->drivers[i]);
    }
    r = migration_start(m, m->src, NULL);
    migration_drop_logs(m);
    return r;
}

int migration_remote_cancel(struct migration *m, int r)
{
    struct migration_remote *l = m->remote;
    int e;

    if (l->is_gone || r != -ENOLINK || l->is_told) {
        if (l->is_gone && r == -ENOLINK)
            migration_cannot(m, MIGRATION_SIDE_DESTINATION, r,
                             "%s; the state of the guest is unknown", l->why);
        migration_remote_give_up(m, m->ret->n_faults ? m->ret->faults[0].text : "");
        return r;
    }
    migration_cannot(m, MIGRATION_SIDE_DESTINATION, r, "cancelled: %s; the guest continues here",
                     l->why);
    migration_remote_give_up(m, "cancelled");
    migration_set_phase(m, MIGRATION_PHASE_CANCEL);
    e = start_again(m);
    if (e == 0)
        e = migration_load_resume(m);
    if (e == 0)
        e = migration_tend(m, m->o.warm_up_ms);
    if (e == 0)
        e = migration_load_pause(m);
    if (e == 0)
        e = migration_finish(m, m->src);
    return e ? e : r;
}
