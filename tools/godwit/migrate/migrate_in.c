/* SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause */
/*
 * The destination's half of a migration between two processes: accepting the source, making the
 * guest from its options, receiving memory and state, the comparison, and running the guest. See
 * migrate_remote.h.
 */
#include "migrate_remote.h"
#include "pages/migrate_fetch.h"
#include "pages/migrate_postcopy.h"
#include "pages/migrate_receive.h"

#include <errno.h>
#include <fcntl.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#define REGION_MAX (64u << 20)          /* size of the hot-plugged region */
#define PLACE_MAX  (UINT64_C(16) << 30) /* greatest distance above all other regions */

/* What was received of the guest so far. */
struct arrival {
    struct migration *m;
    struct migration_state *state;
    unsigned n_repairs; /* pages that differed and were not received again yet */
    uint64_t n_compared, n_differ;
    bool is_compared; /* all hashes were received; repairs may be missing */
    bool is_all;      /* the hashes covered all memory */
    bool has_state, requeue, is_ready;
};

/* ---- Accepting the source ---- */

static void notice(struct migration *m, const char *format, ...)
    __attribute__((format(printf, 2, 3)));

static void notice(struct migration *m, const char *format, ...)
{
    char text[LINK_TEXT_MAX + LINK_ADDRESS_MAX];
    va_list ap;

    va_start(ap, format);
    vsnprintf(text, sizeof(text), format, ap);
    va_end(ap);
    migration_remote_notice(m, text);
}

/* Is this a source that wants a migration we can serve? If not, `why` is the reason. */
static bool is_source(struct migration *m, const struct link_frame *frame, struct link_in *in,
                      char *why)
{
    struct link_hello *hello = &m->remote->hello;

    snprintf(why, LINK_TEXT_MAX, "it sent an unexpected or invalid %s",
             link_type_name(frame->type));
    if (frame->type == LINK_RESUME)
        snprintf(why, LINK_TEXT_MAX, "the migration that it wants to resume is not running here");
    if (frame->type != LINK_HELLO || !link_get_hello(in, hello))
        return false;
    if (hello->is_postcopy && m->o.kill == MIGRATION_KILL_START) {
        snprintf(why, LINK_TEXT_MAX, "--kill-at=start does not work with its --postcopy");
        return false;
    }
    if (!migration_agree_check(m, hello, why))
        return false;
    snprintf(why, LINK_TEXT_MAX, "it has other devices");
    return migration_agree_units(m, hello);
}

static void send_away(struct migration *m, struct link_channel *caller, const char *why)
{
    char peer[LINK_ADDRESS_MAX];

    link_tcp_peer(caller->fd, peer, sizeof(peer));
    notice(m, "%s was rejected: %s", peer, why);
    link_refuse(caller, why);
}

/*
 * Wait for the source. Any program may connect: one that is no source, or the source of another
 * guest, gets the reason and is disconnected.
 */
static int await_source(struct migration *m)
{
    struct migration_remote *l = m->remote;
    struct link_channel caller;
    struct link_frame frame;
    char why[LINK_TEXT_MAX];
    struct link_in in;
    int r;

    while ((r = migration_tend(m, 0)) == 0) {
        r = link_lobby_next(&l->lobby, migration_now(m), &caller, &frame, &in, why);
        if (r == -EAGAIN) {
            link_channel_wait(&l->channel, l->lobby.epoll_fd, -1, MIGRATION_REMOTE_WAIT_MS);
        } else if (r == 0 && is_source(m, &frame, &in, why)) {
            link_tcp_peer(caller.fd, l->peer, sizeof(l->peer));
            migration_remote_attach(m, &caller);
            return 0;
        } else if (r < 0 && r != -EPROTO) {
            migration_remote_notice_accept(m, r);
        } else {
            send_away(m, &caller, why);
        }
    }
    return r;
}

/* ---- The guest ---- */

/* The same guest as at the source, in untouched memory. */
static int make_guest(struct migration *m)
{
    struct gw_guest_mem *clean;
    int r;

    m->o.seed = m->ret->seed = m->random = m->remote->hello.seed;
    m->o.postcopy.is_on = m->remote->hello.is_postcopy;
    r = migration_make_guest(m);
    if (r == 0)
        r = migration_connect(m, m->dst);
    if (r == 0)
        r = migration_postcopy_advise(m);
    if (r == 0)
        r = migration_make_rings(m);
    if (r == 0)
        r = migration_load_new(m);
    if (r == 0)
        r = migration_make_buffers(m);
    if (r < 0)
        return r;
    r = gw_guest_mem_clone(&clean, m->mem, GW_GUEST_UVA_HOST);
    if (r < 0)
        return migration_cannot(m, MIGRATION_SIDE_TOOL, r, "guest memory of the destination: %s",
                                migration_memory_error(m, r));
    r = migration_load_set_mem(m, clean);
    gw_guest_mem_free(m->mem);
    m->mem = clean;
    return r;
}

/*
 * The same options and seed make the same guest, unless the source has another version of godwit or
 * is another program. Returns: 1 the same; 0 not; a negative errno, already reported.
 */
static int is_same_guest(struct migration *m)
{
    static struct link_hello own;
    const struct link_hello *source = &m->remote->hello;
    int r = migration_agree_layout(m, &own);

    if (r < 0)
        return r;
    return own.n_layout == source->n_layout &&
           memcmp(own.layout, source->layout, own.n_layout * sizeof(own.layout[0])) == 0;
}

/* Discard the guest of a source that was rejected, to make another one. */
static void drop_guest(struct migration *m)
{
    for (unsigned i = 0; i < m->n_units; i++) {
        if (target_is_command(m->units[i].targets[m->dst]))
            target_stop(m->units[i].targets[m->dst]);
    }
    migration_disconnect(m, m->dst);
    migration_free_guest(m);
    m->ret->memory_bytes = 0;
}

/* Accept callers until the guest of one is the guest that we make from its options. */
static int await_guest(struct migration *m)
{
    struct migration_remote *l = m->remote;
    const char *why;
    int r;

    for (;;) {
        l->mismatch[0] = '\0';
        r = await_source(m);
        if (r == 0)
            r = make_guest(m);
        if (r == 0)
            r = is_same_guest(m);
        if (r > 0)
            return 0;
        if (r < 0 && !l->mismatch[0])
            return r;
        why = r < 0 ? l->mismatch
                    : "its guest has another layout, with the same options and seed: use the "
                      "same godwit at both ends";
        send_away(m, &l->channel, why);
        drop_guest(m);
    }
}

/* ---- Receiving memory ---- */

static int take_data(struct migration *m, gw_gpa_t gpa, const uint8_t *bytes, uint64_t len)
{
    uint8_t *to = gw_guest_mem_at(m->mem, gpa, len);

    if (!to || len == 0)
        return -ERANGE;
    memcpy(to, bytes, len);
    if (m->round) {
        m->round->bytes += len;
        m->round->pages += (len + MIGRATION_PAGE - 1) / MIGRATION_PAGE;
    }
    return 0;
}

/* Pages that were never written stay holes. */
static int take_zeros(struct migration *m, gw_gpa_t gpa, uint64_t len)
{
    struct gw_guest_region region;

    for (unsigned i = 0; gw_guest_mem_region(m->mem, i, &region) == 0; i++) {
        if (gpa < region.gpa || gpa - region.gpa >= region.length ||
            len > region.length - (gpa - region.gpa) || len == 0)
            continue;
        if (region.kind ==
            GW_GUEST_HUGETLB) { /* later the tool cannot distinguish its holes from data */
            memset(gw_guest_mem_at(m->mem, gpa, len), 0, len);
            return 0;
        }
        return fallocate(region.fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE,
                         (off_t)(region.offset + (gpa - region.gpa)), (off_t)len) < 0
                   ? -errno
                   : 0;
    }
    return -ERANGE;
}

/* The hot-plugged region; the guest has at most one. */
static int take_region(struct migration *m, gw_gpa_t gpa, uint64_t len)
{
    struct gw_guest_region region = {
        .kind = GW_GUEST_MEMFD, .gpa = gpa, .length = len, .no_alloc = true};
    bool is_placed =
        gpa >= m->top && gpa - m->top < PLACE_MAX && gpa % MIGRATION_PAGE == 0 && len <= REGION_MAX;
    int r;

    if (len == 0) {
        if (!m->hot_gpa || gpa != m->hot_gpa)
            return -ERANGE;
        gw_guest_track_remove(m->track, gpa);
        m->hot_gpa = 0;
        return gw_guest_mem_remove(m->mem, gpa);
    }
    if (m->hot_gpa || !is_placed || len % MIGRATION_PAGE)
        return -ERANGE;
    r = gw_guest_mem_add(m->mem, &region);
    if (r == 0)
        r = gw_guest_track_add(m->track, gpa, len);
    if (r == 0) {
        m->hot_gpa = gpa;
        m->hot_len = len;
    }
    return r;
}

/* Length of the page at `gpa`; 0: not in guest memory. */
static uint64_t page_len(const struct migration *m, gw_gpa_t gpa)
{
    uint64_t len = MIGRATION_PAGE - gpa % MIGRATION_PAGE;
    struct gw_guest_region region;

    for (unsigned i = 0; gw_guest_mem_region(m->mem, i, &region) == 0; i++) {
        if (gpa >= region.gpa && gpa - region.gpa < region.length)
            return len < region.length - (gpa - region.gpa) ? len
                                                            : region.length - (gpa - region.gpa);
    }
    return 0;
}

/* Our page differs: ask the source to report the difference and to send the page again. */
static int tell_difference(struct arrival *a, gw_gpa_t gpa, const uint8_t *page, uint64_t len)
{
    struct link_out *out = &a->m->remote->channel.out;

    link_begin(out, LINK_DIFFERS);
    link_put(out, gpa, 8);
    link_put_bytes(out, page, len);
    link_end(out);
    a->n_repairs++;
    a->n_differ++;
    return migration_remote_push(a->m, MIGRATION_REMOTE_CHUNK);
}

static int take_hashes(struct arrival *a, struct link_in *in)
{
    gw_gpa_t gpa = link_get(in, 8);
    int r = 0;

    if (in->left % 8)
        return -ERANGE;
    while (r == 0 && in->left > 0) {
        uint64_t hash = link_get(in, 8), len = page_len(a->m, gpa);
        const uint8_t *page = len ? gw_guest_mem_at(a->m->mem, gpa, len) : NULL;

        if (!page)
            return -ERANGE;
        a->n_compared++;
        if (migration_hash_page(page, len) != hash)
            r = tell_difference(a, gpa, page, len);
        gpa += len;
    }
    return r;
}

static int take_repair(struct arrival *a, struct link_in *in)
{
    gw_gpa_t gpa = link_get(in, 8);
    size_t len = in->left;

    if (a->n_repairs == 0)
        return -ERANGE;
    a->n_repairs--;
    return take_data(a->m, gpa, link_get_bytes(in, len), len);
}

static int take_compare(struct arrival *a, struct link_in *in)
{
    unsigned flags = (unsigned)link_get(in, 4);

    if (a->is_compared)
        return -ERANGE;
    a->is_compared = true;
    a->is_all = flags & LINK_COMPARE_ALL;
    a->requeue = flags & LINK_COMPARE_REQUEUE;
    a->m->n_found_late = (unsigned)link_get(in, 4);
    if (a->is_all && !a->has_state)
        return -ERANGE;
    if (!a->is_all)
        return 0;
    migration_set_phase(a->m, MIGRATION_PHASE_COMPARE);
    /* Also if no page is missing. */
    return a->m->o.postcopy.is_on ? migration_fetch_drop(a->m, NULL, 0) : 0;
}

static int take_discard(struct migration *m, struct link_in *in)
{
    struct link_run runs[LINK_RUNS_MAX];
    int n = link_get_runs(in, runs);

    if (n < 0 || !m->o.postcopy.is_on)
        return -ERANGE;
    return migration_fetch_drop(m, runs, (unsigned)n);
}

static int take_state(struct arrival *a, struct link_in *in)
{
    a->has_state = true;
    return migration_state_take(a->state, in) ? 0 : -ERANGE;
}

static int take_round(struct arrival *a, struct link_in *in)
{
    struct migration *m = a->m;

    if (m->phase != MIGRATION_PHASE_COPY)
        migration_set_phase(m, MIGRATION_PHASE_COPY);
    if (m->round)
        m->round->duration_ns = migration_now(m) - m->round->at_ns;
    m->hop->rounds++;
    return migration_begin_round(m, (unsigned)link_get(in, 4)) ? 0 : -ENOMEM;
}

/*
 * With postcopy, memory does not change between the discard and the switch: the fault server knows
 * the regions, and that their pages are missing.
 */
static bool is_settled(const struct migration *m, enum link_type type)
{
    return m->remote->fetch && type != LINK_DISCARD && type != LINK_STATE && type != LINK_COMPARE;
}

/* Returns: 0; -ERANGE for invalid contents; as the functions called. */
static int take(struct arrival *a, enum link_type type, struct link_in *in)
{
    struct migration *m = a->m;
    gw_gpa_t gpa;
    uint64_t len;

    if (is_settled(m, type))
        return -ERANGE;
    switch (type) {
    case LINK_DATA:
        gpa = link_get(in, 8);
        len = in->left;
        return take_data(m, gpa, link_get_bytes(in, len), len);
    case LINK_ZEROS:
        gpa = link_get(in, 8);
        return take_zeros(m, gpa, link_get(in, 8));
    case LINK_REGION:
        gpa = link_get(in, 8);
        return take_region(m, gpa, link_get(in, 8));
    case LINK_ROUND:
        return take_round(a, in);
    case LINK_DISCARD:
        return take_discard(m, in);
    case LINK_STATE:
        return take_state(a, in);
    case LINK_HASHES:
        return take_hashes(a, in);
    case LINK_PAGE:
        return take_repair(a, in);
    case LINK_COMPARE:
        return take_compare(a, in);
    default:
        return -ERANGE;
    }
}

/*
 * If everything was compared and repaired, report that, and after a comparison of all memory that
 * the guest may be handed over.
 */
static int settle_comparison(struct arrival *a)
{
    struct link_out *out = &a->m->remote->channel.out;
    int r = 0;

    if (!a->is_compared || a->n_repairs)
        return 0;
    a->is_compared = false;
    if (a->is_all) {
        r = migration_state_restore(a->m, a->state);
        if (r < 0)
            return migration_remote_over(
                a->m, true, "the state of rings or load does not belong to this guest");
        r = migration_load_devices(a->m);
        if (r < 0)
            return r;
        a->is_ready = true;
    }
    link_begin(out, LINK_READY);
    link_put(out, a->n_compared, 8);
    link_put(out, a->n_differ, 8);
    link_end(out);
    return migration_remote_push(a->m, 0);
}

/* Receive until everything is here. */
static int receive(struct arrival *a)
{
    struct migration *m = a->m;
    struct link_frame frame;
    struct link_in in;
    int r = migration_state_new(m, &a->state);

    if (r < 0)
        return migration_cannot(m, MIGRATION_SIDE_TOOL, r, "out of memory");
    while (!a->is_ready) {
        r = migration_remote_next(m, 1000, &frame, &in);
        if (r == -EAGAIN)
            continue;
        if (r == 0)
            r = take(a, frame.type, &in);
        if (r == -ERANGE || (r == 0 && in.failed))
            return migration_remote_unexpected(m, &frame);
        if (r == 0)
            r = settle_comparison(a);
        if (r < 0)
            return r;
    }
    return 0;
}

/* ---- Running the guest ---- */

/*
 * Wait for GO. The source may have sent it on a connection that was lost, so from here on wait for
 * the source to connect again.
 */
static int await_go(struct migration *m, struct migration_receiver *v)
{
    int r = 0, state;

    while ((state = migration_receiver_check(v, LINK_GO)) == 0 && r == 0)
        r = migration_tend(m, 0);
    m->remote->is_gone = state > 0;
    return state < 0 ? state : r;
}

static int await_verdict(struct migration *m, struct migration_receiver *v)
{
    int r = 0, state;

    while ((state = migration_receiver_check(v, LINK_VERDICT)) == 0 && r == 0)
        r = migration_tend(m, 1);
    return state < 0 ? migration_remote_tend(m) : r;
}

/* The guest runs. Wait until all pages arrived, and end postcopy. */
static int await_pages(struct migration *m, struct migration_receiver *v)
{
    int r = 0, done = 0;

    migration_set_phase(m, MIGRATION_PHASE_POSTCOPY);
    while (r == 0 && done == 0) {
        r = migration_tend(m, 1);
        if (r == 0)
            done = migration_fetch_check(m);
    }
    if (r == 0 && done < 0)
        r = done;
    if (r < 0)
        return r;
    migration_event(m, MIGRATION_EVENT_ALL_THERE, 0, "%s", "");
    migration_receiver_drop_pages(v);
    r = migration_fetch_end(m);
    m->hop->arrival.stall_ns = migration_load_worst_stall(m, true);
    migration_fetch_free(m);
    migration_receiver_say(v, LINK_COMPLETE);
    return r;
}

/* Start devices and load. With postcopy they may wait for pages until the link is reconnected. */
static int start(struct migration *m, const struct arrival *a, struct migration_receiver *v)
{
    int r = 0;

    migration_set_phase(m, MIGRATION_PHASE_RESUME);
    if (m->remote->fetch) {
        m->o.request_ms += m->o.reconnect_ms;
        r = migration_fetch_begin(m, migration_receiver_wake_fd(v));
        if (r < 0)
            return r;
        migration_receiver_take_pages(v);
        return migration_go_on(m, 0);
    }
    /* Make requests available again that the source popped and did not complete. */
    for (unsigned i = 0; a->requeue && i < m->n_drivers; i++)
        gw_driver_requeue(m->drivers[i]);
    r = migration_load_check_held(m);
    return r ? r : migration_go_on(m, 0);
}

static int go_on(struct migration *m, const struct arrival *a, struct migration_receiver *v)
{
    int r = start(m, a, v), e;

    if (r == 0) {
        migration_receiver_say(v, LINK_RUNNING);
        if (m->remote->fetch)
            r = await_pages(m, v);
        if (r == 0)
            r = migration_settle(m);
    }
    if (r == 0)
        r = migration_finish(m, m->dst);
    migration_receiver_say(v, LINK_VERDICT);
    e = await_verdict(m, v);
    if (e == 0) {
        m->hop->downtime_ns = m->remote->downtime_ns;
        migration_remote_judge(m, MIGRATION_SIDE_SOURCE);
    }
    return r ? r : e;
}

static int run(struct migration *m, struct arrival *a)
{
    struct migration_receiver *v;
    int r = await_guest(m);

    if (r < 0)
        return r;
    m->hop->begin_ns = migration_now(m);
    migration_remote_say(m, LINK_WELCOME);
    r = receive(a);
    if (r < 0)
        return r;
    r = migration_receiver_new(m, &v);
    if (r < 0)
        return r;
    m->remote->receiver = v;
    r = await_go(m, v);
    if (r == 0)
        r = go_on(m, a, v);
    m->remote->receiver = NULL;
    migration_receiver_free(v);
    return r;
}

int migration_remote_tend(struct migration *m)
{
    struct migration_remote *l = m->remote;

    if (!l->receiver || !l->is_gone || l->is_told || migration_receiver_is_well(l->receiver))
        return l->is_told ? -ENOLINK : 0;
    l->is_told = true;
    return migration_cannot(m, MIGRATION_SIDE_SOURCE, -ENOLINK,
                            "%s; the result of its half is unknown", l->why);
}

int migration_run_destination(struct migration *m)
{
    struct migration_remote *l = m->remote;
    struct arrival a = {.m = m};
    int r;

    if (!migration_begin_hop(m))
        return migration_cannot(m, MIGRATION_SIDE_TOOL, -ENOMEM, "out of memory");
    migration_choose_kill(m);
    migration_set_phase(m, MIGRATION_PHASE_CONNECT);
    r = fcntl(m->o.listen_fd, F_DUPFD_CLOEXEC, 0);
    r = r < 0 ? -errno : link_lobby_open(&l->lobby, r);
    if (r < 0)
        return migration_cannot(m, MIGRATION_SIDE_TOOL, r, "the listening socket: %s",
                                strerror(-r));
    r = run(m, &a);
    migration_fetch_free(m); /* the load may wait for a page */
    migration_state_free(a.state);
    if (r == -ENOLINK && !l->is_gone)
        migration_cannot(m, MIGRATION_SIDE_SOURCE, r,
                         "cancelled: %s; if the guest still exists, it continues there", l->why);
    if (r < 0 && !l->is_gone)
        migration_remote_give_up(m, m->ret->n_faults ? m->ret->faults[0].text : "");
    return r;
}
