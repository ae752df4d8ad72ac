/* SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause */
/*
 * The full fences of the rings and of complete.c on two processors. In each case the device stores
 * one word and then loads another; at the same moment the other side stores the second and then
 * loads the first. One of the two must see the store of the other. Without the fence a processor
 * sometimes loads first, x86 included, and a notification, a kick or a mark is lost.
 *
 * Chance decides when that happens, so a case runs for many rounds; on a busy machine for as many
 * as its time allows. Only a lost word fails it.
 *
 * usage: test_fences [ROUNDS [MILLISECONDS]]      of each case, whichever ends first
 */
#include "fdcheck.h"
#include "log_rig.h"

#include "core/barrier.h"

#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum {
    SIZE = 16,
    LINE = 64,
    LINES = 40, /* that the device writes first, so that its next store takes some time */
    LOOKS_PER_YIELD = 2000,
};

static unsigned max_rounds = 200000;
static unsigned max_ms = 2000;

struct litmus {
    struct log_rig log_rig;
    struct gw_ring ring;
    gw_gpa_t desc, avail, used; /* of that ring: in no cache line together */
    const struct fence_case *c;
    uint8_t *device_lines, *driver_lines; /* the same, as each of them sees it */
    struct gw_request *request;
    uint8_t copied;
    bool device_noticed, driver_noticed;
    bool is_over;
    unsigned n_lost;
    unsigned rounds;
    _Alignas(LINE) unsigned device_at; /* meetings */
    _Alignas(LINE) unsigned driver_at;
};

typedef void act_fn(struct litmus *t, unsigned round);

/* reset is before a round, each side its own; act is at once; check is the driver's, afterwards. */
struct fence_case {
    const char *name;
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
        if (n % LOOKS_PER_YIELD == 0)
            sched_yield();
}

/* The driver comes a little later, so that its store and that of the device meet. */
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
        meet(&t->device_at, &t->driver_at); /* it was checked, and maybe over */
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

/* ---- what each side has of the ring ---- */

static void *driver_memory(struct litmus *t, gw_gpa_t gpa)
{
    return gw_guest_mem_at(t->log_rig.rig.mem, gpa, 2);
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
    /* As the driver had it when it made the slot available. */
    gw_store16(&packed_slot(t, round)->flags, packed_wrap(round) ? 0x80 : 0x8000);
}

/* ---- [D]: the device asks for kicks, a request becomes available ---- */

static void ask_for_kicks(struct litmus *t, unsigned round)
{
    (void)round;
    t->ring.ops->enable_kicks(&t->ring);
    t->device_noticed = t->ring.ops->n_available(&t->ring) > 0;
}

/* The one of the last round is taken. */
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

/* ---- complete.c: data are written, the front-end takes the bit and copies the page ---- */

static uint8_t *log_byte(struct litmus *t)
{
    return &t->log_rig.logs[0].bits[t->log_rig.data / 4096 / 8];
}

static uint8_t log_bit(const struct litmus *t)
{
    return (uint8_t)(1u << t->log_rig.data / 4096 % 8);
}

static void set_bit(struct litmus *t, unsigned round)
{
    (void)round;
    (void)__atomic_fetch_or(log_byte(t), log_bit(t), __ATOMIC_SEQ_CST);
}

static void pop_one(struct litmus *t, unsigned round)
{
    struct gw_driver_buf buf = {t->log_rig.data, LINES * LINE};
    struct gw_driver_used used;

    if ((round > 1 && gw_driver_take(t->log_rig.rig.driver, &used, 1) != 1) ||
        gw_driver_add(t->log_rig.rig.driver, &buf, 0, 1, round, 0) < 0)
        abort();
    gw_driver_publish(t->log_rig.rig.driver);
    if (gw_queue_pop(&t->log_rig.rig.queue, &t->request, 1) != 1)
        abort();
}

/* The data are those of write_lines. */
static void complete(struct litmus *t, unsigned round)
{
    (void)round;
    gw_request_complete(t->request, 1);
    gw_queue_flush(&t->log_rig.rig.queue);
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

/* ---- the cases ---- */

/* Both sides have in their caches what they load later: the load is over before a store is. */
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
    {"ring_split.c [C]", false, NULL, ask_split_nothing, publish, ask_split, nobody_noticed},
    {"ring_split.c [D]", false, take, nothing, ask_for_kicks, add_split, nobody_noticed},
    {"ring_packed.c [C]", true, NULL, ask_packed_nothing, publish, ask_packed, nobody_noticed},
    {"ring_packed.c [D]", true, take, nothing, ask_for_kicks, add_packed, nobody_noticed},
    {"complete.c, marks", false, pop_one, set_bit, complete, copy, is_unmarked},
};

static int start_ring(void *arg)
{
    struct litmus *t = arg;
    struct rig *rig = &t->log_rig.rig;

    if (gw_guest_mem_alloc(rig->mem, 4096, 4096, &t->desc) < 0 ||
        gw_guest_mem_alloc(rig->mem, 4096, 4096, &t->avail) < 0 ||
        gw_guest_mem_alloc(rig->mem, 4096, 4096, &t->used) < 0)
        return -1;
    t->ring = (struct gw_ring){.ops = t->c->packed ? &gw_ring_packed_ops : &gw_ring_split_ops,
                               .event_idx = !t->c->packed,
                               .config = {.size = SIZE,
                                          .base = t->c->packed ? 0x80008000 : 0,
                                          .desc = gw_guest_mem_uva(rig->mem, t->desc),
                                          .avail = gw_guest_mem_uva(rig->mem, t->avail),
                                          .used = gw_guest_mem_uva(rig->mem, t->used)}};
    if (t->ring.ops->attach(&t->ring, rig->map) < 0 || t->ring.ops->start(&t->ring) < 0)
        return -1;
    t->ring.split.notified_valid = t->ring.split.notified_valid || !t->c->packed;
    return 0;
}

static void run_case(const struct fence_case *c)
{
    static struct litmus t;
    struct rig_config cfg = {.size = SIZE, .features = c->packed ? RIG_F_PACKED : RIG_F_EVENT};
    bool queue = c->is_lost == is_unmarked;
    const struct gw_map_entry *e;
    pthread_t driver;

    memset(&t, 0, sizeof(t));
    t.c = c;
    log_rig_prepare(&t.log_rig, &cfg);
    rig_set_mode(&t.log_rig.rig, RIG_IGNORE);
    assert_int_equal(start_ring(&t), 0);
    if (queue)
        log_rig_start(&t.log_rig);
    e = gw_map_search(t.log_rig.rig.map, t.log_rig.data);
    t.device_lines = e->hva + (t.log_rig.data - e->gpa);
    t.driver_lines = gw_guest_mem_at(t.log_rig.rig.mem, t.log_rig.data, LINES * LINE);
    assert_int_equal(pthread_create(&driver, NULL, run_driver, &t), 0);
    rig_call(&t.log_rig.rig, run_device, &t);
    pthread_join(driver, NULL);
    print_message("%-18s %8u rounds, %u lost\n", c->name, t.rounds, t.n_lost);
    assert_int_equal(t.n_lost, 0);
    t.ring.ops->done(&t.ring);
    gw_ring_detach(&t.ring);
    if (!queue)
        log_rig_start_unlogged(&t.log_rig);
    log_rig_end(&t.log_rig);
}

static void test_fences_nothing_is_lost(void **state)
{
    for (unsigned i = 0; i < GW_ARRAY_SIZE(cases); i++)
        run_case(&cases[i]);
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
    rig_loop = GW_LOOP_EPOLL;
    return cmocka_run_group_tests(tests, NULL, NULL);
}
