/* SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause */
/*
 * Split rings that no correct driver would make. Each case names its result: a completion with
 * length 0, and the queue continues; an entry that is skipped because there is nothing to complete,
 * and the queue continues; or a broken queue, which is reported on the error descriptor and
 * repaired by a stop and start. Afterwards a good request is done on the same ring, and the daemon
 * serves the next guest.
 */
#include "../fixtures/bad_ring.h"
#include "base/random.h"
#include "fdcheck.h"

#include <errno.h>
#include <linux/virtio_blk.h>
#include <linux/virtio_ring.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define SIZE      16u
#define LONG_SIZE 2048u
#define GOOD      10 /* first descriptor of the good request */

#define NEXT     VRING_DESC_F_NEXT
#define WRITE    VRING_DESC_F_WRITE
#define INDIRECT VRING_DESC_F_INDIRECT

enum result {
    ANSWERED, /* with length 0 */
    LEFT_OUT,
    BROKEN,
};

struct ring {
    struct bad_ring bad; /* first */
    unsigned size;
    uint16_t avail; /* the available index last written */
    bool flood;     /* the attack: bad chains as fast as they are completed, or random writes */
};

struct ring_case {
    const char *name;
    enum result result;
    const char *text;
    struct vring_desc desc[4];  /* from index 0 of the ring */
    struct vring_desc table[4]; /* at BAD_TABLE */
    unsigned head;
    unsigned jump; /* increment of the available index, instead of 1 */
    bool no_indirect;
};

/* clang-format off */
static const struct ring_case cases[] = {
    {"loop of one", ANSWERED, "it loops", .desc = {{BAD_DATA, 16, NEXT, 0}}},
    {"loop of two", ANSWERED, "it loops", .desc = {{BAD_DATA, 16, NEXT, 1}, {BAD_DATA, 16, NEXT, 0}}},
    {"loop of writable ones", ANSWERED, "it loops", .desc = {{BAD_DATA, 16, NEXT | WRITE, 0}}},
    {"next beyond the ring", ANSWERED, "next descriptor beyond", .desc = {{BAD_DATA, 16, NEXT, SIZE}}},
    {"next 65535", ANSWERED, "next descriptor beyond", .desc = {{BAD_DATA, 16, NEXT, 65535}}},
    {"empty buffer", ANSWERED, "empty buffer", .desc = {{BAD_DATA, 0, 0, 0}}},
    {"empty second buffer", ANSWERED, "empty buffer",
     .desc = {{BAD_DATA, 16, NEXT, 1}, {BAD_DATA, 0, WRITE, 0}}},
    {"all zero", ANSWERED, "empty buffer", .desc = {{0}}},
    {"readable after writable", ANSWERED, "readable buffer after",
     .desc = {{BAD_DATA, 16, NEXT | WRITE, 1}, {BAD_DATA, 16, 0, 0}}},
    {"address 0", ANSWERED, "outside guest memory", .desc = {{0, 16, 0, 0}}},
    {"user address", ANSWERED, "outside guest memory", .desc = {{GUEST_UVA + BAD_DATA, 16, 0, 0}}},
    {"address in the hole behind", ANSWERED, "outside guest memory", .desc = {{BAD_END, 1, 0, 0}}},
    {"over the end by a byte", ANSWERED, "outside guest memory", .desc = {{BAD_END - 16, 17, 0, 0}}},
    {"in front by a byte", ANSWERED, "outside guest memory", .desc = {{GUEST_GPA - 1, 16, 0, 0}}},
    {"address wraps", ANSWERED, "outside guest memory", .desc = {{UINT64_MAX - 7, 16, 0, 0}}},
    {"4 GiB - 1", ANSWERED, "more bytes than a request may have", .desc = {{BAD_DATA, UINT32_MAX, 0, 0}}},
    {"more than 4 GiB", ANSWERED, "more bytes than a request may have",
     .desc = {{BAD_DATA, UINT32_MAX, NEXT, 1}, {BAD_DATA, UINT32_MAX, 0, 0}}},
    {"second buffer outside", ANSWERED, "outside guest memory",
     .desc = {{BAD_DATA, 16, NEXT, 1}, {BAD_END, 512, NEXT | WRITE, 2}, {BAD_DATA, 1, WRITE, 0}}},
    {"no room for a status", ANSWERED, NULL, .desc = {{BAD_DATA, 16, 0, 0}}},

    {"head beyond the ring", LEFT_OUT, "is beyond the ring", .desc = {{0}}, .table = {{0}}, .head = SIZE},
    {"head 65535", LEFT_OUT, "is beyond the ring", .desc = {{0}}, .table = {{0}}, .head = 65535},

    {"index ahead by size + 1", BROKEN, "ahead by more", .desc = {{BAD_DATA, 16, 0, 0}}, .table = {{0}},
     .jump = SIZE + 1},
    {"index ahead by 32768", BROKEN, "ahead by more", .desc = {{BAD_DATA, 16, 0, 0}}, .table = {{0}}, .jump = 32768},
    {"index back by one", BROKEN, "ahead by more", .desc = {{BAD_DATA, 16, 0, 0}}, .table = {{0}}, .jump = 65535},

    {"indirect, not negotiated", ANSWERED, "not negotiated", .desc = {{BAD_TABLE, 16, INDIRECT, 0}},
     .table = {{BAD_DATA, 16, 0, 0}}, .no_indirect = true},
    {"indirect with next", ANSWERED, "not the last", .desc = {{BAD_TABLE, 16, INDIRECT | NEXT, 1}},
     .table = {{BAD_DATA, 16, 0, 0}}},
    {"indirect in indirect", ANSWERED, "inside an indirect", .desc = {{BAD_TABLE, 16, INDIRECT, 0}},
     .table = {{BAD_TABLE, 16, INDIRECT, 0}}},
    {"indirect: the ring itself", ANSWERED, "inside an indirect", .desc = {{BAD_DESC, 16, INDIRECT, 0}}},
    {"indirect of 0 bytes", ANSWERED, "of a wrong length", .desc = {{BAD_TABLE, 0, INDIRECT, 0}}},
    {"indirect of 17 bytes", ANSWERED, "of a wrong length", .desc = {{BAD_TABLE, 17, INDIRECT, 0}},
     .table = {{BAD_DATA, 16, 0, 0}}},
    {"indirect of 1025", ANSWERED, "longer than 1024", .desc = {{BAD_TABLE, 1025 * 16, INDIRECT, 0}},
     .table = {{BAD_DATA, 16, 0, 0}}},
    {"indirect of 4 GiB", ANSWERED, "longer than 1024", .desc = {{BAD_TABLE, 0xfffffff0, INDIRECT, 0}},
     .table = {{BAD_DATA, 16, 0, 0}}},
    {"indirect table outside", ANSWERED, "outside guest memory", .desc = {{BAD_END, 16, INDIRECT, 0}}},
    {"indirect table over the end", ANSWERED, "outside guest memory",
     .desc = {{BAD_END - 16, 32, INDIRECT, 0}}},
    {"indirect table wraps", ANSWERED, "outside guest memory", .desc = {{UINT64_MAX - 15, 32, INDIRECT, 0}}},
    {"indirect next beyond the table", ANSWERED, "next descriptor beyond",
     .desc = {{BAD_TABLE, 32, INDIRECT, 0}}, .table = {{BAD_DATA, 16, NEXT, 2}}},
    {"indirect loop", ANSWERED, "it loops", .desc = {{BAD_TABLE, 32, INDIRECT, 0}},
     .table = {{BAD_DATA, 16, NEXT, 1}, {BAD_DATA, 16, NEXT, 0}}},
    {"indirect after a direct one, loops", ANSWERED, "it loops",
     .desc = {{BAD_DATA, 16, NEXT, 1}, {BAD_TABLE, 16, INDIRECT, 0}}, .table = {{BAD_DATA, 16, NEXT, 0}}},
    {"indirect flag on a writable one", ANSWERED, "outside guest memory",
     .desc = {{BAD_TABLE, 16, INDIRECT | WRITE, 0}}, .table = {{BAD_END, 16, 0, 0}}},
};
/* clang-format on */

#define N_CASES (sizeof(cases) / sizeof(cases[0]))

static struct fixture fixture;

static void ring_begin(struct ring *ring, enum gw_loop_kind loop, unsigned size, bool indirect)
{
    *ring = (struct ring){.size = size};
    bad_ring_begin(&ring->bad, &fixture, loop, size, false,
                   indirect ? GUEST_FEATURES : GUEST_FEATURES & ~(UINT64_C(1) << 28));
}

static void make_available(struct ring *ring, unsigned head, unsigned jump)
{
    gw_driver_write_avail(ring->bad.driver, ring->avail, (uint16_t)head);
    ring->avail = (uint16_t)(ring->avail + jump);
    gw_driver_write_avail_idx(ring->bad.driver, ring->avail);
    bad_ring_kick(&ring->bad);
}

/* Wait until the used index is `idx`. */
static bool wait_used(struct ring *ring, uint16_t idx)
{
    for (unsigned i = 0; i < patience_ms() && gw_driver_used_idx(ring->bad.driver) != idx; i++)
        usleep(1000);
    return gw_driver_used_idx(ring->bad.driver) == idx;
}

/* A good request on descriptors that the cases do not use. */
static bool do_good_request(struct ring *ring, const char *name)
{
    uint16_t used = gw_driver_used_idx(ring->bad.driver);
    uint32_t id, len;
    bool is_used;

    bad_ring_prepare_good(&ring->bad);
    gw_driver_write_desc(ring->bad.driver, GOOD, BAD_GOOD_HEADER, 16, NEXT, GOOD + 1);
    gw_driver_write_desc(ring->bad.driver, GOOD + 1, BAD_GOOD_DATA, 512, NEXT | WRITE, GOOD + 2);
    gw_driver_write_desc(ring->bad.driver, GOOD + 2, BAD_GOOD_STATUS, 1, WRITE, 0);
    make_available(ring, GOOD, 1);
    is_used = wait_used(ring, (uint16_t)(used + 1));
    gw_driver_read_used(ring->bad.driver, used, &id, &len);
    return bad_ring_check_good(&ring->bad, name, is_used, id, GOOD, len);
}

static void repair(struct ring *ring)
{
    bad_ring_repair(&ring->bad);
    ring->avail = 0;
}

/* Check the result of the case. */
static bool check_result(struct ring *ring, const struct ring_case *c)
{
    uint32_t id, len;

    if (c->result == BROKEN) {
        if (!bad_ring_is_broken(&ring->bad, patience_ms()) ||
            gw_driver_used_idx(ring->bad.driver) != 0)
            return false;
        repair(ring);
        return true;
    }
    if (c->result == LEFT_OUT)
        return !bad_ring_is_broken(&ring->bad, 0) && gw_driver_used_idx(ring->bad.driver) == 0;
    if (!wait_used(ring, 1))
        return false;
    gw_driver_read_used(ring->bad.driver, 0, &id, &len);
    return id == c->head && len == 0 && !bad_ring_is_broken(&ring->bad, 0);
}

/* Each case has its own daemon, because messages about bad chains are rate-limited. */
static const char *run_case(unsigned i, enum gw_loop_kind loop)
{
    const struct ring_case *c = &cases[i];
    struct ring ring;
    bool good;

    ring_begin(&ring, loop, SIZE, !c->no_indirect);
    memcpy(gw_guest_mem_at(ring.bad.g.mem, BAD_TABLE, sizeof(c->table)), c->table,
           sizeof(c->table));
    for (unsigned k = 0; k < 4; k++)
        gw_driver_write_desc(ring.bad.driver, k, c->desc[k].addr, c->desc[k].len, c->desc[k].flags,
                             c->desc[k].next);
    make_available(&ring, c->head, c->jump ? c->jump : 1);
    good = !c->text || fixture_says(&fixture, c->text);
    if (!check_result(&ring, c)) {
        fprintf(stderr, "%s: used index %u, error descriptor %d\n", c->name,
                gw_driver_used_idx(ring.bad.driver), bad_ring_is_broken(&ring.bad, 0));
        good = false;
    }
    good = good && do_good_request(&ring, c->name);
    good = bad_ring_end(&ring.bad, c->name) && good;
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

/* A chain of 1024 descriptors is valid, one of 1025 is not. */
static void test_long_chains(void **state)
{
    struct ring ring;
    uint32_t id, len;
    (void)state;

    ring_begin(&ring, GW_LOOP_AUTO, LONG_SIZE, true);
    for (unsigned n = 1024; n <= 1025; n++) {
        for (unsigned i = 0; i < n; i++)
            gw_driver_write_desc(ring.bad.driver, 16 + i, BAD_DATA, 16,
                                 i < n - 1 ? NEXT | WRITE : WRITE, (uint16_t)(17 + i));
        make_available(&ring, 16, 1);
        assert_true(wait_used(&ring, (uint16_t)(n - 1023)));
        gw_driver_read_used(ring.bad.driver, n - 1024, &id, &len);
        assert_int_equal(id, 16);
        /* The status is behind the data, so the length of a request with one counts all of them. */
        assert_int_equal(len, n == 1024 ? 16 * 1024 : 0);
    }
    assert_true(fixture_says(&fixture, "longer than 1024 descriptors"));
    assert_true(do_good_request(&ring, "long chains"));
    assert_true(bad_ring_end(&ring.bad, "long chains"));
}

/* The same head twice, and buffers that overlap the ring: only the guest itself suffers. */
static void test_ring_as_buffer(void **state)
{
    struct virtio_blk_outhdr header = {.type = VIRTIO_BLK_T_IN};
    struct ring ring;
    (void)state;

    ring_begin(&ring, GW_LOOP_AUTO, SIZE, true);
    memcpy(gw_guest_mem_at(ring.bad.g.mem, BAD_DATA, 16), &header, sizeof(header));
    gw_driver_write_desc(ring.bad.driver, 0, BAD_DATA, 16, NEXT, 1);
    gw_driver_write_desc(ring.bad.driver, 1, BAD_DESC, 0x10000, NEXT | WRITE, 2);
    gw_driver_write_desc(ring.bad.driver, 2, BAD_DATA + 16, 1, WRITE, 0);
    gw_driver_write_avail(ring.bad.driver, 0, 0);
    gw_driver_write_avail(ring.bad.driver, 1, 0);
    gw_driver_write_avail_idx(ring.bad.driver, 2);
    bad_ring_kick(&ring.bad);
    assert_int_equal(guest_io(&ring.bad.g, 1, 0, 0x12), 0);
    repair(&ring);
    assert_true(do_good_request(&ring, "the ring as a buffer"));
    assert_true(bad_ring_end(&ring.bad, "the ring as a buffer"));
}

/* ---- a guest that writes its rings while the device reads them ---- */

static void scribble(struct bad_ring *ring, uint64_t n)
{
    static const uint64_t addrs[] = {BAD_DATA,       BAD_END - 8, BAD_TABLE, BAD_DESC,
                                     UINT64_MAX - 8, BAD_AVAIL,   BAD_USED,  0};
    static const uint32_t lens[] = {16, 512, 1, 0, 32, UINT32_MAX, 4096, 256};
    struct vring_desc desc = {.addr = addrs[n & 7],
                              .len = lens[n >> 3 & 7],
                              .flags = (uint16_t)(n >> 6 & 7),
                              .next = (uint16_t)(n >> 9 & 31)};
    uint64_t words[2];
    uint64_t *to = gw_guest_mem_at(ring->g.mem, BAD_TABLE + (n >> 16 & 7) * 16, 16);

    memcpy(words, &desc, sizeof(words));
    gw_driver_write_desc(ring->driver, n >> 20 & 15, desc.addr, desc.len, desc.flags, desc.next);
    __atomic_store_n(&to[0], words[0], __ATOMIC_RELAXED);
    __atomic_store_n(&to[1], words[1], __ATOMIC_RELAXED);
}

static void *attack(void *arg)
{
    struct ring *ring = arg;
    struct bad_ring *bad = &ring->bad;
    uint16_t idx = gw_driver_used_idx(bad->driver);
    unsigned turns = 0;

    while (!__atomic_load_n(&bad->stop, __ATOMIC_RELAXED)) {
        pthread_mutex_lock(&bad->emptying);
        if (ring->flood) {
            /* Keep ahead of the used index, so that chains are always pending. */
            idx = (uint16_t)(idx + 8);
            if ((uint16_t)(idx - gw_driver_used_idx(bad->driver)) >= ring->size)
                idx = (uint16_t)(gw_driver_used_idx(bad->driver) + ring->size / 2);
        } else {
            scribble(bad, gw_random_next(&bad->random));
            if (++turns % 4 == 0)
                idx = (uint16_t)(gw_driver_used_idx(bad->driver) + 1 + turns / 4 % 8);
        }
        gw_driver_write_avail_idx(bad->driver, idx);
        pthread_mutex_unlock(&bad->emptying);
        if (turns % 64 == 0)
            bad_ring_kick(bad);
    }
    return NULL;
}

static void run_attack(enum gw_loop_kind loop, bool flood)
{
    struct ring ring;

    ring_begin(&ring, loop, flood ? LONG_SIZE : SIZE, true);
    ring.flood = flood;
    bad_ring_attack(&ring.bad, attack, 16);
    assert_true(do_good_request(&ring, "after the attack"));
    assert_true(bad_ring_end(&ring.bad, "after the attack"));
}

static void test_attack_epoll(void **state)
{
    (void)state;
    run_attack(GW_LOOP_EPOLL, false);
}

static void test_attack_uring(void **state)
{
    (void)state;
    if (!fixture_has_uring())
        skip();
    run_attack(GW_LOOP_URING, false);
}

static void test_flood_of_bad_chains(void **state)
{
    (void)state;
    run_attack(GW_LOOP_AUTO, true);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        FDCHECK_TEST(test_table_epoll),         FDCHECK_TEST(test_table_uring),
        FDCHECK_TEST(test_long_chains),         FDCHECK_TEST(test_ring_as_buffer),
        FDCHECK_TEST(test_attack_epoll),        FDCHECK_TEST(test_attack_uring),
        FDCHECK_TEST(test_flood_of_bad_chains),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
