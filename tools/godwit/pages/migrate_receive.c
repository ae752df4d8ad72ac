/* SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause */
/*
 * The destination's end of the link after the switch, on a thread of its own. See
 * migrate_receive.h.
 */
#include "migrate_receive.h"

#include "base/clock.h"
#include "migrate_fetch.h"

#include <errno.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <time.h>
#include <unistd.h>

#define LOOK_MS     100
#define CHECK_NS    2000000
#define FRAMES_MAX  64          /* read before the loop does anything else */
#define PENDING_MAX (64u << 20) /* send buffer limit: the source does not read */

enum pages {
    NO_PAGES = 0,
    PAGES_LATER, /* frames with pages stay in the connection until faults are served */
    PAGES_NOW,
};

struct migration_receiver {
    struct migration *m; /* only its options and its link are used, not its result */
    pthread_t thread;
    bool has_thread;
    int wake_fd; /* something to send, or quit */

    /* the thread's */
    unsigned said;    /* sent on this connection; bit set of enum link_type */
    uint64_t lost_ns; /* when the connection was lost; 0: connected */
    char lost_why[LINK_TEXT_MAX];
    bool has_more; /* frames of this turn may be left */

    pthread_mutex_t lock;
    /* under the lock */
    unsigned to_say;
    unsigned n_turns; /* of the thread */
    struct link_out verdict;
    unsigned reconnects;
    unsigned heard; /* received; bit set of enum link_type */
    bool is_over, quit, has_ended;
    enum pages pages;
    pthread_cond_t changed;
};

static void wake(struct migration_receiver *v)
{
    uint64_t one = 1;
    ssize_t n = write(v->wake_fd, &one, sizeof(one));

    (void)n; /* a full counter wakes as well */
}

static void note(struct migration_receiver *v, unsigned heard, bool is_over)
{
    pthread_mutex_lock(&v->lock);
    v->heard |= heard;
    v->is_over |= is_over;
    pthread_cond_broadcast(&v->changed);
    pthread_mutex_unlock(&v->lock);
}

/* Under the lock. A turn that begins does not use what was dropped before. */
static void begin_turn(struct migration_receiver *v)
{
    v->n_turns++;
    pthread_cond_broadcast(&v->changed);
}

/* NULL if no pages are expected. Valid until the end of this turn: see drop_pages. */
static struct migration_fetch *fetch_of(struct migration_receiver *v)
{
    struct migration_fetch *f;

    pthread_mutex_lock(&v->lock);
    f = v->pages != NO_PAGES ? v->m->remote->fetch : NULL;
    pthread_mutex_unlock(&v->lock);
    return f;
}

static bool has_to_quit(struct migration_receiver *v)
{
    bool has;

    pthread_mutex_lock(&v->lock);
    begin_turn(v);
    has = v->quit;
    pthread_mutex_unlock(&v->lock);
    return has;
}

static bool has_heard(struct migration_receiver *v, enum link_type type)
{
    bool has;

    pthread_mutex_lock(&v->lock);
    has = v->heard >> type & 1;
    pthread_mutex_unlock(&v->lock);
    return has;
}

/* Send the frames of `to_say` that were not sent on this connection. Returns: true to end. */
static bool speak(struct migration_receiver *v)
{
    static const enum link_type types[] = {LINK_RUNNING, LINK_COMPLETE, LINK_VERDICT};
    struct link_channel *c = &v->m->remote->channel;
    bool quit;

    pthread_mutex_lock(&v->lock);
    begin_turn(v);
    for (unsigned i = 0; c->fd >= 0 && i < sizeof(types) / sizeof(types[0]); i++) {
        unsigned bit = 1u << types[i];

        if (!(v->to_say & bit) || v->said & bit)
            continue;
        v->said |= bit;
        if (types[i] == LINK_VERDICT) {
            link_put_bytes(&c->out, v->verdict.data, v->verdict.len);
        } else {
            link_begin(&c->out, types[i]);
            link_end(&c->out);
        }
    }
    quit = v->quit;
    pthread_mutex_unlock(&v->lock);
    if (c->fd >= 0 && fetch_of(v))
        migration_fetch_put_requests(fetch_of(v), &c->out);
    return quit;
}

static void lose(struct migration_receiver *v, const char *why)
{
    struct migration_remote *l = v->m->remote;

    link_channel_done(&l->channel);
    v->lost_ns = migration_now(v->m);
    if (has_heard(v, LINK_VERDICT)) /* everything was exchanged */
        return;
    snprintf(v->lost_why, sizeof(v->lost_why), "the connection to %.64s was lost: %.200s", l->peer,
             why);
    migration_remote_notice(v->m, v->lost_why);
}

static int take_page(struct migration_receiver *v, const struct link_frame *frame,
                     struct link_in *in)
{
    struct migration_fetch *f = fetch_of(v);
    gw_gpa_t gpa = link_get(in, 8);

    if (!f || !migration_fetch_take(f, gpa, in->at, in->left))
        return migration_remote_unexpected(v->m, frame);
    return 0;
}

static int handle(struct migration_receiver *v, const struct link_frame *frame, struct link_in *in)
{
    char text[LINK_TEXT_MAX];

    switch (frame->type) {
    case LINK_GO: /* repeated if the source does not know that it arrived */
        note(v, 1u << LINK_GO, false);
        return 0;
    case LINK_PAGE:
        return take_page(v, frame, in);
    case LINK_VERDICT:
        if (v->said >> LINK_BYE & 1)
            return migration_remote_unexpected(v->m, frame);
        /* Keep the first one, which the thread of the migration reads without the lock. */
        if (!has_heard(v, LINK_VERDICT) && migration_remote_get_verdict(v->m, in) < 0)
            return -ENOLINK;
        v->said |= 1u << LINK_BYE;
        migration_remote_say(v->m, LINK_BYE);
        note(v, 1u << LINK_VERDICT, false);
        return 0;
    case LINK_ERROR:
        link_get_text(in, text, sizeof(text));
        return migration_remote_over(v->m, true, "the other end gave up: %s", text);
    default:
        return migration_remote_unexpected(v->m, frame);
    }
}

/* The source sent GO, and faults are not served yet. */
static bool is_early(struct migration_receiver *v)
{
    bool is;

    pthread_mutex_lock(&v->lock);
    is = v->pages == PAGES_LATER && v->heard >> LINK_GO & 1;
    pthread_mutex_unlock(&v->lock);
    return is;
}

/* Process up to FRAMES_MAX frames. Returns: 0, also if the connection is lost; -ENOLINK. */
static int hear(struct migration_receiver *v)
{
    struct link_channel *c = &v->m->remote->channel;
    char why[LINK_TEXT_MAX];
    struct link_frame frame;
    struct link_in in;
    int r = link_channel_flush(c);
    unsigned n = 0;

    while (r == 0 && !is_early(v) && n++ < FRAMES_MAX &&
           (r = link_channel_next(c, &frame, &in, why)) == 0) {
        r = handle(v, &frame, &in);
        if (r < 0)
            return r;
        r = link_channel_flush(c);
    }
    v->has_more = r == 0 && n > FRAMES_MAX;
    if (r == -EPROTO)
        return migration_remote_over(v->m, true, "%s: %s", v->m->remote->peer, why);
    if (link_channel_pending(c) > PENDING_MAX)
        return migration_remote_over(v->m, true, "%s does not read from the connection",
                                     v->m->remote->peer);
    if (r < 0 && r != -EAGAIN)
        lose(v, r == -ECONNRESET ? "it was closed" : strerror(-r));
    return 0;
}

/* Switch to a new connection; the loss of the old one may not have shown yet. */
static void adopt(struct migration_receiver *v, const struct link_channel *caller)
{
    struct migration_remote *l = v->m->remote;

    link_channel_done(&l->channel);
    l->channel = *caller;
    link_tcp_peer(l->channel.fd, l->peer, sizeof(l->peer));
    v->said = 0;
    v->lost_ns = 0;
    migration_remote_say(v->m, LINK_RESUMED);
    if (fetch_of(v))
        migration_fetch_put_missing(fetch_of(v), &l->channel.out);
    else
        link_put_runs(&l->channel.out, LINK_MISSING, NULL, 0);
    pthread_mutex_lock(&v->lock);
    v->reconnects++;
    pthread_mutex_unlock(&v->lock);
}

/* Accept the source of this migration if it connects again; reject other callers. */
static void look_at_callers(struct migration_receiver *v)
{
    struct migration_remote *l = v->m->remote;
    struct link_channel caller;
    char why[LINK_TEXT_MAX];
    struct link_frame frame;
    struct link_in in;

    for (unsigned n = 0; n < FRAMES_MAX; n++) {
        int r = link_lobby_next(&l->lobby, migration_now(v->m), &caller, &frame, &in, why);

        if (r == -EAGAIN)
            return;
        if (r < 0 && r != -EPROTO)
            migration_remote_notice_accept(v->m, r);
        else if (r == 0 && frame.type == LINK_RESUME &&
                 memcmp(in.at, l->hello.id, LINK_ID_LEN) == 0)
            adopt(v, &caller);
        else
            link_refuse(&caller, r == 0 ? "another migration is running here" : why);
    }
}

/* Check the time limits, with and without a connection. */
static int check_time(struct migration_receiver *v)
{
    struct migration *m = v->m;

    if (v->lost_ns && migration_now(m) - v->lost_ns > m->o.reconnect_ms * UINT64_C(1000000))
        return migration_remote_over(m, true, "%s; the source did not reconnect within %u ms",
                                     v->lost_why, m->o.reconnect_ms);
    if (migration_now(m) > m->deadline_ns)
        return migration_remote_over(m, true, "not done within the %u ms of the time limit",
                                     m->o.timeout_ms);
    return 0;
}

/*
 * The link ended early. Threads that wait for a page get zeros, because none will arrive. Repeated
 * until quit, because a thread may begin to wait at any time.
 */
static void end_early(struct migration_receiver *v)
{
    const struct link_channel nothing = {.fd = -1};
    struct link_channel *c = &v->m->remote->channel;

    note(v, 0, true);
    if (c->fd >= 0) {
        link_begin(&c->out, LINK_ERROR);
        link_put_text(&c->out, v->m->remote->why);
        link_end(&c->out);
        link_channel_flush(c);
    }
    while (!has_to_quit(v) && fetch_of(v)) {
        migration_fetch_abandon(fetch_of(v));
        link_channel_wait(&nothing, -1, -1, LOOK_MS);
    }
}

static void *receiver(void *arg)
{
    struct migration_receiver *v = arg;
    const struct link_channel nothing = {.fd = -1};
    struct migration_remote *l = v->m->remote;
    uint64_t value;
    int r = 0;

    while (!speak(v) && r == 0) {
        r = l->channel.fd >= 0 ? hear(v) : 0;
        if (r == 0)
            r = check_time(v);
        if (r < 0)
            break;
        if (is_early(v)) {
            link_channel_wait(&nothing, -1, v->wake_fd, LOOK_MS);
        } else {
            link_channel_wait(&l->channel, l->lobby.epoll_fd, v->wake_fd,
                              v->has_more ? 0 : LOOK_MS);
            look_at_callers(v);
        }
        if (read(v->wake_fd, &value, sizeof(value)) < 0)
            value = 0; /* no wake-up was pending */
    }
    if (r < 0)
        end_early(v);
    link_channel_flush(&l->channel); /* last frames, if any */
    pthread_mutex_lock(&v->lock);
    v->has_ended = true;
    pthread_cond_broadcast(&v->changed);
    pthread_mutex_unlock(&v->lock);
    return NULL;
}

int migration_receiver_new(struct migration *m, struct migration_receiver **ret)
{
    struct migration_receiver *v = calloc(1, sizeof(*v));
    int r = v ? 0 : -ENOMEM;

    if (v) {
        v->m = m;
        v->pages = m->remote->fetch ? PAGES_LATER : NO_PAGES;
        pthread_mutex_init(&v->lock, NULL);
        pthread_cond_init(&v->changed, NULL);
        v->wake_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
        r = v->wake_fd < 0 ? -errno : -pthread_create(&v->thread, NULL, receiver, v);
        v->has_thread = r == 0;
    }
    if (r < 0) {
        migration_receiver_free(v);
        return migration_cannot(m, MIGRATION_SIDE_TOOL, r, "the link: %s", strerror(-r));
    }
    *ret = v;
    return 0;
}

void migration_receiver_free(struct migration_receiver *v)
{
    if (!v)
        return;
    pthread_mutex_lock(&v->lock);
    v->quit = true;
    pthread_mutex_unlock(&v->lock);
    if (v->has_thread) {
        wake(v);
        pthread_join(v->thread, NULL);
        v->m->hop->reconnects = v->reconnects;
    }
    link_channel_done(&v->m->remote->channel);
    link_out_done(&v->verdict);
    pthread_cond_destroy(&v->changed);
    pthread_mutex_destroy(&v->lock);
    if (v->wake_fd >= 0)
        close(v->wake_fd);
    free(v);
}

void migration_receiver_say(struct migration_receiver *v, enum link_type type)
{
    pthread_mutex_lock(&v->lock);
    if (type == LINK_VERDICT) {
        link_out_done(&v->verdict);
        migration_remote_put_verdict(v->m, &v->verdict);
    }
    v->to_say |= 1u << type;
    pthread_mutex_unlock(&v->lock);
    wake(v);
}

int migration_receiver_check(struct migration_receiver *v, enum link_type type)
{
    struct timespec until = gw_clock_timespec(gw_clock_read_ns(CLOCK_REALTIME) + CHECK_NS);
    int r;

    pthread_mutex_lock(&v->lock);
    if (!(v->heard >> type & 1) && !v->is_over)
        pthread_cond_timedwait(&v->changed, &v->lock, &until);
    r = v->heard >> type & 1 ? 1 : v->is_over ? -ENOLINK : 0;
    pthread_mutex_unlock(&v->lock);
    return r;
}

bool migration_receiver_is_well(struct migration_receiver *v)
{
    bool is_well;

    pthread_mutex_lock(&v->lock);
    is_well = !v->is_over || v->heard >> LINK_VERDICT & 1;
    pthread_mutex_unlock(&v->lock);
    return is_well;
}

int migration_receiver_wake_fd(const struct migration_receiver *v)
{
    return v->wake_fd;
}

void migration_receiver_take_pages(struct migration_receiver *v)
{
    pthread_mutex_lock(&v->lock);
    v->pages = PAGES_NOW;
    pthread_mutex_unlock(&v->lock);
    wake(v);
}

/* Turns that begin after this do not see the pages, so wait for the end of the present turn. */
void migration_receiver_drop_pages(struct migration_receiver *v)
{
    unsigned turn;

    pthread_mutex_lock(&v->lock);
    v->pages = NO_PAGES;
    turn = v->n_turns;
    while (!v->has_ended && v->n_turns == turn) {
        wake(v);
        pthread_cond_wait(&v->changed, &v->lock);
    }
    pthread_mutex_unlock(&v->lock);
}
