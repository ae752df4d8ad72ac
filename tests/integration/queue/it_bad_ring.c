/* SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause */
/*
 * Split rings that no correct driver would make. Each case names its result: a completion with
 * length 0, and the queue continues; an entry that is skipped because there is nothing to complete,
 * and the queue continues; or a broken queue, which is reported on the error descriptor and
 * repaired by a stop and start. Afterwards a good request is done on the same ring, and the daemon
 * serves the next guest.
 */
#include "../fixtures/bad.h"
#include "base/clock.h"
#include "base/random.h"
#include "fdcheck.h"

#include <errno.h>
#include <linux/virtio_blk.h>
#include <linux/virtio_ring.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <time.h>
#include <unistd.h>

#define SIZE      16u
#define LONG_SIZE 2048u
/* In the upper half of guest memory; the allocator uses the lower half. */
#define DESC  (GUEST_GPA + 0x100000)
#define AVAIL (GUEST_GPA + 0x110000)
#define USED  (GUEST_GPA + 0x120000)
#define DATA  (GUEST_GPA + 0x140000)
#define TABLE (GUEST_GPA + 0x160000)
#define END   (GUEST_GPA + GUEST_SIZE)
#define GOOD  10 /* first descriptor of the good request */

#define NEXT     VRING_DESC_F_NEXT
#define WRITE    VRING_DESC_F_WRITE
#define INDIRECT VRING_DESC_F_INDIRECT

enum result {
    ANSWERED, /* with length 0 */
    LEFT_OUT,
    BROKEN,
};

struct ring {
    struct guest g;
    struct gw_driver *driver;
    unsigned size;
    uint16_t avail; /* the available index last written */
    int err;
    pthread_mutex_t emptying; /* held while the ring is emptied, to keep the attacker out */
};

struct ring_case {
    const char *name;
    enum result result;
    const char *text;
    struct vring_desc desc[4];  /* from index 0 of the ring */
    struct vring_desc table[4]; /* at TABLE */
    unsigned head;
    unsigned jump; /* increment of the available index, instead of 1 */
    bool no_indirect;
};

/* clang-format off */
static const struct ring_case cases[] = {
    {"loop of one", ANSWERED, "it loops", .desc = {{DATA, 16, NEXT, 0}}},
    {"loop of two", ANSWERED, "it loops", .desc = {{DATA, 16, NEXT, 1}, {DATA, 16, NEXT, 0}}},
    {"loop of writable ones", ANSWERED, "it loops", .desc = {{DATA, 16, NEXT | WRITE, 0}}},
    {"next beyond the ring", ANSWERED, "next descriptor beyond", .desc = {{DATA, 16, NEXT, SIZE}}},
    {"next 65535", ANSWERED, "next descriptor beyond", .desc = {{DATA, 16, NEXT, 65535}}},
    {"empty buffer", ANSWERED, "empty buffer", .desc = {{DATA, 0, 0, 0}}},
    {"empty second buffer", ANSWERED, "empty buffer",
     .desc = {{DATA, 16, NEXT, 1}, {DATA, 0, WRITE, 0}}},
    {"all zero", ANSWERED, "empty buffer", .desc = {{0}}},
    {"readable after writable", ANSWERED, "readable buffer after",
     .desc = {{DATA, 16, NEXT | WRITE, 1}, {DATA, 16, 0, 0}}},
    {"address 0", ANSWERED, "outside guest memory", .desc = {{0, 16, 0, 0}}},
    {"user address", ANSWERED, "outside guest memory", .desc = {{GUEST_UVA + DATA, 16, 0, 0}}},
    {"address in the hole behind", ANSWERED, "outside guest memory", .desc = {{END, 1, 0, 0}}},
    {"over the end by a byte", ANSWERED, "outside guest memory", .desc = {{END - 16, 17, 0, 0}}},
    {"in front by a byte", ANSWERED, "outside guest memory", .desc = {{GUEST_GPA - 1, 16, 0, 0}}},
    {"address wraps", ANSWERED, "outside guest memory", .desc = {{UINT64_MAX - 7, 16, 0, 0}}},
    {"4 GiB - 1", ANSWERED, "more bytes than a request may have", .desc = {{DATA, UINT32_MAX, 0, 0}}},
    {"more than 4 GiB", ANSWERED, "more bytes than a request may have",
     .desc = {{DATA, UINT32_MAX, NEXT, 1}, {DATA, UINT32_MAX, 0, 0}}},
    {"second buffer outside", ANSWERED, "outside guest memory",
     .desc = {{DATA, 16, NEXT, 1}, {END, 512, NEXT | WRITE, 2}, {DATA, 1, WRITE, 0}}},
    {"no room for a status", ANSWERED, NULL, .desc = {{DATA, 16, 0, 0}}},

    {"head beyond the ring", LEFT_OUT, "is beyond the ring", .desc = {{0}}, .table = {{0}}, .head = SIZE},
    {"head 65535", LEFT_OUT, "is beyond the ring", .desc = {{0}}, .table = {{0}}, .head = 65535},

    {"index ahead by size + 1", BROKEN, "ahead by more", .desc = {{DATA, 16, 0, 0}}, .table = {{0}},
     .jump = SIZE + 1},
    {"index ahead by 32768", BROKEN, "ahead by more", .desc = {{DATA, 16, 0, 0}}, .table = {{0}}, .jump = 32768},
    {"index back by one", BROKEN, "ahead by more", .desc = {{DATA, 16, 0, 0}}, .table = {{0}}, .jump = 65535},

    {"indirect, not negotiated", ANSWERED, "not negotiated", .desc = {{TABLE, 16, INDIRECT, 0}},
     .table = {{DATA, 16, 0, 0}}, .no_indirect = true},
    {"indirect with next", ANSWERED, "not the last", .desc = {{TABLE, 16, INDIRECT | NEXT, 1}},
     .table = {{DATA, 16, 0, 0}}},
    {"indirect in indirect", ANSWERED, "inside an indirect", .desc = {{TABLE, 16, INDIRECT, 0}},
     .table = {{TABLE, 16, INDIRECT, 0}}},
    {"indirect: the ring itself", ANSWERED, "inside an indirect", .desc = {{DESC, 16, INDIRECT, 0}}},
    {"indirect of 0 bytes", ANSWERED, "of a wrong length", .desc = {{TABLE, 0, INDIRECT, 0}}},
    {"indirect of 17 bytes", ANSWERED, "of a wrong length", .desc = {{TABLE, 17, INDIRECT, 0}},
     .table = {{DATA, 16, 0, 0}}},
    {"indirect of 1025", ANSWERED, "longer than 1024", .desc = {{TABLE, 1025 * 16, INDIRECT, 0}},
     .table = {{DATA, 16, 0, 0}}},
    {"indirect of 4 GiB", ANSWERED, "longer than 1024", .desc = {{TABLE, 0xfffffff0, INDIRECT, 0}},
     .table = {{DATA, 16, 0, 0}}},
    {"indirect table outside", ANSWERED, "outside guest memory", .desc = {{END, 16, INDIRECT, 0}}},
    {"indirect table over the end", ANSWERED, "outside guest memory",
     .desc = {{END - 16, 32, INDIRECT, 0}}},
    {"indirect table wraps", ANSWERED, "outside guest memory", .desc = {{UINT64_MAX - 15, 32, INDIRECT, 0}}},
    {"indirect next beyond the table", ANSWERED, "next descriptor beyond",
     .desc = {{TABLE, 32, INDIRECT, 0}}, .table = {{DATA, 16, NEXT, 2}}},
    {"indirect loop", ANSWERED, "it loops", .desc = {{TABLE, 32, INDIRECT, 0}},
     .table = {{DATA, 16, NEXT, 1}, {DATA, 16, NEXT, 0}}},
    {"indirect after a direct one, loops", ANSWERED, "it loops",
     .desc = {{DATA, 16, NEXT, 1}, {TABLE, 16, INDIRECT, 0}}, .table = {{DATA, 16, NEXT, 0}}},
    {"indirect flag on a writable one", ANSWERED, "outside guest memory",
     .desc = {{TABLE, 16, INDIRECT | WRITE, 0}}, .table = {{END, 16, 0, 0}}},
};
/* clang-format on */

#define N_CASES (sizeof(cases) / sizeof(cases[0]))

static struct fixture fixture;

static void ring_init(struct ring *ring, unsigned size, bool indirect)
{
    struct gw_driver_config cfg = {.size = sizeof(cfg),
                                   .queue_size = size,
                                   .place = true,
                                   .desc = DESC,
                                   .avail = AVAIL,
                                   .used = USED};

    guest_init(&ring->g, 16);
    cfg.mem = ring->g.mem;
    gw_driver_free(ring->g.drivers[0]);
    assert_int_equal(gw_driver_new(&ring->driver, &cfg), 0);
    ring->g.drivers[0] = ring->driver;
    ring->size = size;
    ring->avail = 0;
    pthread_mutex_init(&ring->emptying, NULL);
    ring->err = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    ring->g.opt.features = indirect ? GUEST_FEATURES : GUEST_FEATURES & ~(UINT64_C(1) << 28);
    assert_int_equal(fixture_connect(&fixture, ring->g.fe), 0);
    assert_int_equal(gw_frontend_start(ring->g.fe, &ring->g.opt), 0);
    assert_int_equal(gw_frontend_set_vring_err(ring->g.fe, 0, ring->err), 0);
}

static void ring_done(struct ring *ring)
{
    close(ring->err);
    pthread_mutex_destroy(&ring->emptying);
    guest_done(&ring->g);
}

static void pause_ms(long ms)
{
    nanosleep(&(struct timespec){.tv_sec = ms / 1000, .tv_nsec = ms % 1000 * 1000000}, NULL);
}

static void kick(struct ring *ring)
{
    uint64_t one = 1;

    assert_int_equal(write(gw_driver_kick_fd(ring->driver), &one, 8), 8);
}

static void make_available(struct ring *ring, unsigned head, unsigned jump)
{
    gw_driver_write_avail(ring->driver, ring->avail, (uint16_t)head);
    ring->avail = (uint16_t)(ring->avail + jump);
    gw_driver_write_avail_idx(ring->driver, ring->avail);
    kick(ring);
}

/* Wait until the used index is `idx`. */
static bool wait_used(struct ring *ring, uint16_t idx)
{
    for (unsigned i = 0; i < 5000 && gw_driver_used_idx(ring->driver) != idx; i++)
        pause_ms(1);
    return gw_driver_used_idx(ring->driver) == idx;
}

/* A read of 512 bytes on descriptors that the cases do not use. */
static bool do_good_request(struct ring *ring, const char *name)
{
    struct virtio_blk_outhdr header = {.type = VIRTIO_BLK_T_IN};
    uint8_t *status = gw_guest_mem_at(ring->g.mem, DATA + 0x2000, 1);
    uint16_t used = gw_driver_used_idx(ring->driver);
    uint32_t id, len;

    memcpy(gw_guest_mem_at(ring->g.mem, DATA + 0x1000, 16), &header, sizeof(header));
    *status = 0xff;
    gw_driver_write_desc(ring->driver, GOOD, DATA + 0x1000, 16, NEXT, GOOD + 1);
    gw_driver_write_desc(ring->driver, GOOD + 1, DATA + 0x3000, 512, NEXT | WRITE, GOOD + 2);
    gw_driver_write_desc(ring->driver, GOOD + 2, DATA + 0x2000, 1, WRITE, 0);
    make_available(ring, GOOD, 1);
    if (!wait_used(ring, (uint16_t)(used + 1))) {
        fprintf(stderr, "%s: the good request after it is not answered\n", name);
        return false;
    }
    gw_driver_read_used(ring->driver, used, &id, &len);
    if (id == GOOD && len == 513 && *status == VIRTIO_BLK_S_OK)
        return true;
    fprintf(stderr, "%s: the good request after it: id %u, length %u, status %u\n", name, id, len,
            *status);
    return false;
}

static bool is_signalled(int fd, int timeout_ms)
{
    struct pollfd p = {.fd = fd, .events = POLLIN};

    return poll(&p, 1, timeout_ms) == 1;
}

/* Stop, empty the ring, and start it again. */
static void repair(struct ring *ring)
{
    uint32_t base;

    assert_int_equal(gw_frontend_get_vring_base(ring->g.fe, 0, &base), 0);
    pthread_mutex_lock(&ring->emptying);
    gw_driver_reset(ring->driver, 0);
    pthread_mutex_unlock(&ring->emptying);
    ring->avail = 0;
    assert_int_equal(gw_frontend_start_queue(ring->g.fe, ring->driver), 0);
}

/* Check the result of the case. */
static bool check_result(struct ring *ring, const struct ring_case *c)
{
    uint32_t id, len;

    if (c->result == BROKEN) {
        if (!is_signalled(ring->err, (int)patience_ms()) || gw_driver_used_idx(ring->driver) != 0)
            return false;
        repair(ring);
        return true;
    }
    if (c->result == LEFT_OUT)
        return !is_signalled(ring->err, 0) && gw_driver_used_idx(ring->driver) == 0;
    if (!wait_used(ring, 1))
        return false;
    gw_driver_read_used(ring->driver, 0, &id, &len);
    return id == c->head && len == 0 && !is_signalled(ring->err, 0);
}

/* Each case has its own daemon, because messages about bad chains are rate-limited. */
static bool run_case(const struct ring_case *c, enum gw_loop_kind loop)
{
    struct ring ring;
    bool good;

    fixture_start(&fixture, &(struct fixture_config){.loop = loop});
    fixture_forget(&fixture);
    ring_init(&ring, SIZE, !c->no_indirect);
    memcpy(gw_guest_mem_at(ring.g.mem, TABLE, sizeof(c->table)), c->table, sizeof(c->table));
    for (unsigned i = 0; i < 4; i++)
        gw_driver_write_desc(ring.driver, i, c->desc[i].addr, c->desc[i].len, c->desc[i].flags,
                             c->desc[i].next);
    make_available(&ring, c->head, c->jump ? c->jump : 1);
    good = !c->text || fixture_says(&fixture, c->text);
    if (!check_result(&ring, c)) {
        fprintf(stderr, "%s: used index %u, error descriptor %d\n", c->name,
                gw_driver_used_idx(ring.driver), is_signalled(ring.err, 0));
        good = false;
    }
    good = good && do_good_request(&ring, c->name);
    /* The other queue is not affected. */
    good = good && guest_io(&ring.g, 1, 0, 0x11) == 0;
    ring_done(&ring);
    good = fixture_check(&fixture, c->name) && good;
    fixture_stop(&fixture);
    return good;
}

static void run_table(enum gw_loop_kind loop)
{
    unsigned n_failed = 0;

    for (unsigned i = 0; i < N_CASES; i++) {
        if (run_case(&cases[i], loop))
            continue;
        fprintf(stderr, "FAILED: %s\n", cases[i].name);
        n_failed++;
    }
    printf("%zu cases\n", N_CASES);
    assert_int_equal(n_failed, 0);
}

static void test_table_epoll(void **state)
{
    (void)state;
    run_table(GW_LOOP_EPOLL);
}

static void test_table_uring(void **state)
{
    (void)state;
    if (!fixture_has_uring())
        skip();
    run_table(GW_LOOP_URING);
}

/* A chain of 1024 descriptors is valid, one of 1025 is not. */
static void test_long_chains(void **state)
{
    struct ring ring;
    uint32_t id, len;
    (void)state;

    fixture_start(&fixture, &(struct fixture_config){0});
    ring_init(&ring, LONG_SIZE, true);
    for (unsigned n = 1024; n <= 1025; n++) {
        for (unsigned i = 0; i < n; i++)
            gw_driver_write_desc(ring.driver, 16 + i, DATA, 16, i < n - 1 ? NEXT | WRITE : WRITE,
                                 (uint16_t)(17 + i));
        make_available(&ring, 16, 1);
        assert_true(wait_used(&ring, (uint16_t)(n - 1023)));
        gw_driver_read_used(ring.driver, n - 1024, &id, &len);
        assert_int_equal(id, 16);
        /* The status is behind the data, so the length of a request with one counts all of them. */
        assert_int_equal(len, n == 1024 ? 16 * 1024 : 0);
    }
    assert_true(fixture_says(&fixture, "longer than 1024 descriptors"));
    assert_true(do_good_request(&ring, "long chains"));
    ring_done(&ring);
    assert_true(fixture_check(&fixture, "long chains"));
    fixture_stop(&fixture);
}

/* The same head twice, and buffers that overlap the ring: only the guest itself suffers. */
static void test_ring_as_buffer(void **state)
{
    struct virtio_blk_outhdr header = {.type = VIRTIO_BLK_T_IN};
    struct ring ring;
    (void)state;

    fixture_start(&fixture, &(struct fixture_config){0});
    ring_init(&ring, SIZE, true);
    memcpy(gw_guest_mem_at(ring.g.mem, DATA, 16), &header, sizeof(header));
    gw_driver_write_desc(ring.driver, 0, DATA, 16, NEXT, 1);
    gw_driver_write_desc(ring.driver, 1, DESC, 0x10000, NEXT | WRITE, 2);
    gw_driver_write_desc(ring.driver, 2, DATA + 16, 1, WRITE, 0);
    gw_driver_write_avail(ring.driver, 0, 0);
    gw_driver_write_avail(ring.driver, 1, 0);
    gw_driver_write_avail_idx(ring.driver, 2);
    kick(&ring);
    assert_int_equal(guest_io(&ring.g, 1, 0, 0x12), 0);
    repair(&ring);
    assert_true(do_good_request(&ring, "the ring as a buffer"));
    ring_done(&ring);
    assert_true(fixture_check(&fixture, "the ring as a buffer"));
    fixture_stop(&fixture);
}

/* ---- a guest that writes its rings while the device reads them ---- */

struct attack {
    struct ring *ring;
    pthread_t thread;
    bool flood; /* bad chains as fast as they are completed; otherwise random writes */
    bool stop;  /* atomic */
    uint64_t random;
};

static void scribble(struct attack *a, uint64_t n)
{
    static const uint64_t addrs[] = {DATA, END - 8, TABLE, DESC, UINT64_MAX - 8, AVAIL, USED, 0};
    static const uint32_t lens[] = {16, 512, 1, 0, 32, UINT32_MAX, 4096, 256};
    struct vring_desc desc = {.addr = addrs[n & 7],
                              .len = lens[n >> 3 & 7],
                              .flags = (uint16_t)(n >> 6 & 7),
                              .next = (uint16_t)(n >> 9 & 31)};
    uint64_t words[2];
    uint64_t *to = gw_guest_mem_at(a->ring->g.mem, TABLE + (n >> 16 & 7) * 16, 16);

    memcpy(words, &desc, sizeof(words));
    gw_driver_write_desc(a->ring->driver, n >> 20 & 15, desc.addr, desc.len, desc.flags, desc.next);
    __atomic_store_n(&to[0], words[0], __ATOMIC_RELAXED);
    __atomic_store_n(&to[1], words[1], __ATOMIC_RELAXED);
}

static void *attack_main(void *arg)
{
    struct attack *a = arg;
    struct ring *ring = a->ring;
    uint16_t idx = gw_driver_used_idx(ring->driver);
    unsigned turns = 0;

    while (!__atomic_load_n(&a->stop, __ATOMIC_RELAXED)) {
        pthread_mutex_lock(&ring->emptying);
        if (a->flood) {
            /* Keep ahead of the used index, so that chains are always pending. */
            idx = (uint16_t)(idx + 8);
            if ((uint16_t)(idx - gw_driver_used_idx(ring->driver)) >= ring->size)
                idx = (uint16_t)(gw_driver_used_idx(ring->driver) + ring->size / 2);
        } else {
            scribble(a, gw_random_next(&a->random));
            if (++turns % 4 == 0)
                idx = (uint16_t)(gw_driver_used_idx(ring->driver) + 1 + turns / 4 % 8);
        }
        gw_driver_write_avail_idx(ring->driver, idx);
        pthread_mutex_unlock(&ring->emptying);
        if (turns % 64 == 0)
            kick(ring);
    }
    return NULL;
}

static void run_attack(enum gw_loop_kind loop, bool flood)
{
    struct attack a = {.flood = flood, .random = 88172645463325252u};
    uint64_t end;
    struct ring ring;
    unsigned n_io = 0;

    fixture_start(&fixture, &(struct fixture_config){.loop = loop});
    ring_init(&ring, flood ? LONG_SIZE : SIZE, true);
    a.ring = &ring;
    assert_int_equal(pthread_create(&a.thread, NULL, attack_main, &a), 0);
    end = gw_clock_ms() + 2000;
    do {
        /* The worker serves its other queue, too. */
        assert_int_equal(guest_io(&ring.g, 1, 8, (uint8_t)n_io++), 0);
        if (n_io % 16 == 0)
            repair(&ring);
    } while (gw_clock_ms() < end);
    __atomic_store_n(&a.stop, true, __ATOMIC_RELAXED);
    pthread_join(a.thread, NULL);
    repair(&ring);
    assert_true(do_good_request(&ring, "after the attack"));
    ring_done(&ring);
    printf("%u requests of the other queue\n", n_io);
    assert_true(fixture_check(&fixture, "after the attack"));
    fixture_stop(&fixture);
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
