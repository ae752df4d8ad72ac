/* SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause */
/*
 * Runs every full fence of the library on two processors: those of the rings, those before marks in
 * the dirty log, and those of the library's driver. In each case one side stores one word and then
 * loads another, while the other side stores the second and then loads the first. At least one side
 * must see the other's store. Without the fence a processor, x86 included, sometimes loads first,
 * and a notification, a kick or a mark is lost. tests/models covers the other barriers.
 *
 * The race depends on timing, so a case runs for many rounds; on a busy machine for as many as its
 * time limit allows. A case fails only if it loses a store.
 *
 * usage: test_fences [ROUNDS [MILLISECONDS]]      limits of each case; the first one reached ends
 * it
 */
#include "../fixtures/log_fixture.h"
#include "fdcheck.h"

#include "base/barrier.h"
#include "core/queue/queue_i.h"

#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum {
    SIZE = 16,
    LINE = 64,
    LINES = 40, /* the device writes these first, which delays its next store */
    IDLE_TURNS_PER_YIELD = 2000,
};

static unsigned max_rounds = 200000;
static unsigned max_ms = 2000;

struct litmus {
    struct log_fixture log_fixture;
    struct gw_ring ring;
    gw_gpa_t desc, avail, used; /* parts of `ring`, in separate cache lines */
    const struct fence_case *c;
    uint8_t *device_lines, *driver_lines; /* the same memory in both mappings */
    struct gw_request *request;
    gw_gpa_t marked; /* a byte in the page whose log bit is tested */
    uint8_t copied;
    bool device_noticed, driver_noticed;
    bool is_over;
    unsigned n_lost;
    unsigned rounds;
    _Alignas(LINE) unsigned device_at; /* number of rendezvous reached */
    _Alignas(LINE) unsigned driver_at;
};

typedef void act_fn(struct litmus *t, unsigned round);

enum fence_of {
    OF_A_RING, /* a separate ring without a queue */
    OF_THE_QUEUE,
    OF_THE_DRIVER, /* the driver runs on the device side of the case, and a hand-written device on
                      the driver side */
};

/* Both sides reset before a round and act concurrently; then the driver side runs is_lost. */
struct fence_case {
    const char *name;
    enum fence_of of;
    bool packed;
    act_fn *reset_device, *reset_driver;
    act_fn *device, *driver;
    bool (*is_lost)(const struct litmus *t, unsigned round);
};

/* ---- both sides ---- */

static void meet(unsigned *mine, const unsigned *other)
{
    unsigned at = *mine + 1;

    __atomic_store_n(mine, at, __ATOMIC_RELEASE);
    for (unsigned n = 1; (int)(__atomic_load_n(other, __ATOMIC_ACQUIRE) - at) < 0; n++)
        if (n % IDLE_TURNS_PER_YIELD == 0)
            sched_yield();
}

/* Delay the driver a little, so that its store coincides with the device's. */
static void dawdle(unsigned *random)
{
    *random = *random * 1103515245u + 12345u;
    for (volatile unsigned n = (*random >> 12 & 2047) >> (*random >> 30); n > 0; n--)
        continue;
}

static void write_lines(struct litmus *t, unsigned round)
{
    for (unsigned i = 0; i < LINES; i++)
        __atomic_store_n(&t->device_lines[i * LINE], (uint8_t)round, __ATOMIC_RELAXED);
}

static void read_lines(const struct litmus *t)
{
    for (unsigned i = 0; i < LINES; i++)
        (void)__atomic_load_n(&t->driver_lines[i * LINE], __ATOMIC_RELAXED);
}

static void look(struct litmus *t, unsigned round);

static int run_device(void *arg)
{
    struct litmus *t = arg;

    for (unsigned round = 1; !t->is_over; round++) {
        if (t->c->reset_device)
            t->c->reset_device(t, round);
        meet(&t->device_at, &t->driver_at);
        look(t, round);
        write_lines(t, round);
        t->c->device(t, round);
        meet(&t->device_at, &t->driver_at);
        meet(&t->device_at, &t->driver_at); /* the driver has checked the round */
    }
    return 0;
}

static void *run_driver(void *arg)
{
    struct litmus *t = arg;
    uint64_t end = gw_clock_ns() + max_ms * UINT64_C(1000000);
    unsigned random = 2;

    for (unsigned round = 1; !t->is_over; round++) {
        read_lines(t);
        t->c->reset_driver(t, round);
        meet(&t->driver_at, &t->device_at);
        look(t, round);
        dawdle(&random);
        t->c->driver(t, round);
        meet(&t->driver_at, &t->device_at);
        t->n_lost += t->c->is_lost(t, round);
        t->rounds = round;
        t->is_over = round == max_rounds || (round % 64 == 0 && gw_clock_ns() > end);
        meet(&t->driver_at, &t->device_at);
    }
    return NULL;
}

static bool nobody_noticed(const struct litmus *t, unsigned round)
{
    (void)round;
    return !t->device_noticed && !t->driver_noticed;
}

/* ---- each side's view of the ring ---- */

static void *driver_memory(struct litmus *t, gw_gpa_t gpa)
{
    return gw_guest_mem_at(t->log_fixture.fixture.mem, gpa, 2);
}

static uint16_t *split_avail(struct litmus *t)
{
    return driver_memory(t, t->avail);
}

static uint16_t *split_used(struct litmus *t)
{
    return driver_memory(t, t->used);
}

static struct vring_packed_desc *packed_slot(struct litmus *t, unsigned round)
{
    return (struct vring_packed_desc *)driver_memory(t, t->desc) + (round - 1) % SIZE;
}

static bool packed_wrap(unsigned round)
{
    return (round - 1) / SIZE % 2 == 0;
}

/* ---- [C]: an answer is published, the driver asks to be notified ---- */

static void publish(struct litmus *t, unsigned round)
{
    (void)round;
    t->ring.n_busy = 1;
    t->ring.ops->put_used(&t->ring, 0, 0, 1);
    t->device_noticed = t->ring.ops->publish(&t->ring);
}

static void ask_split(struct litmus *t, unsigned round)
{
    gw_store16(&split_avail(t)[2 + SIZE], (uint16_t)(round - 1)); /* used_event */
    gw_full_fence();
    t->driver_noticed = gw_load16(&split_used(t)[1]) == (uint16_t)round;
}

static void ask_split_nothing(struct litmus *t, unsigned round)
{
    gw_store16(&split_avail(t)[2 + SIZE], (uint16_t)(round - 1000));
}

static void ask_packed(struct litmus *t, unsigned round)
{
    uint16_t *event = driver_memory(t, t->avail), flags;

    gw_store16(&event[1], VRING_PACKED_EVENT_FLAG_ENABLE);
    gw_full_fence();
    flags = gw_load16(&packed_slot(t, round)->flags) >> VRING_PACKED_DESC_F_AVAIL;
    t->driver_noticed = (flags & 0x101) == (packed_wrap(round) ? 0x101 : 0);
}

static void ask_packed_nothing(struct litmus *t, unsigned round)
{
    uint16_t *event = driver_memory(t, t->avail);

    (void)round;
    gw_store16(&event[1], VRING_PACKED_EVENT_FLAG_DISABLE);
    /* The flags with which the driver made the slot available. */
    gw_store16(&packed_slot(t, round)->flags, packed_wrap(round) ? 0x80 : 0x8000);
}

/* ---- [D]: the device asks for kicks, a request becomes available ---- */

static void ask_for_kicks(struct litmus *t, unsigned round)
{
    (void)round;
    t->ring.ops->enable_kicks(&t->ring);
    t->device_noticed = t->ring.ops->n_available(&t->ring) > 0;
}

/* Take the request of the last round. */
static void take(struct litmus *t, unsigned round)
{
    struct gw_head head;

    if (round > 1 && t->ring.ops->take(&t->ring, &head, 1) != 1)
        abort();
    t->ring.n_busy = 0;
    t->ring.ops->disable_kicks(&t->ring);
}

static void add_split(struct litmus *t, unsigned round)
{
    uint16_t event;

    gw_store16_release(&split_avail(t)[1], (uint16_t)round);
    gw_full_fence();
    event = gw_load16(&split_used(t)[2 + 4 * SIZE]); /* avail_event */
    t->driver_noticed = vring_need_event(event, (uint16_t)round, (uint16_t)(round - 1));
}

static void add_packed(struct litmus *t, unsigned round)
{
    const uint16_t *event = driver_memory(t, t->used);

    gw_store16_release(&packed_slot(t, round)->flags, packed_wrap(round) ? 0x80 : 0x8000);
    gw_full_fence();
    t->driver_noticed = gw_load16(&event[1]) != VRING_PACKED_EVENT_FLAG_DISABLE;
}

static void nothing(struct litmus *t, unsigned round)
{
    (void)t;
    (void)round;
}

/* ---- complete.c: the device writes data, the front-end takes the bit and copies the page ---- */

static uint8_t *log_byte(struct litmus *t)
{
    return &t->log_fixture.logs[0].bits[t->marked / 4096 / 8];
}

static uint8_t log_bit(const struct litmus *t)
{
    return (uint8_t)(1u << t->marked / 4096 % 8);
}

static void set_bit(struct litmus *t, unsigned round)
{
    (void)round;
    (void)__atomic_fetch_or(log_byte(t), log_bit(t), __ATOMIC_SEQ_CST);
}

static void pop_one(struct litmus *t, unsigned round)
{
    struct gw_driver_buf buf = {t->log_fixture.data, LINES * LINE};
    struct gw_driver_used used;

    if ((round > 1 && gw_driver_take(t->log_fixture.fixture.driver, &used, 1) != 1) ||
        gw_driver_add(t->log_fixture.fixture.driver, &buf, 0, 1, round, 0) < 0)
        abort();
    gw_driver_publish(t->log_fixture.fixture.driver);
    if (gw_queue_pop(&t->log_fixture.fixture.queue, &t->request, 1) != 1)
        abort();
}

/* write_lines has written the data. */
static void complete(struct litmus *t, unsigned round)
{
    (void)round;
    gw_request_complete(t->request, 1);
    gw_queue_flush(&t->log_fixture.fixture.queue);
}

static void copy(struct litmus *t, unsigned round)
{
    (void)round;
    (void)__atomic_fetch_and(log_byte(t), (uint8_t)~log_bit(t), __ATOMIC_SEQ_CST);
    t->copied = __atomic_load_n(&t->driver_lines[(LINES - 1) * LINE], __ATOMIC_RELAXED);
}

static bool is_unmarked(const struct litmus *t, unsigned round)
{
    return t->copied != (uint8_t)round &&
           !(__atomic_load_n(log_byte((struct litmus *)t), __ATOMIC_RELAXED) & log_bit(t));
}

/* ---- the other marks ---- */

/* A device may have written the same data to a request that it leaves incomplete. */
static void pop_another(struct litmus *t, unsigned round)
{
    struct gw_queue *q = &t->log_fixture.fixture.queue;

    if (round > 1) { /* the next back-end answers the incomplete request */
        const struct gw_request_i *r = gw_container_of(t->request, struct gw_request_i, pub);

        q->ring.ops->put_used(&q->ring, r->id, 1, r->n_slots);
        q->in_flight.n_slots_left -= r->n_slots;
        q->ring.ops->publish(&q->ring);
    }
    pop_one(t, round);
}

static void leave(struct litmus *t, unsigned round)
{
    (void)round;
    gw_request_keep_inflight(&t->log_fixture.fixture.queue,
                             gw_container_of(t->request, struct gw_request_i, pub));
}

/* Marks for writes between LOG_ALL and SET_LOG_BASE. */
static void mark_unlogged(struct litmus *t, unsigned round)
{
    (void)round;
    t->log_fixture.fixture.queue.logging.unlogged = true;
    gw_queue_mark_unlogged(&t->log_fixture.fixture.queue);
}

/* Marks for a ring that a previous back-end or gw_queue_resume has written to. */
static void log_the_ring(struct litmus *t, unsigned round)
{
    (void)round;
    t->log_fixture.fixture.queue.resume.ring_unmarked = true;
    gw_queue_set_ring_log(&t->log_fixture.fixture.queue, true, t->log_fixture.data);
}

static void want_kicks(struct litmus *t, unsigned round)
{
    (void)round;
    t->ring.dirty_log = NULL;
    t->ring.event_idx = false;
    t->ring.ops->enable_kicks(&t->ring);
    t->ring.dirty_log = t->log_fixture.logs[0].log;
    t->ring.log_addr = t->marked;
}

static void want_no_kicks(struct litmus *t, unsigned round)
{
    (void)round;
    t->ring.ops->disable_kicks(&t->ring);
}

static void copy_flags(struct litmus *t, unsigned round)
{
    (void)round;
    (void)__atomic_fetch_and(log_byte(t), (uint8_t)~log_bit(t), __ATOMIC_SEQ_CST);
    t->copied = (uint8_t)gw_load16(&split_used(t)[0]);
}

static bool are_flags_unmarked(const struct litmus *t, unsigned round)
{
    (void)round;
    return t->copied != VRING_USED_F_NO_NOTIFY &&
           !(__atomic_load_n(log_byte((struct litmus *)t), __ATOMIC_RELAXED) & log_bit(t));
}

/* ---- the library's driver, with a split ring and EVENT_IDX ---- */

static uint16_t *driver_avail(struct litmus *t)
{
    return driver_memory(t, t->log_fixture.fixture.avail);
}

static struct vring_used *driver_used(struct litmus *t)
{
    return driver_memory(t, t->log_fixture.fixture.used);
}

static uint16_t *driver_avail_event(struct litmus *t)
{
    return (uint16_t *)(void *)&driver_used(t)->ring[t->log_fixture.fixture.cfg.size];
}

static void put_used_by_hand(struct litmus *t, unsigned round)
{
    const struct litmus *c = t;
    uint16_t mask = (uint16_t)(c->log_fixture.fixture.cfg.size - 1), last = (uint16_t)(round - 1);

    gw_store32(&driver_used(t)->ring[last & mask].id, driver_avail(t)[2 + (last & mask)]);
    gw_store16_release(&driver_used(t)->idx, (uint16_t)round);
}

/* Take the answer of the last round and add a request, not yet published. */
static void add_one(struct litmus *t, unsigned round)
{
    struct gw_driver_buf buf = {t->log_fixture.data, 16};
    struct gw_driver_used used;

    if ((round > 1 && gw_driver_take(t->log_fixture.fixture.driver, &used, 1) != 1) ||
        gw_driver_add(t->log_fixture.fixture.driver, &buf, 0, 1, round, 0) < 0)
        abort();
}

static void add_one_answered(struct litmus *t, unsigned round)
{
    if (round > 1)
        put_used_by_hand(t, round - 1);
    add_one(t, round);
}

static void add_one_published(struct litmus *t, unsigned round)
{
    add_one(t, round);
    gw_driver_publish(t->log_fixture.fixture.driver);
}

static void kick(struct litmus *t, unsigned round)
{
    (void)round;
    t->device_noticed = gw_driver_kick(t->log_fixture.fixture.driver);
}

static void ask_for_kicks_by_hand(struct litmus *t, unsigned round)
{
    gw_store16(driver_avail_event(t), (uint16_t)(round - 1));
    gw_full_fence();
    t->driver_noticed = gw_load16(&driver_avail(t)[1]) == (uint16_t)round;
}

static void ask_for_no_kicks_by_hand(struct litmus *t, unsigned round)
{
    gw_store16(driver_avail_event(t), (uint16_t)(round - 1000));
}

static void want_calls(struct litmus *t, unsigned round)
{
    (void)round;
    t->device_noticed = !gw_driver_want_calls(t->log_fixture.fixture.driver);
}

static void answer_by_hand(struct litmus *t, unsigned round)
{
    uint16_t event;

    put_used_by_hand(t, round);
    gw_full_fence();
    event = gw_load16(&driver_avail(t)[2 + t->log_fixture.fixture.cfg.size]);
    t->driver_noticed = vring_need_event(event, (uint16_t)round, (uint16_t)(round - 1));
}

/* ---- the cases ---- */

/* Load the words of the case into the cache, so that a later load completes before a store. */
static void look(struct litmus *t, unsigned round)
{
    const uint16_t *avail = driver_memory(t, t->avail), *used = driver_memory(t, t->used);
    uint16_t sum = gw_load16(&avail[1]);

    sum |= gw_load16(&used[1]);
    if (t->c->packed)
        sum |= gw_load16(&packed_slot(t, round)->flags);
    else
        sum |= gw_load16(&avail[2 + SIZE]) | gw_load16(&used[2 + 4 * SIZE]);
    (void)__atomic_load_n(log_byte(t), __ATOMIC_RELAXED);
    (void)sum;
}

static const struct fence_case cases[] = {
    {"ring_split.c [C]", OF_A_RING, false, NULL, ask_split_nothing, publish, ask_split,
     nobody_noticed},
    {"ring_split.c [D]", OF_A_RING, false, take, nothing, ask_for_kicks, add_split, nobody_noticed},
    {"ring_packed.c [C]", OF_A_RING, true, NULL, ask_packed_nothing, publish, ask_packed,
     nobody_noticed},
    {"ring_packed.c [D]", OF_A_RING, true, take, nothing, ask_for_kicks, add_packed,
     nobody_noticed},
    {"ring_split.c, mark", OF_A_RING, false, want_kicks, set_bit, want_no_kicks, copy_flags,
     are_flags_unmarked},
    {"complete.c, marks", OF_THE_QUEUE, false, pop_one, set_bit, complete, copy, is_unmarked},
    {"complete.c, unlogged", OF_THE_QUEUE, false, NULL, set_bit, mark_unlogged, copy, is_unmarked},
    {"request.c, left", OF_THE_QUEUE, false, pop_another, set_bit, leave, copy, is_unmarked},
    {"queue.c, ring", OF_THE_QUEUE, false, NULL, set_bit, log_the_ring, copy, is_unmarked},
    {"driver_run.c, kick", OF_THE_DRIVER, false, add_one_answered, ask_for_no_kicks_by_hand, kick,
     ask_for_kicks_by_hand, nobody_noticed},
    {"driver_run.c, calls", OF_THE_DRIVER, false, add_one_published, nothing, want_calls,
     answer_by_hand, nobody_noticed},
};

static int start_ring(void *arg)
{
    struct litmus *t = arg;
    struct fixture *fixture = &t->log_fixture.fixture;

    if (gw_guest_mem_alloc(fixture->mem, 4096, 4096, &t->desc) < 0 ||
        gw_guest_mem_alloc(fixture->mem, 4096, 4096, &t->avail) < 0 ||
        gw_guest_mem_alloc(fixture->mem, 4096, 4096, &t->used) < 0)
        return -1;
    t->ring = (struct gw_ring){.ops = t->c->packed ? &gw_ring_packed_ops : &gw_ring_split_ops,
                               .event_idx = !t->c->packed,
                               .config = {.size = SIZE,
                                          .base = t->c->packed ? 0x80008000 : 0,
                                          .desc = gw_guest_mem_uva(fixture->mem, t->desc),
                                          .avail = gw_guest_mem_uva(fixture->mem, t->avail),
                                          .used = gw_guest_mem_uva(fixture->mem, t->used)}};
    if (t->ring.ops->attach(&t->ring, fixture->map) < 0 || t->ring.ops->start(&t->ring) < 0)
        return -1;
    t->ring.split.notified_valid = t->ring.split.notified_valid || !t->c->packed;
    return 0;
}

/* Returns: the number of rounds that lost a store. */
static unsigned run_case(const struct fence_case *c)
{
    static struct litmus t;
    struct fixture_config cfg = {.size = SIZE,
                                 .features = c->packed ? FIXTURE_F_PACKED : FIXTURE_F_EVENT};
    bool queue = c->of == OF_THE_QUEUE;
    const struct gw_map_entry *e;
    pthread_t driver;

    memset(&t, 0, sizeof(t));
    t.c = c;
    log_fixture_prepare(&t.log_fixture, &cfg);
    fixture_set_mode(&t.log_fixture.fixture, FIXTURE_IGNORE);
    assert_int_equal(start_ring(&t), 0);
    t.marked = c->of == OF_A_RING ? t.used : t.log_fixture.data;
    if (queue)
        log_fixture_start(&t.log_fixture);
    e = gw_map_search(t.log_fixture.fixture.map, t.log_fixture.data);
    t.device_lines = e->hva + (t.log_fixture.data - e->gpa);
    t.driver_lines = gw_guest_mem_at(t.log_fixture.fixture.mem, t.log_fixture.data, LINES * LINE);
    assert_int_equal(pthread_create(&driver, NULL, run_driver, &t), 0);
    fixture_call(&t.log_fixture.fixture, run_device, &t);
    pthread_join(driver, NULL);
    print_message("%-20s %8u rounds, %u lost\n", c->name, t.rounds, t.n_lost);
    t.ring.ops->done(&t.ring);
    gw_ring_detach(&t.ring);
    if (c->of == OF_THE_DRIVER)
        gw_driver_reset(t.log_fixture.fixture.driver, 0);
    if (!queue)
        log_fixture_start_unlogged(&t.log_fixture);
    log_fixture_end(&t.log_fixture);
    return t.n_lost;
}

static void test_fences_nothing_is_lost(void **state)
{
    unsigned n_lost = 0;

    for (unsigned i = 0; i < GW_ARRAY_SIZE(cases); i++)
        n_lost += run_case(&cases[i]);
    assert_int_equal(n_lost, 0);
}

int main(int argc, char **argv)
{
    const struct CMUnitTest tests[] = {FDCHECK_TEST(test_fences_nothing_is_lost)};
    cpu_set_t allowed;

    if (argc > 1)
        max_rounds = (unsigned)strtoul(argv[1], NULL, 0);
    if (argc > 2)
        max_ms = (unsigned)strtoul(argv[2], NULL, 0);
    if (sched_getaffinity(0, sizeof(allowed), &allowed) == 0 && CPU_COUNT(&allowed) < 2) {
        fprintf(stderr, "skipped: there is one processor\n");
        return 77;
    }
    fixture_loop = GW_LOOP_EPOLL;
    return cmocka_run_group_tests(tests, NULL, NULL);
}
