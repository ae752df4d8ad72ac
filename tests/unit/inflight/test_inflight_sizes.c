/* SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause */
/*
 * Inflight regions and rings of different sizes: the ring runs regardless of the region's creator
 * and the queue size that the front-end names. If the region has room for the ring, its requests
 * are tracked and the next back-end completes each request in flight exactly once.
 */
#include "base/checked.h"
#include "base/proto.h"
#include "core/inflight/inflight.h"
#include "patience.h"

#include <godwit.h>
#include <godwit/frontend/frontend.h>

#include "fdcheck.h"

#include <poll.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <unistd.h>

#include <cmocka.h>

#define QUEUES   2u
#define QUEUE    1u /* the queue with requests; its part is not the first */
#define N_HELD   5u
#define N_BEFORE 3u /* requests that are answered first, so that the index is not 0 */
#define MADE_MIN 1024u
#define RING_MAX 4096u /* largest ring or region in the table */
#define WAIT_MS  patience_ms()
#define GPA      0x100000
#define FEATURES (GW_BIT(GW_F_PROTOCOL_FEATURES) | GW_BIT(GW_F_VERSION_1))
#define PROTOCOL                                                  \
    (GW_BIT(GW_PROTOCOL_F_REPLY_ACK) | GW_BIT(GW_PROTOCOL_F_MQ) | \
     GW_BIT(GW_PROTOCOL_F_CONFIGURE_MEM_SLOTS) | GW_BIT(GW_PROTOCOL_F_INFLIGHT_SHMFD))

enum maker {
    MADE_BY_US,
    MADE_EXACT, /* by another back-end, with the exact number of bytes */
    MADE_PAGES, /* by another back-end, rounded up to whole pages */
    N_MAKERS
};

struct pair {
    bool packed;
    enum maker maker;
    unsigned named;       /* the queue size in the messages */
    unsigned ring;        /* descriptors */
    unsigned size_max[2]; /* ring size limits of the first and the second back-end */
    unsigned entries;     /* expected entries per part of the region */
    bool is_tracked;
};

/* A back-end and its device. */
struct end {
    struct gw_daemon *daemon;
    struct gw_frontend *fe;
    struct gw_request *held[N_HELD];
    unsigned n_held, n_done; /* atomic */
    bool hold;               /* atomic */
    bool is_warned;          /* atomic */
};

struct machine {
    struct gw_guest_mem *mem;
    struct gw_driver *drivers[QUEUES];
    struct gw_frontend_inflight region;
    struct gw_frontend_options opt;
};

/* ---- the device ---- */

static void note(void *arg, enum gw_log_level level, const char *message)
{
    struct end *e = arg;

    if (strstr(message, "queue 1: its requests are not tracked"))
        __atomic_store_n(&e->is_warned, true, __ATOMIC_RELEASE);
}

static int queue_ready(void *dev, struct gw_queue *q)
{
    struct end *e = dev;
    struct gw_request *r;

    while (gw_queue_pop(q, &r, 1) == 1) {
        if (__atomic_load_n(&e->hold, __ATOMIC_ACQUIRE)) {
            assert_true(e->n_held < N_HELD);
            e->held[e->n_held] = r;
            __atomic_store_n(&e->n_held, e->n_held + 1, __ATOMIC_RELEASE);
        } else {
            gw_request_complete(r, 0);
            __atomic_add_fetch(&e->n_done, 1, __ATOMIC_ACQ_REL);
        }
    }
    return 0;
}

static void queue_stop(void *dev, struct gw_queue *q)
{
    struct end *e = dev;

    if (gw_queue_index(q) != QUEUE)
        return;
    for (unsigned i = 0; i < e->n_held; i++) {
        if (gw_queue_may_suspend(q))
            (void)gw_request_suspend(e->held[i]);
        else
            gw_request_complete(e->held[i], 0);
    }
    __atomic_store_n(&e->n_held, 0, __ATOMIC_RELEASE);
}

static void end_begin(struct end *e, const struct pair *p, unsigned which)
{
    static const struct gw_device_ops ops = {
        .size = sizeof(ops), .queue_ready = queue_ready, .queue_stop = queue_stop};
    struct gw_daemon_config cfg = {.size = sizeof(cfg),
                                   .num_queues = QUEUES,
                                   .queue_size_max = p->size_max[which],
                                   .log = note,
                                   .log_arg = e,
                                   .log_level = GW_LOG_WARNING};
    int ends[2];

    memset(e, 0, sizeof(*e));
    assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, ends), 0);
    assert_int_equal(gw_daemon_new(&e->daemon, &cfg, &ops, e), 0);
    assert_int_equal(gw_daemon_start(e->daemon, ends[0]), 0);
    assert_int_equal(gw_frontend_new(&e->fe, NULL), 0);
    assert_int_equal(gw_frontend_attach(e->fe, ends[1]), 0);
}

static void end_end(struct end *e)
{
    gw_frontend_free(e->fe);
    gw_daemon_wait(e->daemon);
    gw_daemon_free(e->daemon);
}

/* ---- the machine ---- */

static void machine_begin(struct machine *m, const struct pair *p)
{
    struct gw_guest_region region = {.gpa = GPA, .length = 1 << 20};

    memset(m, 0, sizeof(*m));
    assert_int_equal(gw_guest_mem_new(&m->mem, 0x700000000000), 0);
    assert_int_equal(gw_guest_mem_add(m->mem, &region), 0);
    for (unsigned i = 0; i < QUEUES; i++) {
        struct gw_driver_config cfg = {
            .size = sizeof(cfg), .mem = m->mem, .index = i, .packed = p->packed};

        cfg.queue_size = p->ring;
        assert_int_equal(gw_driver_new(&m->drivers[i], &cfg), 0);
    }
    m->opt = (struct gw_frontend_options){
        .size = sizeof(m->opt),
        .features = FEATURES | (p->packed ? GW_BIT(GW_F_RING_PACKED) : 0),
        .protocol_features = PROTOCOL,
        .mem = m->mem,
        .drivers = m->drivers,
        .n_drivers = QUEUES,
        .inflight = &m->region,
    };
}

static void machine_end(struct machine *m)
{
    for (unsigned i = 0; i < QUEUES; i++)
        gw_driver_free(m->drivers[i]);
    gw_guest_mem_free(m->mem);
    gw_frontend_inflight_done(&m->region);
}

static void add(struct machine *m, unsigned n)
{
    struct gw_driver_buf buf = {.addr = GPA + (1 << 19), .len = 16};

    for (unsigned i = 0; i < n; i++)
        assert_int_equal(gw_driver_add(m->drivers[QUEUE], &buf, 0, 1, i, 0), 0);
    gw_driver_kick_always(m->drivers[QUEUE]);
}

/* Exactly the next `n` requests must be answered, in order. */
static void take(struct machine *m, unsigned n)
{
    struct gw_driver_used used[N_HELD];
    unsigned n_taken = 0;

    while (n_taken < n) {
        assert_int_equal(gw_driver_wait(m->drivers[QUEUE], WAIT_MS), 0);
        n_taken += gw_driver_take(m->drivers[QUEUE], used + n_taken, n - n_taken);
    }
    for (unsigned i = 0; i < n; i++)
        assert_int_equal(used[i].cookie, i);
    if (gw_driver_check(m->drivers[QUEUE]) < 0)
        fail_msg("%s", gw_frontend_last_error());
    assert_int_equal(gw_driver_in_flight(m->drivers[QUEUE]), 0);
}

/* ---- the region ---- */

static uint64_t stride(bool packed, uint64_t entries)
{
    uint64_t len = packed ? 32 + 32 * entries : 16 + 16 * entries;

    return (len + 63) / 64 * 64;
}

static void make_region(struct machine *m, const struct pair *p, struct end *e)
{
    uint64_t size = QUEUES * stride(p->packed, p->named);

    if (p->maker == MADE_BY_US) {
        assert_int_equal(gw_frontend_get_inflight_fd(e->fe, QUEUES, p->named, &m->region), 0);
        assert_int_equal(m->region.mmap_size, QUEUES * stride(p->packed, p->entries));
    } else {
        if (p->maker == MADE_PAGES)
            size = (size + 4095) / 4096 * 4096;
        m->region = (struct gw_frontend_inflight){.fd = memfd_create("region", MFD_CLOEXEC),
                                                  .mmap_size = size,
                                                  .num_queues = QUEUES,
                                                  .queue_size = (uint16_t)p->named};
        assert_true(m->region.fd >= 0);
        assert_int_equal(ftruncate(m->region.fd, (off_t)size), 0);
    }
    assert_int_equal(m->region.queue_size, p->named);
}

/* Returns: the number of requests in flight in the queue's part. */
static unsigned n_in_flight(const struct machine *m, const struct pair *p)
{
    static uint8_t part[32 + 32 * RING_MAX + 64];
    uint64_t len = stride(p->packed, p->entries);
    uint64_t step = p->packed ? 32 : 16;
    unsigned n = 0;

    assert_int_equal(pread(m->region.fd, part, len, (off_t)(QUEUE * len)), len);
    assert_int_equal(part[8] | part[9] << 8, p->is_tracked); /* version */
    if (p->is_tracked)
        assert_int_equal(part[10] | part[11] << 8, p->entries);
    for (uint64_t i = 0; i < p->entries; i++)
        n += part[step + step * i];
    return n;
}

/* ---- a pair ---- */

static void negotiate(struct machine *m, struct end *e)
{
    assert_int_equal(gw_frontend_negotiate(e->fe, &m->opt), 0);
    assert_int_equal(gw_frontend_set_features(e->fe, m->opt.features), 0);
}

static void wait_held(struct end *e, unsigned n)
{
    for (unsigned ms = 0; __atomic_load_n(&e->n_held, __ATOMIC_ACQUIRE) < n; ms++) {
        assert_true(ms < WAIT_MS);
        (void)poll(NULL, 0, 1);
    }
}

static void start(struct machine *m, const struct pair *p, struct end *e)
{
    if (gw_frontend_start(e->fe, &m->opt) < 0)
        fail_msg("%s region for %u, ring of %u: %s", p->packed ? "packed" : "split", p->named,
                 p->ring, gw_frontend_last_error());
    assert_int_equal(__atomic_load_n(&e->is_warned, __ATOMIC_ACQUIRE), !p->is_tracked);
}

/* The first back-end dies with requests in flight, and the second gets its region. */
static void run(const struct pair *p)
{
    unsigned n_held = gw_min_u(N_HELD, p->ring), n_before = gw_min_u(N_BEFORE, p->ring);
    static struct end first, second;
    struct machine m;

    machine_begin(&m, p);
    end_begin(&first, p, 0);
    negotiate(&m, &first);
    make_region(&m, p, &first);
    start(&m, p, &first);
    add(&m, n_before);
    take(&m, n_before);
    __atomic_store_n(&first.hold, true, __ATOMIC_RELEASE);
    add(&m, n_held);
    wait_held(&first, n_held);
    assert_int_equal(n_in_flight(&m, p), p->is_tracked ? n_held : 0);
    end_end(&first);
    assert_int_equal(n_in_flight(&m, p), p->is_tracked ? n_held : 0);

    end_begin(&second, p, 1);
    start(&m, p, &second);
    take(&m, n_held);
    assert_int_equal(__atomic_load_n(&second.n_done, __ATOMIC_ACQUIRE), p->is_tracked ? n_held : 0);
    add(&m, n_before);
    take(&m, n_before);
    end_end(&second);
    assert_int_equal(n_in_flight(&m, p), 0);
    machine_end(&m);
}

static unsigned entries_of(const struct pair *p)
{
    unsigned n = MADE_MIN;

    if (p->maker != MADE_BY_US)
        return p->named;
    while (n < p->named || n < p->size_max[0])
        n *= 2;
    return n;
}

static void run_pair(struct pair p)
{
    p.entries = entries_of(&p);
    p.is_tracked = p.ring <= p.entries;
    run(&p);
}

static void run_table(bool packed)
{
    static const unsigned named[] = {1, 2, 4, 16, 100, 128, 256, 1000, 1024, 2048};
    static const unsigned rings[] = {2, 4, 16, 128, 256, 1024, 4096};

    for (enum maker maker = 0; maker < N_MAKERS; maker++)
        for (unsigned i = 0; i < GW_ARRAY_SIZE(named); i++)
            for (unsigned k = 0; k < GW_ARRAY_SIZE(rings); k++)
                run_pair((struct pair){.packed = packed,
                                       .maker = maker,
                                       .named = named[i],
                                       .ring = rings[k],
                                       .size_max = {rings[k] < MADE_MIN ? MADE_MIN : rings[k],
                                                    rings[k] < MADE_MIN ? MADE_MIN : rings[k]}});
}

static void test_inflight_sizes_split(void **state)
{
    run_table(false);
}

static void test_inflight_sizes_packed(void **state)
{
    run_table(true);
}

/* Back-ends with different ring size limits take over from each other. */
static void test_inflight_sizes_of_another_limit(void **state)
{
    static const struct {
        unsigned named, ring, size_max[2];
    } rows[] = {
        {128, 1024, {1024, 4096}}, {128, 1024, {4096, 1024}}, {128, 64, {4096, 64}},
        {16, 64, {64, 1024}},      {16, 64, {1024, 64}},      {2048, 1024, {1024, 4096}},
    };

    for (unsigned i = 0; i < GW_ARRAY_SIZE(rows); i++)
        for (unsigned packed = 0; packed < 2; packed++)
            run_pair((struct pair){.packed = packed,
                                   .maker = MADE_BY_US,
                                   .named = rows[i].named,
                                   .ring = rows[i].ring,
                                   .size_max = {rows[i].size_max[0], rows[i].size_max[1]}});
}

/* ---- regions of other back-ends ---- */

static void expect_parts(uint8_t *at, uint64_t size, bool packed, unsigned queues, unsigned named)
{
    struct gw_inflight_region region = {.mapping.at = at,
                                        .size = size,
                                        .num_queues = (uint16_t)queues,
                                        .queue_size = (uint16_t)named};
    uint16_t part_size = 0;
    void *part = NULL;

    assert_int_equal(gw_inflight_region_part(&region, queues - 1, packed, named, &part, &part_size),
                     0);
    assert_int_equal(part_size, named);
    assert_ptr_equal(part, at + (queues - 1) * stride(packed, named));
}

/* Another back-end's region is never mistaken for this library's, however its size is rounded. */
static void test_inflight_sizes_of_others_are_not_taken_for_ours(void **state)
{
    static const uint64_t grains[] = {1, 64, 4096, 65536, UINT64_C(1) << 21, UINT64_C(1) << 30};
    uint8_t *at = mmap(NULL, UINT64_C(1) << 31, PROT_NONE,
                       MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);

    assert_ptr_not_equal(at, MAP_FAILED);
    for (unsigned packed = 0; packed < 2; packed++)
        for (unsigned queues = 1; queues <= 256; queues++)
            for (unsigned named = 1; named <= 32768; named += named < 1100 ? 1 : 1023)
                for (unsigned g = 0; g < GW_ARRAY_SIZE(grains); g++) {
                    uint64_t size = queues * stride(packed, named);

                    size = (size + grains[g] - 1) / grains[g] * grains[g];
                    expect_parts(at, size, packed, queues, named);
                }
    munmap(at, UINT64_C(1) << 31);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        FDCHECK_TEST(test_inflight_sizes_split),
        FDCHECK_TEST(test_inflight_sizes_packed),
        FDCHECK_TEST(test_inflight_sizes_of_another_limit),
        FDCHECK_TEST(test_inflight_sizes_of_others_are_not_taken_for_ours),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
