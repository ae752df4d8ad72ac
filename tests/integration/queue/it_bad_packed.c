/* SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause */
/*
 * Packed rings that no correct driver would make; it_bad_ring.c has the split ones. Each case names
 * its result: a completion with length 0, and the queue continues; nothing visible to the device;
 * or a broken queue, which is reported on the error descriptor and repaired by a stop and start.
 * Afterwards a good request is done on the same ring, and the daemon serves the next guest.
 */
#include "../fixtures/bad.h"
#include "base/clock.h"
#include "base/random.h"
#include "fdcheck.h"

#include <linux/virtio_blk.h>
#include <linux/virtio_ring.h>
#include <poll.h>
#include <stdio.h>
#include <string.h>
#include <sys/eventfd.h>
#include <time.h>
#include <unistd.h>

#define SIZE 15u /* not a power of two */
/* In the upper half of guest memory; the allocator uses the lower half. */
#define DESC   (GUEST_GPA + 0x100000)
#define DRIVER (GUEST_GPA + 0x110000)
#define DEVICE (GUEST_GPA + 0x120000)
#define DATA   (GUEST_GPA + 0x140000)
#define TABLE  (GUEST_GPA + 0x160000)
#define END    (GUEST_GPA + GUEST_SIZE)

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

struct ring {
    struct guest g;
    struct gw_driver *driver;
    int err;
    pthread_mutex_t emptying; /* held while the ring is emptied, to keep the attacker out */
};

struct ring_case {
    const char *name;
    enum result result;
    const char *text;
    unsigned n; /* descriptors in the chain */
    struct gw_driver_packed_desc desc[4];
    struct gw_driver_packed_desc table[4]; /* at TABLE */
    unsigned lap;                          /* AVAIL and USED bits, instead of AVAIL alone */
    bool all;                              /* write the first descriptor to every slot */
    bool no_indirect;
};

/* clang-format off */
static const struct ring_case cases[] = {
    {"chain without end", BROKEN, "longer than the free part", 1, .desc = {{DATA, 16, 0, NEXT}}, .all = true},
    {"chain without end, indirect", BROKEN, "longer than the free part", 1,
     .desc = {{TABLE, 16, 0, NEXT | INDIRECT}}, .all = true},
    {"chain without end, bad buffers", BROKEN, "longer than the free part", 1,
     .desc = {{END, UINT32_MAX, 65535, NEXT | WRITE}}, .all = true},

    {"wrong wrap: both", NOT_SEEN, NULL, 1, .desc = {{DATA, 16, 0, 0}}, .lap = AVAIL | USED},
    {"wrong wrap: used only", NOT_SEEN, NULL, 1, .desc = {{DATA, 16, 0, 0}}, .lap = USED},
    {"wrong wrap: used only, no end", NOT_SEEN, NULL, 1, .desc = {{DATA, 16, 0, NEXT}}, .lap = USED, .all = true},

    {"empty buffer", ANSWERED, "empty buffer", 1, .desc = {{DATA, 0, 0, 0}}},
    {"empty buffer, id beyond the ring", ANSWERED, "empty buffer", 1, .desc = {{DATA, 0, SIZE, 0}}},
    {"empty buffer, id 65535", ANSWERED, "empty buffer", 1, .desc = {{DATA, 0, 65535, WRITE}}},
    {"empty second buffer", ANSWERED, "empty buffer", 2,
     .desc = {{DATA, 16, 1, NEXT}, {DATA, 0, 2, WRITE}}},
    {"readable after writable", ANSWERED, "readable buffer after", 2,
     .desc = {{DATA, 16, 1, NEXT | WRITE}, {DATA, 16, 2, 0}}},
    {"address 0", ANSWERED, "outside guest memory", 1, .desc = {{0, 16, 3, 0}}},
    {"user address", ANSWERED, "outside guest memory", 1, .desc = {{GUEST_UVA + DATA, 16, 3, 0}}},
    {"over the end by a byte", ANSWERED, "outside guest memory", 1, .desc = {{END - 16, 17, 3, 0}}},
    {"address wraps", ANSWERED, "outside guest memory", 1, .desc = {{UINT64_MAX - 7, 16, 3, 0}}},
    {"4 GiB - 1", ANSWERED, "more bytes than a request may have", 1, .desc = {{DATA, UINT32_MAX, 3, 0}}},
    {"more than 4 GiB", ANSWERED, "more bytes than a request may have", 2,
     .desc = {{DATA, UINT32_MAX, 3, NEXT}, {DATA, UINT32_MAX, 3, 0}}},
    {"second buffer outside", ANSWERED, "outside guest memory", 3,
     .desc = {{DATA, 16, 3, NEXT}, {END, 512, 3, NEXT | WRITE}, {DATA, 1, 4, WRITE}}},
    {"no room for a status", ANSWERED, NULL, 1, .desc = {{DATA, 16, 3, 0}}},

    {"indirect, not negotiated", ANSWERED, "not negotiated", 1, .desc = {{TABLE, 16, 5, INDIRECT}},
     .table = {{DATA, 16, 0, 0}}, .no_indirect = true},
    {"indirect with next", ANSWERED, "not the last", 2,
     .desc = {{TABLE, 16, 5, INDIRECT | NEXT}, {DATA, 16, 6, 0}}, .table = {{DATA, 16, 0, 0}}},
    {"indirect in indirect", ANSWERED, "inside an indirect", 1, .desc = {{TABLE, 16, 5, INDIRECT}},
     .table = {{TABLE, 16, 0, INDIRECT}}},
    {"indirect: the ring itself", ANSWERED, "inside an indirect", 1, .desc = {{DESC, 16, 5, INDIRECT}}},
    {"indirect of 0 bytes", ANSWERED, "of a wrong length", 1, .desc = {{TABLE, 0, 5, INDIRECT}}},
    {"indirect of 17 bytes", ANSWERED, "of a wrong length", 1, .desc = {{TABLE, 17, 5, INDIRECT}}},
    {"indirect of 1025", ANSWERED, "longer than 1024", 1, .desc = {{TABLE, 1025 * 16, 5, INDIRECT}}},
    {"indirect of 4 GiB", ANSWERED, "longer than 1024", 1, .desc = {{TABLE, 0xfffffff0, 5, INDIRECT}}},
    {"indirect table outside", ANSWERED, "outside guest memory", 1, .desc = {{END, 16, 5, INDIRECT}}},
    {"indirect table over the end", ANSWERED, "outside guest memory", 1, .desc = {{END - 16, 32, 5, INDIRECT}}},
    {"indirect table wraps", ANSWERED, "outside guest memory", 1, .desc = {{UINT64_MAX - 15, 32, 5, INDIRECT}}},
    {"indirect: last entry empty", ANSWERED, "empty buffer", 1, .desc = {{TABLE, 32, 5, INDIRECT}},
     .table = {{DATA, 16, 0, 0}, {DATA, 0, 0, WRITE}}},
    {"indirect after a direct one, outside", ANSWERED, "outside guest memory", 2,
     .desc = {{DATA, 16, 5, NEXT}, {TABLE, 16, 6, INDIRECT}}, .table = {{END, 16, 0, WRITE}}},
};
/* clang-format on */

#define N_CASES (sizeof(cases) / sizeof(cases[0]))

static struct fixture fixture;

static void ring_init(struct ring *ring, bool indirect)
{
    struct gw_driver_config cfg = {.size = sizeof(cfg),
                                   .queue_size = SIZE,
                                   .place = true,
                                   .packed = true,
                                   .desc = DESC,
                                   .avail = DRIVER,
                                   .used = DEVICE};

    guest_init(&ring->g, 16);
    for (unsigned i = 0; i < FIXTURE_QUEUES; i++) {
        struct gw_driver_config other = {.size = sizeof(other),
                                         .mem = ring->g.mem,
                                         .index = i,
                                         .queue_size = 16,
                                         .packed = true};

        cfg.mem = ring->g.mem;
        gw_driver_free(ring->g.drivers[i]);
        assert_int_equal(gw_driver_new(&ring->g.drivers[i], i == 0 ? &cfg : &other), 0);
    }
    ring->driver = ring->g.drivers[0];
    pthread_mutex_init(&ring->emptying, NULL);
    ring->err = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    ring->g.opt.features = indirect ? FEATURES : FEATURES & ~(UINT64_C(1) << 28);
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
    assert_int_equal(eventfd_write(gw_driver_kick_fd(ring->driver), 1), 0);
}

/* Write `n` descriptors from slot `at`, the first one last. */
static void make_available(struct ring *ring, unsigned at, const struct gw_driver_packed_desc *desc,
                           unsigned n, unsigned lap)
{
    while (n-- > 0) {
        struct gw_driver_packed_desc d = desc[n];

        d.flags = (uint16_t)(d.flags | lap);
        gw_driver_write_packed_desc(ring->driver, at + n, &d);
    }
    kick(ring);
}

/* Wait until slot `at` is used in the first lap. */
static bool wait_used(struct ring *ring, unsigned at, struct gw_driver_packed_desc *ret)
{
    for (unsigned i = 0; i < 5000; i++) {
        gw_driver_read_packed_desc(ring->driver, at, ret);
        if ((ret->flags & (AVAIL | USED)) == (AVAIL | USED))
            return true;
        pause_ms(1);
    }
    return false;
}

/* A read of 512 bytes from slot `at`. */
static bool do_good_request(struct ring *ring, unsigned at, const char *name)
{
    static const struct gw_driver_packed_desc descs[3] = {{DATA + 0x1000, 16, 7, NEXT},
                                                          {DATA + 0x3000, 512, 8, NEXT | WRITE},
                                                          {DATA + 0x2000, 1, 9, WRITE}};
    struct virtio_blk_outhdr header = {.type = VIRTIO_BLK_T_IN};
    uint8_t *status = gw_guest_mem_at(ring->g.mem, DATA + 0x2000, 1);
    struct gw_driver_packed_desc used;

    memcpy(gw_guest_mem_at(ring->g.mem, DATA + 0x1000, 16), &header, sizeof(header));
    *status = 0xff;
    make_available(ring, at, descs, 3, AVAIL);
    if (!wait_used(ring, at, &used)) {
        fprintf(stderr, "%s: the good request after it is not answered\n", name);
        return false;
    }
    if (used.id == 9 && used.len == 513 && *status == VIRTIO_BLK_S_OK)
        return true;
    fprintf(stderr, "%s: the good request after it: id %u, length %u, status %u\n", name, used.id,
            used.len, *status);
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
    assert_int_equal(gw_frontend_start_queue(ring->g.fe, ring->driver), 0);
}

/* Check the result of the case. `ret_at`: the slot where the ring continues. */
static bool check_result(struct ring *ring, const struct ring_case *c, unsigned *ret_at)
{
    struct gw_driver_packed_desc used;

    *ret_at = 0;
    if (c->result == BROKEN) {
        if (!is_signalled(ring->err, (int)patience_ms()))
            return false;
        repair(ring);
        return true;
    }
    if (c->result == NOT_SEEN) {
        pause_ms(5);
        gw_driver_read_packed_desc(ring->driver, 0, &used);
        return !is_signalled(ring->err, 0) && used.flags == (c->desc[0].flags | c->lap);
    }
    *ret_at = c->n;
    return wait_used(ring, 0, &used) && used.id == c->desc[c->n - 1].id && used.len == 0 &&
           !(used.flags & WRITE) && !is_signalled(ring->err, 0);
}

static void offer(struct ring *ring, const struct ring_case *c)
{
    unsigned lap = c->lap ? c->lap : AVAIL;
    struct vring_packed_desc *table = gw_guest_mem_at(ring->g.mem, TABLE, sizeof(*table) * 4);

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
static bool run_case(const struct ring_case *c, enum gw_loop_kind loop)
{
    struct ring ring;
    unsigned at;
    bool good;

    fixture_start(&fixture, &(struct fixture_config){.loop = loop});
    fixture_forget(&fixture);
    ring_init(&ring, !c->no_indirect);
    offer(&ring, c);
    good = !c->text || fixture_says(&fixture, c->text);
    if (!check_result(&ring, c, &at)) {
        fprintf(stderr, "%s: error descriptor %d\n", c->name, is_signalled(ring.err, 0));
        good = false;
    }
    good = good && do_good_request(&ring, at, c->name);
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

/* ---- a guest that writes its ring while the device reads it ---- */

struct attack {
    struct ring *ring;
    pthread_t thread;
    bool stop; /* atomic */
    uint64_t random;
};

/* Write an arbitrary descriptor, half of the time with bits that make it available in some lap. */
static void scribble(struct attack *a, uint64_t n)
{
    static const uint64_t addrs[] = {DATA, END - 8, TABLE, DESC, UINT64_MAX - 8, DRIVER, DEVICE, 0};
    static const uint32_t lens[] = {16, 512, 1, 0, 32, UINT32_MAX, 4096, 240};
    struct gw_driver_packed_desc desc = {.addr = addrs[n & 7],
                                         .len = lens[n >> 3 & 7],
                                         .id = (uint16_t)(n >> 32),
                                         .flags = (uint16_t)(n >> 6 & 7)};
    uint64_t *to = gw_guest_mem_at(a->ring->g.mem, TABLE + (n >> 16 & 7) * 16, 16);

    __atomic_store_n(&to[0], desc.addr, __ATOMIC_RELAXED);
    __atomic_store_n(&to[1], desc.len | (uint64_t)desc.flags << 48, __ATOMIC_RELAXED);
    desc.flags = (uint16_t)(desc.flags | (n >> 24 & 1 ? AVAIL : 0) | (n >> 25 & 1 ? USED : 0));
    gw_driver_write_packed_desc(a->ring->driver, n >> 20 & 15, &desc);
    gw_driver_write_driver_event(a->ring->driver, (uint16_t)(n >> 40), (uint16_t)(n >> 26));
}

static void *attack_main(void *arg)
{
    struct attack *a = arg;

    for (unsigned turns = 0; !__atomic_load_n(&a->stop, __ATOMIC_RELAXED); turns++) {
        pthread_mutex_lock(&a->ring->emptying);
        scribble(a, gw_random_next(&a->random));
        pthread_mutex_unlock(&a->ring->emptying);
        if (turns % 64 == 0)
            kick(a->ring);
    }
    return NULL;
}

static void run_attack(enum gw_loop_kind loop, uint64_t features)
{
    struct attack a = {.random = 88172645463325252u};
    uint64_t end;
    struct ring ring;
    unsigned n_io = 0;

    fixture_start(&fixture, &(struct fixture_config){.loop = loop});
    ring_init(&ring, true);
    assert_int_equal(gw_frontend_stop(ring.g.fe, ring.g.drivers, FIXTURE_QUEUES), 0);
    ring.g.opt.features |= features;
    gw_frontend_disconnect(ring.g.fe);
    assert_int_equal(fixture_connect(&fixture, ring.g.fe), 0);
    assert_int_equal(gw_frontend_start(ring.g.fe, &ring.g.opt), 0);
    a.ring = &ring;
    assert_int_equal(pthread_create(&a.thread, NULL, attack_main, &a), 0);
    end = gw_clock_ms() + 2000;
    do {
        /* The worker serves its other queue, too. */
        assert_int_equal(guest_io(&ring.g, 1, 8, (uint8_t)n_io++), 0);
        if (n_io % 4 == 0)
            repair(&ring);
    } while (gw_clock_ms() < end);
    __atomic_store_n(&a.stop, true, __ATOMIC_RELAXED);
    pthread_join(a.thread, NULL);
    repair(&ring);
    assert_true(do_good_request(&ring, 0, "after the attack"));
    ring_done(&ring);
    printf("%u requests of the other queue\n", n_io);
    assert_true(fixture_check(&fixture, "after the attack"));
    fixture_stop(&fixture);
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
