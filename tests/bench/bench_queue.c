/* SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause */
/*
 * Cost for a queue of taking requests off its ring and completing them: per request of a header,
 * data and a status, in batches, without a second thread, a syscall or a cache miss. Ring layouts
 * take turns; results are the median of the turns and the ratio to the split ring in the same turn.
 *
 * usage: bench_queue [LAYOUT BATCH]     only this one, by its index in the list, for profiling
 */
#include "../util/on_worker.h"
#include "base/clock.h"
#include "base/proto.h"
#include "core/queue/queue.h"
#include "measured.h"

#include <fcntl.h>
#include <godwit/frontend/frontend.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/eventfd.h>

enum {
    SIZE = 512,
    BATCH_MAX = 128,
    HEADER = 16,
    DATA = 512,
    REQUESTS = 30000, /* in a turn */
    TURNS = 21,
    MEMORY = 16 << 20,
};

#define UVA    UINT64_C(0x7e0000000000)
#define EVENT  GW_BIT(GW_F_RING_EVENT_IDX)
#define INDIR  GW_BIT(GW_F_RING_INDIRECT_DESC)
#define PACKED GW_BIT(GW_F_RING_PACKED)
#define ORDER  GW_BIT(GW_F_IN_ORDER)

static const struct layout {
    const char *name;
    uint64_t features;
    bool inflight;
    bool indirect;
    bool translated; /* I/O addresses, each of which equals its guest address */
} layouts[] = {
    {"split", 0, false, false},
    {"split, inflight", 0, true, false},
    {"split, indirect", 0, false, true},
    {"split, translated", 0, false, false, true},
    {"packed", PACKED, false, false},
    {"packed, in order", PACKED | ORDER, false, false},
    {"packed, inflight", PACKED, true, false},
    {"packed, indirect", PACKED, false, true},
    {"packed, indirect, inflight", PACKED, true, true},
    {"packed, translated", PACKED, false, false, true},
};

#define N_LAYOUTS (sizeof(layouts) / sizeof(layouts[0]))

static const unsigned batches[] = {1, 8, 32, BATCH_MAX};

#define N_BATCHES (sizeof(batches) / sizeof(batches[0]))

struct fixture {
    const struct layout *layout;
    struct gw_log log;
    struct gw_device_ops ops;
    struct gw_worker worker;
    struct gw_queue queue;
    struct gw_queue_start start;
    struct gw_guest_mem *mem;
    struct gw_driver *driver;
    struct gw_map *map;
    struct gw_iotlb *iotlb;
    struct gw_iotlb_misses misses;
    void *part;
    gw_gpa_t buf;
    unsigned batch;
    double ns; /* per request */
};

static void check(bool ok, const char *what)
{
    if (ok)
        return;
    fprintf(stderr, "bench_queue: %s\n", what);
    exit(1);
}

/* ---- the driver, and the queue ---- */

static void alloc(struct fixture *b, uint64_t len, gw_gpa_t *ret)
{
    check(gw_guest_mem_alloc(b->mem, len, 64, ret) == 0, "guest memory");
}

static struct gw_map *make_map(struct fixture *b)
{
    struct gw_region_desc desc;
    struct gw_region *region;
    struct gw_guest_region r;
    struct gw_map *map = NULL;

    check(gw_guest_mem_region(b->mem, 0, &r) == 0, "region");
    desc = (struct gw_region_desc){
        .gpa = r.gpa, .size = r.length, .uva = r.uva, .mmap_offset = r.offset};
    check(gw_region_new(&region, &desc, fcntl(r.fd, F_DUPFD_CLOEXEC, 0)) == 0 &&
              gw_map_new(&map, &region, 1) == 0,
          "map");
    gw_region_put(region);
    return map;
}

static void translate(struct fixture *b, const struct gw_driver_config *driver)
{
    const struct gw_iova_range range = {.iova = 0, .size = MEMORY};
    struct gw_iotlb *empty;

    gw_iotlb_misses_init(&b->misses, NULL);
    check(gw_iotlb_new(&empty) == 0 &&
              gw_iotlb_update(&b->iotlb, empty, b->map, range, UVA, GW_IOTLB_BOTH) == 0,
          "translations");
    gw_iotlb_free(empty);
    b->start.iotlb = b->iotlb;
    b->start.misses = &b->misses;
    b->start.ring.desc = driver->desc;
    b->start.ring.avail = driver->avail;
    b->start.ring.used = driver->used;
}

static void begin_driver(struct fixture *b)
{
    struct gw_guest_region region = {.kind = GW_GUEST_MEMFD, .length = MEMORY};
    struct gw_driver_config driver = {
        .size = sizeof(driver),
        .queue_size = SIZE,
        .indirect_max = b->layout->indirect ? 3 : 0,
        .place = true,
        .packed = (b->layout->features & PACKED) != 0,
    };

    check(gw_guest_mem_new(&b->mem, UVA) == 0 && gw_guest_mem_add(b->mem, &region) == 0,
          "guest memory");
    alloc(b, 16 * SIZE, &driver.desc);
    alloc(b, 6 + 2 * SIZE, &driver.avail);
    alloc(b, 6 + 8 * SIZE, &driver.used);
    alloc(b, (HEADER + DATA + 1) * 16, &b->buf);
    driver.mem = b->mem;
    check(gw_driver_new(&b->driver, &driver) == 0, "driver");
    gw_driver_set_features(b->driver, EVENT | INDIR | b->layout->features);
    gw_driver_reset(b->driver, 0);
    gw_driver_suppress_calls(b->driver);
    b->map = make_map(b);
    b->start = (struct gw_queue_start){
        .ring = {.size = SIZE,
                 .base = driver.packed ? 0x80008000 : 0,
                 .desc = gw_guest_mem_uva(b->mem, driver.desc),
                 .avail = gw_guest_mem_uva(b->mem, driver.avail),
                 .used = gw_guest_mem_uva(b->mem, driver.used)},
        .map = b->map,
        .features = EVENT | INDIR | b->layout->features,
        .kick.fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK),
    };
    if (b->layout->translated)
        translate(b, &driver);
    if (!b->layout->inflight)
        return;
    b->part = aligned_alloc(64, gw_inflight_stride(driver.packed, SIZE));
    check(b->part != NULL, "memory");
    gw_inflight_format(b->part, driver.packed, 1, SIZE);
    b->start.inflight = b->part;
    b->start.inflight_size = SIZE;
}

static void note(void *arg, enum gw_log_level level, const char *message)
{
    (void)arg;
    (void)level;
    check(false, message);
}

/* The benchmark pops explicitly, not on notification. */
static int queue_ready(void *dev, struct gw_queue *q)
{
    (void)dev;
    (void)q;
    return 0;
}

static int start(void *arg)
{
    struct fixture *b = arg;

    check(gw_queue_start(&b->queue, &b->start) == 0, b->start.why);
    gw_queue_set_enabled(&b->queue, true);
    return 0;
}

static void begin(struct fixture *b, const struct layout *layout)
{
    b->layout = layout;
    begin_driver(b);
    gw_log_init(&b->log, note, b, GW_LOG_WARNING, "bench_queue");
    b->ops = (struct gw_device_ops){.size = sizeof(b->ops), .queue_ready = queue_ready};
    b->worker.log = &b->log;
    b->worker.loop_kind = GW_LOOP_EPOLL;
    check(gw_worker_start(&b->worker) == 0, "worker");
    b->queue.worker = &b->worker;
    b->queue.ops = &b->ops;
    b->queue.log = &b->log;
    b->queue.limits.ring_size = SIZE;
    b->queue.limits.request_bytes = UINT32_MAX;
    b->queue.limits.bytes_in_flight = INT64_MAX;
    gw_queue_init(&b->queue);
    worker_call(&b->worker, start, b);
}

static int stop(void *arg)
{
    struct fixture *b = arg;
    struct test_latch latch;

    test_latch_init(&latch, 1);
    gw_queue_stop(&b->queue, &latch.latch, GW_STOP_DRAIN);
    test_latch_done(&latch);
    return 0;
}

static void end(struct fixture *b)
{
    worker_call(&b->worker, stop, b);
    gw_worker_end(&b->worker);
    gw_queue_done(&b->queue);
    gw_iotlb_free(b->iotlb);
    gw_map_free(b->map);
    free(b->part);
    gw_driver_free(b->driver);
    gw_guest_mem_free(b->mem);
}

/* ---- measured operations ---- */

static void add(struct fixture *b)
{
    gw_gpa_t at = b->buf;

    for (unsigned i = 0; i < b->batch; i++) {
        const struct gw_driver_buf bufs[] = {
            {.addr = at, .len = HEADER},
            {.addr = at + HEADER, .len = DATA},
            {.addr = at + HEADER + DATA, .len = 1},
        };
        check(gw_driver_add(b->driver, bufs, 1, 2, i,
                            b->layout->indirect ? GW_DRIVER_INDIRECT : 0) == 0,
              "add");
    }
    gw_driver_kick(b->driver);
}

static __attribute__((noinline)) void serve(struct fixture *b)
{
    struct gw_request *reqs[BATCH_MAX];
    char header[HEADER];
    unsigned n = gw_queue_pop(&b->queue, reqs, b->batch);

    for (unsigned i = 0; i < n; i++) {
        gw_request_read(reqs[i], header, sizeof(header));
        gw_request_complete(reqs[i], DATA + 1);
    }
    gw_queue_flush(&b->queue);
    check(n == b->batch, "not all was popped");
}

static int measure(void *arg)
{
    struct fixture *b = arg;
    struct gw_driver_used used[BATCH_MAX];
    unsigned rounds = REQUESTS / b->batch;
    uint64_t ns = 0;

    for (unsigned i = 0; i < rounds; i++) {
        uint64_t begin;

        add(b);
        begin = gw_clock_ns();
        serve(b);
        ns += gw_clock_ns() - begin;
        check(gw_driver_take(b->driver, used, b->batch) == b->batch, "not all was answered");
    }
    b->ns = (double)ns / rounds / b->batch;
    return 0;
}

static double turn(struct fixture *b, unsigned batch)
{
    b->batch = batch;
    worker_call(&b->worker, measure, b);
    return b->ns;
}

static void run_batch(struct fixture *fixtures, unsigned batch)
{
    static double ns[N_LAYOUTS][TURNS], ratio[N_LAYOUTS][TURNS];

    for (unsigned n = 0; n < TURNS; n++)
        for (unsigned i = 0; i < N_LAYOUTS; i++) {
            ns[i][n] = turn(&fixtures[i], batch);
            ratio[i][n] = ns[i][n] / ns[0][n];
        }
    for (unsigned i = 0; i < N_LAYOUTS; i++)
        printf("%6u  %-28s %10.1f %10.3f\n", batch, layouts[i].name, measured_median(ns[i], TURNS),
               measured_median(ratio[i], TURNS));
}

int main(int argc, char **argv)
{
    static struct fixture fixtures[N_LAYOUTS];

    for (unsigned i = 0; i < N_LAYOUTS; i++)
        begin(&fixtures[i], &layouts[i]);
    if (argc == 3) {
        unsigned layout = (unsigned)atoi(argv[1]), batch = (unsigned)atoi(argv[2]);

        check(layout < N_LAYOUTS && batch >= 1 && batch <= BATCH_MAX, "no such layout, or batch");
        printf("%.1f ns\n", turn(&fixtures[layout], batch));
    } else {
        printf("%6s  %-28s %10s %10s\n", "batch", "layout", "ns/req", "of split's");
        for (unsigned i = 0; i < N_BATCHES; i++)
            run_batch(fixtures, batches[i]);
    }
    for (unsigned i = 0; i < N_LAYOUTS; i++)
        end(&fixtures[i]);
    return 0;
}
