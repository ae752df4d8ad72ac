/* SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause */
/*
 * Packed rings that no correct driver would make; it_bad_ring.c has the split ones. Each case names
 * its result: a completion with length 0, and the queue continues; nothing visible to the device;
 * or a broken queue, which is reported on the error descriptor and repaired by a stop and start.
 * Afterwards a good request is done on the same ring, and the daemon serves the next guest.
 */
#include "../fixtures/bad_ring.h"
#include "base/random.h"
#include "fdcheck.h"

#include <linux/virtio_ring.h>
#include <stdio.h>
#include <unistd.h>

#define SIZE 15u /* not a power of two */

#define NEXT     VRING_DESC_F_NEXT
#define WRITE    VRING_DESC_F_WRITE
#define INDIRECT VRING_DESC_F_INDIRECT
#define AVAIL    (1u << VRING_PACKED_DESC_F_AVAIL)
#define USED     (1u << VRING_PACKED_DESC_F_USED)

#define FEATURES (GUEST_FEATURES | UINT64_C(1) << 34)

enum result {
    ANSWERED, /* with length 0 */
    NOT_SEEN,
    BROKEN,
};

struct ring_case {
    const char *name;
    enum result result;
    const char *text;
    unsigned n; /* descriptors in the chain */
    struct gw_driver_packed_desc desc[4];
    struct gw_driver_packed_desc table[4]; /* at BAD_TABLE */
    unsigned lap;                          /* AVAIL and USED bits, instead of AVAIL alone */
    bool all;                              /* write the first descriptor to every slot */
    bool no_indirect;
};

/* clang-format off */
static const struct ring_case cases[] = {
    {"chain without end", BROKEN, "longer than the free part", 1, .desc = {{BAD_DATA, 16, 0, NEXT}}, .all = true},
    {"chain without end, indirect", BROKEN, "longer than the free part", 1,
     .desc = {{BAD_TABLE, 16, 0, NEXT | INDIRECT}}, .all = true},
    {"chain without end, bad buffers", BROKEN, "longer than the free part", 1,
     .desc = {{BAD_END, UINT32_MAX, 65535, NEXT | WRITE}}, .all = true},

    {"wrong wrap: both", NOT_SEEN, NULL, 1, .desc = {{BAD_DATA, 16, 0, 0}}, .lap = AVAIL | USED},
    {"wrong wrap: used only", NOT_SEEN, NULL, 1, .desc = {{BAD_DATA, 16, 0, 0}}, .lap = USED},
    {"wrong wrap: used only, no end", NOT_SEEN, NULL, 1, .desc = {{BAD_DATA, 16, 0, NEXT}}, .lap = USED, .all = true},

    {"empty buffer", ANSWERED, "empty buffer", 1, .desc = {{BAD_DATA, 0, 0, 0}}},
    {"empty buffer, id beyond the ring", ANSWERED, "empty buffer", 1, .desc = {{BAD_DATA, 0, SIZE, 0}}},
    {"empty buffer, id 65535", ANSWERED, "empty buffer", 1, .desc = {{BAD_DATA, 0, 65535, WRITE}}},
    {"empty second buffer", ANSWERED, "empty buffer", 2,
     .desc = {{BAD_DATA, 16, 1, NEXT}, {BAD_DATA, 0, 2, WRITE}}},
    {"readable after writable", ANSWERED, "readable buffer after", 2,
     .desc = {{BAD_DATA, 16, 1, NEXT | WRITE}, {BAD_DATA, 16, 2, 0}}},
    {"address 0", ANSWERED, "outside guest memory", 1, .desc = {{0, 16, 3, 0}}},
    {"user address", ANSWERED, "outside guest memory", 1, .desc = {{GUEST_UVA + BAD_DATA, 16, 3, 0}}},
    {"over the end by a byte", ANSWERED, "outside guest memory", 1, .desc = {{BAD_END - 16, 17, 3, 0}}},
    {"address wraps", ANSWERED, "outside guest memory", 1, .desc = {{UINT64_MAX - 7, 16, 3, 0}}},
    {"4 GiB - 1", ANSWERED, "more bytes than a request may have", 1, .desc = {{BAD_DATA, UINT32_MAX, 3, 0}}},
    {"more than 4 GiB", ANSWERED, "more bytes than a request may have", 2,
     .desc = {{BAD_DATA, UINT32_MAX, 3, NEXT}, {BAD_DATA, UINT32_MAX, 3, 0}}},
    {"second buffer outside", ANSWERED, "outside guest memory", 3,
     .desc = {{BAD_DATA, 16, 3, NEXT}, {BAD_END, 512, 3, NEXT | WRITE}, {BAD_DATA, 1, 4, WRITE}}},
    {"no room for a status", ANSWERED, NULL, 1, .desc = {{BAD_DATA, 16, 3, 0}}},

    {"indirect, not negotiated", ANSWERED, "not negotiated", 1, .desc = {{BAD_TABLE, 16, 5, INDIRECT}},
     .table = {{BAD_DATA, 16, 0, 0}}, .no_indirect = true},
    {"indirect with next", ANSWERED, "not the last", 2,
     .desc = {{BAD_TABLE, 16, 5, INDIRECT | NEXT}, {BAD_DATA, 16, 6, 0}}, .table = {{BAD_DATA, 16, 0, 0}}},
    {"indirect in indirect", ANSWERED, "inside an indirect", 1, .desc = {{BAD_TABLE, 16, 5, INDIRECT}},
     .table = {{BAD_TABLE, 16, 0, INDIRECT}}},
    {"indirect: the ring itself", ANSWERED, "inside an indirect", 1, .desc = {{BAD_DESC, 16, 5, INDIRECT}}},
    {"indirect of 0 bytes", ANSWERED, "of a wrong length", 1, .desc = {{BAD_TABLE, 0, 5, INDIRECT}}},
    {"indirect of 17 bytes", ANSWERED, "of a wrong length", 1, .desc = {{BAD_TABLE, 17, 5, INDIRECT}}},
    {"indirect of 1025", ANSWERED, "longer than 1024", 1, .desc = {{BAD_TABLE, 1025 * 16, 5, INDIRECT}}},
    {"indirect of 4 GiB", ANSWERED, "longer than 1024", 1, .desc = {{BAD_TABLE, 0xfffffff0, 5, INDIRECT}}},
    {"indirect table outside", ANSWERED, "outside guest memory", 1, .desc = {{BAD_END, 16, 5, INDIRECT}}},
    {"indirect table over the end", ANSWERED, "outside guest memory", 1, .desc = {{BAD_END - 16, 32, 5, INDIRECT}}},
    {"indirect table wraps", ANSWERED, "outside guest memory", 1, .desc = {{UINT64_MAX - 15, 32, 5, INDIRECT}}},
    {"indirect: last entry empty", ANSWERED, "empty buffer", 1, .desc = {{BAD_TABLE, 32, 5, INDIRECT}},
     .table = {{BAD_DATA, 16, 0, 0}, {BAD_DATA, 0, 0, WRITE}}},
    {"indirect after a direct one, outside", ANSWERED, "outside guest memory", 2,
     .desc = {{BAD_DATA, 16, 5, NEXT}, {BAD_TABLE, 16, 6, INDIRECT}}, .table = {{BAD_END, 16, 0, WRITE}}},
};
/* clang-format on */

#define N_CASES (sizeof(cases) / sizeof(cases[0]))

static struct fixture fixture;

/* Write `n` descriptors from slot `at`, the first one last. */
static void make_available(struct bad_ring *ring, unsigned at,
                           const struct gw_driver_packed_desc *desc, unsigned n, unsigned lap)
{
    while (n-- > 0) {
        struct gw_driver_packed_desc d = desc[n];

        d.flags = (uint16_t)(d.flags | lap);
        gw_driver_write_packed_desc(ring->driver, at + n, &d);
    }
    bad_ring_kick(ring);
}

/* Wait until slot `at` is used in the first lap. */
static bool wait_used(struct bad_ring *ring, unsigned at, struct gw_driver_packed_desc *ret)
{
    for (unsigned i = 0; i < patience_ms(); i++) {
        gw_driver_read_packed_desc(ring->driver, at, ret);
        if ((ret->flags & (AVAIL | USED)) == (AVAIL | USED))
            return true;
        usleep(1000);
    }
    return false;
}

/* A good request from slot `at`. */
static bool do_good_request(struct bad_ring *ring, unsigned at, const char *name)
{
    static const struct gw_driver_packed_desc descs[3] = {
        {BAD_GOOD_HEADER, 16, 7, NEXT},
        {BAD_GOOD_DATA, 512, 8, NEXT | WRITE},
        {BAD_GOOD_STATUS, 1, 9, WRITE},
    };
    struct gw_driver_packed_desc used;
    bool is_used;

    bad_ring_prepare_good(ring);
    make_available(ring, at, descs, 3, AVAIL);
    is_used = wait_used(ring, at, &used);
    return bad_ring_check_good(ring, name, is_used, used.id, 9, used.len);
}

/* Check the result of the case. `ret_at`: the slot where the ring continues. */
static bool check_result(struct bad_ring *ring, const struct ring_case *c, unsigned *ret_at)
{
    struct gw_driver_packed_desc used;

    *ret_at = 0;
    if (c->result == BROKEN) {
        if (!bad_ring_is_broken(ring, patience_ms()))
            return false;
        bad_ring_repair(ring);
        return true;
    }
    if (c->result == NOT_SEEN) {
        usleep(5000);
        gw_driver_read_packed_desc(ring->driver, 0, &used);
        return !bad_ring_is_broken(ring, 0) && used.flags == (c->desc[0].flags | c->lap);
    }
    *ret_at = c->n;
    return wait_used(ring, 0, &used) && used.id == c->desc[c->n - 1].id && used.len == 0 &&
           !(used.flags & WRITE) && !bad_ring_is_broken(ring, 0);
}

static void offer(struct bad_ring *ring, const struct ring_case *c)
{
    unsigned lap = c->lap ? c->lap : AVAIL;
    struct vring_packed_desc *table = gw_guest_mem_at(ring->g.mem, BAD_TABLE, sizeof(*table) * 4);

    for (unsigned i = 0; i < 4; i++)
        table[i] = (struct vring_packed_desc){.addr = c->table[i].addr,
                                              .len = c->table[i].len,
                                              .id = c->table[i].id,
                                              .flags = c->table[i].flags};
    for (unsigned i = SIZE - 1; c->all && i > 0; i--)
        make_available(ring, i, c->desc, 1, lap);
    make_available(ring, 0, c->desc, c->n, lap);
}

/* Each case has its own daemon, because messages about bad chains are rate-limited. */
static const char *run_case(unsigned i, enum gw_loop_kind loop)
{
    const struct ring_case *c = &cases[i];
    uint64_t features = c->no_indirect ? FEATURES & ~(UINT64_C(1) << 28) : FEATURES;
    struct bad_ring ring;
    unsigned at;
    bool good;

    bad_ring_begin(&ring, &fixture, loop, SIZE, true, features);
    offer(&ring, c);
    good = !c->text || fixture_says(&fixture, c->text);
    if (!check_result(&ring, c, &at)) {
        fprintf(stderr, "%s: error descriptor %d\n", c->name, bad_ring_is_broken(&ring, 0));
        good = false;
    }
    good = good && do_good_request(&ring, at, c->name);
    good = bad_ring_end(&ring, c->name) && good;
    return good ? NULL : c->name;
}

static void test_table_epoll(void **state)
{
    (void)state;
    bad_ring_run_table(N_CASES, run_case, GW_LOOP_EPOLL);
}

static void test_table_uring(void **state)
{
    (void)state;
    if (!fixture_has_uring())
        skip();
    bad_ring_run_table(N_CASES, run_case, GW_LOOP_URING);
}

/* ---- a guest that writes its ring while the device reads it ---- */

/* Write an arbitrary descriptor, half of the time with bits that make it available in some lap. */
static void scribble(struct bad_ring *ring, uint64_t n)
{
    static const uint64_t addrs[] = {BAD_DATA,       BAD_END - 8, BAD_TABLE, BAD_DESC,
                                     UINT64_MAX - 8, BAD_AVAIL,   BAD_USED,  0};
    static const uint32_t lens[] = {16, 512, 1, 0, 32, UINT32_MAX, 4096, 240};
    struct gw_driver_packed_desc desc = {.addr = addrs[n & 7],
                                         .len = lens[n >> 3 & 7],
                                         .id = (uint16_t)(n >> 32),
                                         .flags = (uint16_t)(n >> 6 & 7)};
    uint64_t *to = gw_guest_mem_at(ring->g.mem, BAD_TABLE + (n >> 16 & 7) * 16, 16);

    __atomic_store_n(&to[0], desc.addr, __ATOMIC_RELAXED);
    __atomic_store_n(&to[1], desc.len | (uint64_t)desc.flags << 48, __ATOMIC_RELAXED);
    desc.flags = (uint16_t)(desc.flags | (n >> 24 & 1 ? AVAIL : 0) | (n >> 25 & 1 ? USED : 0));
    gw_driver_write_packed_desc(ring->driver, n >> 20 & 15, &desc);
    gw_driver_write_driver_event(ring->driver, (uint16_t)(n >> 40), (uint16_t)(n >> 26));
}

static void *attack(void *arg)
{
    struct bad_ring *ring = arg;

    for (unsigned turns = 0; !__atomic_load_n(&ring->stop, __ATOMIC_RELAXED); turns++) {
        pthread_mutex_lock(&ring->emptying);
        scribble(ring, gw_random_next(&ring->random));
        pthread_mutex_unlock(&ring->emptying);
        if (turns % 64 == 0)
            bad_ring_kick(ring);
    }
    return NULL;
}

static void run_attack(enum gw_loop_kind loop, uint64_t features)
{
    struct bad_ring ring;

    bad_ring_begin(&ring, &fixture, loop, SIZE, true, FEATURES | features);
    bad_ring_attack(&ring, attack, 4);
    assert_true(do_good_request(&ring, 0, "after the attack"));
    assert_true(bad_ring_end(&ring, "after the attack"));
}

static void test_attack_epoll(void **state)
{
    (void)state;
    run_attack(GW_LOOP_EPOLL, 0);
}

static void test_attack_uring(void **state)
{
    (void)state;
    if (!fixture_has_uring())
        skip();
    run_attack(GW_LOOP_URING, 0);
}

static void test_attack_event_idx_in_order(void **state)
{
    (void)state;
    run_attack(GW_LOOP_AUTO, GUEST_EVENT_IDX | UINT64_C(1) << 35);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        FDCHECK_TEST(test_table_epoll),
        FDCHECK_TEST(test_table_uring),
        FDCHECK_TEST(test_attack_epoll),
        FDCHECK_TEST(test_attack_uring),
        FDCHECK_TEST(test_attack_event_idx_in_order),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
