/* SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause */
/* A queue (rig.h) that stops in the middle and goes on: each request is known by its buffer. */
#pragma once

#include "log_rig.h"

#include <errno.h>
#include <string.h>

#define SIZE     16u
#define N_MAX    64u /* requests of a test */
#define ANYWHERE 0u  /* a base that does not count */

struct bed {
    struct rig rig;
    gw_gpa_t data; /* RIG_BUF_LEN bytes for each */
    unsigned n_added;
    bool answered[N_MAX];
    uint64_t suspended; /* bits: these of what is held are suspended at the stop */
    int suspend_result; /* of the last */
    bool may_suspend;
};

static inline void at_stop(void *dev, struct gw_queue *q)
{
    struct rig *t = dev;
    struct bed *b = gw_container_of(t, struct bed, rig);

    b->may_suspend = gw_queue_may_suspend(q);
    for (unsigned i = t->n_held; i-- > 0;)
        if (b->suspended >> i & 1)
            b->suspend_result = gw_request_suspend(t->held[i]);
}

static inline void begin(struct bed *b, bool inflight)
{
    struct rig_config cfg = {.size = SIZE, .base = 13, .inflight = inflight, .queue_stop = at_stop};

    memset(b, 0, sizeof(*b));
    rig_begin(&b->rig, &cfg);
    assert_int_equal(gw_guest_mem_alloc(b->rig.mem, N_MAX * RIG_BUF_LEN, 64, &b->data), 0);
    rig_run(&b->rig);
    rig_set_mode(&b->rig, RIG_HOLD);
}

static inline void run(struct bed *b, uint32_t index)
{
    assert_int_equal(rig_start(&b->rig, RIG_DRIVER_FD, index), 0);
    rig_set_call(&b->rig, RIG_DRIVER_FD);
    rig_enable(&b->rig, true);
}

/* The next `n` requests: each is known by where its buffer is. */
static inline void add(struct bed *b, unsigned n)
{
    for (; n > 0; n--) {
        struct gw_driver_buf buf = {b->data + b->n_added * RIG_BUF_LEN, RIG_BUF_LEN};

        assert_int_equal(gw_driver_add(b->rig.driver, &buf, 0, 1, b->n_added++, 0), 0);
    }
    gw_driver_kick_always(b->rig.driver);
}

static inline void give(struct bed *b, unsigned n)
{
    unsigned n_held = rig_look(&b->rig.n_held);

    add(b, n);
    rig_wait_held(&b->rig, n_held + n);
    rig_settle(&b->rig);
}

static inline unsigned number_of(const struct bed *b, const struct gw_request *r)
{
    const char *begin = gw_guest_mem_at(b->rig.mem, b->data, N_MAX * RIG_BUF_LEN);
    const char *hva = r->in[0].iov_base;

    /* The daemon has its own mapping: pages are the same, addresses are not. */
    for (unsigned i = 0; i < b->rig.map->n_entries; i++) {
        const struct gw_map_entry *e = &b->rig.map->entries[i];
        const char *at = (const char *)e->region->hva;

        if (hva >= at && hva < at + e->size)
            hva = gw_guest_mem_at(b->rig.mem, e->gpa + (uint64_t)(hva - at), 1);
    }
    return (unsigned)((hva - begin) / RIG_BUF_LEN);
}

static inline void check_held(struct bed *b, const unsigned *numbers, unsigned n)
{
    rig_wait_held(&b->rig, n);
    rig_settle(&b->rig);
    assert_int_equal(rig_look(&b->rig.n_held), n);
    for (unsigned i = 0; i < n; i++)
        assert_int_equal(number_of(b, b->rig.held[i]), numbers[i]);
}

/* Take what is there; none is answered twice. */
static inline void take(struct bed *b, unsigned n)
{
    struct gw_driver_used used[N_MAX];

    rig_settle(&b->rig);
    assert_int_equal(gw_driver_take(b->rig.driver, used, N_MAX), n);
    assert_int_equal(gw_driver_error(b->rig.driver, NULL), 0);
    for (unsigned i = 0; i < n; i++) {
        assert_false(b->answered[used[i].cookie]);
        b->answered[used[i].cookie] = true;
    }
}

struct pick {
    struct rig *t;
    unsigned i;
};

static inline int complete_one(void *arg)
{
    const struct pick *p = arg;
    struct rig *t = p->t;

    gw_request_complete(t->held[p->i], RIG_BUF_LEN);
    memmove(&t->held[p->i], &t->held[p->i + 1], (t->n_held - p->i - 1) * sizeof(t->held[0]));
    __atomic_store_n(&t->n_held, t->n_held - 1, __ATOMIC_RELEASE);
    return 0;
}

/* Answer number `i` of what is held. */
static inline void answer(struct bed *b, unsigned i)
{
    struct pick p = {&b->rig, i};

    rig_call(&b->rig, complete_one, &p);
    rig_settle(&b->rig);
}

/* What the device had in its hands ends, too late. */
static inline void let_go(struct bed *b)
{
    rig_release(&b->rig, rig_look(&b->rig.n_held));
    rig_settle(&b->rig);
    assert_int_equal(b->rig.queue.state, GW_QUEUE_STOPPED);
}

/* All that was added is answered, and the ring is where it should be. */
static inline void end(struct bed *b)
{
    assert_int_equal(rig_stop(&b->rig), rig_index(&b->rig, 13 + b->n_added));
    for (unsigned i = 0; i < b->n_added; i++)
        assert_true(b->answered[i]);
    assert_int_equal(gw_driver_in_flight(b->rig.driver), 0);
    rig_end(&b->rig);
}

static inline void finish(struct bed *b)
{
    unsigned n = rig_look(&b->rig.n_held);

    rig_release(&b->rig, n);
    take(b, gw_driver_in_flight(b->rig.driver));
    end(b);
}

static inline bool in_order(const struct bed *b)
{
    return b->rig.cfg.features & RIG_F_ORDER;
}
