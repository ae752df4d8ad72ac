/* SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause */
/*
 * Checks the requests that a queue has taken (src/core/queue/invariant.c) against a model. A driver
 * adds chains; the device pops, unpops, answers and flushes at random, and publishes at any moment
 * of a turn; stops of every kind come in between. After each step the ring, the queue and the
 * inflight part must agree with the model's requests in flight. The driver must get every answer
 * exactly once.
 *
 * usage: test_taken [SEED [ROUNDS]]
 */
#include "../fixtures/fixture.h"
#include "fdcheck.h"

#include "core/queue/queue_i.h"

#include <errno.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum {
    TURNS = 80, /* per round */
    STEPS = 12, /* maximum per turn */
    ADDED = 4,  /* maximum of requests added between two turns */
    N_REQS = TURNS * ADDED,
    CHAIN_MAX = 3,
    RING_MAX = 16,
};

static unsigned first_seed = 1;
static unsigned rounds = 10;

/* A request is known by its number, which is the driver's cookie. */
struct req {
    struct gw_request *held; /* NULL: the device does not hold it */
    uint64_t position;       /* in the sequence of all pops */
    unsigned n_slots;
    uint16_t entry;
    bool was_again;
    uint32_t len; /* total length of its buffers */
    uint32_t used_len;
    bool is_answered;
    bool is_taken; /* by the driver */
};

struct list {
    unsigned n;
    unsigned of[N_REQS];
};

struct model {
    struct fixture fixture;
    unsigned seed, random;
    struct req reqs[N_REQS];
    unsigned n_added;
    struct list waiting;   /* on the ring, in ring order */
    struct list again;     /* suspended by a stop; popped before `waiting` */
    struct list taken;     /* popped and not published, in pop order */
    struct list published; /* not yet taken by the driver */
    uint64_t position;
    unsigned n_answered; /* since the last publication */
    unsigned step;       /* publish_step of this turn */
    enum gw_queue_stop how;
    const char *why; /* the first mismatch; set on the worker */
};

/* A new one for each run: the worker of a failed run keeps using its own. */
static struct model *model_new(void)
{
    struct model *m = calloc(1, sizeof(*m));

    assert_non_null(m);
    return m;
}

static unsigned pick(struct model *m, unsigned n)
{
    m->random = m->random * 1103515245u + 12345u;
    return (m->random >> 16) % n;
}

static void append(struct list *l, unsigned r)
{
    l->of[l->n++] = r;
}

static void prepend(struct list *l, unsigned r)
{
    memmove(l->of + 1, l->of, l->n++ * sizeof(l->of[0]));
    l->of[0] = r;
}

static unsigned take_out(struct list *l, unsigned at)
{
    unsigned r = l->of[at];

    memmove(l->of + at, l->of + at + 1, (--l->n - at) * sizeof(l->of[0]));
    return r;
}

static void expect(struct model *m, bool good, const char *what)
{
    if (!good && !m->why)
        m->why = what;
}

static bool in_order(const struct model *m)
{
    return (m->fixture.cfg.features & FIXTURE_F_ORDER) != 0;
}

static bool is_packed(const struct model *m)
{
    return (m->fixture.cfg.features & FIXTURE_F_PACKED) != 0;
}

/* ---- comparison with the model ---- */

/* Recovery by a next back-end must find the model's requests in this order. */
static void check_part(struct model *m)
{
    static _Alignas(64) uint8_t part[64 + RING_MAX * sizeof(struct gw_inflight_packed_entry)];
    static struct vring_packed_desc descs[RING_MAX];
    const struct gw_ring *ring = &m->fixture.queue.ring;
    struct gw_inflight_ring view = {.used = ring->split.published};
    uint16_t size = (uint16_t)m->fixture.cfg.size;
    struct gw_inflight_found found = {0};
    struct gw_inflight f = {0};
    int r;

    if (!m->fixture.part)
        return;
    memcpy(part, m->fixture.part, gw_inflight_stride(is_packed(m), size));
    if (is_packed(m)) {
        view = (struct gw_inflight_ring){.desc = descs};
        memcpy(descs, gw_guest_mem_at(m->fixture.mem, m->fixture.desc, 16 * size), 16 * size);
    }
    r = gw_inflight_attach(&f, part, is_packed(m), size, size);
    r = r < 0 ? r : gw_inflight_recover(&f, &view, &found);
    expect(m, r == 0, "the part cannot be recovered from");
    expect(m, r < 0 || found.n_entries == m->taken.n + m->again.n, "entries in flight");
    for (unsigned i = 0; i < found.n_entries && !m->why; i++) {
        unsigned n = i < m->taken.n ? m->taken.of[i] : m->again.of[i - m->taken.n];

        expect(m, found.entries[i].entry == m->reqs[n].entry, "another entry is in flight");
        expect(m, found.entries[i].n_slots == m->reqs[n].n_slots, "slots of an entry");
    }
    free(found.entries);
    gw_inflight_detach(&f);
}

static void check_all(struct model *m)
{
    const struct gw_queue *q = &m->fixture.queue;
    unsigned n_slots = 0;

    for (unsigned i = 0; i < m->taken.n; i++)
        n_slots += m->reqs[m->taken.of[i]].n_slots;
    for (unsigned i = 0; i < m->again.n; i++)
        n_slots += m->reqs[m->again.of[i]].n_slots;
    expect(m, q->ring.n_busy == n_slots, "slots taken");
    expect(m, q->in_flight.n == m->taken.n, "requests in flight");
    expect(m, gw_queue_is_consistent(q), "the invariant");
    check_part(m);
}

/* ---- a turn, on the worker ---- */

static void publish(struct model *m)
{
    m->n_answered = 0;
    for (unsigned i = 0; i < m->taken.n;) {
        if (m->reqs[m->taken.of[i]].is_answered)
            append(&m->published, take_out(&m->taken, i));
        else if (in_order(m))
            break;
        else
            i++;
    }
}

static void pop(struct model *m)
{
    struct gw_request *reqs[4];
    unsigned n = 1 + pick(m, 4), n_there = m->again.n + m->waiting.n;
    unsigned r = gw_queue_pop(&m->fixture.queue, reqs, n);

    expect(m, r == (n < n_there ? n : n_there), "the number popped");
    for (unsigned i = 0; i < r && !m->why; i++) {
        const struct gw_request_i *r_i = gw_container_of(reqs[i], struct gw_request_i, pub);
        bool is_again = m->again.n > 0;
        unsigned n_req = take_out(is_again ? &m->again : &m->waiting, 0);
        struct req *req = &m->reqs[n_req];

        expect(m, reqs[i]->writable_len == req->len, "another request was popped");
        req->held = reqs[i];
        req->position = ++m->position;
        req->n_slots = r_i->n_slots;
        req->entry = r_i->entry;
        req->was_again = is_again;
        req->is_answered = false;
        append(&m->taken, n_req);
    }
}

/* Returns: an index in `taken` whose request the device holds; taken.n: none is held. */
static unsigned pick_held(struct model *m, bool last)
{
    unsigned n_held = 0, at;

    for (unsigned i = 0; i < m->taken.n; i++)
        n_held += m->reqs[m->taken.of[i]].held != NULL;
    if (n_held == 0)
        return m->taken.n;
    at = last ? n_held : 1 + pick(m, n_held);
    for (unsigned i = 0;; i++) {
        at -= m->reqs[m->taken.of[i]].held != NULL;
        if (at == 0)
            return i;
    }
}

static void unpop(struct model *m)
{
    unsigned at = pick_held(m, pick(m, 3) != 0), n_req;
    struct req *req;
    bool is_last;

    if (at == m->taken.n)
        return;
    req = &m->reqs[m->taken.of[at]];
    is_last = req->position == m->position;
    expect(m, gw_request_unpop(req->held) == (is_last ? 0 : -EINVAL), "an unpop");
    if (!is_last)
        return;
    m->position--;
    req->held = NULL;
    n_req = take_out(&m->taken, at);
    prepend(req->was_again ? &m->again : &m->waiting, n_req);
}

static void answer(struct model *m)
{
    unsigned at = pick_held(m, false);
    struct gw_request *held;
    struct req *req;

    if (at == m->taken.n)
        return;
    req = &m->reqs[m->taken.of[at]];
    held = req->held;
    /* IN_ORDER cannot skip a request that was not filled completely. */
    req->used_len = pick(m, 4) ? req->len : pick(m, req->len);
    req->is_answered = true;
    req->held = NULL;
    gw_request_complete(held, req->used_len);
    if (++m->n_answered >= m->step)
        publish(m);
}

static int run_turn(void *arg)
{
    struct model *m = arg;

    m->step = pick(m, 2) ? UINT_MAX : 1 + pick(m, 4);
    m->fixture.queue.batch.publish_step = m->step;
    for (unsigned n = 1 + pick(m, STEPS); n > 0 && !m->why; n--) {
        unsigned what = pick(m, 10);

        if (what < 4) {
            pop(m);
        } else if (what < 6) {
            unpop(m);
        } else if (what < 9) {
            answer(m);
        } else {
            gw_queue_flush(&m->fixture.queue);
            publish(m);
        }
        check_all(m);
    }
    m->fixture.queue.batch.publish_step = UINT_MAX;
    publish(m); /* the worker publishes at the end of its turn */
    return 0;
}

/* ---- stops ---- */

/* A drain answers all held requests, a suspend answers or suspends them, a lost session does none.
 */
static void at_the_stop(void *dev, struct gw_queue *q)
{
    struct model *m = gw_container_of((struct fixture *)dev, struct model, fixture);
    uint64_t first = UINT64_MAX;
    struct list left = {0};
    unsigned at;

    (void)q;
    publish(m);
    if (m->how == GW_STOP_LOST)
        return;
    while ((at = pick_held(m, false)) < m->taken.n && !m->why) {
        struct req *req = &m->reqs[m->taken.of[at]];
        struct gw_request *held = req->held;

        req->held = NULL;
        if (m->how == GW_STOP_SUSPEND && pick(m, 2)) {
            expect(m, gw_request_suspend(held) == 0, "a suspension");
            first = req->position < first ? req->position : first;
        } else {
            req->is_answered = true;
            req->used_len = req->len;
            gw_request_complete(held, req->len);
        }
    }
    for (unsigned i = 0; i < m->taken.n; i++) {
        struct req *req = &m->reqs[m->taken.of[i]];

        if (!req->is_answered || (in_order(m) && req->position >= first))
            append(&left, m->taken.of[i]);
        else
            append(&m->published, m->taken.of[i]);
    }
    m->taken = left;
}

static int answer_late(void *arg)
{
    struct model *m = arg;

    for (unsigned i = 0; i < m->taken.n; i++) {
        struct req *req = &m->reqs[m->taken.of[i]];

        if (req->held)
            gw_request_complete(req->held, req->len);
        req->held = NULL;
    }
    return 0;
}

static void take_answers(struct model *m)
{
    struct gw_driver_used used[N_REQS];
    unsigned n = gw_driver_take(m->fixture.driver, used, N_REQS);

    assert_int_equal(gw_driver_check(m->fixture.driver), 0);
    assert_int_equal(n, m->published.n);
    for (unsigned i = 0; i < n; i++) {
        struct req *req = &m->reqs[used[i].cookie];

        assert_true(req->is_answered && !req->is_taken);
        assert_int_equal(used[i].len, req->used_len);
        req->is_taken = true;
    }
    m->published.n = 0;
}

static void stop(struct model *m, enum gw_queue_stop how)
{
    m->how = how;
    if (how == GW_STOP_LOST) {
        fixture_lose(&m->fixture);
        fixture_call(&m->fixture, answer_late, m);
        fixture_settle(&m->fixture);
    } else {
        fixture_stop_at(&m->fixture, how);
    }
    assert_null(m->why);
    for (unsigned i = m->taken.n; i > 0; i--) {
        m->reqs[m->taken.of[i - 1]].is_answered = false;
        prepend(&m->again, m->taken.of[i - 1]);
    }
    m->taken.n = 0;
    assert_int_equal(m->fixture.queue.state, GW_QUEUE_STOPPED);
    take_answers(m);
}

static void run_again(struct model *m)
{
    assert_int_equal(fixture_start_at(&m->fixture, FIXTURE_DRIVER_FD,
                                      m->fixture.queue.ring.ops->base(&m->fixture.queue.ring)),
                     0);
    fixture_set_call(&m->fixture, FIXTURE_DRIVER_FD);
    fixture_enable(&m->fixture, true);
    assert_int_equal(m->fixture.queue.resume.n_resubmit, m->again.n);
}

static void stop_and_go_on(struct model *m)
{
    unsigned what = m->fixture.part ? pick(m, 3) : 0;

    /* A drain needs the device to answer suspended requests; this device does not do so itself. */
    if (what == 0 && m->again.n > 0)
        return;
    stop(m, what == 0 ? GW_STOP_DRAIN : what == 1 ? GW_STOP_SUSPEND : GW_STOP_LOST);
    run_again(m);
}

/* ---- the driver ---- */

static void add(struct model *m)
{
    for (unsigned n = pick(m, ADDED + 1); n > 0 && m->n_added < N_REQS; n--) {
        struct gw_driver_buf bufs[CHAIN_MAX];
        unsigned n_bufs = 1 + pick(m, CHAIN_MAX);

        for (unsigned i = 0; i < n_bufs; i++)
            bufs[i] = (struct gw_driver_buf){m->fixture.buf, 8};
        if (gw_driver_add(m->fixture.driver, bufs, 0, n_bufs, m->n_added, 0) < 0)
            break; /* no room */
        m->reqs[m->n_added].len = 8 * n_bufs;
        append(&m->waiting, m->n_added++);
    }
    gw_driver_kick_always(m->fixture.driver);
}

static int drain(void *arg)
{
    struct model *m = arg;

    while (m->again.n + m->waiting.n + m->taken.n > 0 && !m->why) {
        pop(m);
        answer(m);
        gw_queue_flush(&m->fixture.queue);
        publish(m);
        check_all(m);
    }
    return 0;
}

static void run_round(unsigned seed, bool inflight)
{
    static const unsigned split_sizes[] = {4, 8, 16}, packed_sizes[] = {3, 7, 16};
    struct model *m = model_new();
    struct fixture_config cfg = {.inflight = inflight, .base = 5, .queue_stop = at_the_stop};

    m->seed = m->random = seed;
    cfg.size =
        fixture_features & FIXTURE_F_PACKED ? packed_sizes[pick(m, 3)] : split_sizes[pick(m, 3)];
    cfg.base = (uint16_t)pick(m, cfg.size);
    fixture_begin(&m->fixture, &cfg);
    fixture_set_mode(&m->fixture, FIXTURE_IGNORE);
    fixture_run(&m->fixture);
    for (unsigned i = 0; i < TURNS; i++) {
        add(m);
        fixture_call(&m->fixture, run_turn, m);
        fixture_settle(&m->fixture);
        if (m->why)
            fail_msg("seed %u, turn %u: %s", seed, i, m->why);
        if (pick(m, 3))
            take_answers(m);
        if (pick(m, 8) == 0)
            stop_and_go_on(m);
    }
    fixture_call(&m->fixture, drain, m);
    fixture_settle(&m->fixture);
    if (m->why)
        fail_msg("seed %u, at the end: %s", seed, m->why);
    stop(m, GW_STOP_DRAIN);
    for (unsigned i = 0; i < m->n_added; i++)
        assert_true(m->reqs[i].is_taken);
    fixture_end(&m->fixture);
    free(m);
}

static void test_taken_agrees_with_a_model(void **state)
{
    for (unsigned i = 0; i < rounds; i++)
        run_round(first_seed + i, false);
}

static void test_taken_agrees_with_a_model_and_its_entries(void **state)
{
    for (unsigned i = 0; i < rounds; i++)
        run_round(first_seed + i, true);
}

/* ---- a driver that breaks the ring ---- */

enum {
    N_EARLY = 8
};

/* All slots are taken and answered; before publication the driver makes them available again. */
static int offer_early(void *arg)
{
    struct gw_request *reqs[N_EARLY];
    struct model *m = arg;
    struct gw_queue *q = &m->fixture.queue;
    unsigned n;

    q->batch.publish_step = UINT_MAX;
    n = gw_queue_pop(q, reqs, N_EARLY);
    expect(m, n == N_EARLY / 2, "the number popped");
    for (unsigned i = 0; i < n; i++)
        gw_request_complete(reqs[i], 8);
    for (uint16_t i = 0; i < N_EARLY; i++) {
        struct gw_driver_packed_desc desc = {
            .addr = m->fixture.buf, .len = 8, .id = i, .flags = 1u << VRING_PACKED_DESC_F_USED};

        gw_driver_write_packed_desc(m->fixture.driver, i, &desc);
    }
    expect(m, gw_queue_pop(q, reqs, N_EARLY) == 0, "what is taken was popped again");
    expect(m, q->broken, "the ring is not broken");
    expect(m, q->ring.n_busy == N_EARLY, "slots taken");
    expect(m, gw_queue_is_consistent(q), "the invariant");
    return 0;
}

static void test_taken_slot_offered_before_its_answer_is_published_breaks_the_ring(void **state)
{
    for (int inflight = 0; inflight <= 1 && fixture_features & FIXTURE_F_PACKED; inflight++) {
        struct model *m = model_new();
        struct fixture_config cfg = {.size = N_EARLY, .inflight = inflight};
        struct gw_driver_buf bufs[2];

        fixture_begin(&m->fixture, &cfg);
        fixture_set_mode(&m->fixture, FIXTURE_IGNORE);
        fixture_run(&m->fixture);
        bufs[0] = bufs[1] = (struct gw_driver_buf){m->fixture.buf, 8};
        for (unsigned i = 0; i < N_EARLY / 2; i++)
            assert_int_equal(gw_driver_add(m->fixture.driver, bufs, 0, 2, i, 0), 0);
        gw_driver_publish(m->fixture.driver);
        fixture_call(&m->fixture, offer_early, m);
        if (m->why)
            fail_msg("%s", m->why);
        fixture_settle(&m->fixture);
        fixture_stop(&m->fixture);
        fixture_end(&m->fixture);
        free(m);
    }
}

/* A head that is available twice: in one batch with a good head, and while in flight. */
static int offer_twice(void *arg)
{
    struct gw_request *reqs[4];
    struct model *m = arg;
    struct gw_queue *q = &m->fixture.queue;
    bool tracked = m->fixture.part != NULL;

    for (uint16_t i = 0; i < 3; i++)
        gw_driver_write_avail(m->fixture.driver, i, i == 2 ? 0 : i);
    gw_driver_write_avail_idx(m->fixture.driver, 3);
    expect(m, gw_queue_pop(q, reqs, 1) == 1, "the first one");
    expect(m, gw_queue_pop(q, reqs + 1, 2) == (tracked ? 1u : 2u), "those behind it");
    expect(m, q->broken == tracked, "a broken ring");
    expect(m, q->ring.n_busy == (tracked ? 2 : 3), "slots taken");
    expect(m, gw_queue_is_consistent(q), "the invariant");
    /* Answer the good requests. */
    for (int i = 0; i < (tracked ? 2 : 3); i++)
        gw_request_complete(reqs[i], 8);
    gw_queue_flush(q);
    expect(m, gw_driver_used_idx(m->fixture.driver) == (tracked ? 2 : 3), "answers");
    return 0;
}

static void test_taken_head_in_flight_breaks_a_tracked_split_ring(void **state)
{
    for (int inflight = 0; inflight <= 1 && !(fixture_features & FIXTURE_F_PACKED); inflight++) {
        struct model *m = model_new();
        struct fixture_config cfg = {.size = N_EARLY, .inflight = inflight};

        fixture_begin(&m->fixture, &cfg);
        fixture_set_mode(&m->fixture, FIXTURE_IGNORE);
        fixture_run(&m->fixture);
        for (unsigned i = 0; i < 2; i++)
            gw_driver_write_desc(m->fixture.driver, (uint16_t)i, m->fixture.buf, 8,
                                 VRING_DESC_F_WRITE, 0);
        fixture_call(&m->fixture, offer_twice, m);
        if (m->why)
            fail_msg("%s", m->why);
        if (inflight)
            assert_non_null(
                strstr(m->fixture.message, "head 0 available again before it was used"));
        fixture_settle(&m->fixture);
        assert_int_equal(fixture_stop(&m->fixture), inflight ? 2 : 3);
        fixture_end(&m->fixture);
        free(m);
    }
}

int main(int argc, char **argv)
{
    const struct CMUnitTest tests[] = {
        FDCHECK_TEST(test_taken_agrees_with_a_model),
        FDCHECK_TEST(test_taken_agrees_with_a_model_and_its_entries),
        FDCHECK_TEST(test_taken_slot_offered_before_its_answer_is_published_breaks_the_ring),
        FDCHECK_TEST(test_taken_head_in_flight_breaks_a_tracked_split_ring),
    };

    if (argc > 1)
        first_seed = (unsigned)strtoul(argv[1], NULL, 0);
    if (argc > 2)
        rounds = (unsigned)strtoul(argv[2], NULL, 0);
    return FIXTURE_RUN_ALL(tests);
}
