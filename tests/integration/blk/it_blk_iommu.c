/* SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause */
/*
 * godwit-blk behind an IOMMU: verified requests, each of whose buffers is mapped for it alone. An
 * I/O address is reused for another page as soon as it is unmapped, so an access through a stale
 * translation corrupts data. The guest unmaps after each request (strict), or flushes everything
 * at once after many (lazy), as Linux does. Rings stop and start under load without an answer to
 * any miss until they have stopped, as in QEMU, and the program is killed.
 *
 * usage: it_blk_iommu PATH_OF_GODWIT_BLK
 */
#include "blk_test.h"
#include "fdcheck.h"
#include "iommu.h"
#include "patience.h"

#include "base/proto.h"
#include "base/random.h"

#include <errno.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#define BIT(n)   (UINT64_C(1) << (n))
#define BLOCK    UINT64_C(8192)
#define N_BLOCKS 256u
#define N_SLOTS  24u
#define N_QUEUES 2u
#define N_MAPS   8u
#define GPA      UINT64_C(0x40000000)
#define UNUSED   0xee /* fills a buffer that is not mapped */

/* One request of the guest; its buffer has pages of its own. */
struct slot {
    struct gw_driver_blk blk;
    struct gw_driver_buf data;
    uint8_t *host;
    unsigned block; /* N_BLOCKS: idle */
    uint8_t pattern;
    bool is_write;
    bool was_read; /* the device wrote to its buffer, since the flag was cleared */
    struct {
        uint64_t iova, len;
    } maps[N_MAPS];
    unsigned n_maps;
};

static struct {
    struct blk_test blk;
    struct iommu iommu;
    struct gw_guest_mem *mem;
    struct gw_frontend *fe;
    struct gw_driver *drivers[N_QUEUES];
    struct gw_frontend_options opt;
    struct gw_frontend_inflight inflight;
    struct gw_guest_log *log;
    struct slot slots[N_QUEUES][N_SLOTS];
    struct slot *adding; /* NULL: rings are mapped */
    uint8_t expected[N_BLOCKS];
    bool is_busy[N_BLOCKS];
    unsigned n_done;
    uint64_t random;
    struct {
        gw_gpa_t gpa;
        uint64_t iova;
    } rings[8];
    unsigned n_rings;
    bool is_lazy;
    struct {
        uint64_t iova, len;
    } unmapped[1024]; /* lazy: not flushed yet */
    unsigned n_unmapped;
} t;

/* ---- mapping ---- */

static uint64_t map_ring(gw_gpa_t gpa, uint64_t len)
{
    for (unsigned i = 0; i < t.n_rings; i++)
        if (t.rings[i].gpa == gpa)
            return t.rings[i].iova;
    assert_true(t.n_rings < 8);
    t.rings[t.n_rings].gpa = gpa;
    t.rings[t.n_rings].iova = iommu_map(&t.iommu, gpa, len, 3);
    return t.rings[t.n_rings++].iova;
}

/* The gw_driver_iova_cb. No mapping allows more than the device needs. */
static uint64_t map(void *arg, gw_gpa_t gpa, uint64_t len, bool writable)
{
    struct slot *s = t.adding;
    uint64_t iova;

    if (!s)
        return map_ring(gpa, len);
    iova =
        iommu_map(&t.iommu, gpa, len, writable ? GW_FRONTEND_IOTLB_WRITE : GW_FRONTEND_IOTLB_READ);
    assert_true(iova != 0 && s->n_maps < N_MAPS);
    s->maps[s->n_maps].iova = iova;
    s->maps[s->n_maps++].len = len;
    return iova;
}

static void flush(void)
{
    assert_int_equal(gw_frontend_iotlb_invalidate(t.fe, 0, 0), 0);
    for (unsigned i = 0; i < t.n_unmapped; i++)
        iommu_unmap(&t.iommu, t.unmapped[i].iova, t.unmapped[i].len);
    t.n_unmapped = 0;
}

static void unmap(struct slot *s)
{
    for (unsigned i = 0; i < s->n_maps; i++) {
        uint64_t iova = s->maps[i].iova, len = s->maps[i].len;

        if (!t.is_lazy) {
            iommu_unmap(&t.iommu, iova, len);
            iova &= ~(IOMMU_PAGE - 1);
            assert_int_equal(gw_frontend_iotlb_invalidate(
                                 t.fe, iova, iommu_n_pages(s->maps[i].iova, len) * IOMMU_PAGE),
                             0);
            continue;
        }
        t.unmapped[t.n_unmapped].iova = iova;
        t.unmapped[t.n_unmapped++].len = len;
    }
    s->n_maps = 0;
    if (t.n_unmapped > 200)
        flush();
}

/* ---- requests ---- */

static void add(unsigned q, struct slot *s)
{
    unsigned block = (unsigned)gw_random_below(&t.random, N_BLOCKS);

    if (t.is_busy[block])
        return;
    for (unsigned i = 0; i < BLOCK; i++)
        assert_int_equal(s->host[i], UNUSED); /* nothing was written since it was unmapped */
    s->block = block;
    s->is_write = gw_random_below(&t.random, 2) == 0;
    s->pattern = (uint8_t)gw_random_below(&t.random, 200);
    if (s->is_write)
        memset(s->host, s->pattern, BLOCK);
    t.adding = s;
    assert_int_equal(gw_driver_blk_add(&s->blk,
                                       s->is_write ? GW_DRIVER_BLK_WRITE : GW_DRIVER_BLK_READ,
                                       block * BLOCK / 512, &s->data, 1, (uint64_t)(s - t.slots[q]),
                                       block % 2 ? GW_DRIVER_INDIRECT : 0),
                     0);
    t.adding = NULL;
    t.is_busy[block] = true;
}

static void end_request(struct slot *s)
{
    assert_int_equal(gw_driver_blk_status(&s->blk), 0);
    if (s->is_write)
        t.expected[s->block] = s->pattern;
    else
        s->was_read = true;
    for (unsigned i = 0; i < BLOCK; i++)
        assert_int_equal(s->host[i], t.expected[s->block]);
    unmap(s);
    memset(s->host, UNUSED, BLOCK);
    t.is_busy[s->block] = false;
    s->block = N_BLOCKS;
    t.n_done++;
}

static void turn(unsigned q, bool adds)
{
    struct gw_driver_used used[N_SLOTS];
    unsigned n;

    for (unsigned i = 0; i < N_SLOTS && adds; i++)
        if (t.slots[q][i].block == N_BLOCKS)
            add(q, &t.slots[q][i]);
    gw_driver_kick(t.drivers[q]);
    n = gw_driver_take(t.drivers[q], used, N_SLOTS);
    assert_int_equal(gw_driver_check(t.drivers[q]), 0);
    for (unsigned i = 0; i < n; i++)
        end_request(&t.slots[q][used[i].cookie]);
}

/* Until `n` more requests are done, or with 0 until none is in flight. */
static void run(unsigned n)
{
    unsigned end = t.n_done + n;
    uint64_t last = 0, idle = 0;

    while (n ? t.n_done < end
             : gw_driver_in_flight(t.drivers[0]) + gw_driver_in_flight(t.drivers[1]) > 0) {
        for (unsigned q = 0; q < N_QUEUES; q++)
            turn(q, n > 0);
        assert_int_equal(gw_frontend_run(t.fe, 1), 0);
        idle = t.n_done == last ? idle + 1 : 0;
        last = t.n_done;
        assert_true(idle < patience_ms());
    }
}

/* ---- the guest ---- */

static void connect_guest(void)
{
    assert_int_equal(gw_frontend_connect(t.fe, t.blk.socket), 0);
    assert_int_equal(gw_frontend_start(t.fe, &t.opt), 0);
    assert_true(gw_frontend_features(t.fe) & BIT(GW_F_ACCESS_PLATFORM));
}

static void begin_slots(unsigned q)
{
    for (unsigned i = 0; i < N_SLOTS; i++) {
        struct slot *s = &t.slots[q][i];

        assert_int_equal(gw_driver_blk_init(&s->blk, t.drivers[q]), 0);
        assert_int_equal(gw_guest_mem_alloc(t.mem, BLOCK, IOMMU_PAGE, &s->data.addr), 0);
        s->data.len = BLOCK;
        s->host = gw_guest_mem_at(t.mem, s->data.addr, BLOCK);
        memset(s->host, UNUSED, BLOCK);
        s->block = N_BLOCKS;
    }
}

static void start_program(void)
{
    struct program_config cfg = blk_test_config(&t.blk, "--iommu");

    program_start(&t.blk.program, &cfg);
}

static void begin(uint64_t features, bool is_lazy, bool has_inflight)
{
    const struct gw_guest_region region = {.gpa = GPA, .length = UINT64_C(4) << 20};

    memset(&t, 0, sizeof(t));
    t.is_lazy = is_lazy;
    t.random = 1;
    blk_test_begin(&t.blk, N_BLOCKS * BLOCK);
    start_program();
    assert_int_equal(gw_guest_mem_new(&t.mem, 0x7e0000000000), 0);
    assert_int_equal(gw_guest_mem_add(t.mem, &region), 0);
    for (unsigned q = 0; q < N_QUEUES; q++) {
        const struct gw_driver_config cfg = {
            .size = sizeof(cfg),
            .mem = t.mem,
            .index = q,
            .queue_size = 128,
            .indirect_max = 3,
            .packed = (features >> GW_F_RING_PACKED & 1) != 0,
        };

        assert_int_equal(gw_driver_new(&t.drivers[q], &cfg), 0);
        gw_driver_set_iova(t.drivers[q], map, NULL);
    }
    assert_int_equal(gw_frontend_new(&t.fe, NULL), 0);
    t.iommu.fe = t.fe;
    t.iommu.mem = t.mem;
    gw_frontend_set_backend_cb(t.fe, iommu_serve, &t.iommu);
    t.opt = (struct gw_frontend_options){
        .size = sizeof(t.opt),
        .mem = t.mem,
        .drivers = t.drivers,
        .n_drivers = N_QUEUES,
        .inflight = has_inflight ? &t.inflight : NULL,
        .features = features | BIT(GW_F_ACCESS_PLATFORM) | BIT(GW_F_VERSION_1) |
                    BIT(GW_F_PROTOCOL_FEATURES) | BIT(GW_F_RING_INDIRECT_DESC) |
                    BIT(GW_F_RING_EVENT_IDX),
    };
    connect_guest();
    for (unsigned q = 0; q < N_QUEUES; q++)
        begin_slots(q);
}

static void end(void)
{
    run(0);
    for (unsigned block = 0; block < N_BLOCKS; block++) {
        uint8_t data[BLOCK];

        assert_int_equal(pread(t.blk.fd, data, BLOCK, (off_t)(block * BLOCK)), BLOCK);
        for (unsigned i = 0; i < BLOCK; i++)
            assert_int_equal(data[i], t.expected[block]);
    }
    assert_int_equal(t.iommu.n_failures, 0);
    gw_frontend_free(t.fe);
    for (unsigned q = 0; q < N_QUEUES; q++)
        gw_driver_free(t.drivers[q]);
    gw_guest_mem_free(t.mem);
    if (t.inflight.mmap_size)
        close(t.inflight.fd);
    assert_int_equal(program_end(&t.blk.program, SIGTERM), 0);
    blk_test_end(&t.blk);
}

/* As QEMU's vhost_dev_stop and vhost_dev_start, with requests in flight and misses unanswered. */
static void stop_and_start(void)
{
    for (unsigned q = 0; q < N_QUEUES; q++)
        turn(q, true);
    t.iommu.is_silent = true;
    assert_int_equal(gw_frontend_stop(t.fe, t.drivers, N_QUEUES), 0);
    t.iommu.is_silent = false;
    for (unsigned q = 0; q < N_QUEUES; q++) {
        assert_int_equal(gw_frontend_start_queue(t.fe, t.drivers[q]), 0);
        assert_int_equal(gw_frontend_set_vring_enable(t.fe, q, true), 0);
    }
}

static void run_stops(uint64_t features, bool is_lazy)
{
    begin(features, is_lazy, false);
    for (unsigned i = 0; i < 12; i++) {
        run(100);
        stop_and_start();
    }
    end();
}

static void test_iommu_strict_split(void **state)
{
    run_stops(0, false);
}

static void test_iommu_strict_packed(void **state)
{
    run_stops(BIT(GW_F_RING_PACKED), false);
}

static void test_iommu_lazy_split(void **state)
{
    run_stops(BIT(GW_F_IN_ORDER), true);
}

static void test_iommu_lazy_packed(void **state)
{
    run_stops(BIT(GW_F_RING_PACKED), true);
}

/* ---- the dirty log ---- */

/* Returns: whether the device wrote to it. */
static bool expect_logged(const struct slot *s)
{
    for (unsigned page = 0; page < BLOCK / IOMMU_PAGE && s->was_read; page++)
        assert_true(gw_guest_log_is_marked(t.log, s->data.addr + page * IOMMU_PAGE));
    return s->was_read;
}

static void test_iommu_dirty_log(void **state)
{
    struct gw_guest_log_config cfg = {.size = sizeof(cfg)};
    unsigned n_read = 0;

    begin(0, true, false);
    cfg.length = gw_guest_log_length_for(t.mem, t.drivers, N_QUEUES);
    run(100);
    assert_int_equal(gw_guest_log_new(&t.log, &cfg), 0);
    assert_int_equal(gw_frontend_set_log_base(t.fe, t.log), 0);
    assert_int_equal(gw_frontend_set_log_all(t.fe, true), 0);
    for (unsigned q = 0; q < N_QUEUES; q++)
        assert_int_equal(gw_frontend_set_vring_log(t.fe, t.drivers[q], true), 0);
    run(0);
    for (unsigned q = 0; q < N_QUEUES; q++)
        for (unsigned i = 0; i < N_SLOTS; i++)
            t.slots[q][i].was_read = false;
    run(400);
    run(0);
    /* The used rings are where the guest has them, and so are the buffers. */
    for (unsigned q = 0; q < N_QUEUES; q++)
        for (unsigned i = 0; i < N_SLOTS; i++)
            n_read += expect_logged(&t.slots[q][i]);
    assert_true(n_read > 0);
    for (unsigned i = 0; i < t.n_rings; i++)
        if (i % 3 == 2) /* descriptors, available, used: in the order of the messages */
            assert_true(gw_guest_log_is_marked(t.log, t.rings[i].gpa) ||
                        gw_guest_log_is_marked(t.log, t.rings[i].gpa + 127 * 8));
    assert_int_equal(gw_frontend_set_log_all(t.fe, false), 0);
    gw_guest_log_free(t.log);
    end();
}

/* ---- death ---- */

static void test_iommu_program_is_killed(void **state)
{
    begin(0, false, true);
    for (unsigned i = 0; i < 8; i++) {
        run(60);
        for (unsigned q = 0; q < N_QUEUES; q++)
            turn(q, true);
        assert_int_equal(program_end(&t.blk.program, SIGKILL), -SIGKILL);
        gw_frontend_disconnect(t.fe);
        start_program();
        connect_guest();
    }
    end();
}

static void test_iommu_is_offered_on_request_only(void **state)
{
    struct program_config cfg;
    uint64_t features;

    memset(&t, 0, sizeof(t));
    blk_test_begin(&t.blk, BLOCK);
    cfg = blk_test_config(&t.blk, NULL);
    program_start(&t.blk.program, &cfg);
    assert_int_equal(gw_frontend_new(&t.fe, NULL), 0);
    assert_int_equal(gw_frontend_connect(t.fe, t.blk.socket), 0);
    assert_int_equal(gw_frontend_get_features(t.fe, &features), 0);
    assert_false(features & BIT(GW_F_ACCESS_PLATFORM));
    gw_frontend_free(t.fe);
    assert_int_equal(program_end(&t.blk.program, SIGTERM), 0);
    blk_test_end(&t.blk);
}

int main(int argc, char **argv)
{
    const struct CMUnitTest tests[] = {
        FDCHECK_TEST(test_iommu_strict_split),
        FDCHECK_TEST(test_iommu_strict_packed),
        FDCHECK_TEST(test_iommu_lazy_split),
        FDCHECK_TEST(test_iommu_lazy_packed),
        FDCHECK_TEST(test_iommu_dirty_log),
        FDCHECK_TEST(test_iommu_program_is_killed),
        FDCHECK_TEST(test_iommu_is_offered_on_request_only),
    };

    if (argc != 2)
        return 2;
    blk_test_path = argv[1];
    return cmocka_run_group_tests(tests, NULL, NULL);
}
