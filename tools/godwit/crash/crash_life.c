/* SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause */
/*
 * The life of one back-end: started, connected, given rings and the inflight region, put under load
 * and killed at some moment of that; or suspended with requests in flight and then killed. Then the
 * inflight region that it left is checked.
 */
#include "crash_i.h"

#include "probe/feature_names.h"

#include "base/clock.h"
#include "base/proto.h"

#include <errno.h>
#include <linux/virtio_blk.h>
#include <string.h>
#include <time.h>

#define BIT(n) (UINT64_C(1) << (n))

#define FEATURES                                                                             \
    (BIT(GW_F_RING_INDIRECT_DESC) | BIT(GW_F_RING_EVENT_IDX) | BIT(GW_F_PROTOCOL_FEATURES) | \
     BIT(GW_F_VERSION_1))
#define PROTOCOL_FEATURES                                                               \
    (BIT(GW_PROTOCOL_F_MQ) | BIT(GW_PROTOCOL_F_REPLY_ACK) | BIT(GW_PROTOCOL_F_CONFIG) | \
     BIT(GW_PROTOCOL_F_CONFIGURE_MEM_SLOTS) | BIT(GW_PROTOCOL_F_INFLIGHT_SHMFD))
#define STOP_INFLIGHT   BIT(GW_PROTOCOL_F_GET_VRING_BASE_INFLIGHT)
#define STOP_SKIP_DRAIN BIT(GW_PROTOCOL_F_GET_VRING_BASE_SKIP_DRAIN)

#define SPAN_GUESS_NS (2 * GW_NS_PER_MS) /* duration of a step not measured yet */
#define LOAD_BITS     24                 /* a load continues for up to 2^24 ns, 17 ms */
#define FURTHER_BITS  11                 /* a batch takes up to about 2^11 instructions */
#define SLICE_MS      2                  /* between two checks of the back-end */

enum end {
    LIVES = 0,
    DEAD = 1, /* killed as planned */
};

struct plan {
    enum crash_moment moment;
    uint64_t delay_ns;
    uint64_t stop;    /* stop features to negotiate: none, STOP_INFLIGHT or both */
    bool suspends;    /* a stop may leave requests in flight */
    bool skips;       /* stop with GET_VRING_BASE_SKIP_DRAIN */
    bool is_handover; /* kill only after all queues are suspended */
    bool is_exact;    /* kill during the completion of a batch ... */
    bool is_shown;    /* ... after the driver can see it ... */
    uint64_t further; /* ... and after further instructions */
    bool drains;      /* drain before submitting new requests */
    bool is_unserved; /* submit requests after the kill */
};

/* ---- Plans ---- */

static bool offers(const struct crash *c, unsigned bit)
{
    return c->protocol_features >> bit & 1;
}

static enum crash_moment choose_moment(struct crash *c)
{
    static const unsigned percent[CRASH_N_MOMENTS] = {5, 7, 13, 25, 32, 10, 8};
    uint64_t at = crash_random(c, 100);
    unsigned moment = 0;

    while (at >= percent[moment])
        at -= percent[moment++];
    return (enum crash_moment)moment;
}

/* A delay within the step or shortly after; for a load, log-uniform down to microseconds. */
static uint64_t choose_delay(struct crash *c, enum crash_moment moment)
{
    uint64_t span = c->span_ns[moment] ? c->span_ns[moment] : SPAN_GUESS_NS;

    if (moment == CRASH_LOAD)
        return crash_random(c, UINT64_C(1) << (1 + crash_random(c, LOAD_BITS)));
    return crash_random(c, span + span / 4);
}

/* Whether requests complete during this step. */
static bool completes(enum crash_moment moment)
{
    return moment == CRASH_RECOVER || moment == CRASH_LOAD || moment == CRASH_DRAIN;
}

/*
 * If only the first of the two features is negotiated, GET_VRING_BASE may leave requests in flight.
 * With both, GET_VRING_BASE drains, and GET_VRING_BASE_SKIP_DRAIN does not.
 */
static void choose_stop(struct crash *c, struct plan *p)
{
    bool can_suspend = offers(c, GW_PROTOCOL_F_GET_VRING_BASE_INFLIGHT);
    bool can_skip = can_suspend && offers(c, GW_PROTOCOL_F_GET_VRING_BASE_SKIP_DRAIN);
    bool has_both = can_skip && crash_random(c, 2);

    p->is_handover = can_suspend && crash_random(c, 100) < c->o.handover_percent;
    p->suspends = p->is_handover || (can_suspend && crash_random(c, 2));
    p->skips = p->suspends && has_both;
    if (has_both)
        p->stop = STOP_INFLIGHT | STOP_SKIP_DRAIN;
    else if (p->suspends)
        p->stop = STOP_INFLIGHT;
}

static struct plan make_plan(struct crash *c)
{
    struct plan p = {.moment = choose_moment(c)};

    choose_stop(c, &p);
    p.drains = p.moment == CRASH_DRAIN || crash_random(c, 2);
    p.is_unserved = crash_random(c, 2);
    if (p.is_handover)
        p.moment = CRASH_LOAD;
    p.delay_ns = choose_delay(c, p.moment);
    p.is_exact = completes(p.moment) && crash_random(c, 100) < c->o.exact_percent;
    p.is_shown = crash_random(c, 2);
    p.further = crash_random(c, UINT64_C(1) << crash_random(c, FURTHER_BITS));
    return p;
}

/* ---- Steps. Each returns LIVES, DEAD, or a negative errno that has been recorded. ---- */

static bool has_died(struct crash *c)
{
    return crash_killer_has_struck(c->killer);
}

static void reach(struct crash *c, const struct plan *p, enum crash_moment moment)
{
    struct crash_watch watch = {.n = 0};

    if (p->moment != moment || p->is_handover)
        return;
    if (p->is_exact)
        watch = crash_watch_of(c);
    watch.is_shown = p->is_shown;
    watch.further = p->further;
    watch.limit_ns = c->o.request_ms * GW_NS_PER_MS / 2;
    crash_killer_arm(c->killer, p->delay_ns, &watch, moment >= CRASH_RECOVER ? c->load : NULL);
}

/* Update the average duration of a step that ended without a kill. */
static void note_span(struct crash *c, enum crash_moment moment, uint64_t begin_ns)
{
    uint64_t ns = gw_clock_ns() - begin_ns, *span = &c->span_ns[moment];

    *span = *span ? (*span * 7 + ns) / 8 : ns;
}

/* Judge the result of a message. A killed back-end may fail to reply, but a rejection counts. */
static int judge(struct crash *c, int r, const char *what)
{
    if (r == 0)
        return LIVES;
    if (has_died(c) && r != -EREMOTEIO)
        return DEAD;
    if (target_check(c->target) < 0)
        return crash_blame(c, CRASH_CHECK_RESTARTS, r, "%s: %s", what, target_error(c->target));
    return crash_blame(c, CRASH_CHECK_RESTARTS, r, "%s: %s", what, gw_frontend_last_error());
}

/* Judge the result of the load. Its findings count even if the back-end has been killed. */
static int judge_load(struct crash *c, int r)
{
    if (r == 0 || (r == -ETIMEDOUT && has_died(c)))
        return has_died(c) ? DEAD : LIVES;
    if (r == -ETIMEDOUT && target_check(c->target) < 0)
        return crash_blame(c, CRASH_CHECK_RESTARTS, r, "%s", target_error(c->target));
    return crash_load_fault(c, r);
}

static struct gw_frontend_options options_of(struct crash *c, const struct plan *p)
{
    return (struct gw_frontend_options){
        .size = sizeof(struct gw_frontend_options),
        .features = c->features,
        .protocol_features = PROTOCOL_FEATURES | p->stop,
        .mem = c->mem,
        .drivers = c->drivers,
        .n_drivers = c->n_drivers,
        .inflight = &c->inflight,
    };
}

static int new_frontend(struct crash *c)
{
    struct gw_frontend_config cfg = {
        .size = sizeof(cfg), .timeout_ms = c->o.request_ms, .connect_timeout_ms = c->o.request_ms};
    int r = gw_frontend_new(&c->fe, &cfg);

    return r < 0 ? crash_cannot(c, r, "%s", strerror(-r)) : 0;
}

static int spawn(struct crash *c, const struct plan *p)
{
    uint64_t begin;
    int r = target_start(c->target);

    if (r < 0)
        return crash_cannot(c, r, "%s", target_error(c->target));
    c->ret->n_starts++;
    reach(c, p, CRASH_SPAWN);
    begin = gw_clock_ns();
    r = new_frontend(c);
    if (r < 0)
        return r;
    r = target_connect(c->target, c->fe);
    if (r < 0)
        return has_died(c) ? DEAD
                           : crash_blame(c, CRASH_CHECK_RESTARTS, r, "%s", target_error(c->target));
    note_span(c, CRASH_SPAWN, begin);
    c->connected_ns = gw_clock_ns();
    return LIVES;
}

static int connect_to(struct crash *c, const struct plan *p)
{
    struct gw_frontend_options opt = options_of(c, p);
    uint64_t begin = gw_clock_ns();
    int r;

    reach(c, p, CRASH_CONNECT);
    r = judge(c, gw_frontend_negotiate(c->fe, &opt), "negotiating");
    if (r == LIVES)
        note_span(c, CRASH_CONNECT, begin);
    return r;
}

static int start(struct crash *c, const struct plan *p)
{
    struct gw_frontend_options opt = options_of(c, p);
    bool is_fresh = c->inflight.mmap_size == 0;
    uint64_t begin = gw_clock_ns();
    int r;

    reach(c, p, CRASH_START);
    c->is_drained = false;
    memset(c->is_stopped, 0, c->n_drivers * sizeof(bool));
    r = judge(c, gw_frontend_start(c->fe, &opt), "starting the device");
    c->ret->n_fresh += is_fresh && c->inflight.mmap_size > 0;
    if (r != LIVES)
        return r;
    if (c->inflight.mmap_size == 0)
        return crash_cannot(c, -EOPNOTSUPP, "it offers INFLIGHT_SHMFD but provides no region");
    note_span(c, CRASH_START, begin);
    /* Newer specifications require it: available requests need a kick after the start. */
    for (unsigned i = 0; i < c->n_drivers; i++)
        gw_driver_kick_always(c->drivers[i]);
    return LIVES;
}

static uint64_t n_completed(const struct crash *c)
{
    struct gw_guest_load_stats stats;

    gw_guest_load_stats(c->load, &stats);
    return stats.requests;
}

static unsigned n_in_flight(const struct crash *c)
{
    unsigned n = 0;

    for (unsigned i = 0; i < c->n_drivers; i++)
        n += gw_driver_in_flight(c->drivers[i]);
    return n;
}

/* Fail if no request has completed for too long. `when` begins the message. */
static int check_progress(struct crash *c, uint64_t since_ns, const char *when)
{
    if (gw_clock_ns() - since_ns < c->o.request_ms * GW_NS_PER_MS)
        return LIVES;
    return crash_blame(c, CRASH_CHECK_ALL, -ETIMEDOUT,
                       "%s: none of the %u requests in flight completed within %u ms", when,
                       n_in_flight(c), c->o.request_ms);
}

static int recover(struct crash *c, const struct plan *p)
{
    uint64_t before = n_completed(c), begin = gw_clock_ns();
    int r = LIVES;

    reach(c, p, CRASH_RECOVER);
    while (r == LIVES && n_completed(c) == before) {
        r = judge_load(c, gw_guest_load_run(c->load, SLICE_MS, 1, 0));
        if (r == LIVES && target_check(c->target) < 0)
            r = judge(c, -EHOSTDOWN, "recovering");
        if (r == LIVES)
            r = check_progress(c, begin, "after the start of the device");
    }
    if (n_completed(c) == before)
        return r;
    gw_histogram_add(&c->recovery, gw_clock_ns() - c->connected_ns);
    if (r == LIVES)
        note_span(c, CRASH_RECOVER, begin);
    return r;
}

static int drain(struct crash *c, const struct plan *p)
{
    uint64_t begin = gw_clock_ns(), progress_ns = begin, before;
    int r = LIVES;

    reach(c, p, CRASH_DRAIN);
    while (r == LIVES && n_in_flight(c) > 0) {
        before = n_completed(c);
        r = gw_guest_load_drain(c->load, SLICE_MS);
        r = r == -ETIMEDOUT ? judge(c, target_check(c->target), "draining") : judge_load(c, r);
        if (n_completed(c) != before)
            progress_ns = gw_clock_ns();
        if (has_died(c) && r == LIVES)
            r = DEAD;
        if (r == LIVES)
            r = check_progress(c, progress_ns, "while draining");
    }
    if (r == LIVES) {
        c->ret->n_drains++;
        note_span(c, CRASH_DRAIN, begin);
    }
    return r;
}

/*
 * With no other request in flight, verify that all acknowledged writes are on the disk. A killer
 * that was armed before the rings ran does not interrupt the load, so this does not wait for it.
 */
static int look_at_disk(struct crash *c)
{
    int r = crash_look_at_disk(c);

    if (r == -EINTR) /* only the killer interrupts */
        return has_died(c) ? DEAD : LIVES;
    return judge_load(c, r);
}

/* Run the load until the killer strikes, if planned, or for the planned time. */
static int load(struct crash *c, const struct plan *p)
{
    bool is_armed = p->moment == CRASH_LOAD && !p->is_handover;
    uint64_t begin = gw_clock_ns();
    int r = LIVES;

    reach(c, p, CRASH_LOAD);
    do {
        r = judge_load(c, gw_guest_load_run(c->load, SLICE_MS, 0, c->o.request_ms));
    } while (r == LIVES && (is_armed || gw_clock_ns() - begin < p->delay_ns));
    return r;
}

static int stop_queue(struct crash *c, const struct plan *p, unsigned i)
{
    struct gw_driver *d = c->drivers[i];
    uint32_t base;
    int r;

    if (!p->skips) {
        r = gw_frontend_stop_queue(c->fe, d);
    } else {
        r = gw_frontend_get_vring_base_skip_drain(c->fe, gw_driver_index(d), &base);
        if (r == 0)
            gw_driver_set_base(d, base);
    }
    c->is_stopped[i] = r == 0;
    return r;
}

static int stop(struct crash *c, const struct plan *p)
{
    uint64_t begin = gw_clock_ns();
    int r = 0;

    reach(c, p, CRASH_STOP);
    for (unsigned i = 0; r == 0 && i < c->n_drivers; i++)
        r = gw_frontend_set_vring_enable(c->fe, gw_driver_index(c->drivers[i]), false);
    for (unsigned i = 0; r == 0 && i < c->n_drivers; i++)
        r = stop_queue(c, p, i);
    if (r == 0) {
        note_span(c, CRASH_STOP, begin);
        c->is_drained = !p->suspends;
    }
    return judge(c, r, "stopping the rings");
}

/* ---- Lives ---- */

static int live(struct crash *c, const struct plan *p)
{
    int r = spawn(c, p);

    if (r == LIVES)
        r = connect_to(c, p);
    if (r == LIVES)
        r = start(c, p);
    if (r == LIVES)
        r = recover(c, p);
    if (r == LIVES && p->drains)
        r = drain(c, p);
    if (r == LIVES && p->drains && p->moment >= CRASH_RECOVER)
        r = look_at_disk(c);
    if (r == LIVES)
        r = load(c, p);
    if (r == LIVES && (p->moment == CRASH_STOP || p->is_handover))
        r = stop(c, p);
    return r;
}

static int die(struct crash *c, const struct plan *p)
{
    static const struct timespec pause = {.tv_nsec = 50000};
    bool is_killed = !p->is_handover;

    if (!is_killed) {
        target_kill(c->target);
        c->ret->n_handovers++;
    }
    while (is_killed && !has_died(c))
        nanosleep(&pause, NULL);
    c->ret->n_exact += is_killed && crash_killer_was_exact(c->killer);
    crash_killer_disarm(c->killer);
    crash_free_frontend(c);
    if (target_bury(c->target) < 0)
        return crash_blame(c, CRASH_CHECK_RESTARTS, -EHOSTDOWN, "%s", target_error(c->target));
    c->moment = p->moment;
    c->ret->n_kills += is_killed;
    c->ret->n_kills_at[p->moment] += is_killed;
    return 0;
}

/* A VMM drops the region on a guest reset, when nothing is in flight. */
static void forget_region(struct crash *c)
{
    if (c->is_drained && crash_random(c, 2))
        gw_frontend_inflight_done(&c->inflight);
}

int crash_life(struct crash *c)
{
    struct plan p = make_plan(c);
    int r;

    r = live(c, &p);
    if (r >= 0)
        r = die(c, &p);
    if (r == 0)
        r = crash_collect(c);
    if (r == 0)
        r = crash_check_region(c);
    if (r == 0)
        forget_region(c);
    return r == 0 && p.is_unserved ? crash_submit_unserved(c) : r;
}

static int check_offer(struct crash *c)
{
    uint64_t lacking = 0, offered, wanted = FEATURES | disk_features;
    char text[192];
    int r = gw_frontend_get_features(c->fe, &offered);

    if (r == 0 && offered & BIT(GW_F_PROTOCOL_FEATURES))
        r = gw_frontend_get_protocol_features(c->fe, &c->protocol_features);
    if (r < 0)
        return judge(c, r, "reading its features");
    if (!offers(c, GW_PROTOCOL_F_CONFIG))
        return crash_cannot(c, -EOPNOTSUPP,
                            "it does not offer CONFIG (protocol bit %u), so it is not a disk",
                            GW_PROTOCOL_F_CONFIG);
    if (!offers(c, GW_PROTOCOL_F_INFLIGHT_SHMFD))
        return crash_cannot(c, -EOPNOTSUPP,
                            "it does not offer INFLIGHT_SHMFD (protocol bit %u): a crash loses the "
                            "requests in flight",
                            GW_PROTOCOL_F_INFLIGHT_SHMFD);
    lacking |= c->o.is_packed ? BIT(GW_F_RING_PACKED) : 0;
    lacking |= c->o.is_in_order ? BIT(GW_F_IN_ORDER) : 0;
    wanted |= lacking;
    lacking &= ~offered;
    if (lacking) {
        features_text(features_device("blk"), lacking, text, sizeof(text));
        return crash_cannot(c, -EOPNOTSUPP, "it does not offer %s", text);
    }
    if (offered & BIT(VIRTIO_BLK_F_RO))
        return crash_cannot(c, -EROFS, "its disk is read-only");
    c->features = offered & wanted;
    return 0;
}

static void record_backend(struct crash *c)
{
    backend_record_take(&c->ret->backend, c->target, c->fe);
    c->ret->backend.features = c->features; /* sent when the device starts */
}

static int ask_disk(struct crash *c)
{
    struct gw_frontend_options opt = options_of(c, &(struct plan){.drains = false});
    char why[256];
    int r = judge(c, gw_frontend_negotiate(c->fe, &opt), "negotiating");

    if (r == 0)
        record_backend(c);
    if (r == 0)
        r = judge(c, disk_config_read(c->fe, c->features, &c->config), "reading its config space");
    if (r < 0)
        return r;
    if (c->config.n_queues < c->o.n_queues)
        return crash_cannot(c, -ERANGE, "%u queues requested, it has %u", c->o.n_queues,
                            c->config.n_queues);
    if (!disk_takes(&c->config, c->o.block_size, disk_segments(&c->config, c->o.block_size, 1), why,
                    sizeof(why)))
        return crash_cannot(c, -EINVAL, "%s", why);
    return crash_make_guest(c);
}

/* Stop with SIGTERM, unless `r` is an earlier error. */
static int end_in_peace(struct crash *c, int r)
{
    /* Stop before disconnecting: a target with {fd} ends by itself when it is disconnected. */
    if (r == 0 && target_stop(c->target) < 0)
        r = crash_blame(c, CRASH_CHECK_RESTARTS, -EHOSTDOWN, "%s", target_error(c->target));
    crash_free_frontend(c);
    return r;
}

int crash_first_life(struct crash *c)
{
    int r = new_frontend(c);

    if (r == 0 && target_connect(c->target, c->fe) < 0)
        r = crash_cannot(c, -ENOTCONN, "%s", target_error(c->target));
    if (r == 0)
        r = check_offer(c);
    if (r == 0)
        r = ask_disk(c);
    return end_in_peace(c, r);
}

int crash_last_life(struct crash *c)
{
    /* A moment that is never reached, so nothing is killed. */
    const struct plan p = {.moment = CRASH_N_MOMENTS};
    int r = spawn(c, &p);

    if (r == 0)
        r = connect_to(c, &p);
    if (r == 0)
        r = start(c, &p);
    if (r == 0)
        r = recover(c, &p);
    if (r == 0)
        r = drain(c, &p);
    if (r == 0)
        r = crash_read_back(c);
    if (r == 0)
        r = stop(c, &p);
    return end_in_peace(c, r);
}
